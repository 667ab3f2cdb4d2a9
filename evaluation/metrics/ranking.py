"""Exact AUC and average precision per class, without moving the scores (section 3.2).

Both need only, for each positive, how many scores of its class lie below it and how many equal it.
Pass 1 gathers the scores of the positives (about five a video). Pass 2 sorts each class's column of
a block of videos and looks the positives up in it. The counts are integers that add up over blocks,
so any cut into blocks and any order of merging give the same figures, and ties are exact.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import scipy.special

# Of the copy of some classes' columns: the fastest of those tried on 2,000 to 32,000 videos, and no
# more than so many scores.
_CLASSES_AT_ONCE, _VIDEOS_AT_ONCE, _SCORES_AT_ONCE = 256, 512, 16_000_000


@dataclasses.dataclass(frozen=True)
class Block:
    """Some videos: their scores and which classes they are of.

    Attributes:
      scores: float32 [videos, classes].
      video, label: int64 [positives], each class of each video.
    """

    scores: np.ndarray
    video: np.ndarray
    label: np.ndarray

    def __post_init__(self) -> None:
        if len(self.label) and not 0 <= self.label.min() <= self.label.max() < self.num_classes:
            raise ValueError(
                f"label {self.label.min()} or {self.label.max()} of a video is none of "
                f"{self.num_classes} score columns"
            )

    @property
    def num_videos(self) -> int:
        """How many videos."""
        return len(self.scores)

    @property
    def num_classes(self) -> int:
        """How many classes have a score."""
        return self.scores.shape[1]

    @classmethod
    def of_lists(cls, scores: np.ndarray, labels: Sequence[np.ndarray]) -> "Block":
        """From the classes of each video."""
        video = np.repeat(np.arange(len(labels)), [len(classes) for classes in labels])
        label = np.concatenate([np.empty(0, np.int64), *labels]).astype(np.int64)
        return cls(scores, video, label)


@dataclasses.dataclass(frozen=True)
class Positives:
    """The scores of the positive examples, class after class.

    Attributes:
      offsets: int64 [classes + 1]; class c owns scores[offsets[c]:offsets[c + 1]].
      scores: float32 [positives], rising within a class.
    """

    offsets: np.ndarray
    scores: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """int64 [classes], positives of each class."""
        return np.diff(self.offsets)

    @property
    def label(self) -> np.ndarray:
        """int64 [positives], the class of each."""
        return np.repeat(np.arange(len(self.counts)), self.counts)


@dataclasses.dataclass(frozen=True)
class Ranks:
    """For each positive, how many scores of its class are below it and how many equal it.

    Attributes:
      below: int64 [positives].
      equal: int64 [positives], the positive itself included.
      num_videos: over which they were counted.
      lowest, highest: float32 [classes], of all scores of a class.
      has_between: bool [classes], whether a class has a third value.
    """

    below: np.ndarray
    equal: np.ndarray
    num_videos: int
    lowest: np.ndarray
    highest: np.ndarray
    has_between: np.ndarray


@dataclasses.dataclass(frozen=True)
class ClassMetrics:
    """Figures per class, NaN where undefined: a class without a positive or without a negative.

    Attributes:
      positives, negatives: int64 [classes].
      auc, ap: float64 [classes].
    """

    positives: np.ndarray
    negatives: np.ndarray
    auc: np.ndarray
    ap: np.ndarray

    @property
    def defined(self) -> np.ndarray:
        """Which classes have figures, bool [classes]."""
        return (self.positives > 0) & (self.negatives > 0)

    @property
    def priors(self) -> np.ndarray:
        """float64 [classes], the share of positives; the AP of any constant score."""
        return self.positives / (self.positives + self.negatives)


def gather_positives(block: Block) -> Positives:
    """Pass 1 for one block."""
    return _by_class(block.label, block.scores[block.video, block.label], block.num_classes)


def merge_positives(parts: Iterable[Positives]) -> Positives:
    """Pass 1 over all blocks from pass 1 over each."""
    parts = list(parts)
    label = np.concatenate([part.label for part in parts])
    scores = np.concatenate([part.scores for part in parts])
    return _by_class(label, scores, len(parts[0].counts))


def _by_class(label: np.ndarray, scores: np.ndarray, num_classes: int) -> Positives:
    counts = np.bincount(label, minlength=num_classes)
    order = np.lexsort((scores, label))
    return Positives(np.concatenate([[0], np.cumsum(counts)]), scores[order])


def rank_positives(scores: np.ndarray, positives: Positives) -> Ranks:
    """Pass 2 for one block: look all positives up among the block's scores.

    Args:
      scores: float32 [videos, classes], at least one video.
      positives: of all blocks.
    """
    num_videos, num_classes = scores.shape
    below = np.empty(len(positives.scores), np.int64)
    equal = np.empty_like(below)
    lowest, highest = np.empty((2, num_classes), np.float32)
    has_between = np.empty(num_classes, bool)
    for first, columns in _sorted_columns(scores):
        some = slice(first, first + len(columns))
        offsets = positives.offsets[first : first + len(columns) + 1]
        own = slice(offsets[0], offsets[-1])
        below[own], equal[own] = _look_up(columns, positives.scores[own], offsets - offsets[0])
        lowest[some], highest[some] = columns[:, 0], columns[:, -1]
        has_between[some] = _has_between(columns)
    return Ranks(below, equal, num_videos, lowest, highest, has_between)


def _sorted_columns(scores: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The first of some classes, and their scores, each rising; overwritten by the next classes."""
    num_videos, num_classes = scores.shape
    at_once = min(_CLASSES_AT_ONCE, num_classes, max(1, _SCORES_AT_ONCE // num_videos))
    columns = np.empty((at_once, num_videos), scores.dtype)
    for first in range(0, num_classes, at_once):
        part = columns[: num_classes - first]
        for start in range(0, num_videos, _VIDEOS_AT_ONCE):
            rows = slice(start, start + _VIDEOS_AT_ONCE)
            part[:, rows] = scores[rows, first : first + at_once].T
        part.sort(axis=1)
        yield first, part


def _look_up(
    columns: np.ndarray, values: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How many of a class's scores are below each of its positives, and how many equal it.

    Args:
      columns: float32 [classes, videos], each rising.
      values: float32 [positives], rising within a class.
      offsets: int64 [classes + 1], where the positives of a class are.
    """
    num_videos = columns.shape[1]
    below = np.empty(len(values), np.int64)
    for column, (start, end) in zip(columns, itertools.pairwise(offsets.tolist()), strict=True):
        below[start:end] = _count_below(column, values[start:end])
    # Few are in this block at all, and of these most stand alone: the search is for the others.
    label = np.repeat(np.arange(len(columns)), np.diff(offsets))
    last = num_videos - 1
    equal = (columns[label, np.minimum(below, last)] == values) & (below <= last)
    tied = equal & (below < last) & (columns[label, np.minimum(below + 1, last)] == values)
    equal = equal.astype(np.int64)
    for one in np.unique(label[tied]):
        own = slice(offsets[one], offsets[one + 1])
        equal[own] = np.searchsorted(columns[one], values[own], side="right") - below[own]
    return below, equal


def _count_below(column: np.ndarray, values: np.ndarray) -> np.ndarray:
    """How many of a rising column are below each of some rising values."""
    if len(values) <= len(column):
        return np.searchsorted(column, values)
    # A frequent class has more positives than the block has videos: look these up instead.
    above = np.searchsorted(values, column, side="right")  # the first value above each score
    return np.cumsum(np.bincount(above, minlength=len(values) + 1))[:-1]


def _has_between(columns: np.ndarray) -> np.ndarray:
    """Whether rising columns have a value other than their first and their last."""
    first, last = columns[:, 0], columns[:, -1]
    middle = columns[:, columns.shape[1] // 2]
    found = (first < middle) & (middle < last)
    for place in np.flatnonzero(~found):
        num_first = np.searchsorted(columns[place], first[place], side="right")
        found[place] = num_first < np.searchsorted(columns[place], last[place])
    return found


def add_ranks(total: Ranks, part: Ranks) -> Ranks:
    """Pass 2 over several blocks from pass 2 over each; the arrays of `total` are overwritten.

    With 10M videos each part is as large as the total, so that a list of parts would not do.
    """
    lowest = np.minimum(total.lowest, part.lowest)
    highest = np.maximum(total.highest, part.highest)
    has_between = total.has_between | part.has_between
    for end in (total.lowest, total.highest, part.lowest, part.highest):
        has_between |= (lowest < end) & (end < highest)
    return Ranks(
        below=np.add(total.below, part.below, out=total.below),
        equal=np.add(total.equal, part.equal, out=total.equal),
        num_videos=total.num_videos + part.num_videos,
        lowest=lowest,
        highest=highest,
        has_between=has_between,
    )


def class_metrics(positives: Positives, ranks: Ranks) -> ClassMetrics:
    """AUC and average precision of each class from the two passes.

    AUC is the chance that a positive scores above a negative, a tie counting half. AP is the mean,
    over positives, of the precision among all videos that score at least as high.
    """
    counts = positives.counts
    label = positives.label
    num_negatives = ranks.num_videos - counts
    own_below, own_equal = rank_among_own(positives)
    # Of each positive: the negatives that it beats, and the precision at its score.
    wins = (ranks.below - own_below) + (ranks.equal - own_equal) / 2
    precision = (counts[label] - own_below) / (ranks.num_videos - ranks.below)
    with np.errstate(invalid="ignore"):  # 0 / 0 of undefined classes
        auc = np.bincount(label, wins, len(counts)) / (counts * num_negatives)
        ap = np.bincount(label, precision, len(counts)) / counts
    defined = (counts > 0) & (num_negatives > 0)
    return ClassMetrics(
        counts, num_negatives, np.where(defined, auc, np.nan), np.where(defined, ap, np.nan)
    )


def rank_among_own(positives: Positives) -> tuple[np.ndarray, np.ndarray]:
    """For each positive, how many positives of its class are below it, and how many equal it."""
    below = np.empty(len(positives.scores), np.int64)
    below_or_equal = np.empty_like(below)
    for start, end in itertools.pairwise(positives.offsets):
        own = positives.scores[start:end]
        below[start:end] = np.searchsorted(own, own, side="left")
        below_or_equal[start:end] = np.searchsorted(own, own, side="right")
    return below, below_or_equal - below


def d_prime(auc: np.ndarray | float) -> np.ndarray | float:
    """The class separation d' = sqrt(2) F^-1(AUC), F the distribution function of a unit Gaussian.

    All pairs in the paper's tables are d' of the mean AUC, not means of d' over classes.
    """
    return np.sqrt(2) * scipy.special.ndtri(auc)
