"""Sums over videos that share origins against loops over all pairs, closed forms and simulation."""

import math

import numpy as np
import pytest

from evaluation.metrics import jackknife, origins
from evaluation.metrics.origins import SharedOrigins
from features.errors import InputError
from tests.evaluation.metrics import simulation


def find_shared(members: simulation.Members, share: float = 1.0) -> SharedOrigins:
    return SharedOrigins.of([f"video {row}" for row in range(len(members))], members, share)


def draw_members(rng: np.random.Generator, num_videos: int) -> simulation.Members:
    """Videos of none to three of 30 origins; many have the same ones."""
    return [
        tuple(f"origin {name}" for name in np.unique(rng.integers(30, size=rng.integers(4))))
        for _ in range(num_videos)
    ]


def error_by_loops(influences: np.ndarray, members: simulation.Members) -> float:
    """The standard error as docs/data_contracts.md defines it, pair by pair."""
    size = len(members)
    shares = [
        [i == j or bool(set(members[i]) & set(members[j])) for j in range(size)]
        for i in range(size)
    ]
    left = [1 - sum(row) / size for row in shares]
    products = sum(
        influences[i] * influences[j] / left[i] / left[j]
        for i in range(size)
        for j in range(size)
        if shares[i][j]
    )
    products *= 1 - sum(map(sum, shares)) / size**2
    independent = (influences**2).sum() * size / (size - 1)
    return math.sqrt(max(products, independent)) / size


@pytest.mark.parametrize("block_pairs", [1e9, 500], ids=["whole", "in blocks"])
def test_standard_error_is_the_sum_over_all_pairs(
    block_pairs: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(origins, "_BLOCK_PAIRS", block_pairs)
    rng = np.random.default_rng(1)
    members = draw_members(rng, 80)
    # Common influences of an origin, so that the sum is above that of independent videos.
    of_origin = {f"origin {name}": float(effect) for name, effect in enumerate(rng.normal(size=30))}
    influences = np.array([sum(map(of_origin.get, own)) for own in members])
    influences += 0.3 * rng.normal(size=80)
    influences -= influences.mean()

    error = find_shared(members).standard_error(influences, 80)

    assert error == pytest.approx(error_by_loops(influences, members), rel=1e-9)
    assert error > 1.5 * math.sqrt((influences**2).sum()) / 80


def test_clusters_are_the_jackknife_of_whole_clusters() -> None:
    """Of a mean, whose influences are exact: leave out each cluster and recompute it."""
    rng = np.random.default_rng(2)
    cluster = np.repeat(np.arange(20), rng.integers(1, 9, 20))
    values = rng.normal(size=20)[cluster] + 0.1 * rng.normal(size=len(cluster))
    sizes = np.bincount(cluster)

    shared = find_shared([(f"origin {name}",) for name in cluster])
    error = shared.standard_error(values - values.mean(), len(cluster))

    left_out = np.array([values[cluster != name].mean() for name in range(20)])
    equal = 1 - (sizes**2).sum() / sizes.sum() ** 2  # 19/20 for clusters of one size
    assert error == pytest.approx(math.sqrt(equal * ((left_out - values.mean()) ** 2).sum()))
    assert shared.degrees_of_freedom == pytest.approx((sizes**2).sum() ** 2 / (sizes**4).sum() - 1)


def test_videos_without_origins_are_independent() -> None:
    left_out = np.random.default_rng(3).normal(size=50)

    shared = find_shared([()] * 50)

    assert shared.degrees_of_freedom == pytest.approx(49)
    expected = jackknife.standard_error(left_out, 50)
    assert jackknife.standard_error(left_out, 50, shared) == pytest.approx(expected)


def test_a_sample_of_origins_has_the_standard_error_on_average() -> None:
    rng = np.random.default_rng(4)
    members = simulation.compose(rng, 1500, 1000)
    names = sorted({name for own in members for name in own})
    of_origin = dict(zip(names, rng.normal(size=len(names)), strict=True))
    influences = np.array([sum(map(of_origin.get, own)) for own in members])
    influences += rng.normal(size=1500) - influences.mean()
    influences -= influences.mean()
    whole = find_shared(members).standard_error(influences, 1500)

    squares = []
    for seed in range(40):  # other names have other hashes, and so are another sample
        renamed = [tuple(f"{seed} {name}" for name in own) for own in members]
        ids = [f"{seed} {row}" for row in range(1500)]
        rows = np.flatnonzero(origins.is_sampled(ids, renamed, 0.5))
        shared = SharedOrigins.of([ids[r] for r in rows], [renamed[r] for r in rows], 0.5)
        squares.append(shared.standard_error(influences[rows], 1500) ** 2)
        assert 0.4 < shared.sampled.sum() / shared.members.shape[1] < 0.8

    assert np.mean(squares) == pytest.approx(whole**2, rel=0.1)


def test_an_origin_of_all_videos_has_no_standard_error() -> None:
    members = [(f"clip {row}", "background") for row in range(20)]

    assert find_shared(members).standard_error(np.arange(20) - 9.5, 20) == math.inf
    assert jackknife.difference_interval(0.1, np.arange(20.0), 20, find_shared(members)) is None


def test_too_many_pairs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origins, "_MAX_PAIRS", 100)
    members = [(f"clip {row}", "background") for row in range(20)]

    with pytest.raises(InputError, match=r"--interval-by origin: 4\.2e\+02 pairs of videos share"):
        find_shared(members)
    find_shared([("background",)] * 20)  # clusters have no pairs of rows


def test_hashes_of_origins_are_counted_once() -> None:
    members = [("a", "b"), ("b",), (), ()]

    assert len(origins.hash_origins(["1", "2", "3", "4"], members)) == 4


def test_intervals_of_clusters_hold_what_they_promise() -> None:
    """50 origins of 1 to 20 videos with shared effects; tests/benchmarks/intervals.py has more."""

    def draw(rng: np.random.Generator) -> simulation.Members:
        return simulation.draw_clusters(rng, 50)

    coverage = simulation.measure_coverage(draw, 150)

    assert min(*coverage.by_origin, *coverage.difference) >= 0.90
    assert max(coverage.by_video) <= 0.85
