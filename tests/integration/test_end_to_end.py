"""Media files in, a report out: all five jobs through their commands, on real media."""

import base64
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sklearn.metrics

from evaluation import compare, evaluate, score_videos, soundtrack, tag
from evaluation.paper import figure1, figure2
from evaluation.scoring.shard import read_vectors, vectors
from features.contracts.documents import Metrics
from features.contracts.folders import read_document
from features.contracts.labels import read_vocabulary
from features.errors import InputError
from features.fingerprint import fingerprint
from features.ranking import d_prime
from pipelines import (
    audit_features,
    band_statistics,
    extract_embeddings,
    extract_features,
    plan,
    prepare_dataset,
)
from pipelines.cost import network_speed
from pipelines.cost.prediction import Prediction
from tests.conftest import TONES, Corpus
from training import train


@pytest.fixture(scope="module")
def folders(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """dataset, features, run, scores and report, made one after the other."""
    root = tmp_path_factory.mktemp("end_to_end")
    small = ["--batch-size=16", "--learning-rate=3e-4", "--set=width=0.2"]
    commands = (
        (prepare_dataset, "dataset", ["--manifest", str(corpus.manifest)]),
        (extract_features, "features", ["--dataset", f"{root}/dataset"]),
        (
            train,
            "run",
            ["fully_connected", "--features", f"{root}/features", "--steps=150", *small],
        ),
        (
            score_videos,
            "scores",
            ["--features", f"{root}/features", "--run", f"{root}/run", "--frame-scores"],
        ),
        (evaluate, "report", ["--scores", f"{root}/scores"]),
    )
    for job, output, flags in commands:
        assert job.main([*flags, "--output", f"{root}/{output}"]) == 0
    return root


def test_a_dry_run_of_any_job_writes_nothing(folders: Path, tmp_path: Path) -> None:
    features, scores, run = (f"{folders}/{name}" for name in ("features", "scores", "run"))
    jobs = (
        (prepare_dataset, ["--manifest", f"{folders}/dataset/dry.csv"]),
        (extract_features, ["--dataset", f"{folders}/dataset"]),
        (extract_embeddings, ["--features", features, "--run", run]),
        (score_videos, ["--features", features, "--run", run]),
        (score_videos, ["--from-media", f"{folders}/dataset", "--run", run]),
        (evaluate, ["--scores", scores]),
        (compare, [scores, scores]),
        (audit_features, ["--features", features]),
        (band_statistics, ["--features", features]),
    )
    (folders / "dataset" / "dry.csv").write_text("id,uri,labels,split\na,a.wav,x,train\n")
    before = {path: path.stat().st_mtime_ns for path in folders.rglob("*")}

    for job, flags in jobs:
        output = [] if flags == ["--features", features] else ["--output", f"{tmp_path}/new/output"]
        with pytest.raises(SystemExit) as left:
            job.main([*flags, *output, "--dry-run"])
        assert left.value.code == 0
        assert list(tmp_path.iterdir()) == [], job.__name__
        assert {path: path.stat().st_mtime_ns for path in folders.rglob("*")} == before


def read_scores(folder: Path, kind: str) -> dict[str, Any]:
    tables = [
        pq.read_table(path) for path in sorted(folder.glob(f"evaluation/all/{kind}-*.parquet"))
    ]
    columns: dict[str, Any] = {
        "scores": np.concatenate([read_vectors(t["scores"]) for t in tables])
    }
    for name in set(tables[0].column_names) - {"scores"}:
        columns[name] = [value for table in tables for value in table[name].to_pylist()]
    return columns


def test_metrics_are_those_of_scikit_learn(folders: Path) -> None:
    scores = read_scores(folders / "scores", "scores")
    document = read_document(str(folders / "report"), Metrics)
    per_class = pq.read_table(folders / "report" / "per_class.parquet").to_pylist()
    names = read_vocabulary(str(folders / "scores")).names
    truth = np.zeros(scores["scores"].shape, bool)
    for row, labels in enumerate(scores["labels"]):
        truth[row, labels] = True

    aucs, aps = [], []
    for label, row in enumerate(per_class):
        aucs.append(sklearn.metrics.roc_auc_score(truth[:, label], scores["scores"][:, label]))
        aps.append(
            sklearn.metrics.average_precision_score(truth[:, label], scores["scores"][:, label])
        )
        assert row["name"] == names[label]
        assert row["auc"] == pytest.approx(aucs[-1], abs=1e-12)
        assert row["ap"] == pytest.approx(aps[-1], abs=1e-12)
    assert document.mean_auc == pytest.approx(np.mean(aucs), abs=1e-12)
    assert document.mean_ap == pytest.approx(np.mean(aps), abs=1e-12)
    assert document.prior_mean_ap == pytest.approx(truth.mean(), abs=1e-12)
    top = scores["scores"].argmax(axis=1)
    assert document.accuracy_1best == np.mean(truth[np.arange(len(top)), top])
    if np.mean(aucs) < 1:
        assert document.d_prime == pytest.approx(d_prime(np.mean(aucs)))


def test_the_network_has_learned_the_tones(folders: Path) -> None:
    document = read_document(str(folders / "report"), Metrics)

    assert document.mean_ap > document.prior_mean_ap + 0.2


def test_video_scores_are_means_of_frame_scores(folders: Path) -> None:
    videos = read_scores(folders / "scores", "scores")
    frames = read_scores(folders / "scores", "frames")

    frame_ids = np.array(frames["video_id"])
    for row, video_id in enumerate(videos["video_id"]):
        own = frame_ids == video_id
        assert videos["num_patches"][row] == own.sum()
        np.testing.assert_allclose(
            videos["scores"][row], frames["scores"][own].mean(axis=0), atol=1e-6
        )


def test_coverage_counts_the_rejected_soundtrack(folders: Path) -> None:
    document = read_document(str(folders / "report"), Metrics)

    assert document.num_videos_expected == document.num_videos + document.num_missing
    assert document.num_missing == 1  # absent.wav


def test_page_shows_the_metrics(folders: Path) -> None:
    document = read_document(str(folders / "report"), Metrics)

    page = (folders / "report" / "report.html").read_text()

    for name in ("mean_ap", "prior_mean_ap", "mean_auc", "accuracy_1best"):
        assert f"{getattr(document, name):.3f}" in page


def test_jobs_that_are_finished_keep_their_work(folders: Path) -> None:
    scored = {path: path.stat().st_mtime_ns for path in folders.glob("scores/*/*/*")}
    before = json.loads((folders / "scores" / "scores.json").read_text())
    flags = ["--features", f"{folders}/features", "--run", f"{folders}/run", "--frame-scores"]

    assert score_videos.main([*flags, "--output", f"{folders}/scores"]) == 0

    assert {path: path.stat().st_mtime_ns for path in folders.glob("scores/*/*/*")} == scored
    after = json.loads((folders / "scores" / "scores.json").read_text())
    assert after["num_patches"] == before["num_patches"]


def test_folders_that_do_not_belong_together_are_refused(folders: Path, tmp_path: Path) -> None:
    flags = ["--run", f"{folders}/run", "--output", f"{tmp_path}/scores"]
    other = tmp_path / "float16"
    extract_features.main(
        ["--dataset", f"{folders}/dataset", "--output", str(other), "--patch-dtype=float16"]
    )

    with pytest.raises(InputError, match=r"front_end_fingerprint is '\w+', expected '\w+'"):
        score_videos.main(["--features", str(other), *flags])
    with pytest.raises(InputError, match="--split: received 'dev'"):
        score_videos.main(["--features", f"{folders}/features", "--split=dev", *flags])
    with pytest.raises(InputError, match=r"has no scores\.json"):
        evaluate.main(["--scores", str(tmp_path), "--output", f"{tmp_path}/report"])


def test_labels_of_another_data_set_are_refused(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "scores", tmp_path / "scores")
    manifest = tmp_path / "m.csv"
    manifest.write_text("id,uri,labels\na,a.wav,Other\n")
    prepare_dataset.main(["--manifest", str(manifest), "--output", f"{tmp_path}/other"])
    shutil.copy(tmp_path / "other" / "labels.parquet", tmp_path / "scores" / "labels.parquet")

    with pytest.raises(InputError, match="vocabulary fingerprint"):
        evaluate.main(["--scores", f"{tmp_path}/scores", "--output", f"{tmp_path}/report"])


def test_training_videos_can_be_scored_too(folders: Path, tmp_path: Path) -> None:
    """Their patches are permuted."""
    flags = ["--features", f"{folders}/features", "--run", f"{folders}/run", "--split=train"]
    score_videos.main([*flags, "--frame-scores", "--output", str(tmp_path)])

    videos = [pq.read_table(path) for path in tmp_path.glob("train/all/scores-*.parquet")]
    frames = [pq.read_table(path) for path in tmp_path.glob("train/all/frames-*.parquet")]
    ids = [video_id for table in videos for video_id in table["video_id"].to_pylist()]
    frame_ids = np.array(
        [video_id for table in frames for video_id in table["video_id"].to_pylist()]
    )
    scores = np.concatenate([read_vectors(table["scores"]) for table in videos])
    frame_scores = np.concatenate([read_vectors(table["scores"]) for table in frames])
    assert len(ids) == len(set(ids)) == 7
    for video_id, own in zip(ids, scores, strict=True):
        mean = frame_scores[frame_ids == video_id].mean(axis=0)
        np.testing.assert_allclose(own, mean, atol=1e-6)


def test_inputs_are_never_outputs(folders: Path) -> None:
    flags = ["--features", f"{folders}/features", "--run", f"{folders}/run"]

    with pytest.raises(InputError, match="is an input of this job"):
        score_videos.main([*flags, "--output", f"{folders}/features/"])
    with pytest.raises(InputError, match=r"holds the dataset\.json"):
        score_videos.main([*flags, "--output", f"{folders}/dataset"])


def test_soundtrack_of_scores_without_frames_is_refused(folders: Path, tmp_path: Path) -> None:
    flags = ["--features", f"{folders}/features", "--run", f"{folders}/run"]
    score_videos.main([*flags, "--output", f"{tmp_path}/scores"])

    evaluate.main(
        ["--scores", f"{tmp_path}/scores", "--output", f"{tmp_path}/report", "--examples=0"]
    )
    with pytest.raises(InputError, match="score with --frame-scores"):
        evaluate.main(
            ["--scores", f"{tmp_path}/scores", "--output", f"{tmp_path}/r", "--soundtrack=x"]
        )


def test_example_soundtracks_have_pages_that_the_report_links_to(folders: Path) -> None:
    report = (folders / "report" / "report.html").read_text()

    pages = {path.name: path.read_text() for path in folders.glob("report/soundtracks/*.html")}
    assert set(re.findall(r'href="soundtracks/(\w+\.html)"', report)) == set(pages)
    assert pages
    examples = pq.read_table(folders / "report" / "examples.parquet").to_pylist()
    ids = {row[kind] for row in examples for kind in ("hit", "miss", "false_alarm")}
    for name, page in pages.items():
        title = re.search("<title>Soundtrack: (.*)</title>", page)
        assert title is not None
        assert title[1] in ids
        assert name == f"{fingerprint(title[1])}.html"
    assert all("data:audio/webm;base64," in page for page in [report, *pages.values()])


def test_any_video_gets_a_page_with_its_sound(folders: Path, tmp_path: Path) -> None:
    scores = read_scores(folders / "scores", "scores")
    video_id = scores["video_id"][0]
    flags = ["--scores", f"{folders}/scores", "--video", video_id]

    assert soundtrack.main([*flags, "--output", f"{tmp_path}/page.html"]) == 0
    assert figure2.main([*flags, "--output", f"{tmp_path}/figure.pdf"]) == 0
    assert (
        figure1.main(["--report", f"{folders}/report", "--output", f"{tmp_path}/figure.png"]) == 0
    )

    page = (tmp_path / "page.html").read_text()
    content = re.search(r"data:audio/webm;base64,([\w+/=]+)", page)
    assert content is not None
    with av.open(io.BytesIO(base64.b64decode(content[1]))) as container:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    # The tones of its labels, and no other, stand out in what the page plays.
    spectrum = np.abs(np.fft.rfft(sound[4_800:]))
    level = {
        name: spectrum[round(hertz * (len(sound) - 4_800) / 48_000) + np.arange(-3, 4)].max()
        for name, hertz in TONES.items()
    }
    names = read_vocabulary(str(folders / "scores")).names
    own = {names[label] for label in scores["labels"][0]}
    assert min(level[name] for name in own) > 3 * max(
        (level[name] for name in TONES.keys() - own), default=0
    )
    with pytest.raises(InputError, match="has no frame scores of the video 'absent'"):
        soundtrack.main(
            ["--scores", f"{folders}/scores", "--video=absent", f"--output={tmp_path}/x.html"]
        )


def test_pages_without_features_that_no_longer_exist(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = json.loads((folders / "scores" / "scores.json").read_text())
    shutil.copytree(folders / "scores", tmp_path / "scores")
    scores["features"] = f"{tmp_path}/absent"
    (tmp_path / "scores" / "scores.json").write_text(json.dumps(scores))

    evaluate.main(["--scores", f"{tmp_path}/scores", "--output", f"{tmp_path}/report"])

    assert "the report shows no soundtrack" in capsys.readouterr().err
    page = (tmp_path / "report" / "report.html").read_text()
    assert "worst miss" in page
    assert "data:audio" not in page
    assert not (tmp_path / "report" / "soundtracks").exists()


def test_any_file_gets_a_page(
    folders: Path, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = sorted(corpus.manifest.parent.glob("clip-*.mp4"))[0]
    flags = ["--run", f"{folders}/run", "--html", f"{tmp_path}/page.html"]

    assert tag.main([str(file), *flags]) == 0

    assert "wrote" in capsys.readouterr().out
    page = (tmp_path / "page.html").read_text()
    assert all(name in page for name in TONES)
    assert "data:audio/webm;base64," in page
    with pytest.raises(InputError, match="--html: a page is of one FILE; received 2"):
        tag.main([str(file), str(file), *flags])


WAREHOUSES = (Path(__file__).parents[2] / "docs" / "warehouses.md").read_text()
# BigQuery's conversions of Parquet types, as far as its documentation lists them for these files:
# physical type, logical type -> type of the table. Nothing else is loadable.
CONVERSIONS = {
    ("INT32", "NONE"): "INT64",
    ("INT64", "NONE"): "INT64",
    ("FLOAT", "NONE"): "FLOAT64",
    ("DOUBLE", "NONE"): "FLOAT64",
    ("BYTE_ARRAY", "STRING"): "STRING",
}


def bigquery_columns(path: Path) -> str:
    """Name and BigQuery's type of each column, with inference of lists."""
    schema = pq.ParquetFile(path).schema
    found = []
    for index in range(len(schema)):
        column = schema.column(index)
        kind = CONVERSIONS[column.physical_type, column.logical_type.type]
        # Lists of three levels, the middle one `list` and the last `element`.
        name = column.path.removesuffix(".list.element")
        found.append(f"{name} {kind if name == column.path else f'ARRAY<{kind}>'}")
        assert "." not in name
        assert column.max_repetition_level == int(name != column.path)
    return ", ".join(found)


def test_tables_have_the_types_that_bigquery_loads(folders: Path) -> None:
    section = WAREHOUSES.split("<!-- types -->")[1]
    table = dict(re.findall(r"^\| `(.*?)` \| (.*?) \|$", section, re.MULTILINE))

    assert len(table) == 7
    for pattern, columns in table.items():
        # One load of all files needs the same columns in the same places.
        assert {bigquery_columns(path) for path in folders.glob(pattern)} == {columns}, pattern


def test_scores_in_float16_are_not_among_the_types(tmp_path: Path) -> None:
    table = pa.table({"scores": vectors(np.zeros((2, 3)), "float16")})
    pq.write_table(table, tmp_path / "scores.parquet")

    with pytest.raises(KeyError, match="FLOAT16"):
        bigquery_columns(tmp_path / "scores.parquet")


def test_queries_of_the_page(
    folders: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    duckdb = pytest.importorskip("duckdb")
    for name in ("dataset", "scores", "report"):
        (tmp_path / name).symlink_to(folders / name)
    shutil.copy(corpus.manifest, tmp_path)
    rejects = pa.concat_tables(map(pq.read_table, folders.glob("features/rejects/*.parquet")))
    (tmp_path / "features" / "rejects").mkdir(parents=True)
    remote = [("gs://bucket/a/b.mp4", "x"), ("https://host.org/c", "x"), ("gs://bucket/d", "x")]
    rows = [{"id": uri, "uri": uri, "reason": why, "detail": ""} for uri, why in remote]
    rejects = pa.concat_tables([rejects, pa.Table.from_pylist(rows, rejects.schema)])
    pq.write_table(rejects, tmp_path / "features" / "rejects" / "rejects-00.parquet")
    monkeypatch.chdir(tmp_path)
    likeliest, worst, by_host = (
        duckdb.sql(query).fetchall() for query in re.findall(r"```sql\n(.*?)```", WAREHOUSES, re.S)
    )

    scores = read_scores(folders / "scores", "scores")
    names = read_vocabulary(str(folders / "scores")).names
    expected = [
        (video, names[label], pytest.approx(values[label]))
        for video, values in zip(scores["video_id"], scores["scores"], strict=True)
        for label in sorted(range(len(names)), key=lambda label: (-values[label], label))[:3]
    ]
    found = [(video, name, score) for video, _, _, name, score in likeliest]
    assert found == sorted(expected, key=lambda row: row[0])
    assert {uri for _, uri, *_ in likeliest} == {video for video, *_ in likeliest}  # as written

    per_class = pq.read_table(folders / "report" / "per_class.parquet").to_pylist()
    per_class.sort(key=lambda row: (row["ap"], row["label_id"]))
    assert [(name, positives) for _, name, positives, _ in worst] == [
        (row["name"], row["positives"]) for row in per_class
    ]
    assert [ap for *_, ap in worst] == pytest.approx([row["ap"] for row in per_class], abs=1e-12)

    assert by_host == [
        ("bucket", "x", 2),
        ("disk", "corrupt", 1),
        ("disk", "not_found", 1),
        ("host.org", "x", 1),
    ]


def test_scoring_is_predicted_from_the_network_on_this_machine(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("features", "run"):
        (tmp_path / name).symlink_to(folders / name)
    shutil.copytree(folders / "dataset", tmp_path / "dataset")
    scores = json.loads((folders / "scores" / "scores.json").read_text())
    scores["dataset"] = f"{tmp_path}/dataset"
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "scores.json").write_text(json.dumps(scores))
    command = ["--dataset", f"{tmp_path}/dataset", "--run", f"{tmp_path}/run", "--sample", "60"]
    training = ["--train", "vgg", "--train-precision", "bfloat16", "--steps", "1000"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network_speed, "_LEAST_SECONDS", 0.2)
        assert plan.main([*command, *training]) == 0
    printed = capsys.readouterr().out
    assert plan.main(["--actual", f"{tmp_path}/scores"]) == 0
    compared = capsys.readouterr().out

    assert all(len(line) <= 80 for line in (printed + compared).splitlines())
    predicted = read_document(f"{tmp_path}/dataset", Prediction)
    scoring, trained = predicted.scoring, predicted.training
    assert scoring is not None
    assert trained is not None
    # Every video was sampled, so the patches of the split are known.
    assert scoring.num_patches == pytest.approx([scores["num_patches"]] * 3)
    assert scoring.num_bytes == (4 * len(TONES) * scores["num_videos"],) * 3
    assert scoring.speed.network == "fully_connected"
    assert scoring.speed.width == 0.2
    assert scoring.model_fingerprint == scores["model_fingerprint"]
    seconds = scores["num_patches"] / scoring.speed.patches_per_second + scoring.load_seconds
    assert scoring.device_seconds[1] == pytest.approx(seconds)
    assert scores["work"]["num_patches"] == scores["num_patches"]
    assert scores["work"]["cpu_seconds"] > 0
    assert trained.num_patches == (128_000,) * 3
    assert trained.device_seconds[1] == pytest.approx(128_000 / 22.4)
    lines = [line.split()[0] for line in compared.splitlines()[1:]]
    assert lines == ["CPU,", "patches", "wall"]

    scores["split"] = "validation"
    (tmp_path / "scores" / "scores.json").write_text(json.dumps(scores))
    with pytest.raises(InputError, match="split is 'validation', expected 'evaluation'; predict"):
        plan.main(["--actual", f"{tmp_path}/scores"])
