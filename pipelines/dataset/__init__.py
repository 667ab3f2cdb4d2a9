"""The stages of `pipelines.prepare_dataset`."""
