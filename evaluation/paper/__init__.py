"""Figures and tables of the paper from runs of this system."""
