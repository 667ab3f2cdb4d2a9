"""Comparison of two sets of scores: what they have in common, and the differences."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import sklearn.metrics

from evaluation.metrics import comparison, summary
from evaluation.metrics.comparison import Comparison, ComparisonRequest, Overlap
from evaluation.metrics.selection import SelectedScores, open_scores
from features import ranking
from features.errors import InputError
from tests.evaluation.metrics.scores import (
    MADE_BY,
    make_scores,
    make_vocabulary,
    measure,
    write_folder,
)

SCORES, TRUTH = make_scores(50, 4)
OTHER = SCORES + np.random.default_rng(8).normal(size=SCORES.shape).astype(np.float32)


def make_request() -> ComparisonRequest:
    overlap = Overlap(
        made_by=MADE_BY,
        scores_a="/a",
        scores_b="/b",
        num_videos=50,
        num_videos_only_a=1,
        num_videos_only_b=2,
        num_labels=4,
        num_labels_only_a=3,
        num_labels_only_b=5,
    )
    return ComparisonRequest(overlap, make_vocabulary(TRUTH), allow_two_values=False, output="")


def counts(overlap: Overlap) -> list[int]:
    """Videos in both, only in A and only in B; labels in the same order."""
    return [value for value in vars(overlap).values() if isinstance(value, int)]


def open_folder(folder: Path, rows: slice, columns: list[int]) -> SelectedScores:
    return open_scores(
        write_folder(
            folder,
            SCORES[rows][:, columns],
            TRUTH[rows][:, columns],
            ids=[f"video {row:03d}" for row in range(50)[rows]],
            names=[f"label {column}" for column in columns],
        ),
        flag="A",
    )


def test_difference_is_that_of_the_means() -> None:
    compared = comparison.compare(make_request(), measure(SCORES, TRUTH), measure(OTHER, TRUTH))

    for part, scores in ((compared.a, SCORES), (compared.b, OTHER)):
        auc = sklearn.metrics.roc_auc_score(TRUTH, scores)
        assert part.mean_auc == pytest.approx(auc, abs=1e-12)
        assert part.d_prime == pytest.approx(float(ranking.d_prime(auc)))
        ap = sklearn.metrics.average_precision_score(TRUTH, scores)
        assert part.mean_ap == pytest.approx(ap, abs=1e-12)
    for name in ("mean_auc", "d_prime", "mean_ap"):
        a, b, difference = (
            getattr(part, name) for part in (compared.a, compared.b, compared.difference)
        )
        assert difference == a - b
        low, high = getattr(compared.intervals, name)
        assert low < difference < high
    assert compared.num_classes_evaluated == 4
    assert (compared.num_videos_only_b, compared.num_labels_only_b) == (2, 5)


def test_the_document_is_read_as_it_was_written() -> None:
    compared = comparison.compare(make_request(), measure(SCORES, TRUTH), measure(OTHER, TRUTH))

    assert Comparison.from_json(compared.to_json(), "") == compared
    assert list(json.loads(compared.to_json()))[:5] == [
        "format_version", "made_by", "scores_a", "scores_b", "num_videos",
    ]  # fmt: skip


def test_two_perfect_models_have_no_difference_of_d_prime() -> None:
    noise = np.random.default_rng(1).random(TRUTH.shape, np.float32) / 2
    perfect = measure((TRUTH + noise).astype(np.float32), TRUTH)

    compared = comparison.compare(make_request(), perfect, perfect)

    assert compared.a.d_prime is compared.difference.d_prime is compared.intervals.d_prime is None
    assert compared.difference.mean_ap == 0


def test_videos_with_other_labels_are_refused() -> None:
    truth = TRUTH.copy()
    truth[np.flatnonzero(TRUTH[:, 1])[0], 1] = False
    count = TRUTH[:, 1].sum()

    with pytest.raises(InputError, match=f"'label 1' has {count} and {count - 1} of the common"):
        comparison.require_comparable(
            make_request(), measure(SCORES, TRUTH), measure(SCORES, truth)
        )


def test_the_folder_with_scores_after_a_threshold_is_named() -> None:
    binary = (SCORES > 0).astype(np.float32)

    with pytest.raises(InputError, match="/b: the scores of 4 of 4 labels have at most two values"):
        comparison.require_comparable(
            make_request(), measure(SCORES, TRUTH), measure(binary, TRUTH)
        )


def test_common_videos_and_labels(tmp_path: Path) -> None:
    a = open_folder(tmp_path / "a", slice(0, 40), [0, 1, 2])
    b = open_folder(tmp_path / "b", slice(10, 50), [3, 2, 1])

    common = comparison.find_common(a, b)

    assert counts(common.overlap) == [30, 10, 10, 2, 1, 1]
    assert common.overlap.scores_b == b.selection.folder
    assert set(common.vocabulary.ids) == {"label 1", "label 2"}
    for selection, scores in ((common.a, a), (common.b, b)):
        columns = [scores.vocabulary.ids[column] for column in selection.labels]
        assert columns == list(common.vocabulary.ids)
        assert selection.video_hashes is not None
        assert len(selection.video_hashes) == 30


def test_equal_videos_need_no_look_up(tmp_path: Path) -> None:
    a = open_folder(tmp_path / "a", slice(0, 40), [0, 1])

    common = comparison.find_common(a, a)

    assert common.a.video_hashes is common.b.video_hashes is None
    assert counts(common.overlap) == [40, 0, 0, 2, 0, 0]


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [(slice(0, 20), [2, 3], "no label in common"), (slice(20, 50), [0, 1], "no video in common")],
)
def test_nothing_in_common_is_refused(
    tmp_path: Path, rows: slice, columns: list[int], message: str
) -> None:
    a = open_folder(tmp_path / "a", slice(0, 20), [0, 1])
    b = open_folder(tmp_path / "b", rows, columns)

    with pytest.raises(InputError, match=message):
        comparison.find_common(a, b)


def test_table_has_the_metrics_of_both() -> None:
    a, b = measure(SCORES, TRUTH), measure(OTHER, TRUTH)

    table = comparison.per_class_table(a, b, make_vocabulary(TRUTH))

    assert table.column_names == [
        "label", "label_id", "name", "positives", "negatives", "auc_a", "ap_a", "auc_b", "ap_b",
    ]  # fmt: skip
    assert table["ap_b"].to_pylist() == b.classes.ap.tolist()


def test_interval_by_origin_is_wider_where_pairs_of_videos_are_equal() -> None:
    twice = np.repeat(np.arange(25), 2)
    truth, a, b = TRUTH[twice], SCORES[twice], OTHER[twice]
    origins = [(f"origin {name}",) for name in twice]

    by_video = comparison.compare(make_request(), measure(a, truth), measure(b, truth))
    runs = [measure(scores, truth, origins=origins) for scores in (a, b)]
    comparison.require_comparable(make_request(), *runs)
    by_origin = comparison.compare(make_request(), *runs)

    assert by_origin.difference == by_video.difference
    assert (by_origin.intervals.by, by_origin.intervals.num_origins) == ("origin", 25)
    widths = [np.diff(found.intervals.mean_ap)[0] for found in (by_origin, by_video)]
    assert widths[0] / widths[1] == pytest.approx(2**0.5, rel=0.06)


def test_videos_with_other_origins_are_refused() -> None:
    origins = [(f"origin {row}",) for row in range(50)]
    other = [*origins[:30], ("another",), *origins[31:]]
    runs = [measure(SCORES, TRUTH, origins=found) for found in (origins, other)]

    with pytest.raises(InputError, match="video 'video 030' has other origins"):
        comparison.require_comparable(make_request(), *runs)


def test_left_out_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    origins = [("a", "b"), *[()] * 49]
    left_out = measure(SCORES, TRUTH, origins=origins).left_out
    pq.write_table(summary.left_out_table(left_out), tmp_path / summary.LEFT_OUT)

    found = summary.read_left_out(str(tmp_path))

    assert (found.video_ids, found.origins) == (left_out.video_ids, left_out.origins)
    np.testing.assert_array_equal(found.mean_ap, left_out.mean_ap)
