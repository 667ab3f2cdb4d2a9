"""The stages of `evaluate`: two passes over the score files, then the figures.

Pass 1 gathers the positives, pass 2 ranks them (see `evaluation.metrics`); scores never cross a
shuffle.
"""

import dataclasses
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation import metrics
from evaluation.metrics import ClassMetrics, Positives, Ranks
from evaluation.score_shard import read_vectors
from features import contract, storage
from features.errors import InputError
from features.labels import Vocabulary
from pipelines import launch

PER_CLASS = "per_class.parquet"
# Scores held at a time; sorting longer columns costs less per score.
_BLOCK_BYTES = 256e6


@dataclasses.dataclass(frozen=True)
class FirstPass:
    """What pass 1 gathers from a block of videos, or several."""

    positives: Positives
    num_videos: int
    num_top_correct: int  # videos whose top-scoring label is one of theirs
    num_unlabelled: int  # videos none of whose labels is among the scored ones


def group_files(paths: Sequence[str], num_videos: int, num_labels: int) -> list[list[str]]:
    """Score files in blocks that fit in memory together."""
    videos_per_file = math.ceil(num_videos / len(paths))
    per_block = max(1, int(_BLOCK_BYTES / (4 * num_labels * videos_per_file)))
    return [list(paths[i : i + per_block]) for i in range(0, len(paths), per_block)]


def two_passes(blocks: beam.PCollection) -> tuple[beam.PCollection, beam.PCollection]:
    """Blocks of score files -> one `FirstPass` and one `Ranks`, a collection each."""
    first = (
        blocks
        | "GatherPositives" >> beam.Map(_first_pass)
        | "MergePositives" >> beam.CombineGlobally(_merge).without_defaults()
    )
    ranks = (
        blocks
        | "RankPositives" >> beam.Map(_second_pass, first=beam.pvalue.AsSingleton(first))
        | "AddRanks" >> beam.CombineGlobally(metrics.add_ranks).without_defaults()
    )
    return first, ranks


def _read_block(paths: Sequence[str]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Scores [videos, labels] and the label indices of each video."""
    tables = []
    for path in paths:
        with storage.open_read(path) as file:
            tables.append(pq.read_table(file, columns=["scores", "labels"]))
    table = pa.concat_tables(tables)
    scores = read_vectors(table["scores"])
    # A network of a smaller label set has no score for the rarer labels.
    labels = [
        np.array([label for label in row if label < scores.shape[1]], np.int64)
        for row in table["labels"].to_pylist()
    ]
    return scores, labels


def _first_pass(paths: Sequence[str]) -> FirstPass:
    scores, labels = _read_block(paths)
    if not np.isfinite(scores).all():
        raise ValueError(f"scores that are not finite in {', '.join(paths)}")
    top = scores.argmax(axis=1)
    return FirstPass(
        positives=metrics.gather_positives(scores, labels),
        num_videos=len(scores),
        num_top_correct=sum(int(t in own) for t, own in zip(top, labels, strict=True)),
        num_unlabelled=sum(len(own) == 0 for own in labels),
    )


def _merge(parts: Iterable[FirstPass]) -> FirstPass:
    parts = list(parts)
    return FirstPass(
        positives=metrics.merge_positives([part.positives for part in parts]),
        num_videos=sum(part.num_videos for part in parts),
        num_top_correct=sum(part.num_top_correct for part in parts),
        num_unlabelled=sum(part.num_unlabelled for part in parts),
    )


def _second_pass(paths: Sequence[str], first: FirstPass) -> Ranks:
    scores, _ = _read_block(paths)
    return metrics.rank_positives(scores, first.positives)


def finish(
    made: Mapping[str, Any],
    first: FirstPass,
    ranks: Ranks,
    vocabulary: Vocabulary,
    output: str,
) -> None:
    """The last stage: write `per_class.parquet` and `metrics.json`.

    Raises:
      InputError: no class has both a positive and a negative video.
    """
    figures = metrics.class_metrics(first.positives, ranks)
    vocabulary = vocabulary.prefix(len(figures.auc))
    defined = figures.defined
    if not defined.any():
        message = (
            f"{made['scores']}: no class has both a positive and a negative among "
            f"{first.num_videos} videos; evaluate a larger set"
        )
        launch.fail(output, InputError(message))
    table = _per_class(figures, vocabulary)
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    storage.write_bytes(storage.join(output, PER_CLASS), buffer.getvalue())
    mean_auc = float(figures.auc[defined].mean())
    contract.write_root(
        output,
        contract.METRICS,
        {
            **made,
            "num_videos": first.num_videos,
            "num_missing": made["num_videos_expected"] - first.num_videos,
            "num_unlabelled": first.num_unlabelled,
            "num_labels": len(vocabulary),
            "num_classes_evaluated": int(defined.sum()),
            "undefined_classes": [
                {
                    "label": int(label),
                    "name": vocabulary.names[label],
                    "reason": "no positive" if figures.positives[label] == 0 else "no negative",
                }
                for label in np.flatnonzero(~defined)
            ],
            "mean_auc": mean_auc,
            "d_prime": _json_number(metrics.d_prime(mean_auc)),
            "mean_ap": float(figures.ap[defined].mean()),
            # What every constant score, such as the label's prior, has for mAP.
            "prior_mean_ap": float(figures.priors[defined].mean()),
            "accuracy_1best": first.num_top_correct / first.num_videos,
        },
    )


def _json_number(value: Any) -> float | None:
    """JSON has no infinity: d' of a perfect AUC is null."""
    return float(value) if np.isfinite(value) else None


def _per_class(figures: ClassMetrics, vocabulary: Vocabulary) -> pa.Table:
    undefined = ~figures.defined
    return pa.table(
        {
            "label": np.arange(len(vocabulary), dtype=np.int32),
            "label_id": list(vocabulary.ids),
            "name": list(vocabulary.names),
            "prior": vocabulary.priors,
            "positives": figures.positives,
            "negatives": figures.negatives,
            "auc": pa.array(figures.auc, mask=undefined),
            "d_prime": pa.array(metrics.d_prime(figures.auc), mask=undefined),
            "ap": pa.array(figures.ap, mask=undefined),
        }
    )
