"""What the page of an evaluation shows beside the figures: what to listen to, and what is confused.

Gathered from blocks of videos like the figures themselves: what a block leaves is small, and any
cut into blocks and any order of merging give the same.
"""

import dataclasses
import io
from collections.abc import Iterable, Sequence

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.metrics.selection import ScoredVideos
from features.storage import files

EXAMPLES, CONFUSION = "examples.parquet", "confusion.parquet"
# Labels are in order of falling frequency: confusion is counted among the first of them.
MAX_CONFUSED = 20


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """One video for each class: the one that scores highest among some.

    Attributes:
      scores: float32 [classes]; -inf where there is none.
      video_ids: str [classes]; "" where there is none. Of equal scores, the first id.
    """

    scores: np.ndarray
    video_ids: np.ndarray

    @classmethod
    def best(cls, parts: Iterable["Examples"]) -> "Examples":
        """The best of several for each class."""
        first, *rest = parts
        scores, video_ids = first.scores, first.video_ids
        for part in rest:
            better = part.scores > scores
            better |= (part.scores == scores) & (part.video_ids < video_ids)
            scores = np.where(better, part.scores, scores)
            video_ids = np.where(better, part.video_ids, video_ids)
        return cls(scores, video_ids)


@dataclasses.dataclass(frozen=True, eq=False)
class Overview:
    """What was found in a block of videos, or several.

    Attributes:
      hits: the positive of the highest score of each class.
      misses: the positive of the lowest score; scores are negated.
      false_alarms: the negative of the highest score.
      answers: int64 [confused, confused + 2]. A video counts once in the row of each label that it
        bears, in the column of its top label: of that label itself; of another that it bears
        (column -2); of a wrong one, if that is among the confused, or else column -1.
    """

    hits: Examples
    misses: Examples
    false_alarms: Examples
    answers: np.ndarray


class WriteOverview(beam.PTransform):
    """`ScoredVideos` of blocks -> `examples.parquet` and `confusion.parquet`."""

    def __init__(self, output: str):
        super().__init__()
        self._output = output

    def expand(self, videos: beam.PCollection) -> beam.PCollection:
        """Look at each block, merge, write."""
        return (
            videos
            | "Look" >> beam.Map(_look)
            | "Merge" >> beam.CombineGlobally(_Merge()).without_defaults()
            | "Write" >> beam.Map(write, self._output)
        )


def _look(videos: ScoredVideos) -> Overview:
    block = videos.block
    return of_block(videos.ids, block.scores, block.video, block.label)


class _Merge(beam.CombineFn):
    """Two at a time: each part is as large as the total."""

    def create_accumulator(self) -> Overview | None:
        return None

    def add_input(self, total: Overview | None, part: Overview) -> Overview:
        return part if total is None else merge([total, part])

    def merge_accumulators(self, totals: Iterable[Overview | None]) -> Overview | None:
        found = [total for total in totals if total is not None]
        return merge(found) if found else None

    def extract_output(self, total: Overview | None) -> Overview | None:
        return total


def of_block(
    video_ids: Sequence[str], scores: np.ndarray, video: np.ndarray, label: np.ndarray
) -> Overview:
    """The overview of one block.

    Args:
      video_ids: of the block's videos.
      scores: float [videos, classes].
      video: int64 [positives], the row of each positive.
      label: int64 [positives], its class.
    """
    num_classes = scores.shape[1]
    # The first of equal scores is that of the first id.
    order = np.argsort(np.array(video_ids, str))
    ids, scores = np.array(video_ids, str)[order], scores[order].astype(np.float32, copy=False)
    video = np.argsort(order)[video]
    own = scores[video, label]
    answers = _answers(scores.argmax(axis=1), video, label, num_classes)
    scores[video, label] = -np.inf  # in a copy, since it was ordered
    return Overview(
        hits=_best_positives(own, video, label, ids, num_classes),
        misses=_best_positives(-own, video, label, ids, num_classes),
        false_alarms=_best_of_all(scores, ids),
        answers=answers,
    )


def merge(parts: Iterable[Overview]) -> Overview:
    """The overview of all blocks from that of each."""
    parts = list(parts)
    return Overview(
        hits=Examples.best(part.hits for part in parts),
        misses=Examples.best(part.misses for part in parts),
        false_alarms=Examples.best(part.false_alarms for part in parts),
        answers=np.sum([part.answers for part in parts], axis=0),
    )


def write(overview: Overview, output: str) -> None:
    """Write `examples.parquet` and `confusion.parquet` of REPORT."""
    columns = {}
    for kind, examples, sign in (
        ("hit", overview.hits, 1),
        ("miss", overview.misses, -1),
        ("false_alarm", overview.false_alarms, 1),
    ):
        absent = np.isneginf(examples.scores)
        columns[kind] = pa.array(examples.video_ids.astype(object), pa.string(), mask=absent)
        columns[f"{kind}_score"] = pa.array(sign * examples.scores, mask=absent)
    size = len(overview.answers)
    confusion = {
        "answers": overview.answers[:, :size].tolist(),
        "another_right": overview.answers[:, -2],
        "another_wrong": overview.answers[:, -1],
    }
    for name, table in ((EXAMPLES, pa.table(columns)), (CONFUSION, pa.table(confusion))):
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        files.write_bytes(files.join(output, name), buffer.getvalue())


def _best_positives(
    own: np.ndarray, video: np.ndarray, label: np.ndarray, ids: np.ndarray, num_classes: int
) -> Examples:
    order = np.lexsort((video, -own, label))
    classes, firsts = np.unique(label[order], return_index=True)
    rows = np.full(num_classes, -1)
    rows[classes] = video[order][firsts]
    scores = np.full(num_classes, -np.inf, np.float32)
    scores[classes] = own[order][firsts]
    return Examples(scores, _named(rows, ids))


def _best_of_all(scores: np.ndarray, ids: np.ndarray) -> Examples:
    best = scores.max(axis=0, initial=-np.inf)
    # Cheaper by far than argmax along the videos, which lie apart in memory.
    found, classes = np.nonzero(scores == best)
    rows = np.full(len(best), -1)
    rows[classes[::-1]] = found[::-1]
    return Examples(best, _named(np.where(np.isneginf(best), -1, rows), ids))


def _named(rows: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The ids of rows; "" of the row -1."""
    return np.append(ids, "")[rows]


def _answers(top: np.ndarray, video: np.ndarray, label: np.ndarray, num_classes: int) -> np.ndarray:
    """The counts of `Overview.answers` from the top label of each video."""
    size = min(MAX_CONFUSED, num_classes)
    right = np.isin(np.arange(len(top)) * num_classes + top, video * num_classes + label)
    asked = label < size
    video, label = video[asked], label[asked]
    answer = top[video]
    column = np.where(answer < size, answer, size + 1)
    column = np.where(right[video] & (answer != label), size, column)
    counts = np.zeros((size, size + 2), np.int64)
    np.add.at(counts, (label, column), 1)
    return counts
