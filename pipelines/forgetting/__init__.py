"""The stages of `pipelines.forget`."""
