"""Totals over a corpus from a sample of it, each with its standard error.

Videos are sampled at random within strata (kinds of file). In each the cost of a video is nearly
proportional to its size, which is known of all: the ratio estimator (Cochran, Sampling Techniques,
chapter 6) multiplies the cost per unit of size in the sample by the size of the whole stratum. Its
variance is that of the residuals from the ratio, less what a finite corpus leaves to chance. The
strata are independent, and their degrees of freedom are combined after Satterthwaite.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

CONFIDENCE = 0.90


@dataclasses.dataclass(frozen=True, eq=False)
class Stratum:
    """Videos of one kind.

    Attributes:
      sizes: float64 [videos], what cost is proportional to, of all videos of the kind.
      sampled: int64 [sampled videos], which of them were measured.
    """

    sizes: np.ndarray
    sampled: np.ndarray


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A total and how uncertain it is.

    Attributes:
      total: the best guess.
      variance: of the guess, by sampling alone.
      degrees: of freedom of the variance.
    """

    total: float
    variance: float
    degrees: float

    def interval(self, drift: float) -> tuple[float, float]:
        """Where the truth lies with `CONFIDENCE`.

        Args:
          drift: standard deviation, as a share of the total, of the same work from one moment to
            another: a machine's own speed varies, whatever is sampled.
        """
        error = math.sqrt(self.variance + (drift * self.total) ** 2)
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, max(self.degrees, 1.0))) * error
        return max(0.0, self.total - half), self.total + half


def estimate_total(
    strata: Mapping[str, Stratum], values: Mapping[str, Sequence[float] | np.ndarray]
) -> Estimate:
    """The sum over all videos of what was measured on the sampled ones.

    Args:
      strata: by name; those without a size in all, such as files that are absent, cost nothing.
      values: by name of the stratum, [sampled videos].
    """
    parts = [
        _ratio_estimate(stratum, np.asarray(values[name], np.float64))
        for name, stratum in strata.items()
        if stratum.sizes.sum() > 0
    ]
    variance = sum(part.variance for part in parts)
    squares = sum(part.variance**2 / part.degrees for part in parts if part.degrees)
    degrees = variance**2 / squares if squares else math.inf
    return Estimate(sum(part.total for part in parts), variance, degrees)


def _ratio_estimate(stratum: Stratum, values: np.ndarray) -> Estimate:
    num_videos, num_sampled = len(stratum.sizes), len(stratum.sampled)
    sizes = stratum.sizes[stratum.sampled]
    ratio = values.sum() / sizes.sum() if sizes.sum() else 0.0
    total = ratio * stratum.sizes.sum()
    if num_sampled < 2 or num_sampled == num_videos:
        return Estimate(total, 0.0, 0.0)
    residuals = values - ratio * sizes
    # The sample's mean size in place of the corpus's: better where they differ (Cochran, 6.4).
    scale = stratum.sizes.mean() / sizes.mean() if sizes.sum() else 1.0
    spread = float(np.sum(residuals**2)) / (num_sampled - 1)
    unseen = 1 - num_sampled / num_videos
    variance = num_videos**2 * unseen * spread / num_sampled * scale**2
    return Estimate(total, variance, num_sampled - 1)


def allocate(sizes: Mapping[str, np.ndarray], num_sampled: int) -> dict[str, int]:
    """How many videos to sample of each kind: by its videos and by its size, half of each.

    At least two of a kind that has two, since one says nothing of the spread.
    """
    num_videos = sum(len(of_kind) for of_kind in sizes.values())
    whole = sum(float(of_kind.sum()) for of_kind in sizes.values()) or 1.0
    return {
        kind: min(
            len(of_kind),
            max(2, round(num_sampled * (len(of_kind) / num_videos + of_kind.sum() / whole) / 2)),
        )
        for kind, of_kind in sizes.items()
    }
