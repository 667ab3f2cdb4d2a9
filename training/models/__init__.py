"""The networks of section 3.3, one module each."""
