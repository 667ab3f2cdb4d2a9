"""Exact AUC and average precision per class, without moving the scores (section 3.2).

Both need only, for each positive, how many scores of its class lie below it and how many equal it.
Pass 1 gathers the scores of the positives (about five a video). Pass 2 sorts each class's column of
a block of videos and looks the positives up in it. The counts are integers that add up over blocks,
so any cut into blocks and any order of merging give the same figures, and ties are exact.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import scipy.special


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


@dataclasses.dataclass(frozen=True)
class Ranks:
    """For each positive, how many scores of its class are below it and how many equal it.

    Attributes:
      below: int64 [positives].
      equal: int64 [positives], the positive itself included.
      num_videos: over which they were counted.
    """

    below: np.ndarray
    equal: np.ndarray
    num_videos: int


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


def gather_positives(scores: np.ndarray, labels: Sequence[np.ndarray]) -> Positives:
    """Pass 1 for one block.

    Args:
      scores: float32 [videos, classes].
      labels: for each video, the indices of its classes.
    """
    video = np.repeat(np.arange(len(labels)), [len(classes) for classes in labels])
    label = np.concatenate([np.empty(0, np.int64), *labels]).astype(np.int64)
    return _by_class(label, scores[video, label], scores.shape[1])


def merge_positives(parts: Iterable[Positives]) -> Positives:
    """Pass 1 over all blocks from pass 1 over each."""
    parts = list(parts)
    num_classes = len(parts[0].offsets) - 1
    label = np.concatenate([np.repeat(np.arange(num_classes), part.counts) for part in parts])
    return _by_class(label, np.concatenate([part.scores for part in parts]), num_classes)


def _by_class(label: np.ndarray, scores: np.ndarray, num_classes: int) -> Positives:
    counts = np.bincount(label, minlength=num_classes)
    order = np.lexsort((scores, label))
    return Positives(np.concatenate([[0], np.cumsum(counts)]), scores[order])


def rank_positives(scores: np.ndarray, positives: Positives) -> Ranks:
    """Pass 2 for one block: look all positives up among the block's scores.

    Args:
      scores: float32 [videos, classes].
      positives: of all blocks.
    """
    below = np.empty(len(positives.scores), np.int64)
    below_or_equal = np.empty_like(below)
    columns = np.sort(np.ascontiguousarray(scores.T), axis=1)  # [classes, videos]
    for column, (start, end) in zip(columns, itertools.pairwise(positives.offsets), strict=True):
        own = positives.scores[start:end]
        below[start:end] = np.searchsorted(column, own, side="left")
        below_or_equal[start:end] = np.searchsorted(column, own, side="right")
    return Ranks(below, below_or_equal - below, len(scores))


def add_ranks(parts: Iterable[Ranks]) -> Ranks:
    """Pass 2 over all blocks from pass 2 over each."""
    parts = list(parts)
    return Ranks(
        below=np.sum([part.below for part in parts], axis=0),
        equal=np.sum([part.equal for part in parts], axis=0),
        num_videos=sum(part.num_videos for part in parts),
    )


def class_metrics(positives: Positives, ranks: Ranks) -> ClassMetrics:
    """AUC and average precision of each class from the two passes.

    AUC is the chance that a positive scores above a negative, a tie counting half. AP is the mean,
    over positives, of the precision among all videos that score at least as high.
    """
    counts = positives.counts
    num_negatives = ranks.num_videos - counts
    label = np.repeat(np.arange(len(counts)), counts)
    own = _rank_among_own(positives)
    negatives_below = ranks.below - own.below
    negatives_equal = ranks.equal - own.equal
    wins = np.bincount(label, negatives_below + negatives_equal / 2, len(counts))
    precision = (counts[label] - own.below) / (ranks.num_videos - ranks.below)
    precision_sum = np.bincount(label, precision, len(counts))
    with np.errstate(invalid="ignore"):  # 0 / 0 of undefined classes
        auc = wins / (counts * num_negatives)
        ap = precision_sum / counts
    defined = (counts > 0) & (num_negatives > 0)
    return ClassMetrics(
        counts, num_negatives, np.where(defined, auc, np.nan), np.where(defined, ap, np.nan)
    )


def _rank_among_own(positives: Positives) -> Ranks:
    """The ranks of the positives among the positives of their own class."""
    below = np.empty(len(positives.scores), np.int64)
    below_or_equal = np.empty_like(below)
    for start, end in itertools.pairwise(positives.offsets):
        own = positives.scores[start:end]
        below[start:end] = np.searchsorted(own, own, side="left")
        below_or_equal[start:end] = np.searchsorted(own, own, side="right")
    return Ranks(below, below_or_equal - below, len(below))


def d_prime(auc: np.ndarray | float) -> np.ndarray | float:
    """The class separation d' = sqrt(2) F^-1(AUC), F the distribution function of a unit Gaussian.

    All pairs in the paper's tables are d' of the mean AUC, not means of d' over classes.
    """
    return np.sqrt(2) * scipy.special.ndtri(auc)
