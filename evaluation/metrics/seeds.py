"""Confidence intervals of means over seeds: they hold the choice of the seeds and of the videos.

The variance of such a mean is the sum of two variances: that between the seeds over their number,
which a single run cannot tell, and the sampling variance of the mean over videos or their origins,
by the jackknife (`evaluation.metrics.jackknife`). What a seed and a video do together is in both,
which makes the interval slightly wider than it has to be.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import scipy.special

from evaluation.metrics import jackknife
from evaluation.metrics.jackknife import Interval
from evaluation.metrics.origins import SharedOrigins


@dataclasses.dataclass(frozen=True, eq=False)
class SeededMetric:
    """A metric of one network that was trained with several seeds.

    Attributes:
      values: float64 [seeds].
      left_out: float64 [seeds, videos], the metric without each of the same videos.
    """

    values: np.ndarray
    left_out: np.ndarray

    def stretched(self, stretch: np.ufunc) -> "SeededMetric":
        """The metric on another scale."""
        return SeededMetric(stretch(self.values), stretch(self.left_out))


def interval(
    metrics: Sequence[SeededMetric], num_videos: int, shared: SharedOrigins | None = None
) -> Interval | None:
    """95 % interval of a sum of metrics, each the mean over its seeds.

    Degrees of freedom by Welch and Satterthwaite. With one seed of each network the interval holds
    videos or origins only.

    Args:
      metrics: of independent networks on the same videos; for a difference, one of them negative.
      num_videos: of the evaluation set, of which those left out may be a sample.
      shared: which of the videos that are left out share an origin; None if intervals are by video.

    Returns:
      Lower and upper end; None if a value is not finite or no more than one video was left out.
    """
    centre = float(sum(metric.values.mean() for metric in metrics))
    left_out = np.sum([metric.left_out.mean(axis=0) for metric in metrics], axis=0)
    freedom = len(left_out) - 1 if shared is None else shared.degrees_of_freedom
    if freedom <= 0 or not (math.isfinite(centre) and np.isfinite(left_out).all()):
        return None
    parts = [(jackknife.standard_error(left_out, num_videos, shared) ** 2, freedom)]
    for metric in metrics:
        num_seeds = len(metric.values)
        if num_seeds > 1:
            parts.append((float(metric.values.var(ddof=1)) / num_seeds, num_seeds - 1))
    variance = sum(part for part, _ in parts)
    if not math.isfinite(variance):
        return None
    squares = sum(part**2 / of_part for part, of_part in parts)
    freedom = variance**2 / squares if squares else freedom
    quantile = float(scipy.special.stdtrit(freedom, (1 + jackknife.CONFIDENCE) / 2))
    half = quantile * math.sqrt(variance)
    return centre - half, centre + half


def transformed_interval(
    metric: SeededMetric,
    num_videos: int,
    shared: SharedOrigins | None,
    stretch: np.ufunc,
    shrink: np.ufunc,
) -> Interval | None:
    """As `interval`, symmetric on the scale of `stretch`, whose inverse is `shrink`."""
    with np.errstate(divide="ignore"):
        found = interval([metric.stretched(stretch)], num_videos, shared)
    return found and (float(shrink(found[0])), float(shrink(found[1])))
