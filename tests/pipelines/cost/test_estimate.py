"""Estimates against complete enumeration and against a calculation by hand."""

import numpy as np
import pytest

from pipelines.cost import estimate
from pipelines.cost.estimate import Stratum


def draw(rng: np.random.Generator) -> tuple[dict[str, Stratum], dict[str, np.ndarray]]:
    """Two kinds of files with costs of 5 and 2 per unit of size, with scatter, and all costs."""
    strata, costs = {}, {}
    for kind, ratio, num_videos, num_sampled in (("a", 5.0, 300, 20), ("b", 2.0, 100, 8)):
        sizes = rng.lognormal(0.0, 0.8, num_videos)
        costs[kind] = ratio * sizes * rng.lognormal(0.0, 0.3, num_videos)
        strata[kind] = Stratum(sizes, rng.choice(num_videos, num_sampled, replace=False))
    return strata, costs


def test_the_range_holds_the_total_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    num_inside = 0
    for _ in range(400):
        strata, costs = draw(rng)
        measured = {kind: costs[kind][stratum.sampled] for kind, stratum in strata.items()}
        low, _, high = estimate.estimate_total(strata, measured)
        num_inside += low <= sum(values.sum() for values in costs.values()) <= high
    # 360 are expected; the standard deviation of a binomial count is 6. The normal distribution
    # gives somewhat fewer for small samples.
    assert 330 <= num_inside <= 380


def test_a_sample_of_all_videos_is_exact() -> None:
    strata = {"a": Stratum(np.array([1.0, 2.0, 4.0]), np.arange(3))}
    costs = {"a": np.array([3.0, 5.0, 9.0])}

    assert estimate.estimate_total(strata, costs) == pytest.approx((17, 17, 17))
    # A standard deviation of the speed of 10 %: 1.645 of them are 2.796.
    drifting = estimate.estimate_total(strata, costs, drift=0.1)
    assert drifting == pytest.approx((17 - 2.796, 17, 17 + 2.796), abs=1e-3)


def test_estimate_by_hand() -> None:
    # 2 of 4, sizes 1 and 3 of 1, 3, 4, 8: the ratio is 2, the residuals are -1 and 1, s^2 = 2. The
    # ratio has the variance (1 - 2/4) s^2 / 2 / 2^2 = 1/8, the total of size 16 has 16^2 / 8 = 32.
    strata = {"a": Stratum(np.array([1.0, 3.0, 4.0, 8.0]), np.array([0, 1]))}
    low, best, high = estimate.estimate_total(strata, {"a": np.array([1.0, 7.0])})

    assert best == 32
    assert (low, high) == pytest.approx((32 - 1.645 * 32**0.5, 32 + 1.645 * 32**0.5))


def test_kinds_of_no_size_cost_nothing() -> None:
    strata = {"empty": Stratum(np.zeros(5), np.array([0, 1]))}
    assert estimate.estimate_total(strata, {"empty": np.zeros(2)}) == (0, 0, 0)


def test_samples_are_allocated_by_number_and_size() -> None:
    sizes = {"many": np.full(90, 1.0), "large": np.full(10, 9.0), "single": np.array([0.1])}
    assert estimate.allocate(sizes, 40) == {"many": 28, "large": 10, "single": 1}
