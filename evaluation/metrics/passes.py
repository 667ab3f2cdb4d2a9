"""The passes of `evaluate` and `compare` over the score files; scores never cross a shuffle.

Pass 1 gathers the positives, pass 2 ranks them (see `evaluation.metrics`), pass 3 leaves out one
video at a time of a random sample (see `evaluation.metrics.jackknife`).
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsSingleton

from evaluation.metrics import jackknife
from evaluation.metrics.jackknife import LeftOut
from evaluation.metrics.selection import ScoredVideos, Selection, read_block
from features import ranking
from features.contracts.labels import Vocabulary
from features.contracts.sharding import ShardKey
from features.errors import InputError
from features.ranking import Positives, Ranks
from pipelines.runtime.failure import fail


@dataclasses.dataclass(frozen=True)
class FirstPass:
    """What pass 1 gathers from a block of videos, or several.

    Attributes:
      positives: the scores of the positives.
      num_videos: with scores.
      num_top_correct: of them, those whose top-scoring label is one of theirs.
      num_unlabelled: of them, those none of whose labels is evaluated.
      missing: (id, outcome) of the videos without scores.
    """

    positives: Positives
    num_videos: int
    num_top_correct: int
    num_unlabelled: int
    missing: tuple[tuple[str, str], ...]


class ReadVideos(beam.PTransform):
    """A selection of scores -> `ScoredVideos`, an element for each block of them.

    It is a root: `pipeline | ReadVideos(...)`. What takes them must have no side inputs: Flink
    would start another stage there, and copy blocks that are as large as a worker can hold.
    """

    def __init__(self, selection: Selection):
        super().__init__()
        self._selection = selection

    def expand(self, pipeline: beam.pvalue.PBegin) -> beam.PCollection:
        """Spread the blocks, and read each."""
        return (
            pipeline
            | "Blocks" >> beam.Create(self._selection.blocks())
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.Map(functools.partial(read_block, self._selection))
        )


class ThreePasses(beam.PTransform):
    """`ReadVideos` -> `FirstPass`, `Ranks` and `LeftOut`, one element each.

    What needs another pass reads the videos again.
    """

    def __init__(self, selection: Selection, vocabulary: Vocabulary, num_videos: int, output: str):
        """A selection to be evaluated.

        Args:
          selection: at least one video.
          vocabulary: its labels, for messages.
          num_videos: how many videos there are, which decides how many are left out.
          output: the folder that a failure is written to.
        """
        super().__init__()
        self._selection = selection
        self._vocabulary = vocabulary
        self._share = min(1.0, jackknife.NUM_VIDEOS / num_videos)
        self._output = output

    # Beam warns of every hint of a dict.
    def expand(self, videos: beam.PCollection) -> Any:
        """Collections by the names first, ranks and left_out."""
        selection = self._selection
        first = (
            videos
            | "GatherPositives" >> beam.Map(_first_pass, selection, self._vocabulary, self._output)
            | "MergePositives" >> beam.CombineGlobally(_MergeAll(_merge_first)).without_defaults()
        )
        ranks = (
            videos.pipeline
            | "Blocks" >> beam.Create(selection.blocks())
            | "SpreadBlocks" >> beam.Reshuffle()
            | "RankPositives" >> beam.FlatMap(_second_pass, selection, first=AsSingleton(first))
            | "AddRanks" >> beam.CombineGlobally(_AddRanks()).without_defaults()
        )
        left_out = (
            videos.pipeline
            | "Sample" >> beam.Create(selection.blocks(self._share))
            | "SpreadSample" >> beam.Reshuffle()
            | "LeaveOneOut"
            >> beam.Map(
                _third_pass,
                selection,
                self._share,
                first=AsSingleton(first),
                ranks=AsSingleton(ranks),
            )
            | "MergeLeftOut" >> beam.CombineGlobally(_MergeAll(jackknife.merge)).without_defaults()
        )
        return {"first": first, "ranks": ranks, "left_out": left_out}


def _first_pass(
    videos: ScoredVideos, selection: Selection, vocabulary: Vocabulary, output: str
) -> FirstPass:
    block = videos.block
    if block.num_videos and not math.isfinite(block.scores.max() - block.scores.min()):
        row, label = np.argwhere(~np.isfinite(block.scores))[0]
        message = (
            f"{selection.folder}: the score of video {videos.ids[row]!r} for label "
            f"{vocabulary.ids[label]!r} is {block.scores[row, label]}; a network that gives such "
            "scores has diverged, or its inputs were not finite: score with another one"
        )
        fail(output, InputError(message))
    top = block.scores.argmax(axis=1) if block.num_videos else np.empty(0, np.int64)
    return FirstPass(
        positives=ranking.gather_positives(block),
        num_videos=block.num_videos,
        num_top_correct=int(np.count_nonzero(top[block.video] == block.label)),
        num_unlabelled=block.num_videos - len(np.unique(block.video)),
        missing=videos.missing,
    )


class _MergeAll(beam.CombineFn):
    """Keeps the parts to the end, and then merges all of them at once: what is sorted, once."""

    def __init__(self, merge: Callable[[list], Any]):
        self._merge = merge

    def create_accumulator(self) -> list:
        return []

    def add_input(self, parts: list, part: Any) -> list:
        parts.append(part)
        return parts

    def merge_accumulators(self, lists: Iterable[list]) -> list:
        return [part for parts in lists for part in parts]

    def extract_output(self, parts: list) -> Any:
        return self._merge(parts)


def _merge_first(parts: list[FirstPass]) -> FirstPass:
    return FirstPass(
        positives=ranking.merge_positives(part.positives for part in parts),
        num_videos=sum(part.num_videos for part in parts),
        num_top_correct=sum(part.num_top_correct for part in parts),
        num_unlabelled=sum(part.num_unlabelled for part in parts),
        missing=tuple(sorted(one for part in parts for one in part.missing)),
    )


def _second_pass(
    keys: Sequence[ShardKey], selection: Selection, first: FirstPass
) -> Iterator[Ranks]:
    block = read_block(selection, keys).block
    if block.num_videos:
        yield ranking.rank_positives(block.scores, first.positives)


class _AddRanks(beam.CombineFn):
    """Adds in place: each part is as large as the total."""

    def create_accumulator(self) -> Ranks | None:
        return None

    def add_input(self, total: Ranks | None, part: Ranks) -> Ranks:
        return part if total is None else ranking.add_ranks(total, part)

    def merge_accumulators(self, totals: Iterable[Ranks | None]) -> Ranks | None:
        merged = None
        for total in totals:
            merged = merged if total is None else self.add_input(merged, total)
        return merged

    def extract_output(self, total: Ranks | None) -> Ranks | None:
        return total


def _third_pass(
    keys: Sequence[ShardKey],
    selection: Selection,
    share: float,
    first: FirstPass,
    ranks: Ranks,
) -> LeftOut:
    videos = read_block(selection, keys, share)
    return jackknife.leave_one_out(videos.block, videos.ids, first.positives, ranks)
