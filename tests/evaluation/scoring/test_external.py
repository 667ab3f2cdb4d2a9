"""Scores of other models, through the commands, against scikit-learn."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.special
import sklearn.metrics

from evaluation import compare, evaluate
from features.errors import InputError
from features.ranking import d_prime

LABELS = [f"label {index}" for index in range(8)]
NUM_VIDEOS = 120


def make_tables(seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """Scores, labels, and the truth [videos, labels]."""
    rng = np.random.default_rng(seed)
    truth = rng.random((NUM_VIDEOS, len(LABELS))) < np.geomspace(0.4, 0.05, len(LABELS))
    scores = np.round(rng.normal(size=truth.shape) + truth, 2).astype(np.float32)
    ids = [f"video {index:03d}" for index in range(NUM_VIDEOS)]
    table = pd.DataFrame(scores, columns=LABELS)
    table.insert(0, "id", ids)
    own = [[LABELS[label] for label in np.flatnonzero(row)] for row in truth]
    return table, pd.DataFrame({"id": ids, "labels": own}), truth


def write(folder: Path, scores: pd.DataFrame, labels: pd.DataFrame) -> list[str]:
    scores.to_parquet(folder / "scores.parquet")
    labels.assign(labels=[";".join(own) for own in labels["labels"]]).to_csv(
        folder / "labels.csv", index=False
    )
    return [f"--scores-file={folder}/scores.parquet", f"--labels-file={folder}/labels.csv"]


def run(folder: Path, flags: list[str]) -> dict[str, Any]:
    assert evaluate.main([*flags, f"--output={folder}/report"]) == 0
    return json.loads((folder / "report" / "metrics.json").read_text())


def test_metrics_are_those_of_scikit_learn(tmp_path: Path, capsys) -> None:
    scores, labels, truth = make_tables()
    values = scores[LABELS].to_numpy()

    document = run(tmp_path, write(tmp_path, scores, labels))

    auc = sklearn.metrics.roc_auc_score(truth, values, average=None)
    ap = sklearn.metrics.average_precision_score(truth, values, average=None)
    table = pq.read_table(tmp_path / "report" / "per_class.parquet").to_pylist()
    for row in table:
        place = LABELS.index(row["label_id"])
        assert row["auc"] == pytest.approx(auc[place], abs=1e-9)
        assert row["ap"] == pytest.approx(ap[place], abs=1e-9)
    assert [row["positives"] for row in table] == sorted(truth.sum(axis=0), reverse=True)
    assert document["mean_auc"] == pytest.approx(auc.mean(), abs=1e-9)
    assert document["mean_ap"] == pytest.approx(ap.mean(), abs=1e-9)
    assert document["d_prime"] == pytest.approx(d_prime(auc.mean()), abs=1e-9)
    assert document["mean_class_d_prime"] == pytest.approx(d_prime(auc).mean(), abs=1e-9)
    top = values.argmax(axis=1)
    labelled = truth.any(axis=1)
    assert 0 < labelled.sum() < NUM_VIDEOS
    assert document["num_unlabelled"] == (~labelled).sum()
    assert document["num_labelled"] == labelled.sum()
    assert document["accuracy_1best"] == truth[np.arange(len(top)), top][labelled].mean()
    for name in ("mean_auc", "mean_ap", "d_prime"):
        low, high = document["intervals"][name]
        assert low < document[name] < high
    assert document["intervals"]["num_videos_left_out"] == NUM_VIDEOS
    shown = capsys.readouterr().out.splitlines()
    assert all("120 of 120 videos" in line for line in shown[:3])
    assert f"{labelled.sum()} of 120 videos" in shown[3]


def test_csv_with_ids_that_are_numbers_and_lists_of_labels(tmp_path: Path) -> None:
    scores, labels, truth = make_tables()
    for table in (scores, labels):
        table["id"] = range(NUM_VIDEOS)
    scores.to_csv(tmp_path / "scores.csv", index=False)
    pq.write_table(pa.Table.from_pandas(labels), tmp_path / "labels.parquet")
    flags = [f"--scores-file={tmp_path}/scores.csv", f"--labels-file={tmp_path}/labels.parquet"]

    document = run(tmp_path, flags)

    ap = sklearn.metrics.average_precision_score(truth, scores[LABELS].to_numpy())
    assert document["mean_ap"] == pytest.approx(ap, abs=1e-9)


def test_only_the_most_frequent_labels(tmp_path: Path) -> None:
    scores, labels, truth = make_tables()
    frequent = np.argsort(-truth.sum(axis=0), kind="stable")[:3]

    document = run(tmp_path, [*write(tmp_path, scores, labels), "--labels=3"])

    values = scores[LABELS].to_numpy()[:, frequent]
    auc = sklearn.metrics.roc_auc_score(truth[:, frequent], values)
    assert document["num_labels"] == 3
    assert document["mean_auc"] == pytest.approx(auc, abs=1e-9)
    top = frequent[values.argmax(axis=1)]
    labelled = truth[:, frequent].any(axis=1)
    assert document["accuracy_1best"] == truth[np.arange(len(top)), top][labelled].mean()


def test_missing_videos_are_counted_beside_every_metric(tmp_path: Path, capsys) -> None:
    scores, labels, _ = make_tables()

    document = run(tmp_path, write(tmp_path, scores.drop([7, 30]), labels))

    assert (document["num_videos"], document["num_videos_expected"]) == (118, 120)
    assert document["missing"] == {"no_score": 2}
    table = pq.read_table(tmp_path / "report" / "missing.parquet").to_pylist()
    assert [row["video_id"] for row in table] == ["video 007", "video 030"]
    shown = capsys.readouterr().out.splitlines()
    assert all("118 of 120 videos" in line for line in shown[:3])
    assert "of 118 videos" in shown[3]
    assert "2 no_score" in shown[6]


def test_classes_without_metrics_are_listed_with_the_reason(tmp_path: Path) -> None:
    scores, labels, _ = make_tables()
    kept = [[LABELS[0], *(set(own) - {LABELS[0], LABELS[3]})] for own in labels["labels"]]

    document = run(tmp_path, write(tmp_path, scores, labels.assign(labels=kept)))

    reasons = {row["name"]: row["reason"] for row in document["undefined_classes"]}
    assert reasons == {LABELS[0]: "no negative", LABELS[3]: "no positive"}
    assert document["num_classes_evaluated"] == 6


def spoil(scores: pd.DataFrame, labels: pd.DataFrame, how: str) -> tuple[Any, Any]:
    if how == "two values":
        return scores.assign(**{LABELS[2]: (scores[LABELS[2]] > 0).astype(float)}), labels
    if how == "nan":
        scores.loc[4, LABELS[1]] = np.nan
    if how == "infinite":
        scores.loc[4, LABELS[1]] = np.inf
    if how == "no column":
        scores = scores.drop(columns=LABELS[5])
    if how == "no label row":
        labels = labels.drop(9)
    if how == "twice":
        scores = pd.concat([scores, scores.iloc[[3]]])
    if how == "words":
        scores[LABELS[1]] = "high"
    if how == "no id":
        scores = scores.rename(columns={"id": "video"})
    if how == "no labels column":
        labels = labels.rename(columns={"id": "video"})
    return scores, labels


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("two values", r"'label 2' \(0, 1\); AUC and AP .* --allow-two-values"),
        ("nan", "score of video 'video 004' for label 'label 1' is nan"),
        ("infinite", "score of video 'video 004' for label 'label 1' is inf"),
        ("no column", "1 labels have no column of scores: 'label 5'; score them"),
        ("no label row", "'video 009' have no row in --labels-file; give every"),
        ("twice", "column id: 'video 003' occurs twice"),
        ("words", "column 'label 1' is of .*string, expected numbers"),
        ("no id", "no column 'id'; it has 'video'"),
        ("no labels column", "no column 'id'; it has 'video', 'labels'; rename"),
    ],
)
def test_what_has_no_meaning_is_refused(tmp_path: Path, how: str, message: str) -> None:
    scores, labels, _ = make_tables()

    flags = write(tmp_path, *spoil(scores, labels, how))

    with pytest.raises(InputError, match=message):
        evaluate.main([*flags, f"--output={tmp_path}/report"])
    assert not (tmp_path / "report" / "metrics.json").exists()


def test_decisions_are_taken_where_they_are_wanted(tmp_path: Path) -> None:
    scores, labels, truth = make_tables()
    flags = write(tmp_path, *spoil(scores, labels, "two values"))

    run(tmp_path, [*flags, "--allow-two-values"])

    table = pq.read_table(tmp_path / "report" / "per_class.parquet").to_pylist()
    ap = next(row["ap"] for row in table if row["label_id"] == LABELS[2])
    expected = sklearn.metrics.average_precision_score(truth[:, 2], scores[LABELS[2]] > 0)
    assert ap == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ["absent.parquet", "text.parquet", "text.csv"])
def test_files_that_cannot_be_read_are_refused(tmp_path: Path, name: str) -> None:
    scores, labels, _ = make_tables()
    flags = write(tmp_path, scores, labels)
    (tmp_path / "text.parquet").write_text("no table")
    (tmp_path / "text.csv").write_text("")

    with pytest.raises(InputError, match=f"--scores-file .*{name}: "):
        evaluate.main([f"--scores-file={tmp_path}/{name}", flags[1], f"--output={tmp_path}/report"])


def test_flags_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="with --labels-file"):
        evaluate.main([f"--scores-file={tmp_path}/s.csv", f"--output={tmp_path}/report"])
    with pytest.raises(InputError, match="--labels-file goes with --scores-file"):
        evaluate.main(
            [f"--scores={tmp_path}", "--labels-file=l.csv", f"--output={tmp_path}/report"]
        )


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders a and b: b is a with noise, without some videos and labels, in another order."""
    root = tmp_path_factory.mktemp("two_runs")
    scores, labels, _ = make_tables()
    noise = np.random.default_rng(9).normal(size=(NUM_VIDEOS, len(LABELS)))
    other = scores.copy()
    other[LABELS] = scores[LABELS] + noise.astype(np.float32)
    kept = labels.assign(
        labels=[[label for label in own if label != LABELS[4]] for own in labels.labels]
    )
    other = other.drop(columns=LABELS[4]).drop(range(10))[["id", *reversed(LABELS[:4]),
                                                          *LABELS[5:]]]  # fmt: skip
    for name, tables in (("a", (scores, labels)), ("b", (other, kept.drop(range(10))))):
        (root / name).mkdir()
        run(root / name, write(root / name, *tables))
    return root


