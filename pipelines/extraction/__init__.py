"""The stages of `pipelines.extract_features` and `pipelines.extract_embeddings`."""
