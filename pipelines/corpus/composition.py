"""Plans soundtracks of several clips over a background.

Soundtracks of a split use only clips of that split.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from features.contracts.sharding import SPLITS
from features.errors import InputError
from pipelines.adapters.hierarchy import expand_labels, find_ancestors
from pipelines.corpus.clips import Clip, ClipSound
from pipelines.corpus.encoding import MediaFormat
from pipelines.corpus.label_law import LabelLaw, draw_by_label, rank_labels, shuffle_forever
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
      num_soundtracks: of all splits together, or of each split that has clips.
      seconds: range of the duration of a soundtrack.
      events: range of the number of events of a soundtrack; fewer if they do not fit.
      gap_seconds: range of the gap from the end of an event to the start of the next; negative
        values let events overlap.
      event_seconds: range of the duration of an event. Longer sounds are cut.
      decibels: range of the level of an event over the background, by their root mean squares.
      formats: of the files; soundtrack i has format i modulo their number.
      seed: of all random numbers, 0 or more.
      label_law: how often labels are drawn; None to use all clips equally often.
    """

    num_soundtracks: int | Mapping[str, int]
    seconds: tuple[float, float]
    events: tuple[int, int]
    gap_seconds: tuple[float, float]
    event_seconds: tuple[float, float]
    decibels: tuple[float, float]
    formats: Sequence[MediaFormat]
    seed: int
    label_law: LabelLaw | None = None


def plan_soundtracks(
    clips: Sequence[Clip], backgrounds: Sequence[Clip], composition: Composition
) -> list[Soundtrack]:
    """Plan the contents of a corpus.

    Args:
      clips: labelled. Without numbers of each split, a split gets a share of the soundtracks in
        proportion to the number of its clips. Within a split, or within a label of a split if
        there is a law of labels, the numbers of uses of two clips differ by one at most.
      backgrounds: recordings for every split that has clips; empty for backgrounds of noise.
      composition: settings of the corpus.

    Raises:
      InputError: a split has no background, there are more splits than soundtracks, or the
        numbers of soundtracks are of other splits than the clips.
    """
    by_split = _group_by_split(clips)
    backgrounds_by_split = _group_by_split(backgrounds)
    without = sorted(by_split.keys() - backgrounds_by_split.keys())
    if backgrounds and without:
        raise InputError(
            f"--background: no recording is in the split {' or '.join(without)}, which has clips; "
            "give more recordings, or a manifest with a split column"
        )
    num_clips = {split: len(found) for split, found in by_split.items()}
    counts = _count_soundtracks(num_clips, composition.num_soundtracks)
    ranking = rank_labels(clips, composition.seed)
    return [
        soundtrack
        for split, found in by_split.items()
        for soundtrack in _plan_split(
            split, counts[split], found, backgrounds_by_split.get(split, []), ranking, composition
        )
    ]


def _group_by_split(clips: Sequence[Clip]) -> dict[str, list[Clip]]:
    """Split -> its clips, in the order of `SPLITS`, for splits that have clips."""
    grouped = {split: [clip for clip in clips if clip.split == split] for split in SPLITS}
    return {split: found for split, found in grouped.items() if found}


def _count_soundtracks(
    num_clips: Mapping[str, int], num_soundtracks: int | Mapping[str, int]
) -> Mapping[str, int]:
    """Split -> number of soundtracks: as given, or by the shares of the clips."""
    if isinstance(num_soundtracks, int):
        return _apportion(num_clips, num_soundtracks)
    if num_soundtracks.keys() != num_clips.keys():
        raise InputError(
            f"--soundtracks: gives the splits {', '.join(num_soundtracks)}; the clips are of "
            f"{', '.join(num_clips)}; give a number for each of these"
        )
    return num_soundtracks


def _apportion(num_clips: Mapping[str, int], num_soundtracks: int) -> dict[str, int]:
    """Split -> number of soundtracks: one, and a share of the rest by the largest remainder."""
    total, spare = sum(num_clips.values()), num_soundtracks - len(num_clips)
    if spare < 0:
        raise InputError(
            f"--soundtracks: received {num_soundtracks} for clips of the splits "
            f"{', '.join(num_clips)}; give {len(num_clips)} or more"
        )
    shares = {split: spare * count / total for split, count in num_clips.items()}
    counts = {split: 1 + int(share) for split, share in shares.items()}
    by_remainder = sorted(shares, key=lambda split: int(shares[split]) - shares[split])
    for split in by_remainder[: num_soundtracks - sum(counts.values())]:
        counts[split] += 1
    return counts


def _plan_split(
    split: str,
    count: int,
    clips: Sequence[Clip],
    backgrounds: Sequence[Clip],
    ranking: Sequence[str],
    composition: Composition,
) -> Iterator[Soundtrack]:
    # Each split has a seed of its own, so that a split can change without the others.
    seed = (composition.seed, list(SPLITS).index(split))
    rng = np.random.default_rng(seed)
    if composition.label_law is None:
        clips_of_soundtracks: Iterator[Iterator[Clip]] = itertools.repeat(
            shuffle_forever(clips, rng)
        )
    else:
        clips_of_soundtracks = draw_by_label(
            clips, ranking, composition.label_law, split=split, rng=rng
        )
    origins_of = {clip.id: clip.origins for clip in clips}
    for index, drawn in zip(range(count), clips_of_soundtracks, strict=False):
        # The Fourier transform of noise is slow where a large prime divides the number of samples.
        seconds = max(composition.seconds[0], round(rng.uniform(*composition.seconds), 1))
        num_events = int(rng.integers(composition.events[0], composition.events[1] + 1))
        events = place_in_sequence(
            (_draw_event(next(drawn), composition, rng) for _ in range(num_events)),
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


def _draw_event(clip: Clip, composition: Composition, rng: Generator) -> Event:
    sound = _draw_excerpt(clip, composition.event_seconds[1], rng)
    return Event(
        source=clip.id,
        labels=tuple(sorted({*clip.labels, *clip.generic_labels})),
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
    return [replace(clip, generic_labels=expand_labels(clip.labels, hierarchy)) for clip in clips]