def test_comparison_is_of_what_both_have(two_runs: Path, tmp_path: Path, capsys) -> None:
    folders = [f"{two_runs}/{name}/report/scores" for name in "ab"]
    common = [label for label in LABELS if label != LABELS[4]]
    truth = make_tables()[2][10:, [LABELS.index(label) for label in common]]

    assert compare.main([*folders, f"--output={tmp_path}/out"]) == 0

    document = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert (document["num_videos"], document["num_videos_only_a"]) == (110, 10)
    assert (document["num_labels"], document["num_labels_only_a"]) == (7, 1)
    for name in "ab":
        values = pd.read_parquet(two_runs / name / "scores.parquet").set_index("id")
        values = values.loc[[f"video {row:03d}" for row in range(10, 120)], common].to_numpy()
        ap = sklearn.metrics.average_precision_score(truth, values)
        auc = sklearn.metrics.roc_auc_score(truth, values)
        assert document[name]["mean_ap"] == pytest.approx(ap, abs=1e-9)
        assert document[name]["mean_auc"] == pytest.approx(auc, abs=1e-9)
        assert document[name]["d_prime"] == pytest.approx(d_prime(auc), abs=1e-9)
    for field, difference in document["difference"].items():
        assert difference == document["a"][field] - document["b"][field]
        low, high = document["intervals"][field]
        assert low < difference < high
    assert document["intervals"]["mean_ap"][0] > 0  # so much noise is no chance
    assert "110 videos in both, 10 only in A, 0 only in B" in capsys.readouterr().out


