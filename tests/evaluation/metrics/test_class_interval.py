"""Intervals of the AUC of one class, against simulations and the Mann-Whitney test."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, norm, rankdata

from evaluation.metrics.class_interval import auc_interval, beyond_chance


def draw_aucs(auc: float, positives: int, negatives: int, sets: int) -> np.ndarray:
    """AUCs of sets of normal scores that have this AUC in the limit."""
    rng = np.random.default_rng(1)
    scores = rng.standard_normal((sets, positives + negatives))
    scores[:, :positives] += np.sqrt(2) * norm.ppf(auc)
    ranks = rankdata(scores, axis=1)[:, :positives].sum(axis=1)
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


@pytest.mark.parametrize(("positives", "negatives"), [(10, 200), (10, 2_000), (40, 200)])
@pytest.mark.parametrize("auc", [0.5, 0.8, 0.95])
def test_intervals_hold_the_true_auc(auc: float, positives: int, negatives: int) -> None:
    drawn = draw_aucs(auc, positives, negatives, 1_000)
    low, high = auc_interval(drawn, np.full(1_000, positives), np.full(1_000, negatives))
    assert np.all((low <= drawn) & (drawn <= high))
    assert 0.93 <= np.mean((low <= auc) & (auc <= high)) <= 0.99


def test_chance_is_refuted_where_the_mann_whitney_test_refutes_it() -> None:
    rng = np.random.default_rng(2)
    for shift in np.linspace(0, 1, 25):
        scores, others = rng.normal(shift, 1, 12), rng.normal(0, 1, 60)
        test = mannwhitneyu(scores, others, use_continuity=False, method="asymptotic")
        counts = np.array([12]), np.array([60])
        low, high = auc_interval(np.array([test.statistic / (12 * 60)]), *counts)
        assert beyond_chance(low, high, counts[0], np.array([np.nan]))[0] == (test.pvalue < 0.05)


def test_ends_are_no_points_and_undefined_classes_have_none() -> None:
    low, high = auc_interval(
        np.array([1.0, 0.0, np.nan]), np.array([5, 5, 0]), np.array([50, 50, 55])
    )
    assert 0.7 < low[0] < 0.9
    assert high[0] == 1.0
    assert (low[1], high[1]) == (0.0, pytest.approx(1 - low[0]))
    assert np.isnan(low[2])
    assert np.isnan(high[2])
    unknown = np.full(3, np.nan)
    assert not beyond_chance(low, high, np.array([5, 5, 0]), unknown).any()  # too few positives
    many = np.array([10, 10, 10])
    assert beyond_chance(low, high, many, unknown).tolist() == [True, True, False]
    assert beyond_chance(low, high, many, np.array([4.9, 5, 5])).tolist() == [False, True, False]
