"""Writes a small corpus of synthetic soundtracks, as media files with a manifest of weak labels.

    python -m pipelines.demo_corpus --output corpus --soundtracks 64 --seed 1

writes corpus/media/demo0000.mp4, ... and corpus/manifest.csv. The same seed and number of
soundtracks give the same bytes.
"""

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import soxr
from numpy.random import Generator

from pipelines.media import FORMATS, MediaFormat, write_media
from pipelines.synthesis import SOUND_CLASSES, SoundClass, colored_noise, synthesise

MANIFEST_COLUMNS = ("id", "uri", "labels", "split")
MAX_LABELS = 4
MIN_SOUNDTRACKS = 3  # one for each split
VALIDATION_SHARE, EVALUATION_SHARE = 1 / 8, 0.28
# At most this many soundtracks of a class are sought for a split; the rest belong to training.
VALIDATION_EXAMPLES, EVALUATION_EXAMPLES = 1, 2
SECOND_CLASS_SHARE = 0.9

# The classifier hears up to 8 kHz, so nothing is made above; it saves two thirds of the time.
SYNTHESIS_RATE = 16_000
SOUNDTRACK_SECONDS = (15.0, 40.0)
EVENT_SECONDS = (1.0, 4.0)
GAP_SECONDS = (0.3, 1.5)
STRAY_SECONDS = (0.3, 0.8)
EVENT_DECIBELS = (0.0, 15.0)  # over the background, one draw per class and soundtrack
LOUDNESS_DECIBELS = (-30.0, -18.0)  # root mean square of the whole, full scale being 0
PEAK = 0.9


@dataclass(frozen=True)
class Soundtrack:
    """What a soundtrack will be, before it is rendered.

    Attributes:
        key: the id in the manifest.
        media_format: kind of file.
        sound_classes: one or two classes to be heard in it.
        seconds: duration.
        seed: seed words of the random numbers it is rendered with.
    """

    key: str
    media_format: MediaFormat
    sound_classes: tuple[SoundClass, ...]
    seconds: float
    seed: tuple[int, ...]

    @property
    def labels(self) -> frozenset[str]:
        """Specific and generic labels of everything heard on purpose."""
        return frozenset().union(*(sound_class.labels for sound_class in self.sound_classes))

    @property
    def uri(self) -> str:
        """Location relative to the manifest."""
        return f"media/{self.key}{self.media_format.suffix}"


