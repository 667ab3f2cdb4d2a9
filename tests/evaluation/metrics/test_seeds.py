"""Intervals over seeds and videos, by simulation."""

import numpy as np
import pytest
import scipy.special

from evaluation.metrics.seeds import SeededMetric, interval, transformed_interval


def measured(values: np.ndarray) -> SeededMetric:
    """The metric that is the mean over videos, of values float64 [seeds, videos]."""
    num_videos = values.shape[1]
    left_out = (values.sum(axis=1, keepdims=True) - values) / (num_videos - 1)
    return SeededMetric(values.mean(axis=1), left_out)


@pytest.mark.parametrize(
    ("of_seeds", "of_videos"), [(0.0, 1.0), (0.05, 1.0), (0.3, 1.0), (0.3, 0.1)]
)
def test_intervals_cover_the_difference_of_networks_over_seeds_and_videos(
    of_seeds: float, of_videos: float
) -> None:
    rng = np.random.default_rng(11)
    num_seeds, num_videos, num_trials = 3, 60, 1_500
    num_covered = 0
    for _ in range(num_trials):
        video = rng.normal(0, of_videos, num_videos)  # what makes the networks differ on a video
        pair = []
        for sign in (1, -1):
            seed = rng.normal(0, of_seeds, (num_seeds, 1))
            noise = rng.normal(0, 0.1, (num_seeds, num_videos))
            pair.append(measured(sign * (seed + noise) + (video if sign == 1 else 0)))
        found = interval(pair, num_videos)
        assert found is not None
        num_covered += found[0] <= 0 <= found[1]
    assert 0.93 <= num_covered / num_trials <= 0.985


def test_one_seed_has_an_interval_of_the_videos_alone() -> None:
    values = np.random.default_rng(2).normal(0.6, 0.1, (1, 50))
    low, high = interval([measured(values)], 50) or (0.0, 0.0)
    error = values.std(ddof=1) / np.sqrt(50)
    half = scipy.special.stdtrit(49, 0.975) * error
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half))
    logit = transformed_interval(
        measured(values), 50, None, scipy.special.logit, scipy.special.expit
    )
    assert logit == pytest.approx((low, high), abs=0.002)
    assert interval([SeededMetric(np.array([0.5]), np.array([[0.5]]))], 1) is None
    perfect = SeededMetric(np.ones(2), np.ones((2, 50)))
    assert transformed_interval(perfect, 50, None, scipy.special.logit, scipy.special.expit) is None
