"""Exact metrics of section 3.2, and their intervals."""
