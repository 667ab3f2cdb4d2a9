"""Three passes over the score files measure a selection of scores, as Beam stages.

Pass 1 gathers the positives and pass 2 ranks them (`features.ranking`); pass 3 leaves out one video
at a time (`evaluation.metrics.jackknife`): all videos of a random sample of the origins, or a
random sample of the videos. Each pass reads the files, so that scores are never shuffled.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsSingleton

from evaluation.metrics import jackknife, origins
from evaluation.metrics.class_interval import MIN_POSITIVES
from evaluation.metrics.jackknife import LeftOut
from evaluation.metrics.origins import SharedOrigins
from evaluation.metrics.selection import ScoredVideos, Selection, read_block
from features import ranking
from features.contracts.labels import Vocabulary
from features.contracts.sharding import ShardKey
from features.errors import InputError
from features.ranking import ClassMetrics, Positives, Ranks
from pipelines.runtime.counters import CountElements, Counts
from pipelines.runtime.failure import fail
from pipelines.runtime.membership import JoinJob


@dataclasses.dataclass(frozen=True)
class Coverage:
    """Counts of videos.

    Attributes:
      num_videos: videos with scores.
      num_labelled: videos with scores and an evaluated label.
      num_top_correct: videos of which the label with the highest score is a label of the video.
      num_without_origin: videos with scores and without an origin, if intervals are by origin.
      missing: (id, outcome) of the videos without scores, sorted.
    """

    num_videos: int
    num_labelled: int
    num_top_correct: int
    num_without_origin: int
    missing: tuple[tuple[str, str], ...]

    @classmethod
    def sum(cls, parts: Sequence["Coverage"]) -> "Coverage":
        """The coverage of several blocks of videos."""
        return cls(
            num_videos=sum(part.num_videos for part in parts),
            num_labelled=sum(part.num_labelled for part in parts),
            num_top_correct=sum(part.num_top_correct for part in parts),
            num_without_origin=sum(part.num_without_origin for part in parts),
            missing=tuple(sorted(video for part in parts for video in part.missing)),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class FirstPass:
    """The result of pass 1 over some videos.

    Attributes:
      positives: scores of the positives.
      coverage: counts of videos.
      origins: float64, distinct hashes of the origins; empty if intervals are by video.
    """

    positives: Positives
    coverage: Coverage
    origins: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Measurement:
    """The result of all passes.

    Attributes:
      coverage: counts of videos.
      classes: metrics of each class.
      lowest, highest: float32 [classes], of all scores of a class.
      has_between: bool [classes], whether a class has a third score.
      left_out: means over the classes without one video.
      num_origins: origins of the videos; 0 if intervals are by video.
    """

    coverage: Coverage
    classes: ClassMetrics
    lowest: np.ndarray
    highest: np.ndarray
    has_between: np.ndarray
    left_out: LeftOut
    num_origins: int

    @property
    def effective_origins(self) -> np.ndarray:
        """As `origins.effective_origins`; NaN by video, and where few of a class are left out."""
        num_classes = len(self.classes.positives)
        if not self.num_origins:
            return np.full(num_classes, np.nan)
        labels = self.left_out.labels
        found = origins.effective_origins(labels, self.left_out.origins, num_classes)
        counted = np.bincount(
            [label for of_video in labels for label in of_video], minlength=num_classes
        )
        return np.where(counted < np.minimum(self.classes.positives, MIN_POSITIVES), np.nan, found)

    def shared_origins(self) -> SharedOrigins | None:
        """Which of the videos that were left out share an origin; None if intervals are by video.

        Raises:
          InputError: so many do that their pairs cannot be counted.
        """
        if not self.num_origins:
            return None
        share = origins.sample_share(self.num_origins)
        return SharedOrigins.of(self.left_out.video_ids, self.left_out.origins, share)


@dataclasses.dataclass(eq=False)
class ReadVideos(beam.PTransform):
    """A selection of scores -> `ScoredVideos`, one element per block.

    It starts a pipeline: `pipeline | ReadVideos(...)`. The stages that consume the blocks must not
    have side inputs: Flink would not fuse them with the reading, and would copy blocks that are as
    large as the memory of a worker permits.

    Attributes:
      selection: of the videos and labels.
    """

    selection: Selection

    def expand(self, pipeline: beam.pvalue.PBegin) -> beam.PCollection:
        """Distribute the blocks over the workers and read them."""
        return (
            pipeline
            | "Blocks" >> beam.Create(self.selection.blocks())
            | "Spread" >> beam.Reshuffle()
            | JoinJob()
            | "Read" >> beam.Map(functools.partial(read_block, self.selection))
            | "Counters" >> CountElements("read_scores", _measure_block)
        )


@dataclasses.dataclass(eq=False)
class MeasureScores(beam.PTransform):
    """The blocks of `ReadVideos` -> a single `Measurement`; passes 2 and 3 read the blocks again.

    Attributes:
      selection: the same as that of `ReadVideos`, with at least one video.
      vocabulary: of the selection, for messages.
      num_videos: number of videos, which decides the share that is left out one at a time if
        intervals are by video.
      output: the folder of the job, for the message of a failure.
    """

    selection: Selection
    vocabulary: Vocabulary
    num_videos: int
    output: str

    def expand(self, videos: beam.PCollection) -> beam.PCollection:
        """Chain the passes."""
        selection, share = self.selection, 1.0
        if not selection.by_origin:  # the videos of an origin are in all shards
            share = min(1.0, jackknife.MAX_VIDEOS / self.num_videos)
        first = (
            videos
            | "GatherPositives"
            >> beam.Map(_first_pass_or_fail, selection, self.vocabulary, self.output)
            | "MergePositives" >> beam.CombineGlobally(_MergeAll(merge_first)).without_defaults()
        )
        ranks = (
            videos.pipeline
            | "Blocks" >> beam.Create(selection.blocks())
            | "SpreadBlocks" >> beam.Reshuffle()
            | "RankPositives" >> beam.FlatMap(_second_pass, selection, first=AsSingleton(first))
            | "AddRanks" >> beam.CombineGlobally(_AddRanks()).without_defaults()
        )
        passes = {"first": AsSingleton(first), "ranks": AsSingleton(ranks)}
        left_out = (
            videos.pipeline
            | "Sample" >> beam.Create(selection.blocks(share))
            | "SpreadSample" >> beam.Reshuffle()
            | "LeaveOneOut" >> beam.Map(_third_pass, selection, share, **passes)
            | "MergeLeftOut" >> beam.CombineGlobally(_MergeAll(jackknife.merge)).without_defaults()
        )
        return left_out | "Measure" >> beam.Map(measure, **passes)


def first_pass(
    videos: ScoredVideos, folder: str, vocabulary: Vocabulary, *, by_origin: bool
) -> FirstPass:
    """Pass 1 over one block.

    Args:
      videos: the block.
      folder: SCORES, for messages.
      by_origin: whether intervals are by origin.
      vocabulary: of the scores, for messages.

    Raises:
      InputError: a score is NaN or infinite.
    """
    block = videos.block
    if block.num_videos and not math.isfinite(block.scores.max() - block.scores.min()):
        row, label = np.argwhere(~np.isfinite(block.scores))[0]
        raise InputError(
            f"{folder}: the score of video {videos.ids[row]!r} for label "
            f"{vocabulary.ids[label]!r} is {block.scores[row, label]}: the network has diverged, "
            "or its inputs are not finite; score with another network"
        )
    top = block.scores.argmax(axis=1) if block.num_videos else np.empty(0, np.int64)
    coverage = Coverage(
        num_videos=block.num_videos,
        num_labelled=len(np.unique(block.video)),
        num_top_correct=int(np.count_nonzero(top[block.video] == block.label)),
        num_without_origin=sum(not found for found in videos.origins) if by_origin else 0,
        missing=videos.missing,
    )
    hashes = origins.hash_origins(videos.ids, videos.origins) if by_origin else np.empty(0)
    return FirstPass(ranking.gather_positives(block), coverage, hashes)


def merge_first(parts: Iterable[FirstPass]) -> FirstPass:
    """Merge the results of pass 1 over several blocks."""
    parts = list(parts)
    return FirstPass(
        ranking.merge_positives(part.positives for part in parts),
        Coverage.sum([part.coverage for part in parts]),
        np.unique(np.concatenate([part.origins for part in parts])),
    )


def measure(left_out: LeftOut, first: FirstPass, ranks: Ranks) -> Measurement:
    """Compute the metrics of each class from the results of the passes."""
    return Measurement(
        coverage=first.coverage,
        classes=ranking.class_metrics(first.positives, ranks),
        lowest=ranks.lowest,
        highest=ranks.highest,
        has_between=ranks.has_between,
        left_out=left_out,
        num_origins=len(first.origins),
    )


def _measure_block(block: ScoredVideos) -> Counts:
    return Counts(sums={"blocks": 1, "videos": len(block.ids), "missing": len(block.missing)})


def _first_pass_or_fail(
    videos: ScoredVideos, selection: Selection, vocabulary: Vocabulary, output: str
) -> FirstPass:
    try:
        return first_pass(videos, selection.folder, vocabulary, by_origin=selection.by_origin)
    except InputError as error:
        fail(output, error)


def _second_pass(
    keys: Sequence[ShardKey], selection: Selection, first: FirstPass
) -> Iterator[Ranks]:
    block = read_block(selection, keys).block
    if block.num_videos:
        yield ranking.rank_positives(block.scores, first.positives)


def _third_pass(
    keys: Sequence[ShardKey], selection: Selection, share: float, first: FirstPass, ranks: Ranks
) -> LeftOut:
    if selection.by_origin:
        share = origins.sample_share(len(first.origins))
    videos = read_block(selection, keys, share)
    return jackknife.leave_one_out(videos.block, videos.ids, videos.origins, first.positives, ranks)


@dataclasses.dataclass(eq=False)
class _MergeAll(beam.CombineFn):
    """Collects all parts and merges them at the end, so that the result is sorted only once."""

    merge: Callable[[list], Any]

    def create_accumulator(self) -> list:
        return []

    def add_input(self, parts: list, part: Any) -> list:
        parts.append(part)
        return parts

    def merge_accumulators(self, lists: Iterable[list]) -> list:
        return [part for parts in lists for part in parts]

    def extract_output(self, parts: list) -> Any:
        return self.merge(parts)


class _AddRanks(beam.CombineFn):
    """Adds in place, because each part is as large as the total."""

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
