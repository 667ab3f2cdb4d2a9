"""Corpora of synthetic or composed soundtracks whose labels and event times are known."""
