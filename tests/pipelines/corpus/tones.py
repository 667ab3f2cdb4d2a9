"""Clips of a tone between silences."""

from pathlib import Path

import numpy as np

from pipelines.corpus.encoding import write_media

RATE = 16_000


def write_clip(path: Path, frequency: float, sounding: list[tuple[float, float]]) -> None:
    """Write four seconds of silence with a tone between the given times (seconds)."""
    time = np.arange(4 * RATE) / RATE
    heard = sum(((time >= first) & (time < last)).astype(float) for first, last in sounding)
    samples = (0.3 * heard * np.sin(2 * np.pi * frequency * time)).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_media(path, samples[:, None], sample_rate=RATE, codec="pcm_s16le")
