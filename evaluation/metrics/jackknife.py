"""How sure the headline figures are: each with one video left out, exactly, and what follows.

The spread of a figure over evaluation sets of the same size is estimated by the jackknife: leave
out one video, with all its labels and all its scores, and see how far the figure moves. It costs a
look-up of each of its scores among the positives (`evaluation.metrics`), and a random sample of the
videos gives the standard error to some percent, so the cost does not grow with the evaluation set.
Drawing videos with replacement (the bootstrap) has the same spread to first order, but its figures
lie too high for mAP: a positive that is drawn twice improves its own precision.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np
import scipy.special
import scipy.stats

from features import ranking
from features.ranking import Block, Positives, Ranks

CONFIDENCE = 0.95
# As many at most are left out, one at a time; all, for the paper's 400 labels.
NUM_VIDEOS = 16_384


@dataclasses.dataclass(frozen=True, eq=False)
class LeftOut:
    """The class-balanced means without one video, for each of several videos.

    A class of which the video is the only positive, or the only negative, leaves the means.

    Attributes:
      video_ids: [videos].
      mean_auc, mean_ap: float64 [videos].
    """

    video_ids: tuple[str, ...]
    mean_auc: np.ndarray
    mean_ap: np.ndarray


def leave_one_out(
    block: Block, video_ids: Sequence[str], positives: Positives, ranks: Ranks
) -> LeftOut:
    """The means without one video, for each video of a block.

    Args:
      block: some of the videos.
      video_ids: their ids.
      positives: of all videos.
      ranks: the same.
    """
    defined = ranking.class_metrics(positives, ranks).defined
    own_below, own_equal = ranking.rank_among_own(positives)
    beaten = (ranks.below - own_below) + (ranks.equal - own_equal) / 2
    hits = positives.counts[positives.label] - own_below
    at_least = ranks.num_videos - ranks.below
    bearers = _videos_by_label(block)
    sums = np.zeros((2, block.num_videos))  # of AUC and of AP over the classes
    num_defined = np.zeros(block.num_videos, np.int64)
    for label in np.flatnonzero(defined):
        own = slice(positives.offsets[label], positives.offsets[label + 1])
        ranked = _RankedClass(
            positives.scores[own], beaten[own], hits[own], at_least[own], ranks.num_videos
        )
        column = np.ascontiguousarray(block.scores[:, label])
        without = ranked.without_each(column, bearers[label])
        stays = np.isfinite(without[0])
        sums += np.where(stays, without, 0.0)
        num_defined += stays
    with np.errstate(invalid="ignore"):  # of the only video that defines a class
        mean_auc, mean_ap = sums / num_defined
    return LeftOut(tuple(video_ids), mean_auc, mean_ap)


def _videos_by_label(block: Block) -> list[np.ndarray]:
    order = np.argsort(block.label, kind="stable")
    ends = np.cumsum(np.bincount(block.label, minlength=block.num_classes))
    return np.split(block.video[order], ends[:-1])


@dataclasses.dataclass(frozen=True, eq=False)
class _RankedClass:
    """The positives of one class.

    Attributes:
      scores: float32 [positives], rising.
      beaten: float64 [positives], negatives below each, those that tie counting half.
      hits: int64 [positives], positives that score at least as high as each.
      at_least: int64 [positives], videos that do.
      num_videos: positives and negatives.
    """

    scores: np.ndarray
    beaten: np.ndarray
    hits: np.ndarray
    at_least: np.ndarray
    num_videos: int

    def without_each(self, column: np.ndarray, bearers: np.ndarray) -> np.ndarray:
        """AUC and AP without one of several videos; NaN where the class is then undefined.

        AP is the mean of hits / at_least. Without a video, both shrink for the positives that do
        not score higher than it; for the other positives nothing changes.

        Args:
          column: float32 [videos], their scores of the class.
          bearers: which of these videos are positives.

        Returns:
          float64 [2, videos].
        """
        count, num_negatives = len(self.scores), self.num_videos - len(self.scores)
        wins, others = self.beaten.sum(), np.maximum(self.at_least - 1, 1)
        precision = _sums(self.hits / self.at_least)
        without_negative = _sums(self.hits / others)
        share = (self.hits - 1) / others
        without_positive = _sums(share)
        below = np.searchsorted(self.scores, column, side="left")
        not_above = np.searchsorted(self.scores, column, side="right")
        with np.errstate(invalid="ignore", divide="ignore"):
            lost = count - (below + not_above) / 2
            auc = (wins - lost) / (count * np.float64(num_negatives - 1))
            above = precision[-1] - precision[not_above]
            ap = (without_negative[not_above] + above) / count
            last = not_above[bearers]
            itself = last - 1
            auc[bearers] = (wins - self.beaten[itself]) / (num_negatives * np.float64(count - 1))
            ap[bearers] = (without_positive[last] - share[itself] + above[bearers]) / (count - 1)
        return np.stack([auc, np.where(np.isfinite(auc), ap, np.nan)])


def _sums(values: np.ndarray) -> np.ndarray:
    """The sums of the first 0, 1, 2, ... values."""
    return np.concatenate([[0.0], np.cumsum(values)])


def merge(parts: Iterable[LeftOut]) -> LeftOut:
    """Of all blocks, in order of id: in any order the same."""
    parts = list(parts)
    ids = [video_id for part in parts for video_id in part.video_ids]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return LeftOut(
        tuple(ids[place] for place in order),
        np.concatenate([np.empty(0), *(part.mean_auc for part in parts)])[order],
        np.concatenate([np.empty(0), *(part.mean_ap for part in parts)])[order],
    )


Interval = tuple[float, float]


def auc_interval(value: float, left_out: np.ndarray, num_videos: int) -> Interval | None:
    """Where a mean AUC lies with 95 % confidence, over evaluation sets of this size.

    It is symmetric in d', so that it stays within [0, 1] and is the interval of d' too.

    Args:
      value: the mean AUC of all videos.
      left_out: float64 [videos of the sample], the same without each.
      num_videos: all of them.

    Returns:
      The ends; None for a perfect figure, and where one video decides whether there is a figure.
    """
    return _interval(value, left_out, num_videos, scipy.special.ndtri, scipy.special.ndtr)


def ap_interval(value: float, left_out: np.ndarray, num_videos: int) -> Interval | None:
    """As `auc_interval`, of a mean average precision; symmetric in its log-odds."""
    return _interval(value, left_out, num_videos, scipy.special.logit, scipy.special.expit)


def difference_interval(value: float, left_out: np.ndarray, num_videos: int) -> Interval | None:
    """As `auc_interval`, of the difference between two runs on the same videos."""
    return _interval(value, left_out, num_videos, np.positive, np.positive)


def standard_error(left_out: np.ndarray, num_videos: int) -> float:
    """The jackknife's, from all videos or a random sample of them."""
    return math.sqrt((num_videos - 1) * left_out.var())


def _interval(
    value: float, left_out: np.ndarray, num_videos: int, stretch: np.ufunc, shrink: np.ufunc
) -> Interval | None:
    """Symmetric on the stretched scale."""
    centre, moved = stretch(value), stretch(left_out)
    if len(moved) < 2 or not (np.isfinite(centre) and np.isfinite(moved).all()):
        return None
    quantile = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(moved) - 1)
    half = float(quantile) * standard_error(moved, num_videos)
    return float(shrink(centre - half)), float(shrink(centre + half))
