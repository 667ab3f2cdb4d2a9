"""Beam jobs that turn labelled media into data sets and features."""
