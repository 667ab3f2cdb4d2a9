"""Synthetic and composed soundtracks."""
