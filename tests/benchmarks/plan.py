"""Claim: the real CPU time of extraction is in the 90 % interval that `pipelines.plan` predicts.

The corpus has 2,000 files in six formats, 2 to 60 s long; each prediction measures a sample of 64.
Predictions and extractions alternate, and each prediction is compared with the next extraction, so
that the comparison includes the drift of the machine's speed.

    python -m tests.benchmarks.plan --quick
"""

import csv
import dataclasses
import functools
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np

from features.contracts import folders
from features.contracts.documents import Features
from pipelines import extract_features, plan
from pipelines.corpus.encoding import write_media
from pipelines.cost.prediction import Prediction
from tests.benchmarks.measurement import Lane, is_quick, make_table, report, require_possible
from tests.benchmarks.soundtracks import KINDS, Kind, mixture, write_soundtrack

BASE_SECONDS, NUM_BASES = 60.0, 2
MEDIAN_SECONDS, SPREAD, SHORTEST_SECONDS = 10.0, 0.8, 2.0
PREDICTIONS_PER_EXTRACTION = 2


def write_files(folder: Path, *, num_files: int) -> list[Path]:
    """Write files of log-normal durations, cut from a few long files."""
    rng = np.random.default_rng(0)
    kinds = [dataclasses.replace(kind, video=False) for kind in KINDS.values()]
    media = folder / "media"
    media.mkdir()
    samples = {
        (kind.name, seed): mixture(
            seconds=BASE_SECONDS, sample_rate=kind.sample_rate, seed=10 * index + seed
        )
        for index, kind in enumerate(kinds)
        for seed in range(NUM_BASES)
        if is_lossless(kind)
    }
    for kind in kinds:
        for seed in range(NUM_BASES):
            if not is_lossless(kind):
                base = folder / f"base-{seed}{kind.suffix}"
                write_soundtrack(
                    base, kind, minutes=BASE_SECONDS / 60, seed=seed, base_seconds=BASE_SECONDS
                )
    paths = []
    for index in range(num_files):
        kind, seed = kinds[index % len(kinds)], int(rng.integers(NUM_BASES))
        seconds = MEDIAN_SECONDS * np.exp(SPREAD * rng.standard_normal())
        seconds = float(np.clip(seconds, SHORTEST_SECONDS, BASE_SECONDS))
        path = media / f"{index:05d}{kind.suffix}"
        if is_lossless(kind):
            part = samples[kind.name, seed][: int(seconds * kind.sample_rate)]
            write_media(path, part, sample_rate=kind.sample_rate, codec=kind.codec)
        else:
            cut(folder / f"base-{seed}{kind.suffix}", path, seconds)
        paths.append(path)
    return paths


def is_lossless(kind: Kind) -> bool:
    """Whether the codec encodes fast, and its header has a length that a cut would not change."""
    return kind.codec in ("flac", "pcm_s16le")


def cut(source: Path, target: Path, seconds: float) -> None:
    """Copy the packets of the first `seconds`."""
    with av.open(str(source)) as whole, av.open(str(target), "w") as part:
        stream = whole.streams.audio[0]
        copy = part.add_stream_from_template(stream)
        for packet in whole.demux(stream):
            if packet.pts is not None and float(packet.pts * packet.time_base) < seconds:
                packet.stream = copy
                part.mux(packet)


def prepare(paths: Sequence[Path], folder: Path) -> Path:
    """Make a data set of the files."""
    from pipelines import prepare_dataset  # imports TensorFlow

    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="") as file:
        rows = [(path.name, path, "Any") for path in paths]
        csv.writer(file).writerows([("id", "uri", "labels"), *rows])
    prepare_dataset.main(["--manifest", str(manifest), "--output", str(folder / "dataset")])
    return folder / "dataset"


def predict(dataset: Path, seed: int) -> Prediction:
    """Run the command, and return its prediction."""
    assert plan.main(["--dataset", str(dataset), "--seed", str(seed)]) == 0
    return folders.read_document(str(dataset), Prediction)


def extract(dataset: Path, output: Path) -> Features:
    """Extract all features into a new folder."""
    shutil.rmtree(output, ignore_errors=True)
    assert extract_features.main(["--dataset", str(dataset), "--output", str(output)]) == 0
    return folders.read_document(str(output), Features)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    num_files, num_seeds = (300, 4) if is_quick(__doc__, argv) else (2_000, 6)
    rows, inside, halves, beyond = [], 0, [], []
    with tempfile.TemporaryDirectory() as temporary, Lane() as making, Lane() as lane:
        folder = Path(temporary)
        paths = making(functools.partial(write_files, num_files=num_files), folder)[1]
        dataset = making(prepare, paths, folder)[1]
        predictions: list[tuple[int, float, Prediction]] = []
        for seed in range(num_seeds):
            predictions.append((seed, *lane(predict, dataset, seed)))
            if len(predictions) < PREDICTIONS_PER_EXTRACTION and seed + 1 < num_seeds:
                continue
            tree_seconds, made = lane(extract, dataset, folder / "features")
            assert made.work is not None
            real = made.work.cpu_seconds
            assert made.num_written == num_files
            start = tree_seconds - real
            beyond.append(require_possible("CPU seconds of the start", start, at_least=0))
            for number, cost, prediction in predictions:
                low, best, high = prediction.cpu_seconds
                inside += low <= real <= high
                halves.append((high - low) / 2 / best)
                rows.append([number, best, low, high, real, best / real, cost])
                num_hours = made.num_patches * 0.96 / 3600
                assert 0.7 < prediction.audio_hours[1] / num_hours < 1.4
            predictions = []
    header = [
        "seed",
        "predicted s",
        "low",
        "high",
        "real s",
        "predicted / real",
        "CPU s to predict",
    ]
    report(
        {
            "inside": inside,
            "num_seeds": num_seeds,
            "num_files": num_files,
            "half_width": float(np.mean(halves)),
            "largest_error": float(max(abs(row[5] - 1) for row in rows)),
            "start_cpu_s": float(np.median(beyond)),
        },
        {"predictions": make_table(header, rows)},
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
