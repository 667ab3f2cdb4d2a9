"""Tests that training shards are shuffled: four statistics against their closed forms.

Evidence is a record of sums, so shards are examined one by one and their evidence is added. Each
statistic is compared with its distribution under a random permutation of the records, or under a
random shard for every video. False alarms are rarer than one in a million for each test.

    same_video_neighbours   records whose successor is of the same video, against a permutation
    source_order            rank correlation of place in the file with place in the source
    shard_sizes             spread of patches over shards, against hashing videos of these lengths
    labels                  spread of each frequent label's videos over shards

Patches of a video are not independent of each other. Therefore the tests of the contents of shards
count videos, and the tests of the order take the videos of a shard as given.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import scipy.stats

from pipelines.audit.document import ShuffleTest, ShuffleTests

# A test fails below this p-value. The tails are approximations, off by up to a factor of ten here.
FALSE_ALARM = 1e-7
# Expected videos of a label in a shard, for the chi-square distribution to hold.
MIN_EXPECTED_VIDEOS = 5


@dataclasses.dataclass(frozen=True, eq=False)
class Evidence:
    """Sums over shards of a training group."""

    num_shards: int
    neighbours: int
    neighbours_mean: float
    neighbours_variance: float
    rank_correlation: float  # of each shard, times its records less one
    rank_weight: float  # records less one
    num_patches: int
    shard_squares: int  # patches in a shard, squared
    video_squares: int  # patches of a video, squared
    video_cubes: int
    video_fourths: int
    video_sixths: int
    num_videos: int
    label_videos: np.ndarray  # float64 [labels], videos that have the label
    label_squares: np.ndarray  # float64 [labels], the same of a shard, squared, over its videos

    def __add__(self, other: "Evidence") -> "Evidence":
        """Evidence of the shards of both."""
        names = [field.name for field in dataclasses.fields(Evidence)]
        return Evidence(**{name: getattr(self, name) + getattr(other, name) for name in names})


def collect_evidence(
    videos: np.ndarray, starts: np.ndarray, labels: Sequence[Sequence[int]], num_labels: int
) -> Evidence:
    """Collect the evidence of one shard.

    Args:
      videos: int [records], index of the video of each record, in order of the file.
      starts: [records], position of the record in its video.
      labels: of every video that has records.
      num_labels: size of the vocabulary.
    """
    num_records = len(videos)
    counts = np.unique(videos, return_counts=True)[1]
    mean, variance = neighbour_moments(counts)
    label_videos = np.zeros(num_labels)
    for labels_of_video in labels:
        label_videos[list(labels_of_video)] += 1
    sizes = [int(count) for count in counts]  # Python's integers do not overflow
    return Evidence(
        num_shards=1,
        neighbours=int(np.count_nonzero(videos[1:] == videos[:-1])),
        neighbours_mean=mean,
        neighbours_variance=variance,
        rank_correlation=_rank_correlation(videos, starts) * max(num_records - 1, 0),
        rank_weight=max(num_records - 1, 0),
        num_patches=num_records,
        shard_squares=num_records**2,
        video_squares=sum(size**2 for size in sizes),
        video_cubes=sum(size**3 for size in sizes),
        video_fourths=sum(size**4 for size in sizes),
        video_sixths=sum(size**6 for size in sizes),
        num_videos=len(labels),
        label_videos=label_videos,
        label_squares=label_videos**2 / max(len(labels), 1),
    )


def neighbour_moments(counts: np.ndarray) -> tuple[float, float]:
    """Mean and variance of the number of neighbours of one video in a random permutation.

    Args:
      counts: int [videos], number of records of each video.
    """
    size = float(counts.sum())
    if size < 2:
        return 0.0, 0.0
    # Probabilities that 2 given records are of one video, that 3 are, and that 2 given pairs are.
    falling = [np.ones(len(counts))]
    for step in range(4):
        falling.append(falling[-1] * (counts - float(step)))
    squares = falling[2].sum() ** 2 - (falling[2] ** 2).sum()
    two = falling[2].sum() / (size * (size - 1))
    mean = (size - 1) * two
    variance = (size - 1) * two * (1 - two)
    if size > 2:
        three = falling[3].sum() / (size * (size - 1) * (size - 2))
        variance += 2 * (size - 2) * (three - two**2)
    if size > 3:
        pairs = (falling[4].sum() + squares) / (size * (size - 1) * (size - 2) * (size - 3))
        variance += (size - 2) * (size - 3) * (pairs - two**2)
    return mean, max(variance, 0.0)


def spread_moments(evidence: Evidence) -> tuple[float, float, float]:
    """Mean, variance and skewness of the sum over shards of (number of patches - mean)^2.

    Videos are hashed to n shards. The sum is that of m^2 over videos of m patches, plus that of
    2 m m' over pairs of videos in the same shard, each less its mean. A pair is in the same shard
    with probability 1/n, any two pairs independently; but of the three pairs of a triple, two in
    the same shard imply the third. Therefore sums of powers of m are enough.
    """
    share = 1 / evidence.num_shards
    squares, cubes = evidence.video_squares, evidence.video_cubes
    fourths, sixths = evidence.video_fourths, evidence.video_sixths
    mean = squares * (1 - share)
    variance = 2 * (squares**2 - fourths) * share * (1 - share)
    pairs = 4 * (cubes**2 - sixths) * share * (1 - share) * (1 - 2 * share)
    triples = 8 * (squares**3 - 3 * squares * fourths + 2 * sixths) * share**2 * (1 - share)
    return mean, variance, (pairs + triples) / variance**1.5 if variance else 0.0


def run_tests(evidence: Evidence) -> ShuffleTests:
    """Test a group of shards.

    Args:
      evidence: the sum over all shards of the group, also over shards without a video.
    """
    tests = {
        "same_video_neighbours": _test_neighbours(evidence),
        "source_order": _test_source_order(evidence),
        "shard_sizes": _test_sizes(evidence),
        "labels": _test_labels(evidence),
    }
    passed = all(test.passed for test in tests.values())
    return ShuffleTests(passed=passed, false_alarm=FALSE_ALARM, tests=tests)


def _conclude(
    value: float,
    expected: float,
    deviation: float | None,
    p_value: float,
    num_labels: int | None = None,
) -> ShuffleTest:
    p_value = _rounded(min(p_value, 1.0))
    return ShuffleTest(
        value=_rounded(value),
        expected=_rounded(expected),
        deviation=None if deviation is None else _rounded(deviation),
        p_value=p_value,
        num_labels=num_labels,
        passed=p_value >= FALSE_ALARM,
    )


def _rounded(value: float) -> float:
    """Round to nine digits, so that the order in which shards are added does not matter."""
    return float(f"{value:.9g}")


def _test_neighbours(evidence: Evidence) -> ShuffleTest:
    value, mean = evidence.neighbours, evidence.neighbours_mean
    # The variance is below the mean, so the tails of Poisson's distribution are upper bounds, also
    # if few neighbours are expected.
    tails = (scipy.stats.poisson.cdf(value, mean), scipy.stats.poisson.sf(value - 1, mean))
    # If all permutations have the same value, as with one video, there is nothing to test.
    p_value = 2 * min(tails) if evidence.neighbours_variance else 1.0
    return _conclude(value, mean, math.sqrt(evidence.neighbours_variance), p_value)


def _test_source_order(evidence: Evidence) -> ShuffleTest:
    if not evidence.rank_weight:
        return _conclude(0, 0, 0.0, 1.0)
    # Spearman's correlation of n records has the variance 1 / (n - 1) and shorter tails than the
    # normal distribution.
    deviation = 1 / math.sqrt(evidence.rank_weight)
    value = evidence.rank_correlation / evidence.rank_weight
    return _conclude(value, 0, deviation, 2 * scipy.stats.norm.sf(abs(value) / deviation))


def _test_sizes(evidence: Evidence) -> ShuffleTest:
    value = evidence.shard_squares - evidence.num_patches**2 / evidence.num_shards
    mean, variance, skewness = spread_moments(evidence)
    p_value = 1.0
    if variance:
        # A sum of squares: Pearson's distribution of type III, a gamma, with these three moments. A
        # gamma of two moments gives a false alarm for a few giant videos once in 40,000 corpora.
        standard = (value - mean) / math.sqrt(variance)
        p_value = scipy.stats.pearson3.sf(standard, skewness)
    # In patches for each shard, which is easier to read.
    unit = math.sqrt(evidence.num_shards)
    deviation = math.sqrt(variance) / (2 * unit * math.sqrt(mean)) if mean else 0.0
    return _conclude(math.sqrt(max(value, 0)) / unit, math.sqrt(mean) / unit, deviation, p_value)


def _test_labels(evidence: Evidence) -> ShuffleTest:
    """The largest chi-square of a label; labels of one video are not independent of each other."""
    num_shards = evidence.num_shards
    share = evidence.label_videos / max(evidence.num_videos, 1)
    tested = (evidence.label_videos >= MIN_EXPECTED_VIDEOS * num_shards) & (share < 1)
    if num_shards < 2 or not tested.any():
        return _conclude(0, 0, None, 1.0, num_labels=0)
    share = share[tested]
    squares = evidence.label_squares[tested] - evidence.num_videos * share**2
    chi_squares = squares / (share * (1 - share))
    p_value = len(share) * scipy.stats.chi2.sf(chi_squares.max(), num_shards - 1)  # Bonferroni
    return _conclude(chi_squares.max(), num_shards - 1, None, p_value, num_labels=len(share))


def _rank_correlation(videos: np.ndarray, starts: np.ndarray) -> float:
    """Spearman's correlation of places in the file and in the source; 0 for fewer than two."""
    size = len(videos)
    if size < 2:
        return 0.0
    source = np.empty(size)
    source[np.lexsort((starts, videos))] = np.arange(size)
    return 1 - 6 * float(((source - np.arange(size)) ** 2).sum()) / (size * (size**2 - 1))
