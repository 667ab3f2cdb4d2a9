"""Scoring of features, media, subsets and files, in float32 and float16; and uses of the scores."""

import contextlib
import dataclasses
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import sklearn.metrics
import tensorflow as tf
import yaml

from evaluation import embed as embed_media
from evaluation import evaluate, localise, quantise, score_videos, tag
from evaluation.scoring import calibration, media
from evaluation.scoring.shard import read_vectors
from features.contracts import sharding
from features.contracts.documents import (
    EmbeddingsPlan,
    Features,
    InferenceRuntime,
    Metrics,
    Quantisation,
    Scores,
    ScoreShard,
)
from features.contracts.folders import read_document, write_document
from features.contracts.labels import read_vocabulary
from features.contracts.record import PatchRecord
from features.contracts.shards import read_records, read_sidecar, write_sidecar
from features.errors import FAILED, OK, ContractError, InputError, JobFailedError
from features.storage import files
from pipelines import (
    audit_features,
    extract_embeddings,
    extract_features,
    forget,
    prepare_dataset,
)
from pipelines.forgetting.scores import forget_scores
from pipelines.runtime import inference
from tests import s3
from tests.conftest import TONES, Corpus, known_labels
from training import readme, train

SUBSET = ["--subset=2"]
# Evaluation videos -> what they were taken from; the others have no origin.
_GROUPS = {"clip-00": ["a"], "clip-03": ["a", "b"], "clip-05": ["b"], "absent": ["a"]}


