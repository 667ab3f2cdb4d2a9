"""Exact AUC and average precision (AP) of each class, from blocks of scores (section 3.2).

Both metrics need, for each positive, only how many scores of its class are lower and how many are
equal. Pass 1 gathers the scores of the positives (about five per video). Pass 2 sorts the scores
of each class in a block of videos and looks up the positives. The counts are integers that are
added over blocks, so the metrics do not depend on the division into blocks or on the order of
merging, and ties are exact. Scores need not be moved between machines.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import scipy.special

# Tile sizes for transposing scores, the fastest in tests/benchmarks/metrics.py for 2,000 to 32,000
# videos; and the most scores that are transposed at a time.
_TILE_CLASSES, _TILE_VIDEOS, _MAX_SCORES = 256, 512, 16_000_000


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """Scores and labels of some videos.

    Attributes:
      scores: float32 [videos, classes].
      video, label: int64 [positives], the row and the class of each positive.
    """

    scores: np.ndarray
    video: np.ndarray
    label: np.ndarray

    def __post_init__(self) -> None:
        if len(self.label) and not 0 <= self.label.min() <= self.label.max() < self.num_classes:
            raise ValueError(
                f"labels are from {self.label.min()} to {self.label.max()}, but there are scores "
                f"of {self.num_classes} classes: expected 0 to {self.num_classes - 1}"
            )

    @property
    def num_videos(self) -> int:
        """Number of videos."""
        return len(self.scores)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.scores.shape[1]

    @classmethod
    def of_lists(cls, scores: np.ndarray, labels: Sequence[np.ndarray]) -> "Block":
        """A block from the classes of each video, int64 [labels of the video] each.

        Raises:
          ValueError: the numbers of videos differ.
        """
        if len(scores) != len(labels):
            raise ValueError(f"scores of {len(scores)} videos, but labels of {len(labels)}")
        video = np.repeat(np.arange(len(labels)), [len(classes) for classes in labels])
        label = np.concatenate([np.empty(0, np.int64), *labels]).astype(np.int64)
        return cls(scores, video, label)


@dataclasses.dataclass(frozen=True, eq=False)
class Positives:
    """Scores of the positives, grouped by class.

    Attributes:
      offsets: int64 [classes + 1]; class c owns scores[offsets[c]:offsets[c + 1]].
      scores: float32 [positives], ascending within a class.
    """

    offsets: np.ndarray
    scores: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """Number of positives of each class, int64 [classes]."""
        return np.diff(self.offsets)

    @property
    def label(self) -> np.ndarray:
        """Class of each positive, int64 [positives]."""
        return np.repeat(np.arange(len(self.counts)), self.counts)


@dataclasses.dataclass(frozen=True, eq=False)
class Ranks:
    """Rank of each positive among the scores of its class.

    Attributes:
      below: int64 [positives], number of lower scores.
      equal: int64 [positives], number of equal scores, the positive itself included.
      num_videos: number of scores of a class.
      lowest, highest: float32 [classes], of all scores of a class.
      has_between: bool [classes], whether a class has a third value.
    """

    below: np.ndarray
    equal: np.ndarray
    num_videos: int
    lowest: np.ndarray
    highest: np.ndarray
    has_between: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class ClassMetrics:
    """Metrics of each class.

    Attributes:
      positives, negatives: int64 [classes], numbers of videos.
      auc, ap: float64 [classes]; NaN for a class without a positive or without a negative.
    """

    positives: np.ndarray
    negatives: np.ndarray
    auc: np.ndarray
    ap: np.ndarray

    @property
    def defined(self) -> np.ndarray:
        """Whether a class has metrics, bool [classes]."""
        return (self.positives > 0) & (self.negatives > 0)

    @property
    def priors(self) -> np.ndarray:
        """Share of positives, float64 [classes]: the AP of constant scores."""
        return self.positives / (self.positives + self.negatives)


def gather_positives(block: Block) -> Positives:
    """Pass 1 over one block."""
    return _by_class(block.label, block.scores[block.video, block.label], block.num_classes)


def merge_positives(parts: Iterable[Positives]) -> Positives:
    """Merge the results of pass 1 over several blocks."""
    parts = list(parts)
    label = np.concatenate([part.label for part in parts])
    scores = np.concatenate([part.scores for part in parts])
    return _by_class(label, scores, len(parts[0].counts))


def _by_class(label: np.ndarray, scores: np.ndarray, num_classes: int) -> Positives:
    counts = np.bincount(label, minlength=num_classes)
    order = np.lexsort((scores, label))
    return Positives(np.concatenate([[0], np.cumsum(counts)]), scores[order])


def rank_positives(scores: np.ndarray, positives: Positives) -> Ranks:
    """Pass 2 over one block: look up the positives of all blocks among the scores of this block.

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
    """Yield the index of a first class, and the sorted scores of some classes from there on.

    The array [classes, videos] is overwritten by the next iteration.
    """
    num_videos, num_classes = scores.shape
    at_once = min(_TILE_CLASSES, num_classes, max(1, _MAX_SCORES // num_videos))
    columns = np.empty((at_once, num_videos), scores.dtype)
    for first in range(0, num_classes, at_once):
        part = columns[: num_classes - first]
        for start in range(0, num_videos, _TILE_VIDEOS):
            rows = slice(start, start + _TILE_VIDEOS)
            part[:, rows] = scores[rows, first : first + at_once].T
        part.sort(axis=1)
        yield first, part


def _look_up(
    columns: np.ndarray, values: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Count the scores of a class that are below and equal to each of its positives.

    Args:
      columns: float32 [classes, videos], ascending along the videos.
      values: float32 [positives], ascending within a class.
      offsets: int64 [classes + 1], as in `Positives`.

    Returns:
      int64 [positives] below, int64 [positives] equal.
    """
    num_videos = columns.shape[1]
    below = np.empty(len(values), np.int64)
    for column, (start, end) in zip(columns, itertools.pairwise(offsets.tolist()), strict=True):
        below[start:end] = _count_below(column, values[start:end])
    # Most positives are in other blocks or equal no other score; only tied ones need a search.
    label = np.repeat(np.arange(len(columns)), np.diff(offsets))
    last = num_videos - 1
    equal = (columns[label, np.minimum(below, last)] == values) & (below <= last)
    tied = equal & (below < last) & (columns[label, np.minimum(below + 1, last)] == values)
    equal = equal.astype(np.int64)
    for place in np.unique(label[tied]):
        own = slice(offsets[place], offsets[place + 1])
        equal[own] = np.searchsorted(columns[place], values[own], side="right") - below[own]
    return below, equal


def _count_below(column: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Count the scores of a sorted column that are below each of some sorted values."""
    if len(values) <= len(column):
        return np.searchsorted(column, values)
    # A frequent class has more positives than the block has videos: look up the videos instead.
    above = np.searchsorted(values, column, side="right")  # the first value above each score
    return np.cumsum(np.bincount(above, minlength=len(values) + 1))[:-1]


def _has_between(columns: np.ndarray) -> np.ndarray:
    """Whether sorted columns have a value other than the first and the last, bool [columns]."""
    first, last = columns[:, 0], columns[:, -1]
    middle = columns[:, columns.shape[1] // 2]
    found = (first < middle) & (middle < last)
    for place in np.flatnonzero(~found):
        num_first = np.searchsorted(columns[place], first[place], side="right")
        found[place] = num_first < np.searchsorted(columns[place], last[place])
    return found


def add_ranks(total: Ranks, part: Ranks) -> Ranks:
    """Add the results of pass 2 over two sets of blocks; the arrays of `total` are overwritten.

    Each part is as large as the total, so a list of parts of 10M videos would not fit in memory.
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
    """Compute AUC and average precision of each class from the two passes.

    AUC is the probability that a positive scores higher than a negative; a tie counts half. AP is
    the mean, over the positives, of the precision among all videos that score at least as high.
    """
    counts = positives.counts
    label = positives.label
    num_negatives = ranks.num_videos - counts
    own_below, own_equal = rank_among_own(positives)
    # For each positive: the number of negatives below it, and the precision at its score.
    wins = (ranks.below - own_below) + (ranks.equal - own_equal) / 2
    precision = (counts[label] - own_below) / (ranks.num_videos - ranks.below)
    with np.errstate(invalid="ignore"):  # 0 / 0 of undefined classes
        auc = np.bincount(label, wins, len(counts)) / (counts * num_negatives)
        ap = np.bincount(label, precision, len(counts)) / counts
    defined = (counts > 0) & (num_negatives > 0)
    return ClassMetrics(
        counts, num_negatives, np.where(defined, auc, np.nan), np.where(defined, ap, np.nan)
    )


def measure_classes(block: Block) -> ClassMetrics:
    """Compute the metrics of each class of a single block of at least one video."""
    positives = gather_positives(block)
    return class_metrics(positives, rank_positives(block.scores, positives))


def rank_among_own(positives: Positives) -> tuple[np.ndarray, np.ndarray]:
    """Count the positives of the same class that are below and equal to each positive."""
    below = np.empty(len(positives.scores), np.int64)
    below_or_equal = np.empty_like(below)
    for start, end in itertools.pairwise(positives.offsets):
        own = positives.scores[start:end]
        below[start:end] = np.searchsorted(own, own, side="left")
        below_or_equal[start:end] = np.searchsorted(own, own, side="right")
    return below, below_or_equal - below


def d_prime(auc: np.ndarray | float) -> np.ndarray | float:
    """Class separation d' = sqrt(2) F^-1(AUC), F the cumulative distribution of a unit Gaussian.

    In the paper's tables d' is that of the mean AUC, not the mean over classes.
    """
    return np.sqrt(2) * scipy.special.ndtri(auc)
