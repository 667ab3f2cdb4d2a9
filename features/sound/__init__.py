"""Media files and their soundtracks: decoding, waveforms, outcomes."""
