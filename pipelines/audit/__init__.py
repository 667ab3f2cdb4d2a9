"""The stages of `pipelines.audit_features`."""
