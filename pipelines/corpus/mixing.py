"""Mixes sounds into a soundtrack: events over a continuous background.

A soundtrack is planned before it is rendered, so that the times of its events are known exactly.
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

# The front end uses frequencies up to 8 kHz. Mixing at its rate takes a third of the time that
# mixing at the rates of the media would.
MIX_RATE_HZ = LogMelParams().sample_rate_hz
# Range of the exponents of `Noise`, from nearly white to nearly brown.
NOISE_EXPONENTS = (0.3, 1.6)
_LOUDNESS_DECIBELS = (-30.0, -18.0)  # root mean square of the whole, full scale being 0
_PEAK = 0.9


class Sound(Protocol):
    """A sound of any length that can be mixed into a soundtrack."""

    def samples(self, num_samples: int, rng: Generator) -> np.ndarray:
        """Return float [num_samples] at `MIX_RATE_HZ`, with a root mean square of 1."""


@dataclass(frozen=True)
class Noise:
    """Noise whose power falls with frequency as 1 / f ** `exponent`."""

    exponent: float

    def samples(self, num_samples: int, rng: Generator) -> np.ndarray:
        """Return noise as a `Sound`."""
        return colored_noise(
            num_samples=num_samples, sample_rate=MIX_RATE_HZ, exponent=self.exponent, rng=rng
        )


@dataclass(frozen=True)
class Event:
    """A sound at a time in a soundtrack.

    Attributes:
      source: the name of the sound's class, or the id of its clip.
      labels: of the sound, specific and generic.
      sound: gives the samples.
      seconds: duration.
      decibels: level over the background, by their root mean squares.
      start: seconds from the start of the soundtrack.
      labelled: whether the labels of the event are labels of the soundtrack.
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
        """End of the event, in seconds from the start of the soundtrack."""
        return self.start + self.seconds


@dataclass(frozen=True)
class Soundtrack:
    """The plan of a soundtrack.

    Attributes:
      key: the id in the manifest.
      split: "train", "validation" or "evaluation".
      media_format: container and codec of the file.
      seconds: duration.
      background: a sound from start to end.
      events: sounds over the background; each ends before the soundtrack ends.
      seed: of the random numbers of rendering.
      origins: what its sounds were taken from; empty for sounds that were made for it alone.
    """

    key: str
    split: str
    media_format: MediaFormat
    seconds: float
    background: Sound
    events: tuple[Event, ...]
    seed: tuple[int, ...]
    origins: tuple[str, ...] = ()

    @property
    def labels(self) -> frozenset[str]:
        """The labels of the whole soundtrack: those of all labelled events."""
        return frozenset(label for event in self.events if event.labelled for label in event.labels)

    @property
    def uri(self) -> str:
        """The path of the media file, relative to the manifest."""
        return f"media/{self.key}{self.media_format.suffix}"


def mix(soundtrack: Soundtrack) -> np.ndarray:
    """Render a soundtrack.

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


def place_in_sequence(
    events: Iterable[Event],
    *,
    seconds: float,
    gap_seconds: tuple[float, float],
    shortest: float,
    rng: Generator,
) -> list[Event]:
    """Place events one after another, until no event is left or the soundtrack is full.

    Args:
      events: without `start`; may be endless. An event is taken only if there is room for it.
      seconds: duration of the soundtrack, `shortest` or more.
      gap_seconds: range of the gap from the end of an event to the start of the next; negative
        values let events overlap.
      shortest: seconds. An event is cut at the end of the soundtrack, but not to less than this.
      rng: draws the gaps and the time before the first event.

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
