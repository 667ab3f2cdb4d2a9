"""Totals over a corpus from a sample of it, each with its range.

Videos are sampled at random within kinds of files. Within a kind the cost of a video is nearly
proportional to its size, and all sizes are known. So the total is the cost per unit of size in the
sample, multiplied by the size of all videos (the ratio estimator: Cochran, Sampling Techniques,
chapter 6).
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping

import numpy as np

CONFIDENCE = 0.90
_QUANTILE = 1.645  # of the normal distribution, for both sides of `CONFIDENCE`

# Standard deviation of a machine's speed between the measurement and the job. The virtual machines
# of the benchmarks drifted by 20 % within an hour.
DRIFT = 0.10

# Lower end, best estimate, upper end.
Range = tuple[float, float, float]


@dataclasses.dataclass(frozen=True, eq=False)
class Stratum:
    """Videos of one kind.

    Attributes:
      sizes: float64 [videos], proportional to the cost, of all videos of the kind.
      sampled: int64 [sampled videos], indices of the measured videos.
    """

    sizes: np.ndarray
    sampled: np.ndarray


def estimate_total(
    strata: Mapping[str, Stratum], values: Mapping[str, np.ndarray], drift: float = 0.0
) -> Range:
    """Estimate the sum over all videos of what was measured on the sampled videos.

    Args:
      strata: by kind.
      values: by kind, float64 [sampled videos].
      drift: standard deviation, as a share of the total, of the same work at another time.
    """
    total = variance = 0.0
    for kind, stratum in strata.items():
        num_videos, num_sampled = len(stratum.sizes), len(stratum.sampled)
        sizes, measured = stratum.sizes[stratum.sampled], values[kind]
        if not sizes.sum():
            continue
        ratio = measured.sum() / sizes.sum()
        total += ratio * stratum.sizes.sum()
        if 1 < num_sampled < num_videos:
            deviation = np.sqrt(np.sum((measured - ratio * sizes) ** 2) / (num_sampled - 1))
            error = deviation / sizes.mean() * stratum.sizes.sum() / math.sqrt(num_sampled)
            variance += error**2 * (1 - num_sampled / num_videos)
    half = _QUANTILE * math.sqrt(variance + (drift * total) ** 2)
    return max(0.0, float(total - half)), float(total), float(total + half)


def scale(values: Range, factor: float) -> Range:
    """Multiply a range."""
    low, best, high = values
    return low * factor, best * factor, high * factor


def add(ranges: Iterable[Range]) -> Range:
    """Add up ranges, ends to ends: the sum is wider than that of independent errors."""
    low, best, high = (sum(values) for values in zip(*ranges, strict=True))
    return low, best, high


def predict_wall(seconds: Range, num_shards: int, num_workers: int) -> Range:
    """The wall time of a job whose shards take these seconds.

    Workers take shards as they become free; at the end most of them wait for the last shard.
    """
    return scale(seconds, 1 / num_workers + (1 - 1 / num_workers) / max(1, num_shards))


def allocate(sizes: Mapping[str, np.ndarray], num_sampled: int) -> dict[str, int]:
    """Choose how many videos of each kind to sample: half by number of videos, half by size.

    At least two of each kind, if there are two, because one shows no spread.
    """
    num_videos = sum(len(values) for values in sizes.values())
    whole = sum(float(values.sum()) for values in sizes.values()) or 1.0
    return {
        kind: min(
            len(values),
            max(2, round(num_sampled * (len(values) / num_videos + values.sum() / whole) / 2)),
        )
        for kind, values in sizes.items()
    }
