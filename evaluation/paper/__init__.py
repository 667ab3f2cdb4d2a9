"""The paper's tables and figures, of our own data and runs."""
