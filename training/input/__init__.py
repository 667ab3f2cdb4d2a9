"""Mini-batches from FEATURES."""
