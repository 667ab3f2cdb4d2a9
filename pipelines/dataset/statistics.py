"""Statistics of a corpus for `dataset.json`, `coverage.parquet` and the page, from its counts."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from features.contracts.documents import (
    BalancedSet,
    CoOccurrence,
    DatasetStatistics,
    ExamplesPerClass,
    LabelsPerVideo,
    LengthHistogram,
    SplitStatistics,
)
from features.contracts.labels import Vocabulary
from features.contracts.sharding import EVALUATION, SPLITS
from pipelines.dataset.counts import LENGTH_SECONDS, CorpusCounts
from pipelines.dataset.subset_request import SubsetRequest
from pipelines.dataset.subsets import SubsetPlan

_NUM_EXAMPLES = 5


def coverage_table(
    vocabulary: Vocabulary,
    counts: CorpusCounts,
    label_videos: Mapping[str, np.ndarray],
    request: SubsetRequest,
) -> pa.Table:
    """Count the videos of each label in each split and in each balanced set.

    Args:
      vocabulary: the labels.
      counts: of all videos.
      label_videos: group of the evaluation split -> [labels up to the last] videos.
      request: the balanced sets.

    Returns:
      index, id, name, a column per split, and a column `balanced_N` per set, null for labels that
      are not in its label set.
    """
    num_labels = len(vocabulary)
    columns: dict[str, Any] = {
        "index": np.arange(num_labels, dtype=np.int32),
        "id": list(vocabulary.ids),
        "name": list(vocabulary.names),
    }
    by_split = _padded(counts["label_videos"], num_labels)
    columns |= {split: by_split[place] for place, split in enumerate(SPLITS)}
    videos = np.zeros(num_labels, np.int64)
    for size in request.balanced:
        videos = videos + _padded(label_videos.get(str(size), np.zeros(0, np.int64)), num_labels)
        in_set = np.arange(num_labels) < size
        columns[f"balanced_{size}"] = pa.array(videos, mask=~in_set)
    return pa.table(columns)


def balanced_sets(
    coverage: pa.Table,
    request: SubsetRequest,
    plan: SubsetPlan,
    num_groups: Mapping[str, Mapping[str, int]],
) -> dict[str, BalancedSet]:
    """Compare each balanced set with the request, by name.

    A class has fewer examples than requested if the evaluation split has no more, and more if
    videos that were drawn for other classes have its label too.
    """
    sets = {}
    for size in request.balanced:
        videos = coverage[f"balanced_{size}"].slice(0, size).to_numpy()
        most = np.argsort(-videos, kind="stable")[:_NUM_EXAMPLES]
        sets[str(size)] = BalancedSet(
            num_videos=sum(
                num_groups[EVALUATION][group] for group in plan.subsets[EVALUATION][str(size)]
            ),
            num_labels=size,
            examples_per_class=request.examples_per_class,
            num_short=int((videos < request.examples_per_class).sum()),
            num_without_example=int((videos == 0).sum()),
            examples=ExamplesPerClass(
                min=int(videos.min()),
                median=float(np.median(videos)),
                mean=float(videos.mean()),
                max=int(videos.max()),
            ),
            num_double=int((videos >= 2 * request.examples_per_class).sum()),
            most={coverage["id"][int(label)].as_py(): int(videos[label]) for label in most},
        )
    return sets


def describe_corpus(counts: CorpusCounts, vocabulary: Vocabulary) -> DatasetStatistics:
    """Labels per video, hours, lengths, labels by split, labels that occur together."""
    labels_per_video = counts["labels_per_video"]
    occurs = _padded(counts["label_videos"], len(vocabulary)) > 0
    hours = counts["milliseconds"] / 3_600_000
    known_hours = counts["known_milliseconds"] / 3_600_000
    frequent = vocabulary.ids[: len(counts["together"])]
    together = counts["together"][: len(frequent), : len(frequent)]
    number = np.arange(len(labels_per_video))
    return DatasetStatistics(
        labels_per_video=LabelsPerVideo(
            mean=float(number @ labels_per_video / labels_per_video.sum()),
            histogram={str(n): int(labels_per_video[n]) for n in number if labels_per_video[n]},
        ),
        splits={
            split: SplitStatistics(
                hours=round(float(hours[place]), 3),
                num_known_lengths=int(counts["known_videos"][place]),
                known_hours=round(float(known_hours[place]), 3),
                num_labels=int(occurs[place].sum()),
                num_absent_labels=int((~occurs[place]).sum()),
            )
            for place, split in enumerate(SPLITS)
            if counts["videos"][place]
        },
        lengths=LengthHistogram(
            upper_seconds=(*LENGTH_SECONDS, None), num_videos=tuple(counts["lengths"].tolist())
        ),
        co_occurrence=CoOccurrence(
            labels=tuple(frequent), num_videos=tuple(map(tuple, together.tolist()))
        ),
    )


def _padded(counts: np.ndarray, num_labels: int) -> np.ndarray:
    """Pad the last dimension from the last label that occurs to all labels."""
    missing = num_labels - counts.shape[-1]
    return np.pad(counts, [(0, 0)] * (counts.ndim - 1) + [(0, missing)])
