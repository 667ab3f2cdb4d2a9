"""A small corpus of real media files, shared by the tests of the jobs."""

import csv
import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from pipelines.corpus.encoding import FORMATS, write_media

# TensorFlow's pauses between attempts under gs:// grow from 10 ms, not from 1 s. It reads this when
# it is imported.
os.environ["GCS_RETRY_CONFIG_INIT_DELAY_TIME_US"] = "10000"
# Label -> frequency of its tone; soundtracks are mixtures of the tones of their labels.
TONES = {"Low": 220.0, "Middle": 880.0, "High": 3520.0}
# By index: every label is with and without in each split.
_SPLITS = {0: "evaluation", 3: "evaluation", 5: "evaluation", 8: "evaluation", 11: "evaluation"}
_SPLITS |= {6: "validation", 12: "validation"}


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Media files in a folder, described by a manifest."""

    manifest: Path
    num_good: int
    num_broken: int


def make_corpus(folder: Path, num_soundtracks: int) -> Corpus:
    """Soundtracks of 2 to 5 s in every format, one file that is no medium, one that is absent."""
    rng = np.random.default_rng(7)
    rows = []
    for index in range(num_soundtracks):
        kind = FORMATS[index % len(FORMATS)]
        labels = [name for bit, name in enumerate(TONES) if (index % 7 + 1) >> bit & 1]
        seconds = 2.0 + index % 4
        time = np.arange(int(seconds * kind.sample_rate)) / kind.sample_rate
        mono = 0.1 * rng.standard_normal(len(time))
        mono += sum(0.05 * np.sin(2 * np.pi * TONES[name] * time) for name in labels)
        samples = np.repeat(mono[:, None], kind.num_channels, axis=1).astype(np.float32)
        name = f"clip-{index:02d}{kind.suffix}"
        write_media(
            folder / name,
            samples,
            sample_rate=kind.sample_rate,
            codec=kind.codec,
            video=kind.video,
        )
        rows.append((name, name, ";".join(labels), _SPLITS.get(index % 14, "train")))
    (folder / "broken.mp4").write_text("this is no medium\n" * 100)
    rows.append(("broken", "broken.mp4", "Low", "train"))
    rows.append(("absent", "absent.wav", "High", "evaluation"))
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "uri", "labels", "split"), *rows])
    return Corpus(manifest, num_soundtracks, 2)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Fourteen soundtracks, two of each format."""
    return make_corpus(tmp_path_factory.mktemp("corpus"), 14)
