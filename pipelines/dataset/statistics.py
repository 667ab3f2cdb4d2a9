"""What `dataset.json`, `coverage.parquet` and the page say of a corpus, from its counts."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from features.contracts.labels import Vocabulary
from features.contracts.sharding import EVALUATION, SPLITS
from pipelines.dataset.counts import LENGTH_SECONDS, Survey
from pipelines.dataset.subset_request import SubsetRequest
from pipelines.dataset.subsets import Strata

_NUM_NAMED = 5


def coverage_table(
    vocabulary: Vocabulary,
    survey: Survey,
    label_videos: Mapping[str, np.ndarray],
    request: SubsetRequest,
) -> pa.Table:
    """How many videos of each split and of each balanced set bear each label.

    Args:
      vocabulary: the labels.
      survey: of all videos.
      label_videos: group of the evaluation split -> [labels up to the last] videos.
      request: the balanced sets.

    Returns:
      index, id, name, a column a split, and a column `balanced_N` for each set, null for labels
      that are not in its label set.
    """
    num_labels = len(vocabulary)
    columns: dict[str, Any] = {
        "index": np.arange(num_labels, dtype=np.int32),
        "id": list(vocabulary.ids),
        "name": list(vocabulary.names),
    }
    by_split = _padded(survey["label_videos"], num_labels)
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
    strata: Strata,
    num_groups: Mapping[str, Mapping[str, int]],
) -> dict[str, dict[str, Any]]:
    """How far each balanced set is what it should be, by its name.

    A class has fewer examples than it should where the evaluation split has no more, and more where
    videos that were drawn for other classes bear it too.
    """
    sets = {}
    for size in request.balanced:
        videos = coverage[f"balanced_{size}"].slice(0, size).to_numpy()
        most = np.argsort(-videos, kind="stable")[:_NUM_NAMED]
        sets[str(size)] = {
            "num_videos": sum(
                num_groups[EVALUATION][group] for group in strata.subsets[EVALUATION][str(size)]
            ),
            "num_labels": size,
            "examples_per_class": request.examples_per_class,
            "num_short": int((videos < request.examples_per_class).sum()),
            "num_without_example": int((videos == 0).sum()),
            "examples": {
                "min": int(videos.min()),
                "median": float(np.median(videos)),
                "mean": float(videos.mean()),
                "max": int(videos.max()),
            },
            "num_double": int((videos >= 2 * request.examples_per_class).sum()),
            "most": {coverage["id"][int(label)].as_py(): int(videos[label]) for label in most},
        }
    return sets


def statistics(survey: Survey, vocabulary: Vocabulary) -> dict[str, Any]:
    """Labels of a video, hours, lengths, labels by split, labels that occur together."""
    labels_per_video = survey["labels_per_video"]
    occurs = _padded(survey["label_videos"], len(vocabulary)) > 0
    hours = survey["milliseconds"] / 3_600_000
    known_hours = survey["known_milliseconds"] / 3_600_000
    frequent = vocabulary.ids[: len(survey["together"])]
    together = survey["together"][: len(frequent), : len(frequent)]
    number = np.arange(len(labels_per_video))
    return {
        "labels_per_video": {
            "mean": float(number @ labels_per_video / labels_per_video.sum()),
            "histogram": {str(n): int(labels_per_video[n]) for n in number if labels_per_video[n]},
        },
        "splits": {
            split: {
                # Of the videos whose length the manifest does not say, as many as of the paper's.
                "hours": round(float(hours[place]), 3),
                "num_known_lengths": int(survey["known_videos"][place]),
                "known_hours": round(float(known_hours[place]), 3),
                "num_labels": int(occurs[place].sum()),
                "num_absent_labels": int((~occurs[place]).sum()),
            }
            for place, split in enumerate(SPLITS)
            if survey["videos"][place]
        },
        "lengths": {
            "upper_seconds": [*LENGTH_SECONDS, None],
            "num_videos": survey["lengths"].tolist(),
        },
        "co_occurrence": {"labels": list(frequent), "num_videos": together.tolist()},
    }


def _padded(counts: np.ndarray, num_labels: int) -> np.ndarray:
    """Counts up to the last label that occurs -> of all labels, in the last dimension."""
    missing = num_labels - counts.shape[-1]
    return np.pad(counts, [(0, 0)] * (counts.ndim - 1) + [(0, missing)])
