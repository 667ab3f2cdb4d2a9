"""Training loops, validation and checkpoints."""
