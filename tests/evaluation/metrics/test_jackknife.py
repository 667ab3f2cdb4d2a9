"""The jackknife against recomputing without each video, and its intervals against repetition."""

import numpy as np
import pytest
import scipy.special
import sklearn.metrics

from evaluation.metrics import jackknife
from evaluation.metrics.jackknife import LeftOut
from features import ranking
from features.ranking import Block, Positives, Ranks


def passes(scores: np.ndarray, truth: np.ndarray) -> tuple[Block, Positives, Ranks]:
    block = Block(scores, *np.nonzero(truth))
    positives = ranking.gather_positives(block)
    return block, positives, ranking.rank_positives(scores, positives)


def make_set(rng: np.random.Generator, num_videos: int) -> tuple[np.ndarray, np.ndarray]:
    """Ten classes; a video's topic and loudness make its labels and its scores hang together."""
    num_classes = 10
    slope = np.linspace(-1, 1, num_classes)
    topic = rng.normal(size=(num_videos, 1))
    shape = (num_videos, num_classes)
    latent = 0.5 * topic * slope + np.sqrt(1 - 0.25 * slope**2) * rng.normal(size=shape)
    truth = latent > scipy.special.ndtri(1 - np.geomspace(0.3, 0.04, num_classes))
    shared = 0.5 * rng.normal(size=(num_videos, 1)) + 0.4 * topic * slope[::-1]
    scores = truth * np.linspace(0.5, 2.5, num_classes) + shared + rng.normal(size=shape)
    return scores.astype(np.float32), truth


@pytest.mark.parametrize("rounded", [False, True], ids=["distinct", "tied"])
def test_equals_the_figures_without_each_video(rounded: bool) -> None:
    scores, truth = make_set(np.random.default_rng(1), 24)
    truth[:, 0] = np.arange(24) == 3  # one positive: without it the class has no figures
    truth[:, 1] = np.arange(24) != 5  # one negative
    truth[:, 2] = False
    if rounded:
        scores = np.round(scores)

    block, positives, ranks = passes(scores, truth)
    ids = [f"{row:02d}" for row in range(24)]
    left_out = jackknife.leave_one_out(block, ids, [()] * len(ids), positives, ranks)

    for row in range(24):
        rest = np.arange(24) != row
        defined = [c for c in range(10) if 0 < truth[rest, c].sum() < 23]
        pairs = [(truth[rest, c], scores[rest, c]) for c in defined]
        auc = np.mean([sklearn.metrics.roc_auc_score(*pair) for pair in pairs])
        ap = np.mean([sklearn.metrics.average_precision_score(*pair) for pair in pairs])
        assert left_out.mean_auc[row] == pytest.approx(auc, abs=1e-12)
        assert left_out.mean_ap[row] == pytest.approx(ap, abs=1e-12)


def test_any_cut_into_blocks_gives_the_same() -> None:
    scores, truth = make_set(np.random.default_rng(2), 60)
    block, positives, ranks = passes(scores, truth)
    ids = [f"{row:02d}" for row in range(60)]
    whole = jackknife.leave_one_out(block, ids, [()] * len(ids), positives, ranks)

    parts = [
        jackknife.leave_one_out(
            Block(scores[rows], *np.nonzero(truth[rows])),
            ids[rows],
            [()] * len(ids[rows]),
            positives,
            ranks,
        )
        for rows in (slice(20, 60), slice(0, 0), slice(0, 20))
    ]

    merged = jackknife.merge(parts)
    assert merged.video_ids == whole.video_ids
    np.testing.assert_array_equal(merged.mean_auc, whole.mean_auc)
    np.testing.assert_array_equal(merged.mean_ap, whole.mean_ap)


