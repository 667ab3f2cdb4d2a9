"""Plans soundtracks of several clips over a background.

Soundtracks of a split use only clips of that split.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from features.contracts.sharding import SPLITS
from features.errors import InputError
from pipelines.adapters.hierarchy import expand_labels, find_ancestors
from pipelines.corpus.clips import Clip, ClipSound
from pipelines.corpus.encoding import MediaFormat
from pipelines.corpus.mixing import (
    NOISE_EXPONENTS,
    Event,
    Noise,
    Sound,
    Soundtrack,
    place_in_sequence,
)


@dataclass(frozen=True, kw_only=True)
class Composition:
    """Settings of a corpus. Values are drawn uniformly from the ranges.

    Attributes:
      num_soundtracks: of all splits together.
      seconds: range of the duration of a soundtrack.
      events: range of the number of events of a soundtrack; fewer if they do not fit.
      gap_seconds: range of the gap from the end of an event to the start of the next; negative
        values let events overlap.
      event_seconds: range of the duration of an event. Longer sounds are cut.
      decibels: range of the level of an event over the background, by their root mean squares.
      formats: of the files; soundtrack i has format i modulo their number.
      seed: of all random numbers, 0 or more.
    """

    num_soundtracks: int
    seconds: tuple[float, float]
    events: tuple[int, int]
    gap_seconds: tuple[float, float]
    event_seconds: tuple[float, float]
    decibels: tuple[float, float]
    formats: Sequence[MediaFormat]
    seed: int


def plan_soundtracks(
    clips: Sequence[Clip], backgrounds: Sequence[Clip], composition: Composition
) -> list[Soundtrack]:
    """Plan the contents of a corpus.

    Args:
      clips: labelled. A split gets a share of the soundtracks in proportion to the number of its
        clips. Within a split, the numbers of uses of two clips differ by one at most.
      backgrounds: recordings for every split that has clips; empty for backgrounds of noise.
      composition: settings of the corpus.

    Raises:
      InputError: a split has no background, or there are more splits than soundtracks.
    """
    by_split = _group_by_split(clips)
    backgrounds_by_split = _group_by_split(backgrounds)
    without = sorted(by_split.keys() - backgrounds_by_split.keys())
    if backgrounds and without:
        raise InputError(
            f"--background: no recording is in the split {' or '.join(without)}, which has clips; "
            "give more recordings, or a manifest with a split column"
        )
    counts = _apportion({split: len(found) for split, found in by_split.items()}, composition)
    return [
        soundtrack
        for split, found in by_split.items()
        for soundtrack in _plan_split(
            split, counts[split], found, backgrounds_by_split.get(split, []), composition
        )
    ]


def _group_by_split(clips: Sequence[Clip]) -> dict[str, list[Clip]]:
    """Split -> its clips, in the order of `SPLITS`, for splits that have clips."""
    grouped = {split: [clip for clip in clips if clip.split == split] for split in SPLITS}
    return {split: found for split, found in grouped.items() if found}


def _apportion(num_clips: Mapping[str, int], composition: Composition) -> dict[str, int]:
    """Split -> number of soundtracks: one, and a share of the rest by the largest remainder."""
    total, spare = sum(num_clips.values()), composition.num_soundtracks - len(num_clips)
    if spare < 0:
        raise InputError(
            f"--soundtracks: received {composition.num_soundtracks} for clips of the splits "
            f"{', '.join(num_clips)}; give {len(num_clips)} or more"
        )
    shares = {split: spare * count / total for split, count in num_clips.items()}
    counts = {split: 1 + int(share) for split, share in shares.items()}
    by_remainder = sorted(shares, key=lambda split: int(shares[split]) - shares[split])
    for split in by_remainder[: composition.num_soundtracks - sum(counts.values())]:
        counts[split] += 1
    return counts


def _plan_split(
    split: str,
    count: int,
    clips: Sequence[Clip],
    backgrounds: Sequence[Clip],
    composition: Composition,
) -> Iterator[Soundtrack]:
    # Each split has a seed of its own, so that a split can change without the others.
    seed = (composition.seed, list(SPLITS).index(split))
    rng = np.random.default_rng(seed)
    shuffled = _shuffle_forever(clips, rng)
    origins_of = {clip.id: clip.origins for clip in clips}
    for index in range(count):
        seconds = rng.uniform(*composition.seconds)
        num_events = int(rng.integers(composition.events[0], composition.events[1] + 1))
        events = place_in_sequence(
            (_draw_event(next(shuffled), composition, rng) for _ in range(num_events)),
            seconds=seconds,
            gap_seconds=composition.gap_seconds,
            shortest=composition.event_seconds[0],
            rng=rng,
        )
        background, origins = _draw_background(backgrounds, seconds, rng)
        yield Soundtrack(
            key=f"{split}-{index:05d}",
            split=split,
            media_format=composition.formats[index % len(composition.formats)],
            seconds=seconds,
            background=background,
            events=tuple(events),
            seed=(*seed, index),
            origins=tuple(
                sorted({*origins, *(name for e in events for name in origins_of[e.source])})
            ),
        )


def _shuffle_forever(clips: Sequence[Clip], rng: Generator) -> Iterator[Clip]:
    """Give all clips in a random order, then all clips in another random order, without end."""
    while True:
        for index in rng.permutation(len(clips)):
            yield clips[index]


def _draw_event(clip: Clip, composition: Composition, rng: Generator) -> Event:
    sound = _draw_excerpt(clip, composition.event_seconds[1], rng)
    return Event(
        source=clip.id,
        labels=clip.labels,
        sound=sound,
        seconds=sound.end - sound.start,
        decibels=rng.uniform(*composition.decibels),
    )


def _draw_excerpt(clip: Clip, longest: float, rng: Generator) -> ClipSound:
    """Draw an audible part; of a part longer than `longest` seconds, draw an excerpt."""
    first, last = clip.parts[int(rng.integers(len(clip.parts)))]
    start = rng.uniform(first, max(first, last - longest))
    return ClipSound(clip.uri, start, min(last, start + longest))


def _draw_background(
    recordings: Sequence[Clip], seconds: float, rng: Generator
) -> tuple[Sound, tuple[str, ...]]:
    """A background, and its origins."""
    if not recordings:
        return Noise(rng.uniform(*NOISE_EXPONENTS)), ()
    recording = recordings[int(rng.integers(len(recordings)))]
    return _draw_excerpt(recording, seconds, rng), recording.origins


def add_generic_labels(
    clips: Sequence[Clip], parents: Mapping[str, Sequence[str]], source: str
) -> list[Clip]:
    """Add to each clip the generic labels above its labels.

    Args:
      clips: with specific labels.
      parents: label -> generic labels directly above it.
      source: the name of the file of `parents`, for messages.

    Raises:
      InputError: a label is its own ancestor, or is neither a label of a clip nor above one.
    """
    hierarchy = {label: frozenset[str]() for clip in clips for label in clip.labels}
    own = sorted(hierarchy)
    hierarchy |= find_ancestors(parents, source)
    unknown = sorted(parents.keys() - frozenset(own).union(*(hierarchy[label] for label in own)))
    if unknown:
        raise InputError(
            f"{source}: no clip has the label {', '.join(map(repr, unknown))}; remove it, or write "
            f"it as one of {', '.join(map(repr, own))}"
        )
    return [replace(clip, labels=expand_labels(clip.labels, hierarchy)) for clip in clips]
