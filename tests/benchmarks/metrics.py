"""Claim: exact metrics cost a fortieth of scikit-learn's, at a constant cost per score.

AUC and AP of 100,000 videos x 3,087 classes, ours and scikit-learn's in turn; scikit-learn on a
sample of the classes, with CPU time scaled to all classes. Then the cost per score of smaller and
larger sets; without --quick, up to 1,000,000 videos x 30,871 classes with intervals. The time to
draw the scores, block by block, is not counted.

    python -m tests.benchmarks.metrics --quick
"""

import evaluation.sorting  # noqa: F401  (before NumPy)

# isort: split
import dataclasses
import functools
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import sklearn.metrics

from evaluation.metrics import jackknife
from features import ranking
from features.ranking import Block, ClassMetrics
from tests.benchmarks.measurement import (
    Lane,
    is_quick,
    make_table,
    median_of,
    report,
    require_possible,
)

LABELS_PER_VIDEO = 5
BLOCK_BYTES = 1e9  # as in evaluation.metrics.selection
NUM_SKLEARN_CLASSES = 40


@dataclasses.dataclass(frozen=True)
class Videos:
    """Random scores and labels; a block is the same each time that it is drawn."""

    num_videos: int
    num_classes: int

    @property
    def block_sizes(self) -> list[int]:
        """Videos of each block."""
        most = int(BLOCK_BYTES / 4 / self.num_classes)
        num_full, rest = divmod(self.num_videos, most)
        return [most] * num_full + [rest] * (rest > 0)

    def block(self, index: int) -> Block:
        """The columns of one random block, in another order and with other positives."""
        size = self.block_sizes[index]
        rng = np.random.default_rng(index)
        base = random_scores(min(self.num_videos, self.block_sizes[0]), self.num_classes)
        scores = np.roll(base[:size], int(rng.integers(self.num_classes)), axis=1)
        # The frequent classes have far more videos than the rare ones, as in section 2.
        drawn = rng.random((size, LABELS_PER_VIDEO)) ** 2 * self.num_classes
        label = np.sort(drawn.astype(np.int64), axis=1)
        distinct = np.diff(label, axis=1, prepend=-1) > 0
        video = np.repeat(np.arange(size), LABELS_PER_VIDEO).reshape(label.shape)[distinct]
        label = label[distinct]
        scores[video, label] **= np.float32(0.3)
        return Block(scores, video, label)


@functools.lru_cache(maxsize=1)
def random_scores(num_videos: int, num_classes: int) -> np.ndarray:
    """Uniform scores in [0, 1)."""
    return np.random.default_rng(0).random((num_videos, num_classes), np.float32)


class Stopwatch:
    """Sum of the CPU time of calls."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, function: Callable[..., Any], *args: Any) -> Any:
        start = time.process_time()
        result = function(*args)
        self.seconds += time.process_time() - start
        return result


def look_through(block: Block) -> ranking.Positives:
    """The first pass of `evaluation.metrics.passes`: check for NaN, top label, positives."""
    assert np.isfinite(block.scores.max() - block.scores.min())
    block.scores.argmax(axis=1)
    return ranking.gather_positives(block)


@dataclasses.dataclass(frozen=True)
class Ours:
    """Our metrics and their cost."""

    metrics: ClassMetrics
    seconds: float
    interval_seconds: float
    peak_gb: float


def ours(videos: Videos, num_left_out: int = 0) -> Ours:
    """Run both passes over all blocks, and the jackknife over `num_left_out` videos."""
    watch, interval_watch = Stopwatch(), Stopwatch()
    blocks = range(len(videos.block_sizes))
    parts = [watch(look_through, videos.block(index)) for index in blocks]
    positives = watch(ranking.merge_positives, parts)
    ranks = None
    for index in blocks:
        part = watch(ranking.rank_positives, videos.block(index).scores, positives)
        ranks = part if ranks is None else watch(ranking.add_ranks, ranks, part)
    metrics = watch(ranking.class_metrics, positives, ranks)
    for block in sample(videos, num_left_out):
        ids = [""] * block.num_videos
        interval_watch(jackknife.leave_one_out, block, ids, [()] * len(ids), positives, ranks)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return Ours(metrics, watch.seconds, interval_watch.seconds, peak)


def read_ns_a_score(videos: Videos) -> float:
    """CPU time of a score of the first block when it is read once."""
    scores = videos.block(0).scores
    watch = Stopwatch()
    watch(scores.max)
    return watch.seconds / scores.size * 1e9


def sample(videos: Videos, num_left_out: int) -> Iterator[Block]:
    """The first videos, in blocks."""
    for index in range(len(videos.block_sizes)):
        if num_left_out <= 0:
            return
        block = videos.block(index)
        own = block.video < num_left_out
        yield Block(block.scores[:num_left_out], block.video[own], block.label[own])
        num_left_out -= block.num_videos


def sklearn_classes(num_classes: int) -> np.ndarray:
    """The sample of classes for scikit-learn."""
    return np.linspace(0, num_classes - 1, NUM_SKLEARN_CLASSES).astype(np.int64)


@functools.lru_cache(maxsize=1)
def sklearn_columns(videos: Videos) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores of these classes, [classes, videos]."""
    truths, scores = [], []
    for index in range(len(videos.block_sizes)):
        block = videos.block(index)
        truth = np.zeros(block.scores.shape, bool)
        truth[block.video, block.label] = True
        classes = sklearn_classes(videos.num_classes)
        truths.append(truth[:, classes].T)
        scores.append(block.scores[:, classes].T)
    return np.concatenate(truths, axis=1), np.concatenate(scores, axis=1)


