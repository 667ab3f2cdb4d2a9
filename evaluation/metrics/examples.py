"""Example videos of each class, and counts of confused labels, for the page of an evaluation.

Both are gathered from blocks of videos. The result of a block is small, and the total does not
depend on the division into blocks or on the order of merging.
"""

import dataclasses
import io
from collections.abc import Iterable

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.metrics.selection import ScoredVideos
from features.storage import files

EXAMPLES, CONFUSION = "examples.parquet", "confusion.parquet"
# Confusion is counted among so many of the most frequent labels.
MAX_CONFUSED = 20


@dataclasses.dataclass(frozen=True, eq=False)
class BestVideos:
    """The video with the highest score of each class; the lowest id if scores are equal.

    Attributes:
      scores: float32 [classes]; -inf for a class without a video.
      video_ids: str [classes]; "" for a class without a video.
    """

    scores: np.ndarray
    video_ids: np.ndarray

    @classmethod
    def merge(cls, parts: Iterable["BestVideos"]) -> "BestVideos":
        """Keep the best video of each class."""
        first, *rest = parts
        scores, video_ids = first.scores, first.video_ids
        for part in rest:
            better = part.scores > scores
            better |= (part.scores == scores) & (part.video_ids < video_ids)
            scores = np.where(better, part.scores, scores)
            video_ids = np.where(better, part.video_ids, video_ids)
        return cls(scores, video_ids)


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """Examples and confusion of some videos.

    Attributes:
      hits: the positive with the highest score of each class.
      misses: the positive with the lowest score; scores are negated.
      false_alarms: the negative with the highest score.
      confused: labels of the rows of `answers`.
      answers: int64 [labels, labels + 2]. A video counts once in the row of each of its labels. The
        column depends on the label with the highest score: the label of the row, or a wrong one of
        the confused labels, has a column of its own; column -2 is for another label of the video,
        column -1 for any other wrong label.
    """

    hits: BestVideos
    misses: BestVideos
    false_alarms: BestVideos
    confused: np.ndarray
    answers: np.ndarray


@dataclasses.dataclass(eq=False)
class WriteExamples(beam.PTransform):
    """`ScoredVideos` of blocks -> `examples.parquet` and `confusion.parquet`.

    Attributes:
      confused: labels that confusion is counted among.
      output: the REPORT folder.
    """

    confused: np.ndarray
    output: str

    def expand(self, videos: beam.PCollection) -> beam.PCollection:
        """Find the examples of each block, merge and write."""
        return (
            videos
            | "Find" >> beam.Map(find_examples, self.confused)
            | "Merge" >> beam.CombineGlobally(_Merge()).without_defaults()
            | "Write" >> beam.Map(write, self.output)
        )


class _Merge(beam.CombineFn):
    """Merges two results at a time, because each is as large as the total."""

    def create_accumulator(self) -> Examples | None:
        return None

    def add_input(self, total: Examples | None, part: Examples) -> Examples:
        return part if total is None else merge([total, part])

    def merge_accumulators(self, totals: Iterable[Examples | None]) -> Examples | None:
        found = [total for total in totals if total is not None]
        return merge(found) if found else None

    def extract_output(self, total: Examples | None) -> Examples | None:
        return total


def choose_confused(counts: np.ndarray) -> np.ndarray:
    """The labels that confusion is counted among, the most frequent first, and none without videos.

    Args:
      counts: videos of each label; a network of others has its labels in an order of its own.
    """
    order = np.argsort(-counts, kind="stable")[:MAX_CONFUSED]
    return order[counts[order] > 0]