@pytest.fixture(scope="module")
def folders(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """dataset, of which two groups of evaluation videos are a subset; features, run, scores."""
    root = tmp_path_factory.mktemp("scoring")
    table = pyarrow.csv.read_csv(corpus.manifest)
    uris = [str(corpus.manifest.parent / uri) for uri in table["uri"].to_pylist()]
    groups = [_GROUPS.get(video_id.partition(".")[0]) for video_id in table["id"].to_pylist()]
    table = table.set_column(1, "uri", pa.array(uris))
    pq.write_table(table.append_column("group", pa.array(groups)), root / "videos.parquet")
    prepare_dataset.main(
        ["--manifest", f"{root}/videos.parquet", known_labels(corpus.manifest),
         "--output", f"{root}/dataset", "--balanced-sets=1,2", "--examples-per-class=2"]
    )  # fmt: skip
    extract_features.main(["--dataset", f"{root}/dataset", "--output", f"{root}/features"])
    train.main(
        ["fully_connected", "--features", f"{root}/features", "--output", f"{root}/run",
         "--steps=60", "--batch-size=16", "--learning-rate=1e-3", "--set=width=0.1"]
    )  # fmt: skip
    score(root, root / "scores", "--frame-scores", "--embeddings")
    return root


def score(root: Path, output: Path, *flags: str, source: str = "--features") -> Scores:
    folder = "features" if source == "--features" else "dataset"
    source_flags = [source, f"{root}/{folder}", "--run", f"{root}/run"]
    assert score_videos.main([*source_flags, *flags, "--output", str(output)]) == OK
    return read_document(str(output), Scores)


def read(folder: Path, kind: str = "scores", column: str = "scores") -> dict[str, np.ndarray]:
    """Id -> scores [labels], or of its patches [patches, labels]."""
    rows: dict[str, list[np.ndarray]] = {}
    for path in sorted(folder.glob(f"*/*/{kind}-*.parquet")):
        table = pq.read_table(path)
        values = read_vectors(table[column])
        for video_id, row in zip(table["video_id"].to_pylist(), values, strict=True):
            rows.setdefault(video_id, []).append(row)
    return {video_id: np.squeeze(np.stack(own)) for video_id, own in rows.items()}


def report(scores: Path, output: Path, *flags: str) -> Metrics:
    assert evaluate.main(["--scores", str(scores), *flags, "--output", str(output)]) == OK
    return read_document(str(output), Metrics)


def test_media_give_the_scores_of_their_features(folders: Path, tmp_path: Path) -> None:
    expected = read_document(f"{folders}/scores", Scores)

    document = score(folders, tmp_path / "scores", "--workers=2", source="--from-media")

    for field in ("groups", "missing", "num_patches", "num_shards", "model_fingerprint"):
        assert getattr(document, field) == getattr(expected, field), field
    assert document.missing == {"not_found": 1}
    assert document.features is None
    ours, theirs = read(tmp_path / "scores"), read(folders / "scores")
    assert ours.keys() == theirs.keys()
    for video_id, own in ours.items():
        np.testing.assert_allclose(own, theirs[video_id], atol=1e-6)


def test_an_export_is_a_network_with_a_card(folders: Path, tmp_path: Path) -> None:
    flags = ["--from-media", f"{folders}/dataset", "--network", f"{folders}/run/export"]
    assert score_videos.main([*flags, "--output", f"{tmp_path}/scores"]) == OK

    expected, found = read(folders / "scores"), read(tmp_path / "scores")
    assert found.keys() == expected.keys()
    for name, scores in found.items():
        np.testing.assert_allclose(scores, expected[name], atol=1e-5)


@pytest.mark.parametrize("source", ["--features", "--from-media"])
def test_origins_of_the_manifest_reach_the_intervals(
    folders: Path, tmp_path: Path, source: str
) -> None:
    """Scores without origins, as earlier versions wrote them, get them by the same command."""
    scores = tmp_path / "scores"
    if source == "--features":
        shutil.copytree(folders / "scores", scores)
        for path in scores.glob("*/*/scores-*.json"):
            sidecar = json.loads(path.read_text())
            path.write_text(json.dumps({**sidecar, "origins": {}}))
    before = {path: path.stat().st_mtime_ns for path in scores.glob("*/*/*.parquet")}
    score(folders, scores, *["--frame-scores", "--embeddings"] * bool(before), source=source)

    assert all(path.stat().st_mtime_ns == written for path, written in before.items())
    sidecars = [json.loads(path.read_text()) for path in scores.glob("*/*/scores-*.json")]
    listed = [part.get("origins", {}).items() for part in sidecars]
    found = {name.partition(".")[0]: own for items in listed for name, own in items}
    assert found == {name: own for name, own in _GROUPS.items() if name != "absent"}
    assert read_document(str(scores), Scores).num_with_origin == 3

    intervals = report(scores, tmp_path / "report").intervals
    assert (intervals.by, intervals.num_origins, intervals.num_without_origin) == ("origin", 4, 2)
    assert report(scores, tmp_path / "report", "--interval-by=video").intervals.by == "video"


def test_an_export_without_its_run_is_enough(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "run" / "export", tmp_path / "model")
    flags = ["--features", f"{folders}/features", "--run", f"{tmp_path}/model"]

    score_videos.main([*flags, "--output", f"{tmp_path}/scores"])

    ours, theirs = read(tmp_path / "scores"), read(folders / "scores")
    assert all((own == theirs[video_id]).all() for video_id, own in ours.items())


def test_the_readme_of_an_export_gets_metrics_and_licence(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "run" / "export", tmp_path / "export")
    path = tmp_path / "export" / "README.md"
    before = path.read_text()
    assert "\nlicense: other\n" in before
    path.write_text(before.replace("---\n", "---\nlanguage: en\n", 1) + "\n## Limits\n\nOurs.\n")
    flags = [f"{tmp_path}/export", "--report", f"{tmp_path}/report", "--licence=cc-by-4.0"]
    metrics = report(folders / "scores", tmp_path / "report")

    assert readme.main(flags) == OK
    assert "d-prime" not in path.read_text()  # the AUC is 1
    metrics = dataclasses.replace(
        metrics, mean_ap=0.3141, mean_auc=0.875, d_prime=1.627, accuracy_1best=0.6
    )
    write_document(f"{tmp_path}/report", metrics)
    assert readme.main(flags) == OK  # replaces what the first wrote

    _, front, body = path.read_text().split("---\n", 2)
    found = yaml.safe_load(front)
    assert (found["license"], found["language"]) == ("cc-by-4.0", "en")
    assert found["tags"] == ["audio", "tensorflow", "saved-model"]
    (result,) = found["model-index"][0]["results"]
    assert result["dataset"]["name"] == f"{metrics.num_videos} videos of the evaluation split"
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert values == pytest.approx(
        {"mean average precision": metrics.mean_ap, "AUC": metrics.mean_auc,
         "d-prime": metrics.d_prime, "1-best accuracy": metrics.accuracy_1best},
        rel=1e-3,
    )  # fmt: skip
    sections, others = body.split("\n## "), before.split("---\n", 2)[2].split("\n## ")
    assert sections[1].startswith("Metrics\n\nOf 5 videos of the evaluation split:")
    assert f"| mean average precision | {metrics.mean_ap:.3f} |" in sections[1]
    assert [sections[0], *sections[2:]] == [others[0], *others[2:], "Limits\n\nOurs.\n"]


def test_a_readme_that_cannot_be_written_is_refused(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "run" / "export", tmp_path / "export")
    path = tmp_path / "export" / "README.md"
    before = path.read_text()
    with pytest.raises(InputError, match="nothing to write: give --report REPORT, --licence ID"):
        readme.main([f"{tmp_path}/export"])
    with pytest.raises(InputError, match="received 'Apache 2'; give an identifier"):
        readme.main([f"{tmp_path}/export", "--licence=Apache 2"])
    flags = [f"{tmp_path}/export", "--report", f"{tmp_path}/report"]
    document = report(folders / "scores", tmp_path / "report")
    fingerprints = {**document.fingerprints, "model": "other"}
    write_document(f"{tmp_path}/report", dataclasses.replace(document, fingerprints=fingerprints))
    with pytest.raises(ContractError, match=r"the model is 'other', expected .* of this network"):
        readme.main(flags)
    assert path.read_text() == before
    write_document(f"{tmp_path}/report", document)
    for text, problem in (
        (before.replace("## Metrics", "## Numbers"), "no section `## Metrics`; put the heading"),
        (before.removeprefix("---\n"), "no front matter between two lines of ---"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=problem):
            readme.main(flags)
    path.unlink()
    with pytest.raises(InputError, match=r"README\.md is missing; an export of training.train has"):
        readme.main(flags)


def test_a_subset_reads_only_its_groups(folders: Path, tmp_path: Path) -> None:
    features = tmp_path / "features"
    shutil.copytree(folders / "features", features)
    shutil.rmtree(features / "evaluation" / "rest")
    shutil.copytree(folders / "run", tmp_path / "run")

    document = score(tmp_path, tmp_path / "scores", *SUBSET)

    assert set(document.groups) == {"1", "2"}
    assert document.subsets == {"1": ("1",), "2": ("1", "2")}
    assert {path.parent.name for path in tmp_path.glob("scores/*/*/*")} == {"1", "2"}
    some = report(tmp_path / "scores", tmp_path / "report")
    same = report(folders / "scores", tmp_path / "same", *SUBSET)
    for field in ("mean_auc", "mean_ap", "num_videos", "num_videos_expected", "intervals"):
        assert getattr(some, field) == getattr(same, field)
    whole = report(folders / "scores", tmp_path / "whole")
    assert whole.num_videos_expected > same.num_videos_expected


def test_a_subset_that_is_not_there_is_refused(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--subset: received '400'; the subsets of .* are: 1, 2"):
        score(folders, tmp_path / "scores", "--subset=400")
    with pytest.raises(InputError, match="--subset: received '400'"):
        report(folders / "scores", tmp_path / "report", "--subset=400")


def test_halves_are_stated_and_close(folders: Path, tmp_path: Path) -> None:
    document = score(folders, tmp_path / "scores", "--dtype=float16")

    assert document.dtype == "float16"
    path = next(tmp_path.glob("scores/*/*/scores-*.parquet"))
    assert pq.read_schema(path).field("scores").type.value_type == pa.float16()
    full = read(folders / "scores")
    for video_id, own in read(tmp_path / "scores").items():
        np.testing.assert_allclose(own, full[video_id], rtol=1e-3, atol=1e-7)
    report(tmp_path / "scores", tmp_path / "report")


def test_embeddings_are_the_layer_before_the_last(folders: Path) -> None:
    embeddings = read(folders / "scores", "embeddings", "embedding")
    frames = read(folders / "scores", "frames")

    assert embeddings.keys() == frames.keys()
    for video_id, own in embeddings.items():
        assert len(own) == len(frames[video_id])
        assert own.shape[1] == 96  # 0.1 of 1000 units, in steps of 32
        assert own.std() > 0


def test_a_folder_keeps_its_runtime(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores that were made where OpenVINO was not installed, and OpenVINO's are equal to 1e-4."""
    scores = tmp_path / "scores"
    with monkeypatch.context() as patch:
        patch.setattr(inference, "_is_installed", lambda name: name == "tensorflow")
        document = score(folders, scores)
    expected = InferenceRuntime("tensorflow", tf.__version__, "float32")
    assert document.runtime == expected
    theirs = read_document(f"{folders}/scores", Scores).runtime
    assert theirs is not None
    assert theirs.name == "openvino"
    other = read(folders / "scores")
    for video_id, own in read(scores).items():
        np.testing.assert_allclose(own, other[video_id], atol=1e-4)
    before = {path: path.stat().st_mtime_ns for path in scores.glob("*/*/*")}

    assert score(folders, scores).runtime == expected

    assert before == {path: path.stat().st_mtime_ns for path in scores.glob("*/*/*")}


def test_int8_is_calibrated_checked_and_applied(
    folders: Path,
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(folders / "run", tmp_path / "run")
    (tmp_path / "features").symlink_to(folders / "features")
    flags = ["--run", f"{tmp_path}/run", "--features", f"{tmp_path}/features", "--patches=20"]
    with pytest.raises(InputError, match=r"has no int8 network; run `python -m evaluation\.q"):
        score(tmp_path, tmp_path / "scores", "--precision=int8")
    with pytest.raises(JobFailedError, match=r"in int8 on .* above --max-map-loss -1, and nothing"):
        quantise.main([*flags, "--max-map-loss=-1"])
    assert not (tmp_path / "run/export/int8").exists()

    assert quantise.main(flags) == OK

    checked = read_document(f"{tmp_path}/run/export/int8", Quantisation)
    assert checked.num_patches == 20
    score(tmp_path, tmp_path / "validation", "--split=validation")
    (table,) = (pq.read_table(path) for path in tmp_path.glob("validation/*/*/*.parquet"))
    scores = read_vectors(table["scores"])
    truth = np.array([np.isin(range(3), own) for own in table["labels"].to_pylist()])
    classes = [label for label in range(3) if 0 < truth[:, label].sum() < len(truth)]
    expected = sklearn.metrics.average_precision_score(truth[:, classes], scores[:, classes])
    assert checked.map_float32 == pytest.approx(expected, abs=1e-6)

    kept = ["--frame-scores", "--embeddings"]
    runtime = score(tmp_path, tmp_path / "scores", "--precision=int8", *kept).runtime

    assert runtime is not None
    assert (runtime.name, runtime.precision) == ("openvino", "int8")
    own, other = read(tmp_path / "scores"), read(folders / "scores")
    differences = [np.abs(own[video_id] - other[video_id]).max() for video_id in other]
    assert max(differences) > 1e-6
    assert np.mean(differences) < 0.1
    with pytest.raises(InputError, match=r"has shards by openvino .* in int8 of weights"):
        score(tmp_path, tmp_path / "scores")
    with s3.start() as bucket:
        bucket.put_folder("run", tmp_path / "run")
        remote = ["--features", f"{tmp_path}/features", "--run", f"s3://{s3.BUCKET}/run"]
        remote += ["--precision=int8", "--output", f"{tmp_path}/remote"]
        assert score_videos.main(remote) == OK
    for video_id, scores in read(tmp_path / "remote").items():
        np.testing.assert_array_equal(scores, own[video_id])
    medium = corpus.manifest.parent / next(iter(own))
    check_embeddings_in_int8(tmp_path, runtime)
    check_media_in_int8(tmp_path, medium, runtime)
    check_tags_in_int8(tmp_path, medium, monkeypatch, capsys)

    write_bytes = files.write_bytes

    def break_off(path: str, content: bytes) -> None:
        if path.endswith(".xml"):
            raise OSError("broken off")
        write_bytes(path, content)

    monkeypatch.setattr(files, "write_bytes", break_off)
    with pytest.raises(OSError, match="broken off"):
        quantise.main([*flags, "--seed=1"])
    with pytest.raises(InputError, match="has no int8 network"):
        score(tmp_path, tmp_path / "others", "--precision=int8")


def test_a_seed_draws_the_patches_of_calibration(folders: Path) -> None:
    train = read_document(f"{folders}/features", Features).splits["train"]
    assert sum(train.num_shards.values()) > 1

    def draw(seed: int, limit: int = 2) -> list[PatchRecord]:
        return calibration.draw_records(
            f"{folders}/features", "train", train.num_shards, limit, seed
        )

    draws = [draw(seed) for seed in range(8)]
    assert [draw(seed) for seed in range(8)] == draws
    assert any(other != draws[0] for other in draws)
    assert {len(drawn) for drawn in draws} == {2}
    num_patches = sum(group.num_patches for group in train.groups.values())
    assert len(draw(0, limit=10**6)) == num_patches


def check_embeddings_in_int8(root: Path, runtime: InferenceRuntime) -> None:
    """Those of `extract_embeddings` are those that were written with the scores."""
    flags = ["--features", f"{root}/features", "--run", f"{root}/run"]
    flags += ["--output", f"{root}/embeddings"]
    assert extract_embeddings.main([*flags, "--precision=int8"]) == OK
    assert read_document(f"{root}/embeddings", EmbeddingsPlan).runtime == runtime
    expected = read(root / "scores", "embeddings", "embedding")
    found: dict[str, dict[float, np.ndarray]] = {video_id: {} for video_id in expected}
    for path in root.glob("embeddings/evaluation/*/patches-*.tfrecord"):
        for record in read_records(str(path.with_suffix(""))):
            embedding = np.frombuffer(record.patch, np.float16)
            found[record.video_id][record.start_seconds] = embedding
    for video_id, own in found.items():
        embeddings = np.stack([own[start] for start in sorted(own)])
        np.testing.assert_array_equal(embeddings, expected[video_id].astype(np.float16))
    with pytest.raises(InputError, match=r"has shards by openvino .* in int8 of weights"):
        extract_embeddings.main(flags)


def check_media_in_int8(root: Path, medium: Path, runtime: InferenceRuntime) -> None:
    """Those of `embed` are those that were written with the scores, and name their runtime."""
    path = root / "embeddings.parquet"
    flags = ["--run", f"{root}/run", "--precision=int8", "--output", str(path), str(medium)]
    assert embed_media.main(flags) == OK
    table = pq.read_table(path)
    assert table.schema.metadata[embed_media.RUNTIME].decode() == str(runtime)
    assert "in int8 of weights" in str(runtime)
    expected = read(root / "scores", "embeddings", "embedding")[medium.name]
    np.testing.assert_allclose(np.stack(table["embedding"].to_numpy()), expected, atol=1e-5)


def check_tags_in_int8(
    root: Path, medium: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = []
    load_any = media.load_any
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(media, "load_any", lambda *args: loaded.append(load_any(*args)) or loaded[0])
        flags = ["--run", f"{root}/run", "--precision=int8", "--top=1", str(medium)]
        assert tag.main(flags) == OK
    assert loaded[0].runtime.precision == "int8"
    scores = read(root / "scores", "frames")[medium.name].mean(axis=0)
    assert f"{scores.max():.2f}" in capsys.readouterr().out.splitlines()[1]


def test_a_shard_without_sidecar_is_scored_again_and_no_other(
    folders: Path, tmp_path: Path
) -> None:
    scores = tmp_path / "scores"
    score(folders, scores)
    lost = next(scores.glob("evaluation/2/scores-*.json"))
    before = {path: path.stat().st_mtime_ns for path in scores.glob("*/*/*")}
    lost.unlink()
    # Nor does it matter that the features were moved.
    shutil.copytree(folders / "features", tmp_path / "features")
    (tmp_path / "run").symlink_to(folders / "run")

    score(tmp_path, scores)

    after = {path: path.stat().st_mtime_ns for path in scores.glob("*/*/*")}
    changed = {path.with_suffix("") for path in after if after[path] != before[path]}
    assert after.keys() == before.keys()
    assert changed <= {lost.with_suffix("")}
    assert lost.exists()


def test_metrics_of_the_most_frequent_labels(folders: Path, tmp_path: Path) -> None:
    document = report(folders / "scores", tmp_path / "report", "--labels=2")

    scores = read(folders / "scores")
    truth = {}
    for path in folders.glob("scores/*/*/scores-*.parquet"):
        for row in pq.read_table(path, columns=["video_id", "labels"]).to_pylist():
            truth[row["video_id"]] = [label in row["labels"] for label in range(2)]
    values = np.stack([scores[video_id][:2] for video_id in truth])
    auc = sklearn.metrics.roc_auc_score(list(truth.values()), values)
    assert document.num_labels == 2
    assert document.mean_auc == pytest.approx(auc, abs=1e-9)
    with pytest.raises(InputError, match=r"--labels: received 4; .* has scores of 3"):
        report(folders / "scores", tmp_path / "report", "--labels=4")


def test_missing_videos_and_their_outcomes(folders: Path, tmp_path: Path) -> None:
    document = report(folders / "scores", tmp_path / "report")

    assert document.missing == {"not_found": 1}
    table = pq.read_table(tmp_path / "report" / "missing.parquet").to_pylist()
    assert table == [{"video_id": "absent", "outcome": "not_found"}]


@pytest.fixture(scope="module")
def forgotten(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """features, embeddings of them, scores of them and of media, and then without two videos."""
    root = tmp_path_factory.mktemp("forgotten")
    score(folders, root / "of_media", "--frame-scores", source="--from-media")
    embed(folders, folders / "features", root / "embeddings")
    for name in ("features", "scores"):
        shutil.copytree(folders / name, root / name)
    for name in ("embeddings", "scores"):  # made of the copy
        (path,) = (root / name).glob("[fs]*s.json")
        path.write_text(path.read_text().replace(f"{folders}/features", f"{root}/features"))
    ids = [name for name in read(folders / "scores") if name[:7] in ("clip-00", "clip-03")]
    (root / "ids.txt").write_text("\n".join(ids))
    with pytest.raises(InputError, match=f"is made of {root}/features, which would bring 'clip-00"):
        remove(root, "--scores", f"{root}/scores")
    with contextlib.redirect_stderr(io.StringIO()) as log:
        remove(root, "--features", f"{root}/features", f"{root}/embeddings", "--verbose",
               "--scores", f"{root}/scores", f"{root}/of_media")  # fmt: skip
    (root / "log").write_text(log.getvalue())
    return root


def embed(folders: Path, features: Path, output: Path) -> None:
    flags = ["--features", str(features), "--run", f"{folders}/run", "--output", str(output)]
    assert extract_embeddings.main(flags) == OK


def remove(root: Path, *flags: str) -> None:
    assert forget.main(["--ids", f"{root}/ids.txt", *flags]) == OK


def tables(folder: Path) -> dict[str, pa.Table]:
    return {
        str(path.relative_to(folder)): pq.read_table(path)
        for path in folder.glob("evaluation/*/*.parquet")
    }


@pytest.mark.parametrize("name", ["scores", "of_media"])
def test_forgotten_videos_leave_the_scores(folders: Path, forgotten: Path, name: str) -> None:
    ids = (forgotten / "ids.txt").read_text().split()
    before = tables(folders / "scores")
    if name == "of_media":
        before = {path: table for path, table in before.items() if "embeddings" not in path}
    expected = {
        path: table.filter(~np.isin(table["video_id"].to_pylist(), ids))
        for path, table in before.items()
    }
    found = tables(forgotten / name)
    assert found.keys() == {path for path, table in expected.items() if len(table)}
    for path, table in found.items():
        assert table.drop_columns(table.column_names[-1]) == (
            expected[path].drop_columns(table.column_names[-1])
        )
        column = table.column_names[-1]
        atol = 0 if name == "scores" else 1e-5
        values = (read_vectors(rows[column]) for rows in (table, expected[path]))
        np.testing.assert_allclose(*values, atol=atol)
    document = read_document(f"{forgotten}/{name}", Scores)
    assert document.num_videos == 3
    assert document.num_videos_expected == 6
    assert document.missing == {"forgotten": 2, "not_found": 1}
    assert report(forgotten / name, forgotten / f"report_{name}").num_missing == 3
    lines = re.findall(r" forget (\S+): .*, videos (\d+), ", (forgotten / "log").read_text())
    assert sum(int(videos) for _, videos in lines) == 2 * 3  # of both folders
    assert {path for path, _ in lines} == {
        key.path("scores") for key in sharding.keys("evaluation", document.num_shards)
    }


def test_scoring_again_does_not_bring_them_back(
    folders: Path, forgotten: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = list((forgotten / "of_media").glob("evaluation/*/*"))
    before = {path: path.stat().st_mtime_ns for path in paths}

    of_media = score(folders, forgotten / "of_media", "--frame-scores", source="--from-media")

    assert {path: path.stat().st_mtime_ns for path in paths} == before
    assert of_media.missing == {"forgotten": 2, "not_found": 1}
    with pytest.raises(InputError, match="of 2 such videos; forget them there too"):
        score(folders, forgotten / "scores", "--frame-scores", "--embeddings")
    flags = ["--features", f"{forgotten}/features", "--run", f"{folders}/run"]
    output = forgotten / "scored_again"
    log = ["--verbose", "--log-format=json"]
    assert score_videos.main([*flags, *log, "--frame-scores", "--output", str(output)]) == OK
    document = read_document(str(output), Scores)
    assert document.missing == {"forgotten": 2, "not_found": 1}
    text = capsys.readouterr().err
    rates = [json.loads(line) for line in text.splitlines() if "cpu_ms_per_audio_hour" in line]
    assert sum(line["patches"] for line in rates) == document.num_patches
    for line in rates:
        hours = 0.96 * line["patches"] / 3600
        assert line["cpu_ms_per_audio_hour"] * hours == pytest.approx(line["cpu_ms"], abs=1)
    assert read(output).keys() == read(forgotten / "scores").keys()


def test_a_removal_from_scores_goes_on_after_a_kill(
    folders: Path, forgotten: Path, tmp_path: Path
) -> None:
    shutil.copytree(forgotten / "scores", tmp_path / "scores")
    ids = frozenset((forgotten / "ids.txt").read_text().split())
    expected = {path: path.read_bytes() for path in tmp_path.glob("scores/evaluation/*/*")}
    # The sidecars have the ids, and the files of scores are still as they were.
    for path in sorted((folders / "scores").glob("evaluation/*/scores-*.parquet")):
        copy = tmp_path / path.relative_to(folders)
        shutil.copy(path, copy)
        sidecar = read_sidecar(str(copy.with_suffix("")), ScoreShard)
        begun = dataclasses.replace(sidecar, plan=f"removal of videos from {sidecar.plan}")
        write_sidecar(str(copy.with_suffix("")), begun)
    scores = read_document(f"{tmp_path}/scores", Scores)

    for key in sharding.keys("evaluation", scores.num_shards):
        forget_scores(key, f"{tmp_path}/scores", ids)

    assert {path: path.read_bytes() for path in tmp_path.glob("scores/evaluation/*/*")} == expected


def test_forgotten_videos_leave_the_embeddings(folders: Path, forgotten: Path) -> None:
    def records(folder: str) -> list[PatchRecord]:
        paths = sorted((forgotten / folder).glob("*/*/patches-*.tfrecord"))
        return [one for path in paths for one in read_records(str(path.with_suffix("")))]

    def places(folder: str) -> list[tuple]:
        return [(one.video_id, one.start_seconds, one.labels) for one in records(folder)]

    assert places("embeddings") == places("features")
    before = read_document(f"{forgotten}/embeddings", Features)
    patches = [np.frombuffer(one.patch, np.float16) for one in records("embeddings")]
    embed(folders, forgotten / "features", forgotten / "embeddings")
    again = read_document(f"{forgotten}/embeddings", Features)
    assert (again.num_patches, again.rejects) == (before.num_patches, before.rejects)
    assert before.rejects["forgotten"] == 2
    embedded = [np.frombuffer(one.patch, np.float16) for one in records("embeddings")]
    np.testing.assert_allclose(np.stack(patches), np.stack(embedded), rtol=0.01, atol=1e-3)
    assert audit_features.main(["--features", f"{forgotten}/embeddings"]) == OK


def test_scores_of_tables_are_refused(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "scores", tmp_path / "scores")
    scores = read_document(f"{tmp_path}/scores", Scores)
    write_document(f"{tmp_path}/scores", dataclasses.replace(scores, scores_file="scores.csv"))
    (tmp_path / "ids.txt").write_text("clip-00")
    with pytest.raises(InputError, match=r"was made of scores.csv; remove the videos there"):
        remove(tmp_path, "--scores", f"{tmp_path}/scores")


def test_localisation_against_scikit_learn(folders: Path, tmp_path: Path) -> None:
    """Events that fill the first half of each soundtrack."""
    vocabulary = read_vocabulary(f"{folders}/scores")
    frames = read(folders / "scores", "frames")
    rows, truth = [], []
    for video_id, own in frames.items():
        middle = 0.96 * (len(own) // 2)
        rows += [{"id": video_id, "label": label, "start": 0.0, "end": middle} for label in TONES]
        truth.append(np.arange(len(own)) < len(own) // 2)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "events.parquet")
    flags = ["--scores", f"{folders}/scores", "--events", f"{tmp_path}/events.parquet"]

    assert localise.main([*flags, "--output", f"{tmp_path}/out"]) == OK

    table = pq.read_table(tmp_path / "out" / "per_class.parquet").to_pylist()
    values, active = np.concatenate(list(frames.values())), np.concatenate(truth)
    for label, row in enumerate(table):
        expected = sklearn.metrics.average_precision_score(active, values[:, label])
        assert row["label_id"] == vocabulary.ids[label]
        assert row["ap"] == pytest.approx(expected, abs=1e-9)
    document = json.loads((tmp_path / "out" / "localisation.json").read_text())
    assert document["num_videos"] == len(frames)
    assert document["mean_ap"] == pytest.approx(np.mean([row["ap"] for row in table]))


def test_tags_of_a_file_are_its_frame_scores(
    folders: Path, corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    video_id, expected = next(iter(read(folders / "scores", "frames").items()))
    media = corpus.manifest.parent / video_id

    assert tag.main(["--run", f"{folders}/run", "--top=1", str(media)]) == OK

    lines = capsys.readouterr().out.splitlines()
    names = read_vocabulary(f"{folders}/scores").names
    assert lines[0] == str(media)
    means = [expected.mean(axis=0), *expected]
    assert len(lines) == 1 + len(means)
    for line, scores in zip(lines[1:], means, strict=True):
        assert line.endswith(f"{scores.max():.2f} {names[scores.argmax()]}")


def test_a_bad_file_costs_only_itself(
    folders: Path, corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = corpus.manifest.parent / "broken.mp4"
    good = next(corpus.manifest.parent.glob("clip-00*"))

    assert tag.main(["--run", f"{folders}/run", str(bad), str(good)]) == FAILED

    shown = capsys.readouterr()
    assert f"error: {bad}: corrupt" in shown.err
    assert shown.out.startswith(str(good))


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--run .* has no export/saved_model\.pb"):
        tag.main(["--run", str(tmp_path), "a.wav"])
