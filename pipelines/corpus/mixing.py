"""Mixes sounds into a soundtrack: events that come and go over a background.

What a soundtrack holds is decided before anything is rendered, so that the times of its events are
known exactly.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import soxr
from numpy.random import Generator

from features.front_end.params import LogMelParams
from pipelines.corpus.encoding import MediaFormat
from pipelines.corpus.synthetic_sounds import colored_noise

# The front end hears up to 8 kHz, so nothing is mixed above; it saves two thirds of the time.
MIX_RATE_HZ = LogMelParams().sample_rate_hz
# Exponents of `Noise`, from nearly white to nearly brown.
NOISE_EXPONENTS = (0.3, 1.6)
_LOUDNESS_DECIBELS = (-30.0, -18.0)  # root mean square of the whole, full scale being 0
_PEAK = 0.9


class Sound(Protocol):
    """Something to be heard in a soundtrack."""

    def samples(self, num_samples: int, rng: Generator) -> np.ndarray:
        """Float [num_samples] at `MIX_RATE_HZ`, with a root mean square of 1."""


@dataclass(frozen=True)
class Noise:
    """A background of noise; its power falls with frequency as 1 / f ** `exponent`."""

    exponent: float

    def samples(self, num_samples: int, rng: Generator) -> np.ndarray:
        """As of every `Sound`."""
        return colored_noise(
            num_samples=num_samples, sample_rate=MIX_RATE_HZ, exponent=self.exponent, rng=rng
        )


@dataclass(frozen=True)
class Event:
    """A sound at a place in a soundtrack.

    Attributes:
        source: what is heard, as a class or a clip.
        labels: of the sound, specific and generic.
        sound: makes the samples.
        seconds: duration.
        decibels: root mean square over that of the background.
        start: seconds from the start of the soundtrack.
        labelled: whether the soundtrack bears the labels.
    """

    source: str
    labels: tuple[str, ...]
    sound: Sound
    seconds: float
    decibels: float
    start: float = 0.0
    labelled: bool = True

    @property
    def end(self) -> float:
        """Seconds from the start of the soundtrack."""
        return self.start + self.seconds


@dataclass(frozen=True)
class Soundtrack:
    """What a soundtrack will be, before it is rendered.

    Attributes:
        key: the id in the manifest.
        split: "train", "validation" or "evaluation".
        media_format: kind of file.
        seconds: duration.
        background: heard all the time.
        events: what comes and goes; each ends before the soundtrack does.
        seed: seed words of the random numbers it is rendered with.
    """

    key: str
    split: str
    media_format: MediaFormat
    seconds: float
    background: Sound
    events: tuple[Event, ...]
    seed: tuple[int, ...]

    @property
    def labels(self) -> frozenset[str]:
        """Of all labelled events; the whole soundtrack bears them."""
        return frozenset(label for event in self.events if event.labelled for label in event.labels)

    @property
    def uri(self) -> str:
        """Location relative to the manifest."""
        return f"media/{self.key}{self.media_format.suffix}"


def mix(soundtrack: Soundtrack) -> np.ndarray:
    """Makes the samples of a soundtrack.

    Returns:
        float32 [num_samples, num_channels] in [-1, 1), at the rate of the soundtrack's format.
    """
    rng = np.random.default_rng(soundtrack.seed)
    num_samples = int(soundtrack.seconds * MIX_RATE_HZ)
    num_channels = soundtrack.media_format.num_channels
    background = [soundtrack.background.samples(num_samples, rng) for _ in range(num_channels)]
    mixed = np.stack(background, axis=1)  # [num_samples, num_channels]
    for event in soundtrack.events:
        start = int(event.start * MIX_RATE_HZ)
        event_samples = min(int(event.seconds * MIX_RATE_HZ), num_samples - start)
        balance = 10 ** (event.decibels / 20) * rng.uniform(0.5, 1.0, num_channels)
        sound = event.sound.samples(event_samples, rng)
        mixed[start : start + event_samples] += sound[:, np.newaxis] * balance
    mixed = soxr.resample(mixed, MIX_RATE_HZ, soundtrack.media_format.sample_rate)
    loudness = 10 ** (rng.uniform(*_LOUDNESS_DECIBELS) / 20) / np.sqrt(np.mean(mixed**2))
    return (mixed * min(loudness, _PEAK / np.abs(mixed).max())).astype(np.float32)


def in_turn(
    events: Iterable[Event],
    *,
    seconds: float,
    gap_seconds: tuple[float, float],
    shortest: float,
    rng: Generator,
) -> list[Event]:
    """Places events one after another, until they or the soundtrack are at an end.

    Args:
        events: whose `start` is still open; endless or not, and only asked for where there is room.
        seconds: of the soundtrack, `shortest` or more.
        gap_seconds: least and most from the end of an event to the next; negative where they may
            overlap.
        shortest: an event is cut at the end of the soundtrack, but not to less than this.
        rng: draws the gaps, and what lies before the first event.

    Returns:
        One event or more.
    """
    placed: list[Event] = []
    start = end = 0.0
    for event in events:
        placed.append(replace(event, start=start, seconds=min(event.seconds, seconds - start)))
        end = max(end, placed[-1].end)
        start = max(0.0, placed[-1].end + rng.uniform(*gap_seconds))
        if start > seconds - shortest:
            break
    lead = rng.uniform(0.0, seconds - end)
    return [replace(event, start=lead + event.start) for event in placed]
