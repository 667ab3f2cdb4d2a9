"""Writes a small corpus of synthetic soundtracks, as media files with a manifest of weak labels.

    python -m pipelines.demo_corpus --output corpus --soundtracks 64 --seed 1

writes corpus/media/demo0000.mp4, ..., corpus/manifest.csv, and corpus/events.parquet with the times
at which the sounds are heard. The same seed and number of soundtracks give the same bytes.
"""

import argparse
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.random import Generator

from features.contracts.sharding import EVALUATION, TRAIN, VALIDATION
from features.errors import OK, run_command
from pipelines.corpus import writer
from pipelines.corpus.encoding import FORMATS
from pipelines.corpus.mixing import (
    MIX_RATE_HZ,
    NOISE_EXPONENTS,
    Event,
    Noise,
    Soundtrack,
    in_turn,
)
from pipelines.corpus.synthetic_sounds import SOUND_CLASSES, SoundClass, synthesise

MAX_LABELS = 4
MIN_SOUNDTRACKS = 3  # one for each split
VALIDATION_SHARE, EVALUATION_SHARE = 1 / 8, 0.28
# At most this many soundtracks of a class are sought for a split; the rest belong to training.
VALIDATION_EXAMPLES, EVALUATION_EXAMPLES = 1, 2
SECOND_CLASS_SHARE = 0.9

SOUNDTRACK_SECONDS = (15.0, 40.0)
EVENT_SECONDS = (1.0, 4.0)
GAP_SECONDS = (0.3, 1.5)
STRAY_SECONDS = (0.3, 0.8)
EVENT_DECIBELS = (0.0, 15.0)  # over the background, one draw per class and soundtrack


@dataclass(frozen=True)
class SyntheticSound:
    """An instance of a class, as long as is wanted."""

    sound_class: SoundClass

    def samples(self, num_samples: int, rng: Generator) -> np.ndarray:
        """float64 [num_samples] with a root mean square of 1."""
        return synthesise(
            self.sound_class, num_samples=num_samples, sample_rate=MIX_RATE_HZ, rng=rng
        )


def plan_soundtracks(
    *, seed: int, count: int, seconds: tuple[float, float] = SOUNDTRACK_SECONDS
) -> list[Soundtrack]:
    """Decides on the contents of a corpus.

    Args:
        seed: of the corpus, 0 or more.
        count: number of soundtracks.
        seconds: shortest and longest duration of a soundtrack.

    Returns:
        `count` soundtracks, all for training so far. Each depends on `seed` and its index alone: a
        longer corpus begins with a shorter one.
    """
    rng = np.random.default_rng(seed)
    frequencies = np.array([sound_class.frequency for sound_class in SOUND_CLASSES])
    arrears = np.zeros(len(SOUND_CLASSES))

    def next_class(allowed: Sequence[bool]) -> SoundClass:
        # The class most behind its frequency is the likeliest. Independent draws would leave a
        # small corpus without some of the rare ones.
        nonlocal arrears
        arrears += frequencies / frequencies.sum()
        priorities = arrears + rng.random(len(SOUND_CLASSES))
        chosen = int(np.argmax(np.where(allowed, priorities, -np.inf)))
        arrears[chosen] -= 1
        return SOUND_CLASSES[chosen]

    soundtracks = []
    for index in range(count):
        sound_classes = [next_class([True] * len(SOUND_CLASSES))]
        if rng.random() < SECOND_CLASS_SHARE:
            first = sound_classes[0]
            fits = [
                other is not first and len(first.labels | other.labels) <= MAX_LABELS
                for other in SOUND_CLASSES
            ]
            sound_classes.append(next_class(fits))
        duration = rng.uniform(*seconds)
        own = np.random.default_rng((seed, index))
        soundtracks.append(
            Soundtrack(
                key=f"demo{index:04d}",
                split=TRAIN,
                media_format=FORMATS[index % len(FORMATS)],
                seconds=duration,
                background=Noise(own.uniform(*NOISE_EXPONENTS)),
                events=tuple(_plan_events(sound_classes, duration, own)),
                # Not that of the plan, whose numbers would come again.
                seed=(seed, index, 1),
            )
        )
    return soundtracks


