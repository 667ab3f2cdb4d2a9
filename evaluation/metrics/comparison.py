"""Two runs on what they have in common, and how sure their difference is."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.metrics import jackknife, summary
from evaluation.metrics.jackknife import LeftOut
from evaluation.metrics.passes import FirstPass
from evaluation.metrics.selection import (
    Opened,
    Selection,
    read_ids,
    video_hashes,
)
from evaluation.metrics.summary import Headline, json_number
from features import ranking
from features.contracts import folders
from features.contracts.labels import Vocabulary
from features.errors import InputError
from features.ranking import Ranks
from features.storage import files
from pipelines.runtime.failure import fail


@dataclasses.dataclass(frozen=True)
class Common:
    """What two folders of scores have in common.

    Attributes:
      a, b: the same videos and labels of each.
      vocabulary: the labels, in A's order.
      num_videos: in both.
      counts: of videos and labels, for `comparison.json`.
    """

    a: Selection
    b: Selection
    vocabulary: Vocabulary
    num_videos: int
    counts: Mapping[str, int]


def find_common(a: Opened, b: Opened) -> Common:
    """The videos and labels of both.

    Raises:
      InputError: there are none.
    """
    places_a = {label: place for place, label in enumerate(a.vocabulary.ids)}
    places_b = {label: place for place, label in enumerate(b.vocabulary.ids)}
    ids = [label for label in places_a if label in places_b]
    both = [f"{a.selection.folder} and {b.selection.folder}"]
    if not ids:
        raise InputError(f"{both[0]} have no label in common; compare scores of one vocabulary")
    in_a, in_b = (np.unique(video_hashes(read_ids(one.selection))) for one in (a, b))
    hashes = np.intersect1d(in_a, in_b, assume_unique=True)
    if not len(hashes):
        raise InputError(f"{both[0]} have no video in common; score the same videos")
    vocabulary = Vocabulary(
        ids=tuple(ids),
        names=tuple(a.vocabulary.names[places_a[label]] for label in ids),
        counts=a.vocabulary.counts[[places_a[label] for label in ids]],
        num_videos=a.vocabulary.num_videos,
    )
    selections = [
        dataclasses.replace(
            one.selection,
            labels=tuple(places[label] for label in ids),
            # Most often the videos are the same, and nothing has to be looked up.
            video_hashes=None if len(present) == len(hashes) else hashes,
        )
        for one, places, present in ((a, places_a, in_a), (b, places_b, in_b))
    ]
    counts = {
        "num_videos": len(hashes),
        "num_videos_only_a": len(in_a) - len(hashes),
        "num_videos_only_b": len(in_b) - len(hashes),
        "num_labels": len(ids),
        "num_labels_only_a": len(places_a) - len(ids),
        "num_labels_only_b": len(places_b) - len(ids),
    }
    return Common(selections[0], selections[1], vocabulary, len(hashes), counts)


def finish(
    made: Mapping[str, Any],
    a_first: FirstPass,
    a_ranks: Ranks,
    a_left_out: LeftOut,
    b_first: FirstPass,
    b_ranks: Ranks,
    b_left_out: LeftOut,
    vocabulary: Vocabulary,
    output: str,
    *,
    allow_two_values: bool,
) -> None:
    """The last stage: write `per_class.parquet` and `comparison.json`.

    Raises:
      InputError: the scores are none that the figures can be made of, or the labels differ.
    """
    a = ranking.class_metrics(a_first.positives, a_ranks)
    b = ranking.class_metrics(b_first.positives, b_ranks)
    try:
        for one, ranks, where in ((a, a_ranks, made["scores_a"]), (b, b_ranks, made["scores_b"])):
            summary.check_figures(
                one, ranks, vocabulary, where=where, allow_two_values=allow_two_values
            )
        differing = np.flatnonzero(a.positives != b.positives)
        if len(differing):
            label = differing[0]
            raise InputError(
                f"{made['scores_a']} and {made['scores_b']}: label {vocabulary.ids[label]!r} has "
                f"{a.positives[label]} and {b.positives[label]} of the common videos; compare "
                "scores of videos with the same labels"
            )
    except InputError as error:
        fail(output, error)
    table = pa.table(
        {
            "label": np.arange(len(vocabulary), dtype=np.int32),
            "label_id": list(vocabulary.ids),
            "name": list(vocabulary.names),
            "positives": a.positives,
            "negatives": a.negatives,
            **{
                f"{field}_{name}": pa.array(getattr(one, field), mask=~one.defined)
                for name, one in (("a", a), ("b", b))
                for field in ("auc", "ap")
            },
        }
    )
    with files.atomic_write(files.join(output, summary.PER_CLASS)) as file:
        pq.write_table(table, file)
    document = {
        **made,
        "num_classes_evaluated": int(a.defined.sum()),
        **_difference(Headline.of(a), a_left_out, Headline.of(b), b_left_out, a_ranks.num_videos),
    }
    folders.write_root(output, folders.COMPARISON, document)


def _difference(
    a: Headline, a_left_out: LeftOut, b: Headline, b_left_out: LeftOut, num_videos: int
) -> dict[str, Any]:
    """Both headlines, the differences, and the intervals of these."""
    without = {
        "mean_auc": (a_left_out.mean_auc, b_left_out.mean_auc),
        "d_prime": tuple(ranking.d_prime(one.mean_auc) for one in (a_left_out, b_left_out)),
        "mean_ap": (a_left_out.mean_ap, b_left_out.mean_ap),
    }
    document: dict[str, Any] = {"a": {}, "b": {}, "difference": {}, "intervals": {}}
    for field, (a_without, b_without) in without.items():
        values = getattr(a, field), getattr(b, field)
        with np.errstate(invalid="ignore"):  # the d' of two perfect runs
            difference = np.subtract(*values)
            moved = np.subtract(a_without, b_without)
        ends = jackknife.difference_interval(difference, moved, num_videos)
        document["a"][field], document["b"][field] = map(json_number, values)
        document["difference"][field] = json_number(float(difference))
        document["intervals"][field] = ends and list(ends)
    document["intervals"]["confidence"] = jackknife.CONFIDENCE
    document["intervals"]["num_videos_left_out"] = len(a_left_out.video_ids)
    return document