def repeat(num_videos: int, num_left_out: int, num_sets: int) -> dict[str, np.ndarray]:
    """Figures and intervals of many evaluation sets from one source, [sets]."""
    rng = np.random.default_rng(4)
    rows = []
    for _ in range(num_sets):
        scores, truth = make_set(rng, num_videos)
        _, positives, ranks = passes(scores, truth)
        sample = rng.choice(num_videos, num_left_out, replace=False)
        block = Block(scores[sample], *np.nonzero(truth[sample]))
        left_out = jackknife.leave_one_out(
            block, [""] * num_left_out, [()] * num_left_out, positives, ranks
        )
        figures = ranking.class_metrics(positives, ranks)
        auc, ap = np.nanmean(figures.auc), np.nanmean(figures.ap)
        rows.append(
            (auc, *jackknife.auc_interval(auc, left_out.mean_auc, num_videos),
             ap, *jackknife.ap_interval(ap, left_out.mean_ap, num_videos))
        )  # fmt: skip
    names = ("auc", "auc_low", "auc_high", "ap", "ap_low", "ap_high")
    return dict(zip(names, np.array(rows).T, strict=True))


# Few videos, all left out; many, of which a sample is.
@pytest.mark.parametrize(("num_videos", "num_left_out"), [(60, 60), (900, 300)])
def test_intervals_cover_what_they_promise(num_videos: int, num_left_out: int) -> None:
    sets = repeat(num_videos, num_left_out, 1000)

    for name in ("auc", "ap"):
        low, high, expected = sets[f"{name}_low"], sets[f"{name}_high"], sets[name].mean()
        assert 0.92 <= np.mean((low <= expected) & (expected <= high)) <= 0.98
        # d' is a function of the AUC that rises, and its interval is that function's.
    d_prime = ranking.d_prime(sets["auc"].mean())
    inside = (ranking.d_prime(sets["auc_low"]) <= d_prime) & (
        d_prime <= ranking.d_prime(sets["auc_high"])
    )
    assert 0.92 <= inside.mean() <= 0.98


def test_standard_error_is_that_of_drawing_videos_with_replacement() -> None:
    rng = np.random.default_rng(5)
    scores, truth = make_set(rng, 1500)
    block, positives, ranks = passes(scores, truth)
    left_out = jackknife.leave_one_out(block, [""] * 1500, [()] * 1500, positives, ranks)

    drawn = []
    for _ in range(300):
        rows = rng.integers(0, 1500, 1500)
        _, *both = passes(scores[rows], truth[rows])
        figures = ranking.class_metrics(*both)
        drawn.append((figures.auc.mean(), figures.ap.mean()))

    auc, ap = np.std(drawn, axis=0)
    assert jackknife.standard_error(left_out.mean_auc, 1500) == pytest.approx(auc, rel=0.15)
    assert jackknife.standard_error(left_out.mean_ap, 1500) == pytest.approx(ap, rel=0.15)


def test_interval_of_a_paired_difference_covers_it_and_is_narrower() -> None:
    """Two networks, of which one is the other with some noise."""
    rng = np.random.default_rng(6)
    rows = []
    for _ in range(500):
        scores, truth = make_set(rng, 200)
        worse = scores + 0.7 * rng.normal(size=scores.shape).astype(np.float32)
        runs = []
        for run in (scores, worse):
            block, positives, ranks = passes(run, truth)
            left_out = jackknife.leave_one_out(block, [""] * 200, [()] * 200, positives, ranks)
            runs.append((np.nanmean(ranking.class_metrics(positives, ranks).ap), left_out))
        (first, a), (second, b) = runs
        low, high = jackknife.difference_interval(first - second, a.mean_ap - b.mean_ap, 200)
        alone = jackknife.ap_interval(first, a.mean_ap, 200)
        rows.append((first - second, low, high, alone[1] - alone[0]))
    difference, low, high, alone = np.array(rows).T

    expected = difference.mean()
    assert 0.92 <= np.mean((low <= expected) & (expected <= high)) <= 0.98
    assert np.mean(high - low) < 0.8 * alone.mean()


@pytest.mark.parametrize("value", [1.0, 0.0])
def test_no_interval_where_the_figure_has_no_spread(value: float) -> None:
    assert jackknife.auc_interval(value, np.full(5, value), 5) is None
    assert jackknife.auc_interval(0.7, np.array([0.6, np.nan]), 2) is None
    assert jackknife.auc_interval(0.7, np.array([0.7]), 1) is None


def test_nothing_merged_is_nothing() -> None:
    merged = jackknife.merge([LeftOut((), (), np.empty(0), np.empty(0))])

    assert merged.video_ids == ()
