"""The estimate of `pipelines.plan`."""