def test_a_run_does_not_differ_from_itself(two_runs: Path, tmp_path: Path) -> None:
    folder = f"{two_runs}/a/report/scores"

    compare.main([folder, folder, f"--output={tmp_path}/out"])

    document = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert document["difference"] == {"mean_auc": 0.0, "d_prime": 0.0, "mean_ap": 0.0}
    assert document["intervals"]["mean_ap"] == [0.0, 0.0]


def test_runs_with_nothing_in_common_are_refused(two_runs: Path, tmp_path: Path) -> None:
    scores, labels, _ = make_tables()
    for table in (scores, labels):
        table["id"] = [f"other {row}" for row in range(NUM_VIDEOS)]
    run(tmp_path, write(tmp_path, scores, labels))
    folders = [f"{two_runs}/a/report/scores", f"{tmp_path}/report/scores"]

    with pytest.raises(InputError, match="have no video in common"):
        compare.main([*folders, f"--output={tmp_path}/out"])


def test_a_file_of_other_scores_is_refused(two_runs: Path, tmp_path: Path) -> None:
    scores, labels, _ = make_tables()
    run(tmp_path, write(tmp_path, scores, labels))
    (path,) = (tmp_path / "report" / "scores").glob("evaluation/all/scores-*.parquet")
    (other,) = (two_runs / "b" / "report" / "scores").glob("evaluation/all/scores-*.parquet")
    path.write_bytes(other.read_bytes())

    with pytest.raises(InputError, match=r"scores-.*parquet: vocabulary fingerprint is '\w+', exp"):
        evaluate.main([f"--scores={tmp_path}/report/scores", f"--output={tmp_path}/again"])