def plan_soundtracks(*, seed: int, count: int) -> list[Soundtrack]:
    """Decides on the contents of a corpus.

    Args:
        seed: of the corpus, 0 or more.
        count: number of soundtracks.

    Returns:
        `count` soundtracks. Each depends on `seed` and its index alone: a longer corpus begins
        with a shorter one.
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
        soundtracks.append(
            Soundtrack(
                key=f"demo{index:04d}",
                media_format=FORMATS[index % len(FORMATS)],
                sound_classes=tuple(sound_classes),
                seconds=rng.uniform(*SOUNDTRACK_SECONDS),
                seed=(seed, index),
            )
        )
    return soundtracks


def render(soundtrack: Soundtrack) -> np.ndarray:
    """Makes the samples of a soundtrack: events that come and go over background noise.

    Returns:
        float32 [num_samples, num_channels] in [-1, 1), at the rate of the soundtrack's format.
    """
    rng = np.random.default_rng(soundtrack.seed)
    num_samples = int(soundtrack.seconds * SYNTHESIS_RATE)
    exponent = rng.uniform(0.3, 1.6)
    mix = np.stack(
        [
            colored_noise(
                num_samples=num_samples, sample_rate=SYNTHESIS_RATE, exponent=exponent, rng=rng
            )
            for _ in range(soundtrack.media_format.num_channels)
        ],
        axis=1,
    )  # [num_samples, num_channels]

    for sound_class in soundtrack.sound_classes:
        gain = _decibels(EVENT_DECIBELS, rng)
        # The first gap leaves room for one event whatever the duration.
        start = rng.uniform(0.0, GAP_SECONDS[1])
        while start < soundtrack.seconds - EVENT_SECONDS[0]:
            seconds = min(rng.uniform(*EVENT_SECONDS), soundtrack.seconds - start)
            _add_event(mix, sound_class, start, seconds, gain, rng)
            start += seconds + rng.uniform(*GAP_SECONDS)

    # Real labels are incomplete: here and there something else is heard for a moment.
    for _ in range(rng.integers(3)):
        stray_class = SOUND_CLASSES[rng.integers(len(SOUND_CLASSES))]
        seconds = rng.uniform(*STRAY_SECONDS)
        start = rng.uniform(0.0, soundtrack.seconds - seconds)
        gain = _decibels(EVENT_DECIBELS, rng)
        _add_event(mix, stray_class, start, seconds, gain, rng)

    mix = soxr.resample(mix, SYNTHESIS_RATE, soundtrack.media_format.sample_rate)
    loudness = _decibels(LOUDNESS_DECIBELS, rng) / np.sqrt(np.mean(mix**2))
    return (mix * min(loudness, PEAK / np.abs(mix).max())).astype(np.float32)


def _add_event(
    mix: np.ndarray,
    sound_class: SoundClass,
    start_seconds: float,
    seconds: float,
    gain: float,
    rng: Generator,
) -> None:
    """Adds a sound to `mix` ([num_samples, num_channels]), at a random place between channels."""
    sound = synthesise(
        sound_class, num_samples=int(seconds * SYNTHESIS_RATE), sample_rate=SYNTHESIS_RATE, rng=rng
    )
    balance = rng.uniform(0.5, 1.0, mix.shape[1])
    start = int(start_seconds * SYNTHESIS_RATE)
    mix[start : start + len(sound)] += gain * sound[:, np.newaxis] * balance


def _decibels(limits: tuple[float, float], rng: Generator) -> float:
    """Draws a level between limits in decibels; returns it as a factor of amplitude."""
    return 10 ** (rng.uniform(*limits) / 20)


def assign_splits(soundtracks: Sequence[Soundtrack]) -> list[str]:
    """Splits a corpus such that each split has as many of the classes as it can.

    Evaluation chooses first, then validation; each takes, one at a time, the soundtrack whose
    classes it still needs most, the rare ones counting for more. Training keeps the rest.

    Args:
        soundtracks: the whole corpus, `MIN_SOUNDTRACKS` or more.

    Returns:
        "train", "validation" or "evaluation" for each soundtrack.
    """
    occurrences = Counter(c.name for s in soundtracks for c in s.sound_classes)
    splits = ["train"] * len(soundtracks)
    for split, share, examples in (
        ("evaluation", EVALUATION_SHARE, EVALUATION_EXAMPLES),
        ("validation", VALIDATION_SHARE, VALIDATION_EXAMPLES),
    ):
        chosen: Counter[str] = Counter()
        for _ in range(max(1, round(share * len(soundtracks)))):
            needs = [
                sum(
                    (1.0 if chosen[c.name] < examples else -1.0) / occurrences[c.name]
                    for c in soundtrack.sound_classes
                )
                if taken == "train"
                else -np.inf
                for soundtrack, taken in zip(soundtracks, splits, strict=True)
            ]
            best = int(np.argmax(needs))  # the first of equals
            splits[best] = split
            chosen.update(c.name for c in soundtracks[best].sound_classes)
    return splits


def write_soundtrack(soundtrack: Soundtrack, directory: Path) -> None:
    """Renders a soundtrack and encodes it below `directory`."""
    write_media(
        directory / soundtrack.uri,
        render(soundtrack),
        sample_rate=soundtrack.media_format.sample_rate,
        codec=soundtrack.media_format.codec,
        video=soundtrack.media_format.video,
    )


def write_manifest(path: Path, soundtracks: Sequence[Soundtrack], splits: Sequence[str]) -> None:
    """Writes one row per soundtrack, under the header `MANIFEST_COLUMNS`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(MANIFEST_COLUMNS)
        for soundtrack, split in zip(soundtracks, splits, strict=True):
            labels = ";".join(sorted(soundtrack.labels))
            writer.writerow((soundtrack.key, soundtrack.uri, labels, split))


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
        help="directory for manifest.csv and media/; made if missing, files of the same name "
        "are overwritten",
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

    try:
        (arguments.output / "media").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(
            f"cannot make a directory at --output {arguments.output} ({error.strerror}); "
            "name one in a place you may write to"
        )
    soundtracks = plan_soundtracks(seed=arguments.seed, count=arguments.soundtracks)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as executor:
        for _ in executor.map(partial(write_soundtrack, directory=arguments.output), soundtracks):
            pass
    # Last, so that a manifest stands for a corpus that is complete.
    write_manifest(arguments.output / "manifest.csv", soundtracks, assign_splits(soundtracks))

    minutes = sum(soundtrack.seconds for soundtrack in soundtracks) / 60
    labels = frozenset().union(*(soundtrack.labels for soundtrack in soundtracks))
    print(
        f"wrote {len(soundtracks)} soundtracks, {minutes:.0f} minutes, {len(labels)} labels "
        f"to {arguments.output}"
    )
    return 0


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
    sys.exit(main())
