"""Random scores of videos, measured in memory or written as a SCORES folder."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.metrics import jackknife, passes
from evaluation.metrics.passes import Measurement
from evaluation.metrics.selection import ScoredVideos
from evaluation.scoring.external import write_scores_folder
from features import ranking
from features.contracts.folders import MadeBy
from features.contracts.labels import Vocabulary
from features.ranking import Block

MADE_BY = MadeBy(command="test", created="2026-01-01T00:00:00+00:00", versions={})


def make_scores(num_videos: int, num_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores and truth [videos, classes]; the first two videos have no label."""
    rng = np.random.default_rng(seed)
    truth = rng.random((num_videos, num_classes)) < 0.3
    truth[:2] = False
    return (rng.normal(size=truth.shape) + truth).astype(np.float32), truth


def make_vocabulary(truth: np.ndarray) -> Vocabulary:
    names = tuple(f"label {label}" for label in range(truth.shape[1]))
    return Vocabulary(names, names, truth.sum(axis=0), len(truth))


def scored(scores: np.ndarray, truth: np.ndarray, missing: Sequence = ()) -> ScoredVideos:
    ids = tuple(f"video {row:03d}" for row in range(len(scores)))
    return ScoredVideos(ids, ((),) * len(ids), Block(scores, *np.nonzero(truth)), tuple(missing))


def measure(
    scores: np.ndarray,
    truth: np.ndarray,
    missing: Sequence = (),
    origins: Sequence[tuple[str, ...]] = (),
) -> Measurement:
    """Measure scores in memory; intervals are by origin if `origins` are given."""
    videos = scored(scores, truth, missing)
    if origins:
        videos = dataclasses.replace(videos, origins=tuple(origins))
    vocabulary, by_origin = make_vocabulary(truth), bool(origins)
    first = passes.first_pass(videos, "/scores", vocabulary, by_origin=by_origin)
    ranks = ranking.rank_positives(scores, first.positives)
    left_out = jackknife.leave_one_out(
        videos.block, videos.ids, videos.origins, first.positives, ranks
    )
    return passes.measure(left_out, first, ranks)


def write_folder(
    folder: Path,
    scores: np.ndarray,
    truth: np.ndarray,
    *,
    ids: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    origins: Sequence[Sequence[str]] | None = None,
) -> str:
    """Write a SCORES folder of all rows of `scores`; further rows of `truth` have no scores."""
    names = names or make_vocabulary(truth).names
    ids = ids or [f"video {row:03d}" for row in range(len(truth))]
    labels = [[names[label] for label in np.flatnonzero(row)] for row in truth]
    columns = {"id": list(ids)[: len(scores)], **dict(zip(names, scores.T, strict=True))}
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / "scores.parquet")
    table = pa.table({"id": list(ids), "labels": labels})
    if origins is not None:
        table = table.append_column("group", pa.array(origins, pa.list_(pa.string())))
    pq.write_table(table, folder / "labels.parquet")
    output = str(folder / "scores")
    write_scores_folder(str(folder / "scores.parquet"), str(folder / "labels.parquet"), output)
    return output
