"""Confidence intervals of mean AUC, d' and mAP by the jackknife.

The jackknife estimates the variation of a metric over evaluation sets of the same size: it leaves
out one video at a time, with all labels and scores of the video, and recomputes the metric exactly.
This costs one look-up of each score of the video among the positives (`features.ranking`). A random
sample of the videos gives the standard error to a few percent, so the cost does not grow with the
evaluation set. The bootstrap, which draws videos with replacement, has the same standard error to
first order, but overestimates mAP: a positive that is drawn twice improves its own precision.

Videos of one origin are not independent. Average precision does not add up over videos that are
left out together, so videos are left out one at a time all the same, and their influences are
added up (`evaluation.metrics.origins`).
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np
import scipy.special

from evaluation.metrics.origins import SharedOrigins
from features import ranking
from features.ranking import Block, Positives, Ranks

CONFIDENCE = 0.95
# Most videos that are left out, one at a time; more than the paper's set for 400 labels has.
MAX_VIDEOS = 16_384


@dataclasses.dataclass(frozen=True, eq=False)
class LeftOut:
    """Class-balanced means without one video, for each of several videos.

    A class is left out of the means if the video is the only positive or the only negative.

    Attributes:
      video_ids: [videos].
      origins: [videos], of each; () for a video without any, and if intervals are by video.
      mean_auc, mean_ap: float64 [videos].
      labels: [videos], the classes of each; () in what was read from `left_out.parquet`.
    """

    video_ids: tuple[str, ...]
    origins: tuple[tuple[str, ...], ...]
    mean_auc: np.ndarray
    mean_ap: np.ndarray
    labels: tuple[tuple[int, ...], ...] = ()


def leave_one_out(
    block: Block,
    video_ids: Sequence[str],
    origins: Sequence[tuple[str, ...]],
    positives: Positives,
    ranks: Ranks,
) -> LeftOut:
    """Compute the means without one video, for each video of a block.

    Args:
      block: some of the videos.
      video_ids: [videos], of the block.
      origins: [videos], of each.
      positives: of all videos.
      ranks: of all videos.
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
    with np.errstate(invalid="ignore"):  # 0 / 0 if no class is defined without the video
        mean_auc, mean_ap = sums / num_defined
    labels: list[list[int]] = [[] for _ in video_ids]
    for video, label in zip(block.video.tolist(), block.label.tolist(), strict=True):
        labels[video].append(label)
    return LeftOut(tuple(video_ids), tuple(origins), mean_auc, mean_ap, tuple(map(tuple, labels)))


def _videos_by_label(block: Block) -> list[np.ndarray]:
    order = np.argsort(block.label, kind="stable")
    ends = np.cumsum(np.bincount(block.label, minlength=block.num_classes))
    return np.split(block.video[order], ends[:-1])


@dataclasses.dataclass(frozen=True, eq=False)
class _RankedClass:
    """The positives of one class.

    Attributes:
      scores: float32 [positives], ascending.
      beaten: float64 [positives], number of lower negatives; an equal one counts half.
      hits: int64 [positives], number of positives that score at least as high.
      at_least: int64 [positives], number of videos that score at least as high.
      num_videos: positives and negatives.
    """

    scores: np.ndarray
    beaten: np.ndarray
    hits: np.ndarray
    at_least: np.ndarray
    num_videos: int

    def without_each(self, column: np.ndarray, bearers: np.ndarray) -> np.ndarray:
        """Compute AUC and AP without one video, for each of several videos.

        AP is the mean of hits / at_least over the positives. Removing a video reduces both counts
        for the positives that do not score higher than the video, and changes no other positive.

        Args:
          column: float32 [videos], scores of the class.
          bearers: indices of the videos that are positives.

        Returns:
          float64 [2, videos]; NaN if the class is undefined without the video.
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
    """Sums of the first 0, 1, 2, ... values."""
    return np.concatenate([[0.0], np.cumsum(values)])


def merge(parts: Iterable[LeftOut]) -> LeftOut:
    """Merge the results of several blocks; the order of the blocks does not matter."""
    parts = list(parts)
    ids = [video_id for part in parts for video_id in part.video_ids]
    origins = [found for part in parts for found in part.origins]
    labels = [found for part in parts for found in part.labels]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return LeftOut(
        tuple(ids[place] for place in order),
        tuple(origins[place] for place in order),
        np.concatenate([np.empty(0), *(part.mean_auc for part in parts)])[order],
        np.concatenate([np.empty(0), *(part.mean_ap for part in parts)])[order],
        tuple(labels[place] for place in order),
    )


Interval = tuple[float, float]


def influences(left_out: np.ndarray, num_videos: int) -> np.ndarray:
    """Influence of each video: how much it raises the metric, times the number of videos.

    The metric is the mean of the influences of all videos plus a constant, to first order.

    Args:
      left_out: float64 [videos of the sample], the metric without each.
      num_videos: number of all videos.

    Returns:
      float64 [videos of the sample], of mean 0.
    """
    return (num_videos - 1) * (left_out.mean() - left_out)


def auc_interval(
    value: float, left_out: np.ndarray, num_videos: int, shared: SharedOrigins | None = None
) -> Interval | None:
    """95 % confidence interval of a mean AUC over evaluation sets of this size.

    The interval is symmetric in d', so it is within [0, 1] and also gives the interval of d'.

    Args:
      value: mean AUC of all videos.
      left_out: float64 [videos of the sample], mean AUC without each.
      num_videos: number of all videos.
      shared: which videos of the sample share an origin; None if all videos are independent.

    Returns:
      Lower and upper end; None if the AUC is 0 or 1 with or without some video, if it is undefined
      without some video, or if fewer than two videos or origins were left out.
    """
    return _interval(value, left_out, num_videos, shared, scipy.special.ndtri, scipy.special.ndtr)


def ap_interval(
    value: float, left_out: np.ndarray, num_videos: int, shared: SharedOrigins | None = None
) -> Interval | None:
    """As `auc_interval`, for a mean average precision; symmetric in the log-odds."""
    return _interval(value, left_out, num_videos, shared, scipy.special.logit, scipy.special.expit)


def difference_interval(
    value: float, left_out: np.ndarray, num_videos: int, shared: SharedOrigins | None = None
) -> Interval | None:
    """As `auc_interval`, for the difference between two models on the same videos."""
    return _interval(value, left_out, num_videos, shared, np.positive, np.positive)


def standard_error(
    left_out: np.ndarray, num_videos: int, shared: SharedOrigins | None = None
) -> float:
    """Standard error by the jackknife, from all videos or from a random sample."""
    if shared is None:
        return math.sqrt((num_videos - 1) * left_out.var())
    return shared.standard_error(influences(left_out, num_videos), num_videos)


def _interval(
    value: float,
    left_out: np.ndarray,
    num_videos: int,
    shared: SharedOrigins | None,
    stretch: np.ufunc,
    shrink: np.ufunc,
) -> Interval | None:
    """An interval that is symmetric on the scale of `stretch`, whose inverse is `shrink`."""
    centre, moved = stretch(value), stretch(left_out)
    freedom = len(moved) - 1 if shared is None else shared.degrees_of_freedom
    if freedom <= 0 or not (np.isfinite(centre) and np.isfinite(moved).all()):
        return None
    error = standard_error(moved, num_videos, shared)
    if not math.isfinite(error):
        return None
    half = float(scipy.special.stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error  # Student's t
    return float(shrink(centre - half)), float(shrink(centre + half))
