"""Claim: real CPU time of extraction and scoring is in the 90 % intervals of `pipelines.plan`.

The corpus has 2,000 files in six formats, 2 to 60 s long; each prediction measures a sample of 64,
and a network. Predictions and jobs alternate, and each prediction is compared with the next
extraction and the next scoring, so that the comparison includes the drift of the machine's speed.
The training split, 70 % of the files, is scored by a ResNet-50 of a quarter of the width with
untrained weights, which do not matter to its speed.

    python -m tests.benchmarks.plan --quick
"""

import csv
import dataclasses
import functools
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import av
import numpy as np

from features.contracts import folders
from features.contracts.documents import Features, Scores
from features.contracts.export import FOLDER
from features.contracts.sharding import TRAIN
from pipelines import extract_features, plan
from pipelines.corpus.encoding import write_media
from pipelines.cost.estimate import Range
from pipelines.cost.prediction import Prediction
from tests.benchmarks.measurement import Lane, is_quick, make_table, report, require_possible
from tests.benchmarks.soundtracks import KINDS, Kind, mixture, write_soundtrack

BASE_SECONDS, NUM_BASES = 60.0, 2
MEDIAN_SECONDS, SPREAD, SHORTEST_SECONDS = 10.0, 0.8, 2.0
PREDICTIONS_PER_JOB = 2
WIDTH = 0.25


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


def write_network(features: Path, run: Path) -> None:
    """Export a network for the labels and patches of FEATURES."""
    from training import recipes
    from training.export import export
    from training.input.batches import open_features
    from training.loops.step import fresh_model
    from training.overrides import override

    recipe = override(recipes.find_recipe("resnet50"), {"width": str(WIDTH)})
    opened = open_features(str(features), num_labels=None)
    export(fresh_model(recipe, opened), recipe, opened, str(run))


def predict(dataset: Path, run: Path, seed: int) -> Prediction:
    """Run the command, and return its prediction."""
    flags = ["--dataset", str(dataset), "--run", str(run), "--split", TRAIN, "--seed", str(seed)]
    assert plan.main(flags) == 0
    return folders.read_document(str(dataset), Prediction)


def extract(dataset: Path, output: Path) -> Features:
    """Extract all features into a new folder."""
    shutil.rmtree(output, ignore_errors=True)
    assert extract_features.main(["--dataset", str(dataset), "--output", str(output)]) == 0
    return folders.read_document(str(output), Features)


def score(features: Path, run: Path, output: Path) -> Scores:
    """Score the training split into a new folder."""
    from evaluation import score_videos

    shutil.rmtree(output, ignore_errors=True)
    flags = ["--features", str(features), "--run", str(run / FOLDER), "--split", TRAIN]
    assert score_videos.main([*flags, "--output", str(output)]) == 0
    return folders.read_document(str(output), Scores)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A prediction of CPU seconds, and the real value."""

    job: str
    seed: int
    predicted: Range
    real: float

    @property
    def is_inside(self) -> bool:
        low, _, high = self.predicted
        return low <= self.real <= high

    @property
    def ratio(self) -> float:
        return self.predicted[1] / self.real

    @property
    def half_width(self) -> float:
        low, best, high = self.predicted
        return (high - low) / 2 / best

    def row(self) -> list[str | int | float]:
        low, best, high = self.predicted
        return [self.job, self.seed, best, low, high, self.real, self.ratio]


def compare(
    predictions: Mapping[int, Prediction], made: Features, scored: Scores
) -> Iterator[Comparison]:
    """Compare predictions with the jobs that followed."""
    assert made.work is not None
    assert scored.work is not None
    assert scored.work.num_patches == scored.num_patches == made.splits[TRAIN].num_patches
    for seed, prediction in predictions.items():
        assert prediction.scoring is not None
        assert 0.7 < prediction.audio_hours[1] / (made.num_patches * 0.96 / 3600) < 1.4
        yield Comparison("extraction", seed, prediction.cpu_seconds, made.work.cpu_seconds)
        seconds = prediction.scoring.device_seconds
        yield Comparison("scoring", seed, seconds, scored.work.cpu_seconds)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    num_files, num_seeds = (300, 5) if is_quick(__doc__, argv) else (2_000, 6)
    found: list[Comparison] = []
    costs, beyond = [], []
    with tempfile.TemporaryDirectory() as temporary, Lane() as making, Lane() as lane:
        folder = Path(temporary)
        run, features = folder / "run", folder / "features"
        paths = making(functools.partial(write_files, num_files=num_files), folder)[1]
        dataset = making(prepare, paths, folder)[1]
        making(extract, dataset, features)
        making(write_network, features, run)
        predictions: dict[int, Prediction] = {}
        for seed in range(num_seeds):
            with Lane() as planner:  # a command starts without a network in memory
                cost, predictions[seed] = planner(predict, dataset, run, seed)
            costs.append(cost)
            if len(predictions) < PREDICTIONS_PER_JOB and seed + 1 < num_seeds:
                continue
            tree_seconds, made = lane(extract, dataset, features)
            with Lane() as scorer:  # and so does a job
                scored = scorer(score, features, run, folder / "scores")[1]
            assert made.num_written == num_files
            found += compare(predictions, made, scored)
            start = tree_seconds - made.work.cpu_seconds
            beyond.append(require_possible("CPU seconds of the start", start, at_least=0))
            predictions = {}
    header = ["job", "seed", "predicted s", "low", "high", "real s", "predicted / real"]
    rows = sorted((comparison.row() for comparison in found), key=lambda row: row[0])
    jobs = {
        name: [pair for pair in found if pair.job == name] for name in ("extraction", "scoring")
    }
    report(
        {
            "num_files": num_files,
            "num_seeds": num_seeds,
            "inside": sum(pair.is_inside for pair in found),
            "num_predictions": len(found),
            **{f"{name}_inside": sum(p.is_inside for p in pairs) for name, pairs in jobs.items()},
            "half_width": float(np.mean([pair.half_width for pair in found])),
            "largest_error": max(abs(pair.ratio - 1) for pair in found),
            "cpu_s_to_predict": float(np.median(costs)),
            "start_cpu_s": float(np.median(beyond)),
        },
        {"predictions": make_table(header, rows)},
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
