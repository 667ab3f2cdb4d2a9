"""AUC, AP and d' against scikit-learn and the paper's own tables."""

import functools

import numpy as np
import pytest
import sklearn.metrics

from features import ranking

# (AUC, d') of Tables 2, 3, 4 and section 4.4.
PAPER_PAIRS = [
    (0.851, 1.471), (0.894, 1.764), (0.911, 1.909), (0.918, 1.969), (0.916, 1.952), (0.926, 2.041),
    (0.930, 2.087), (0.928, 2.067), (0.925, 2.035), (0.919, 1.982), (0.924, 2.026),
    (0.923, 2.019), (0.922, 2.006), (0.921, 1.997), (0.909, 1.883), (0.868, 1.581),
    (0.904, 1.846), (0.959, 2.452),
]  # fmt: skip


def evaluate_in_blocks(
    scores: np.ndarray, truth: np.ndarray, cuts: list[int], order: list[int] | None = None
) -> tuple[ranking.ClassMetrics, ranking.Ranks]:
    blocks = [
        ranking.Block.of_lists(block, [np.flatnonzero(row) for row in rows])
        for block, rows in zip(np.split(scores, cuts), np.split(truth, cuts), strict=True)
        if len(block)
    ]
    if order is not None:
        blocks = [blocks[place % len(blocks)] for place in order[: len(blocks)]]
    positives = ranking.merge_positives([ranking.gather_positives(block) for block in blocks])
    parts = [ranking.rank_positives(block.scores, positives) for block in blocks]
    ranks = functools.reduce(ranking.add_ranks, parts)
    return ranking.class_metrics(positives, ranks), ranks


def make_case(kind: str, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random((200, 12)) < rng.uniform(0.02, 0.5, 12)
    scores = rng.normal(size=truth.shape).astype(np.float32) + truth
    if kind == "tied":
        scores = np.round(scores)
    if kind == "constant":
        scores[:, :6] = 0.25
    if kind == "single positive":
        truth[:, 3] = False
        truth[17, 3] = True
    if kind == "single negative":
        truth[:, 3] = True
        truth[17, 3] = False
    if kind == "all positive":
        truth[:, 3] = True
    if kind == "extreme":
        scores = scores * np.float32(1e-38)  # some are subnormal
        scores[::7] = 0.0
    return scores.astype(np.float32), truth


KINDS = ("random", "tied", "constant", "single positive", "single negative", "all positive",
         "extreme")  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_equal_to_scikit_learn_for_any_cut_and_order_of_merging(kind: str, seed: int) -> None:
    scores, truth = make_case(kind, seed)
    rng = np.random.default_rng(seed)
    num_cuts = [0, 1, 3, 20, 199, 199][seed]
    cuts = np.sort(rng.choice(np.arange(1, 200), num_cuts, replace=False)).tolist()

    result, _ = evaluate_in_blocks(scores, truth, cuts, rng.permutation(num_cuts + 1).tolist())

    np.testing.assert_array_equal(result.positives, truth.sum(axis=0))
    for c in range(truth.shape[1]):
        if truth[:, c].all():
            assert np.isnan(result.auc[c])
            assert np.isnan(result.ap[c])
            continue
        auc = sklearn.metrics.roc_auc_score(truth[:, c], scores[:, c])
        ap = sklearn.metrics.average_precision_score(truth[:, c], scores[:, c])
        assert result.auc[c] == pytest.approx(auc, abs=1e-9)
        assert result.ap[c] == pytest.approx(ap, abs=1e-9)


def test_more_classes_and_videos_than_are_sorted_at_once() -> None:
    rng = np.random.default_rng(11)
    truth = rng.random((700, 300)) < 0.1
    scores = np.round(rng.normal(size=truth.shape) + truth, 1).astype(np.float32)

    result, _ = evaluate_in_blocks(scores, truth, [513])

    expected = sklearn.metrics.roc_auc_score(truth, scores, average=None)
    np.testing.assert_allclose(result.auc, expected, atol=1e-12)
    expected = sklearn.metrics.average_precision_score(truth, scores, average=None)
    np.testing.assert_allclose(result.ap, expected, atol=1e-12)


@pytest.mark.parametrize("cuts", [[], [1], [3], [1, 2, 3, 4, 5]])
def test_a_third_value_is_seen_in_whichever_block_it_is(cuts: list[int]) -> None:
    scores = np.array(
        [[0, 0, 1, 5], [0, 1, 1, 5], [0, 1, 0, 5], [0, 0, 2, 5], [0, 1, 1, 5], [0, 1, 1, 6]], "f4"
    )
    truth = np.eye(6, 4, dtype=bool)

    _, ranks = evaluate_in_blocks(scores, truth, cuts)

    assert ranks.has_between.tolist() == [False, False, True, False]
    assert ranks.lowest.tolist() == [0, 0, 0, 5]
    assert ranks.highest.tolist() == [0, 1, 2, 6]


def test_label_without_a_score_column_is_refused() -> None:
    with pytest.raises(ValueError, match="from 2 to 2, but there are scores of 2 classes"):
        ranking.Block.of_lists(np.zeros((1, 2), np.float32), [np.array([2])])


def test_order_of_merging_does_not_matter() -> None:
    scores, truth = make_case("tied")
    order = np.random.default_rng(5).permutation(len(scores))

    straight, _ = evaluate_in_blocks(scores, truth, [70])
    shuffled, _ = evaluate_in_blocks(scores[order], truth[order], [20, 150])

    np.testing.assert_allclose(straight.auc, shuffled.auc, rtol=0, atol=1e-15)
    np.testing.assert_allclose(straight.ap, shuffled.ap, rtol=0, atol=1e-15)


def test_classes_without_a_positive_or_a_negative_are_undefined() -> None:
    scores, truth = make_case("random")
    truth[:, 2] = False
    truth[:, 5] = True

    result, _ = evaluate_in_blocks(scores, truth, [100])

    assert np.flatnonzero(~result.defined).tolist() == [2, 5]
    assert np.flatnonzero(np.isnan(result.auc)).tolist() == [2, 5]
    assert np.flatnonzero(np.isnan(result.ap)).tolist() == [2, 5]


def test_constant_scores_have_the_prior_as_average_precision() -> None:
    _, truth = make_case("random")

    result, _ = evaluate_in_blocks(np.full(truth.shape, 0.5, np.float32), truth, [30])

    np.testing.assert_allclose(result.ap, truth.mean(axis=0), atol=1e-15)
    np.testing.assert_allclose(result.ap, result.priors, atol=1e-15)
    np.testing.assert_allclose(result.auc, 0.5, atol=1e-15)


@pytest.mark.parametrize(("auc", "d_prime"), PAPER_PAIRS)
def test_d_prime_is_the_papers(auc: float, d_prime: float) -> None:
    low, high = ranking.d_prime(auc - 0.0005), ranking.d_prime(auc + 0.0005)

    assert low - 0.0005 <= d_prime <= high + 0.0005


def test_d_prime_at_chance_and_perfection() -> None:
    assert ranking.d_prime(0.5) == 0
    assert ranking.d_prime(1.0) == np.inf
