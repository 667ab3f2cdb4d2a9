"""The summary of an evaluation, from a measurement in memory."""

import json

import numpy as np
import pytest
import sklearn.metrics

from evaluation.metrics import summary
from evaluation.metrics.selection import SelectedScores, open_scores
from evaluation.metrics.summary import EvaluationRequest
from features import ranking
from features.contracts.documents import Metrics
from features.errors import InputError
from tests.evaluation.metrics.scores import (
    MADE_BY,
    make_scores,
    make_vocabulary,
    measure,
    write_folder,
)

MISSING = (("video 060", "corrupt"), ("video 061", "timeout"), ("video 062", "corrupt"))


@pytest.fixture(scope="module")
def selected(tmp_path_factory: pytest.TempPathFactory) -> SelectedScores:
    scores, truth = make_scores(63, 5)
    return open_scores(
        write_folder(tmp_path_factory.mktemp("summary"), scores[:60], truth), flag="--scores"
    )


def summarise(selected: SelectedScores, scores: np.ndarray, truth: np.ndarray) -> Metrics:

    request = EvaluationRequest(MADE_BY, selected, None, allow_two_values=False, output="")
    return summary.summarise(measure(scores, truth, MISSING), request)


def test_means_are_over_the_classes_that_have_metrics(selected: SelectedScores) -> None:
    scores, truth = make_scores(60, 5)
    truth[:, 1], truth[:, 3] = False, True

    metrics = summarise(selected, scores, truth)

    kept = [0, 2, 4]
    auc = sklearn.metrics.roc_auc_score(truth[:, kept], scores[:, kept])
    ap = sklearn.metrics.average_precision_score(truth[:, kept], scores[:, kept])
    assert metrics.mean_auc == pytest.approx(auc, abs=1e-12)
    assert metrics.d_prime == pytest.approx(float(ranking.d_prime(auc)))
    assert metrics.mean_ap == pytest.approx(ap, abs=1e-12)
    assert metrics.prior_mean_ap == pytest.approx(truth[:, kept].mean())
    assert metrics.num_classes_evaluated == 3
    reasons = [(undefined.label, undefined.reason) for undefined in metrics.undefined_classes]
    assert reasons == [(1, "no positive"), (3, "no negative")]
    assert metrics.intervals.mean_ap is not None
    assert metrics.intervals.mean_ap[0] < metrics.mean_ap < metrics.intervals.mean_ap[1]


def test_accuracy_leaves_out_videos_without_an_evaluated_label(selected: SelectedScores) -> None:
    scores, truth = make_scores(60, 5)
    labelled = truth.any(axis=1)
    assert 0 < labelled.sum() < 60

    metrics = summarise(selected, scores, truth)

    correct = truth[np.arange(60), scores.argmax(axis=1)]
    assert metrics.accuracy_1best == correct[labelled].mean() > correct.mean()
    assert (metrics.num_labelled, metrics.num_unlabelled) == (labelled.sum(), (~labelled).sum())


def test_videos_without_scores_are_counted_by_outcome(selected: SelectedScores) -> None:
    metrics = summarise(selected, *make_scores(60, 5))

    assert (metrics.num_videos, metrics.num_videos_expected, metrics.num_missing) == (60, 63, 3)
    assert metrics.missing == {"corrupt": 2, "timeout": 1}
    assert list(metrics.missing) == ["corrupt", "timeout"]
    rows = summary.missing_table(MISSING).to_pylist()
    assert rows[1] == {"video_id": "video 061", "outcome": "timeout"}
    assert summary.missing_table(()).num_rows == 0


def test_perfect_scores_have_no_number_that_json_lacks(selected: SelectedScores) -> None:
    _, truth = make_scores(60, 5)
    scores = truth + np.random.default_rng(1).random(truth.shape, np.float32) / 2

    metrics = summarise(selected, scores.astype(np.float32), truth)

    assert (metrics.mean_auc, metrics.d_prime, metrics.mean_class_d_prime) == (1.0, None, None)
    assert metrics.num_classes_infinite_d_prime == 5
    assert metrics.intervals.mean_auc is None
    json.loads(metrics.to_json(), parse_constant=pytest.fail)
    table = summary.per_class_table(
        measure(scores.astype(np.float32), truth), make_vocabulary(truth)
    )
    assert table["d_prime"].to_pylist() == [np.inf] * 5
    assert table["effective_origins"].to_pylist() == [None] * 5  # by video


def test_a_class_has_as_many_origins_as_its_most_frequent_one_leaves_it() -> None:
    scores, _ = make_scores(40, 3)
    truth = np.zeros((40, 3), bool)
    truth[:20, 0] = truth[10:30, 1] = truth[30:32, 2] = True
    # Videos 0 to 19 are of four clips, two for each; the others are of one each, or of none.
    origins = [(f"clip {row % 2}", f"clip {2 + row % 2}") for row in range(20)]
    origins += [(f"clip {row}",) if row % 2 else () for row in range(20, 40)]

    table = summary.per_class_table(measure(scores, truth, (), origins), make_vocabulary(truth))

    assert table["effective_origins"].to_pylist() == [20 / 10, 20 / 5, 2.0]


def test_scores_after_a_threshold_are_refused_unless_allowed() -> None:
    scores, truth = make_scores(60, 5)
    scores[:, 2] = scores[:, 2] > 0
    measurement, vocabulary = measure(scores, truth), make_vocabulary(truth)

    with pytest.raises(InputError, match=r"scores of 1 of 5 labels .* 'label 2' \(0, 1\)"):
        summary.require_rankings(measurement, vocabulary, where="/s", allow_two_values=False)
    summary.require_rankings(measurement, vocabulary, where="/s", allow_two_values=True)


def test_two_videos_cannot_have_a_third_score() -> None:
    scores, truth = np.array([[0.0], [1.0]], np.float32), np.array([[False], [True]])
    summary.require_rankings(
        measure(scores, truth), make_vocabulary(truth), where="/s", allow_two_values=False
    )


def test_a_set_in_which_no_class_has_metrics_is_refused() -> None:
    scores, truth = make_scores(60, 2)
    truth[:] = [True, False]
    with pytest.raises(
        InputError, match="/s: no class has both a positive and a negative among 60"
    ):
        summary.require_rankings(
            measure(scores, truth), make_vocabulary(truth), where="/s", allow_two_values=True
        )


def test_older_reports_without_the_count_of_labelled_videos_are_read(
    selected: SelectedScores,
) -> None:
    content = json.loads(summarise(selected, *make_scores(60, 5)).to_json())
    del content["num_labelled"]
    older = Metrics.from_json(json.dumps(content), "metrics.json")
    assert older.num_labelled is None
    assert "num_labelled" not in json.loads(older.to_json())
