"""Plans soundtracks of several clips each, with gaps between them, over a background.

No clip is heard in soundtracks of two splits.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from features.contracts.sharding import SPLITS
from features.errors import InputError
from pipelines.adapters.hierarchy import ancestors
from pipelines.corpus.clips import AudibleClip, ClipSound
from pipelines.corpus.encoding import MediaFormat
from pipelines.corpus.mixing import (
    NOISE_EXPONENTS,
    Event,
    Noise,
    Sound,
    Soundtrack,
    in_turn,
)


@dataclass(frozen=True, kw_only=True)
class Composition:
    """What the soundtracks of a corpus are like. Ranges are drawn from uniformly.

    Attributes:
      num_soundtracks: of all splits together.
      seconds: of a soundtrack.
      events: of a soundtrack; as many of them as have room.
      gap_seconds: from the end of an event to the next; negative where they may overlap.
      event_seconds: of an event. Longer sounds are cut.
      decibels: of an event over the background, by their root mean squares.
      formats: kinds of file, in turn.
      seed: of everything random, 0 or more.
    """

    num_soundtracks: int
    seconds: tuple[float, float]
    events: tuple[int, int]
    gap_seconds: tuple[float, float]
    event_seconds: tuple[float, float]
    decibels: tuple[float, float]
    formats: Sequence[MediaFormat]
    seed: int


def plan(
    clips: Sequence[AudibleClip], backgrounds: Sequence[AudibleClip], composition: Composition
) -> list[Soundtrack]:
    """Decides on the contents of a corpus.

    Args:
      clips: labelled, of one split or more. Each split has as large a share of the soundtracks as
        of the clips, and its clips are heard equally often, up to one time.
      backgrounds: what is heard behind them, for each of their splits; none for noise.
      composition: what the soundtracks are like.

    Raises:
      InputError: a split without background, or more splits than soundtracks.
    """
    by_split = {split: [one for one in clips if one.clip.split == split] for split in SPLITS}
    by_split = {split: within for split, within in by_split.items() if within}
    behind = {s: [one for one in backgrounds if one.clip.split == s] for s in by_split}
    bare = sorted(split for split, within in behind.items() if not within)
    if backgrounds and bare:
        raise InputError(
            f"--background: no recording is in the split {' or '.join(bare)}, which has clips; "
            "give more recordings, or a manifest with a split column"
        )
    counts = _apportion({s: len(within) for s, within in by_split.items()}, composition)
    return [
        soundtrack
        for split, within in by_split.items()
        for soundtrack in _plan_split(split, counts[split], within, behind[split], composition)
    ]


def _apportion(num_clips: Mapping[str, int], composition: Composition) -> dict[str, int]:
    """Split -> soundtracks, in proportion to its clips: by largest remainders, one at least."""
    total, spare = sum(num_clips.values()), composition.num_soundtracks - len(num_clips)
    if spare < 0:
        raise InputError(
            f"--soundtracks: received {composition.num_soundtracks} for clips of the splits "
            f"{', '.join(num_clips)}; give one for each at least"
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
    clips: Sequence[AudibleClip],
    backgrounds: Sequence[AudibleClip],
    composition: Composition,
) -> Iterator[Soundtrack]:
    # Splits have numbers of their own, so that one can change without the others.
    seed = (composition.seed, list(SPLITS).index(split))
    rng = np.random.default_rng(seed)
    deck = _deal(clips, rng)
    for index in range(count):
        seconds = rng.uniform(*composition.seconds)
        num_events = int(rng.integers(composition.events[0], composition.events[1] + 1))
        events = in_turn(
            (_event(next(deck), composition, rng) for _ in range(num_events)),
            seconds=seconds,
            gap_seconds=composition.gap_seconds,
            shortest=composition.event_seconds[0],
            rng=rng,
        )
        yield Soundtrack(
            key=f"{split}-{index:05d}",
            split=split,
            media_format=composition.formats[index % len(composition.formats)],
            seconds=seconds,
            background=_background(backgrounds, seconds, rng),
            events=tuple(events),
            seed=(*seed, index),
        )


def _deal(clips: Sequence[AudibleClip], rng: Generator) -> Iterator[AudibleClip]:
    """All clips in a random order, and again in another, without end."""
    while True:
        for index in rng.permutation(len(clips)):
            yield clips[index]


def _event(one: AudibleClip, composition: Composition, rng: Generator) -> Event:
    sound = _excerpt(one, composition.event_seconds[1], rng)
    return Event(
        source=one.clip.id,
        labels=one.clip.labels,
        sound=sound,
        seconds=sound.end - sound.start,
        decibels=rng.uniform(*composition.decibels),
    )


def _excerpt(one: AudibleClip, longest: float, rng: Generator) -> ClipSound:
    """One of the audible parts, or as much of it as may be, from anywhere in it."""
    first, last = one.parts[int(rng.integers(len(one.parts)))]
    start = rng.uniform(first, max(first, last - longest))
    return ClipSound(one.clip.uri, start, min(last, start + longest))


def _background(recordings: Sequence[AudibleClip], seconds: float, rng: Generator) -> Sound:
    if not recordings:
        return Noise(rng.uniform(*NOISE_EXPONENTS))
    return _excerpt(recordings[int(rng.integers(len(recordings)))], seconds, rng)


def add_generic_labels(
    clips: Sequence[AudibleClip], parents: Mapping[str, Sequence[str]], source: str
) -> list[AudibleClip]:
    """Give clips the labels that hold wherever their own do.

    Args:
      clips: to be labelled.
      parents: label -> generic labels right above it.
      source: of `parents`, for messages.

    Raises:
      InputError: a label is above itself, or is neither of a clip nor above one that is.
    """
    above = ancestors(parents, source)
    own = {label for one in clips for label in one.clip.labels}
    reached = own.union(*(above.get(label, ()) for label in own))
    unknown = sorted(parents.keys() - reached)
    if unknown:
        raise InputError(
            f"{source}: no clip has the label {', '.join(map(repr, unknown))}; remove it, or write "
            f"it as one of {', '.join(map(repr, sorted(own)))}"
        )
    return [
        replace(one, clip=replace(one.clip, labels=_with_generic(one.clip.labels, above)))
        for one in clips
    ]


def _with_generic(labels: Sequence[str], above: Mapping[str, frozenset[str]]) -> tuple[str, ...]:
    return tuple(sorted(set(labels).union(*(above.get(label, ()) for label in labels))))