def theirs(videos: Videos) -> tuple[float, np.ndarray]:
    """Seconds scaled to all classes; AUC and AP of the sample, [2, classes]."""
    truths, scores = sklearn_columns(videos)
    watch = Stopwatch()
    metrics = [
        [watch(sklearn.metrics.roc_auc_score, *pair) for pair in zip(truths, scores, strict=True)],
        [
            watch(sklearn.metrics.average_precision_score, *pair)
            for pair in zip(truths, scores, strict=True)
        ],
    ]
    return watch.seconds * videos.num_classes / len(truths), np.array(metrics)


def compare(num_rounds: int, mine: Lane, other: Lane) -> dict[str, float]:
    """Compare with scikit-learn on 100,000 videos x 3,087 classes."""
    videos = Videos(100_000, 3_087)
    rounds = []
    for _ in range(num_rounds):
        _, own = mine(ours, videos)
        _, (seconds, expected) = other(theirs, videos)
        classes = sklearn_classes(videos.num_classes)
        difference = np.abs(np.stack([own.metrics.auc, own.metrics.ap])[:, classes] - expected)
        rounds.append(
            {
                "ours_seconds": own.seconds,
                "sklearn_seconds": seconds,
                "sklearn_over_ours": seconds / own.seconds,
                "max_difference": float(difference.max()),
                "ns_per_score": require_possible(
                    "ns per score",
                    own.seconds / videos.num_videos / videos.num_classes * 1e9,
                    at_least=2 * mine(read_ns_a_score, videos)[1],  # in each of two passes
                ),
            }
        )
    return median_of(rounds)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    quick = is_quick(__doc__, argv)
    num_rounds = 1 if quick else 3
    with Lane() as mine, Lane() as other:
        result = compare(num_rounds, mine, other)
    rows = []
    with Lane() as large:
        # From small to large, so that the peak memory is that of the last.
        for num_videos in (10_000, 100_000) if quick else (10_000, 100_000, 1_000_000):
            num_left_out = jackknife.MAX_VIDEOS if num_videos == 1_000_000 else 0
            num_classes = 3_087 if quick else 30_871
            _, run = large(ours, Videos(num_videos, num_classes), num_left_out)
            per_score = run.seconds / num_videos / num_classes * 1e9
            rows.append([num_videos, per_score, run.seconds / 60, run.peak_gb])
    result["ns_per_score_largest_over_10k"] = rows[-1][1] / rows[0][1]
    if not quick:
        result |= {
            "large_cpu_minutes": (run.seconds + run.interval_seconds) / 60,
            "large_interval_cpu_minutes": run.interval_seconds / 60,
            "large_peak_gb": run.peak_gb,
        }
    theirs_row = [
        f"scikit-learn (timed on {NUM_SKLEARN_CLASSES} classes)",
        result["sklearn_seconds"],
        result["sklearn_over_ours"],
    ]
    compared = make_table(
        ["100,000 videos x 3,087 classes", "CPU s", "ratio"],
        [["ours", result["ours_seconds"], 1.0], theirs_row],
    )
    header = [f"videos x {num_classes:,} classes", "ns per score", "CPU min", "peak GB"]
    report(result, {"compared": compared, "sizes": make_table(header, rows)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
