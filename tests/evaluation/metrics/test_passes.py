"""The first pass and its merging; the others are pure functions of `features.ranking`."""

import numpy as np
import pytest

from evaluation.metrics.passes import first_pass, merge_first
from features.errors import InputError
from tests.evaluation.metrics.scores import make_scores, make_vocabulary, scored

SCORES, TRUTH = make_scores(30, 4)


def test_counts_of_blocks_add_up() -> None:
    missing = [[("x", "corrupt")], [("a", "timeout"), ("b", "corrupt")], []]
    parts = [
        first_pass(
            scored(SCORES[rows], TRUTH[rows], own), "/s", make_vocabulary(TRUTH), by_origin=False
        )
        for rows, own in zip((slice(0, 7), slice(7, 30), slice(0, 0)), missing, strict=True)
    ]

    merged = merge_first(reversed(parts))

    coverage = merged.coverage
    assert (coverage.num_videos, coverage.num_labelled) == (30, TRUTH.any(axis=1).sum())
    assert coverage.num_top_correct == TRUTH[np.arange(30), SCORES.argmax(axis=1)].sum()
    assert coverage.missing == (("a", "timeout"), ("b", "corrupt"), ("x", "corrupt"))
    for label in range(4):
        own = slice(merged.positives.offsets[label], merged.positives.offsets[label + 1])
        np.testing.assert_array_equal(
            merged.positives.scores[own], np.sort(SCORES[TRUTH[:, label], label])
        )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_named(value: float) -> None:
    scores = SCORES.copy()
    scores[4, 2] = value

    with pytest.raises(InputError, match=f"/s: .* 'video 004' for label 'label 2' is {value}"):
        first_pass(scored(scores, TRUTH), "/s", make_vocabulary(TRUTH), by_origin=False)
