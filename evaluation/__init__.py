"""Scoring of soundtracks and the metrics of section 3.2."""
