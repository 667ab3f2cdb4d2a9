"""Checks of `pipelines.doctor`, one function each.

A check imports what may be broken inside the function, so that the other checks still run.
"""