def test_intervals_are_by_the_groups_of_the_videos(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Videos of a group have the same scores and labels, and so count as one video."""
    scores, labels, _ = make_tables()
    group = np.arange(NUM_VIDEOS) // 2 * 2
    scores[LABELS] = scores[LABELS].to_numpy()[group]
    labels["labels"] = labels["labels"].to_numpy()[group]
    labels["group"] = [f"uploader {name}" if name else "" for name in group]
    flags = write(tmp_path, scores, labels)

    by_origin = run(tmp_path, flags)["intervals"]
    shown = capsys.readouterr().out
    by_video = run(tmp_path, [*flags, "--interval-by=video"])["intervals"]

    assert (by_origin["by"], by_origin["num_origins"], by_origin["num_without_origin"]) == (
        "origin", NUM_VIDEOS // 2 + 1, 2,
    )  # fmt: skip
    assert f"by origin: {NUM_VIDEOS // 2 + 1} origins; 2 videos without an origin" in shown
    assert "by" not in by_video
    widths = [np.diff(scipy.special.logit(found["mean_ap"]))[0] for found in (by_origin, by_video)]
    assert widths[0] / widths[1] == pytest.approx(2**0.5, rel=0.05)


def test_few_origins_are_warned_of_and_none_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores, labels, _ = make_tables()
    labels["group"] = [f"uploader {row % 40}" for row in range(NUM_VIDEOS)]

    run(tmp_path, write(tmp_path, scores, labels))

    assert "40 origins are too few for reliable intervals" in capsys.readouterr().out
    assert "40 origins are too few" in (tmp_path / "report" / "report.html").read_text()
    flags = write(tmp_path, scores, labels.drop(columns="group"))
    with pytest.raises(InputError, match=r"--interval-by origin: no video of .* has an origin"):
        run(tmp_path, [*flags, "--interval-by=origin"])
