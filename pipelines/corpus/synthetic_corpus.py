"""Plans the demo corpus: the synthetic sounds of each soundtrack, their times, and the splits."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from features.contracts.sharding import EVALUATION, TRAIN, VALIDATION
from pipelines.corpus.encoding import FORMATS
from pipelines.corpus.mixing import (
    MIX_RATE_HZ,
    NOISE_EXPONENTS,
    Event,
    Noise,
    Soundtrack,
    place_in_sequence,
)
from pipelines.corpus.synthetic_sounds import SOUND_CLASSES, SoundClass, synthesise

MAX_LABELS = 4
MIN_SOUNDTRACKS = 3  # one for each split
SOUNDTRACK_SECONDS = (15.0, 40.0)
_SECOND_CLASS_PROBABILITY = 0.9
_EVENT_SECONDS = (1.0, 4.0)
_GAP_SECONDS = (0.3, 1.5)
_UNLABELLED_SECONDS = (0.3, 0.8)
_EVENT_DECIBELS = (0.0, 15.0)  # over the background; drawn once for each class of a soundtrack
# Split -> its share of the soundtracks, and how many examples of each class it needs. Training gets
# the rest. Evaluation chooses first, because a metric of a class needs examples.
_SPLIT_NEEDS = {EVALUATION: (0.28, 2), VALIDATION: (1 / 8, 1)}
_FREQUENCIES = np.array([sound_class.frequency for sound_class in SOUND_CLASSES])


@dataclass(frozen=True)
class SyntheticSound:
    """A `Sound` of a class."""

    sound_class: SoundClass

    def samples(self, num_samples: int, rng: Generator) -> np.ndarray:
        """Synthesise float64 [num_samples] with a root mean square of 1."""
        return synthesise(
            self.sound_class, num_samples=num_samples, sample_rate=MIX_RATE_HZ, rng=rng
        )


def plan_corpus(*, seed: int, count: int) -> list[Soundtrack]:
    """Plan `count` soundtracks of all splits; see `plan_soundtracks` and `assign_splits`."""
    soundtracks = plan_soundtracks(seed=seed, count=count)
    return [
        replace(soundtrack, split=split)
        for soundtrack, split in zip(soundtracks, assign_splits(soundtracks), strict=True)
    ]


def plan_soundtracks(
    *, seed: int, count: int, seconds: tuple[float, float] = SOUNDTRACK_SECONDS
) -> list[Soundtrack]:
    """Plan the contents of soundtracks.

    Args:
      seed: of the corpus, 0 or more.
      count: number of soundtracks.
      seconds: shortest and longest duration of a soundtrack.

    Returns:
      `count` soundtracks of the training split. The first soundtracks do not depend on `count`.
    """
    rng = np.random.default_rng(seed)
    arrears = np.zeros(len(SOUND_CLASSES))
    soundtracks = []
    for index in range(count):
        sound_classes = _draw_classes(arrears, rng)
        duration = rng.uniform(*seconds)
        soundtrack_rng = np.random.default_rng((seed, index))
        soundtracks.append(
            Soundtrack(
                key=f"demo{index:04d}",
                split=TRAIN,
                media_format=FORMATS[index % len(FORMATS)],
                seconds=duration,
                background=Noise(soundtrack_rng.uniform(*NOISE_EXPONENTS)),
                events=tuple(_plan_events(sound_classes, duration, soundtrack_rng)),
                # Differs from the seed of the plan, so that mixing does not draw the same numbers.
                seed=(seed, index, 1),
            )
        )
    return soundtracks


def _draw_classes(arrears: np.ndarray, rng: Generator) -> list[SoundClass]:
    """Draw one or two classes of a soundtrack; updates `arrears`."""
    first = _draw_class(arrears, [True] * len(SOUND_CLASSES), rng)
    if rng.random() >= _SECOND_CLASS_PROBABILITY:
        return [first]
    allowed = [
        other is not first and len(first.labels | other.labels) <= MAX_LABELS
        for other in SOUND_CLASSES
    ]
    return [first, _draw_class(arrears, allowed, rng)]


def _draw_class(arrears: np.ndarray, allowed: Sequence[bool], rng: Generator) -> SoundClass:
    """Draw a class, most likely the class whose count is furthest behind its frequency.

    Independent draws would leave a small corpus without some of the rare classes.
    """
    arrears += _FREQUENCIES / _FREQUENCIES.sum()
    priorities = arrears + rng.random(len(SOUND_CLASSES))
    chosen = int(np.argmax(np.where(allowed, priorities, -np.inf)))
    arrears[chosen] -= 1
    return SOUND_CLASSES[chosen]


def _plan_events(
    sound_classes: Sequence[SoundClass], seconds: float, rng: Generator
) -> Iterator[Event]:
    """Plan repeated events of each class, and up to two short events without a label."""
    for sound_class in sound_classes:
        decibels = rng.uniform(*_EVENT_DECIBELS)
        yield from place_in_sequence(
            (_draw_event(sound_class, _EVENT_SECONDS, decibels, rng) for _ in itertools.count()),
            seconds=seconds,
            gap_seconds=_GAP_SECONDS,
            shortest=_EVENT_SECONDS[0],
            rng=rng,
        )
    # The labels of real collections are incomplete too.
    for _ in range(rng.integers(3)):
        sound_class = SOUND_CLASSES[rng.integers(len(SOUND_CLASSES))]
        event = _draw_event(sound_class, _UNLABELLED_SECONDS, rng.uniform(*_EVENT_DECIBELS), rng)
        yield replace(event, start=rng.uniform(0.0, seconds - event.seconds), labelled=False)


def _draw_event(
    sound_class: SoundClass, seconds: tuple[float, float], decibels: float, rng: Generator
) -> Event:
    return Event(
        source=sound_class.name,
        labels=tuple(sorted(sound_class.labels)),
        sound=SyntheticSound(sound_class),
        seconds=rng.uniform(*seconds),
        decibels=decibels,
    )


def assign_splits(soundtracks: Sequence[Soundtrack]) -> list[str]:
    """Choose the split of each soundtrack, so that each split has as many classes as it can.

    Evaluation chooses first, then validation. A split repeatedly takes the soundtrack whose classes
    it needs most, where rare classes count more.

    Args:
      soundtracks: the whole corpus, `MIN_SOUNDTRACKS` or more.

    Returns:
      "train", "validation" or "evaluation" for each soundtrack.
    """
    classes = [list_classes(soundtrack) for soundtrack in soundtracks]
    occurrences = Counter(name for names in classes for name in names)
    splits = [TRAIN] * len(soundtracks)
    for split, (share, examples) in _SPLIT_NEEDS.items():
        chosen: Counter[str] = Counter()
        for _ in range(max(1, round(share * len(soundtracks)))):
            value = {
                name: (1.0 if chosen[name] < examples else -1.0) / count
                for name, count in occurrences.items()
            }
            needs = [
                sum(value[name] for name in names) if taken == TRAIN else -np.inf
                for names, taken in zip(classes, splits, strict=True)
            ]
            best = int(np.argmax(needs))  # the first of equal needs
            splits[best] = split
            chosen.update(classes[best])
    return splits


def list_classes(soundtrack: Soundtrack) -> list[str]:
    """List the classes of the labelled events of a soundtrack, in the order of the events."""
    return list(dict.fromkeys(event.source for event in soundtrack.events if event.labelled))