def _plan_events(
    sound_classes: Sequence[SoundClass], seconds: float, rng: Generator
) -> Iterator[Event]:
    """Each class again and again, and a few strays."""
    for sound_class in sound_classes:
        decibels = rng.uniform(*EVENT_DECIBELS)
        yield from in_turn(
            (_event(sound_class, EVENT_SECONDS, decibels, rng) for _ in itertools.count()),
            seconds=seconds,
            gap_seconds=GAP_SECONDS,
            shortest=EVENT_SECONDS[0],
            rng=rng,
        )
    # Real labels are incomplete: here and there something else is heard for a moment.
    for _ in range(rng.integers(3)):
        stray_class = SOUND_CLASSES[rng.integers(len(SOUND_CLASSES))]
        stray = _event(stray_class, STRAY_SECONDS, rng.uniform(*EVENT_DECIBELS), rng)
        yield replace(stray, start=rng.uniform(0.0, seconds - stray.seconds), labelled=False)


def _event(
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
    """Splits a corpus such that each split has as many of the classes as it can.

    Evaluation chooses first, then validation; each takes, one at a time, the soundtrack whose
    classes it still needs most, the rare ones counting for more. Training keeps the rest.

    Args:
        soundtracks: the whole corpus, `MIN_SOUNDTRACKS` or more.

    Returns:
        "train", "validation" or "evaluation" for each soundtrack.
    """
    classes = [classes_of(soundtrack) for soundtrack in soundtracks]
    occurrences = Counter(name for names in classes for name in names)
    splits = [TRAIN] * len(soundtracks)
    for split, share, examples in (
        (EVALUATION, EVALUATION_SHARE, EVALUATION_EXAMPLES),
        (VALIDATION, VALIDATION_SHARE, VALIDATION_EXAMPLES),
    ):
        chosen: Counter[str] = Counter()
        for _ in range(max(1, round(share * len(soundtracks)))):
            needs = [
                sum(
                    (1.0 if chosen[name] < examples else -1.0) / occurrences[name] for name in names
                )
                if taken == TRAIN
                else -np.inf
                for names, taken in zip(classes, splits, strict=True)
            ]
            best = int(np.argmax(needs))  # the first of equals
            splits[best] = split
            chosen.update(classes[best])
    return splits


def classes_of(soundtrack: Soundtrack) -> list[str]:
    """The classes that are heard in a soundtrack on purpose, in the order in which they came."""
    return list(dict.fromkeys(event.source for event in soundtrack.events if event.labelled))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.demo_corpus",
        description="Write a corpus of synthetic soundtracks in many media formats, with a "
        "manifest of labels and splits, to try the pipelines on.",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="folder for manifest.csv, events.parquet and media/; made if missing, files of the "
        "same name are overwritten",
    )
    parser.add_argument(
        "--soundtracks",
        type=_whole_number(minimum=MIN_SOUNDTRACKS),
        default=64,
        help="how many soundtracks of 15 to 40 seconds to write (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=_whole_number(minimum=0),
        default=1,
        help="0 or more; another seed gives another corpus (default: %(default)s)",
    )
    arguments = parser.parse_args(argv)

    planned = plan_soundtracks(seed=arguments.seed, count=arguments.soundtracks)
    soundtracks = [
        replace(soundtrack, split=split)
        for soundtrack, split in zip(planned, assign_splits(planned), strict=True)
    ]
    with writer.process_pool(None) as executor:
        writer.write_corpus(soundtracks, arguments.output, executor)
    print(writer.describe(soundtracks, arguments.output))
    return OK


def _whole_number(minimum: int) -> Callable[[str], int]:
    """Returns an argparse type for whole numbers of `minimum` or more."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum:
            raise argparse.ArgumentTypeError(
                f"got {text!r}; give a whole number of {minimum} or more"
            )
        return value

    return parse


if __name__ == "__main__":
    run_command(main)
