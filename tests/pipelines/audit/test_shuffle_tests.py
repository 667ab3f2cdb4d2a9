"""Closed forms against simulation and SciPy; the rate of false alarms."""

import functools
import itertools
import math
import operator

import numpy as np
import pytest
import scipy.stats

from pipelines.audit import shuffle_tests
from pipelines.audit.shuffle_tests import Evidence


def evidence_of_shards(
    rng: np.random.Generator,
    *,
    sizes: np.ndarray,
    num_shards: int,
    labels: list[tuple[int, ...]] | None = None,
    shards: np.ndarray | None = None,
    shuffled: bool = True,
) -> Evidence:
    """Evidence of videos of these sizes, hashed to shards, with permuted records."""
    labels = [()] * len(sizes) if labels is None else labels
    homes = rng.integers(num_shards, size=len(sizes)) if shards is None else shards
    collected = []
    for shard in range(num_shards):
        members = np.flatnonzero(homes == shard)
        videos = np.repeat(np.arange(len(members)), sizes[members])
        starts = np.concatenate([np.arange(size) for size in sizes[members]] or [np.empty(0)])
        order = rng.permutation(len(videos)) if shuffled else np.arange(len(videos))
        labels_here = [labels[member] for member in members]
        collected.append(
            shuffle_tests.collect_evidence(videos[order], starts[order], labels_here, 4)
        )
    return functools.reduce(operator.add, collected)


@pytest.mark.parametrize("counts", [[1, 1], [2, 1], [3], [3, 2, 2], [1, 2, 4], [4, 3]])
def test_neighbour_moments_of_every_permutation(counts: list[int]) -> None:
    videos = np.repeat(np.arange(len(counts)), counts)
    neighbours = [
        sum(a == b for a, b in itertools.pairwise(order))
        for order in itertools.permutations(videos)
    ]

    mean, variance = shuffle_tests.neighbour_moments(np.array(counts))

    assert mean == pytest.approx(np.mean(neighbours))
    assert variance == pytest.approx(np.var(neighbours), abs=1e-12)
    assert variance <= mean + 1e-12  # what makes Poisson's tails an upper bound


def test_neighbour_moments_of_a_large_shard() -> None:
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 300, 40)
    videos = np.repeat(np.arange(40), counts)
    neighbours = []
    for _ in range(2000):
        order = rng.permutation(videos)
        neighbours.append(np.count_nonzero(order[1:] == order[:-1]))

    mean, variance = shuffle_tests.neighbour_moments(counts)

    assert mean == pytest.approx(np.mean(neighbours), abs=5 * math.sqrt(variance / 2000))
    assert variance == pytest.approx(np.var(neighbours), rel=0.15)
    assert shuffle_tests.neighbour_moments(np.array([], int)) == (0.0, 0.0)


def test_spread_moments_by_simulation() -> None:
    rng = np.random.default_rng(2)
    sizes, num_shards = rng.integers(1, 60, 50), 7
    spreads = []
    for _ in range(20_000):
        totals = np.bincount(rng.integers(num_shards, size=50), sizes, num_shards)
        spreads.append(((totals - totals.mean()) ** 2).sum())
    evidence = evidence_of_shards(rng, sizes=sizes, num_shards=num_shards)

    mean, variance, skewness = shuffle_tests.spread_moments(evidence)

    assert mean == pytest.approx(np.mean(spreads), rel=0.02)
    assert variance == pytest.approx(np.var(spreads), rel=0.06)
    assert skewness == pytest.approx(scipy.stats.skew(spreads), rel=0.15)


def test_source_order_is_spearmans_correlation() -> None:
    rng = np.random.default_rng(3)
    videos, starts = rng.integers(5, size=60), rng.permutation(60)
    source = np.argsort(np.lexsort((starts, videos)))
    expected = scipy.stats.spearmanr(source, np.arange(60)).statistic

    evidence = shuffle_tests.collect_evidence(videos, starts, [()] * 5, 1)

    assert evidence.rank_correlation / evidence.rank_weight == pytest.approx(expected)


def test_labels_are_a_chi_square_of_contingency() -> None:
    rng = np.random.default_rng(4)
    labels = [(0,) if rng.random() < 0.3 else () for _ in range(400)]
    homes = rng.integers(6, size=400)
    table = np.zeros((2, 6))
    for home, has in zip(homes, labels, strict=True):
        table[len(has), home] += 1
    expected = scipy.stats.chi2_contingency(table, correction=False)

    evidence = evidence_of_shards(
        rng, sizes=np.ones(400, int), num_shards=6, labels=labels, shards=homes
    )
    test = shuffle_tests.run_tests(evidence).tests["labels"]

    assert test.value == pytest.approx(expected.statistic)
    assert test.p_value == pytest.approx(expected.pvalue)
    assert test.num_labels == 1


@pytest.mark.parametrize(("num_videos", "num_shards"), [(1, 1), (6, 3), (38, 10), (400, 8)])
def test_no_false_alarm_and_small_p_values_are_rare(num_videos: int, num_shards: int) -> None:
    rng = np.random.default_rng(5)
    p_values: dict[str, list[float]] = {}
    num_runs = 300
    for _ in range(num_runs):
        sizes = np.ceil(rng.lognormal(1.5, 1.0, num_videos)).astype(int)  # one may be giant
        labels = [tuple(np.flatnonzero(rng.random(4) < (0.5, 0.4, 0.2, 0.01))) for _ in sizes]
        evidence = evidence_of_shards(rng, sizes=sizes, num_shards=num_shards, labels=labels)
        result = shuffle_tests.run_tests(evidence)
        assert result.passed
        for name, test in result.tests.items():
            p_values.setdefault(name, []).append(test.p_value)
    for name, values in p_values.items():
        # 0.01 is expected.
        assert np.mean(np.array(values) < 0.01) <= 0.03, name


def test_unshuffled_records_fail() -> None:
    rng = np.random.default_rng(6)
    evidence = evidence_of_shards(rng, sizes=np.full(40, 10), num_shards=4, shuffled=False)

    result = shuffle_tests.run_tests(evidence)

    failed = {name for name, test in result.tests.items() if not test.passed}
    assert not result.passed
    assert failed == {"same_video_neighbours", "source_order"}


def test_shards_by_label_and_of_uneven_size_fail() -> None:
    rng = np.random.default_rng(7)
    labels = [(index % 4,) for index in range(200)]
    by_label = evidence_of_shards(
        rng, sizes=np.full(200, 3), num_shards=4, labels=labels, shards=np.arange(200) % 4
    )
    uneven = evidence_of_shards(
        rng, sizes=np.full(200, 3), num_shards=4, shards=np.minimum(np.arange(200) // 20, 3)
    )

    tests = shuffle_tests.run_tests(by_label).tests
    assert [name for name, test in tests.items() if not test.passed] == ["labels"]
    tests = shuffle_tests.run_tests(uneven).tests
    assert [name for name, test in tests.items() if not test.passed] == ["shard_sizes"]


def test_nothing_to_test_passes() -> None:
    empty = shuffle_tests.collect_evidence(np.array([], int), np.array([]), [], 3)

    assert shuffle_tests.run_tests(empty).passed