def find_examples(videos: ScoredVideos, confused: np.ndarray) -> Examples:
    """Find the examples and count the confusion in one block."""
    num_classes, label = videos.block.num_classes, videos.block.label
    # In order of id, so that the first of equal scores has the lowest id.
    order = np.argsort(np.array(videos.ids, str))
    ids = np.array(videos.ids, str)[order]
    scores = videos.block.scores[order].astype(np.float32, copy=False)
    video = np.argsort(order)[videos.block.video]
    own = scores[video, label]
    answers = _answers(scores.argmax(axis=1), video, label, num_classes, confused)
    scores[video, label] = -np.inf  # indexing by `order` made a copy
    return Examples(
        hits=_best_positives(own, video, label, ids, num_classes),
        misses=_best_positives(-own, video, label, ids, num_classes),
        false_alarms=_best_of_all(scores, ids),
        confused=confused,
        answers=answers,
    )


def merge(parts: Iterable[Examples]) -> Examples:
    """Merge the results of several blocks."""
    parts = list(parts)
    return Examples(
        hits=BestVideos.merge(part.hits for part in parts),
        misses=BestVideos.merge(part.misses for part in parts),
        false_alarms=BestVideos.merge(part.false_alarms for part in parts),
        confused=parts[0].confused,
        answers=np.sum([part.answers for part in parts], axis=0),
    )


def write(examples: Examples, output: str) -> None:
    """Write `examples.parquet` and `confusion.parquet` of REPORT."""
    columns = {}
    for kind, best, sign in (
        ("hit", examples.hits, 1),
        ("miss", examples.misses, -1),
        ("false_alarm", examples.false_alarms, 1),
    ):
        absent = np.isneginf(best.scores)
        columns[kind] = pa.array(best.video_ids.astype(object), pa.string(), mask=absent)
        columns[f"{kind}_score"] = pa.array(sign * best.scores, mask=absent)
    size = len(examples.answers)
    confusion = {
        "label": examples.confused.astype(np.int32),
        "answers": examples.answers[:, :size].tolist(),
        "another_right": examples.answers[:, -2],
        "another_wrong": examples.answers[:, -1],
    }
    for name, table in ((EXAMPLES, pa.table(columns)), (CONFUSION, pa.table(confusion))):
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        files.write_bytes(files.join(output, name), buffer.getvalue())


def _best_positives(
    own: np.ndarray, video: np.ndarray, label: np.ndarray, ids: np.ndarray, num_classes: int
) -> BestVideos:
    order = np.lexsort((video, -own, label))
    classes, firsts = np.unique(label[order], return_index=True)
    rows = np.full(num_classes, -1)
    rows[classes] = video[order][firsts]
    scores = np.full(num_classes, -np.inf, np.float32)
    scores[classes] = own[order][firsts]
    return BestVideos(scores, _ids_of(rows, ids))


def _best_of_all(scores: np.ndarray, ids: np.ndarray) -> BestVideos:
    best = scores.max(axis=0, initial=-np.inf)
    # Much faster than argmax along the videos, whose scores are not contiguous.
    found, classes = np.nonzero(scores == best)
    rows = np.full(len(best), -1)
    rows[classes[::-1]] = found[::-1]
    return BestVideos(best, _ids_of(np.where(np.isneginf(best), -1, rows), ids))


def _ids_of(rows: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The ids of rows; "" for the row -1."""
    return np.append(ids, "")[rows]


def _answers(
    top: np.ndarray, video: np.ndarray, label: np.ndarray, num_classes: int, confused: np.ndarray
) -> np.ndarray:
    """Compute `Examples.answers` from the label with the highest score of each video."""
    size = len(confused)
    right = np.isin(np.arange(len(top)) * num_classes + top, video * num_classes + label)
    row_of = np.full(num_classes, -1)
    row_of[confused] = np.arange(size)
    is_counted = row_of[label] >= 0
    video, label = video[is_counted], label[is_counted]
    answer = top[video]
    column = np.where(row_of[answer] >= 0, row_of[answer], size + 1)
    column = np.where(right[video] & (answer != label), size, column)
    counts = np.zeros((size, size + 2), np.int64)
    np.add.at(counts, (row_of[label], column), 1)
    return counts
