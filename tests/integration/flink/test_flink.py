"""The Beam jobs on a real Flink cluster of two task managers, against the same jobs without it."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from evaluation import evaluate, score_videos
from features.contracts import folders
from features.contracts.documents import Features
from features.errors import OK, TooManyRejectsError
from pipelines import doctor, extract_embeddings, extract_features, prepare_dataset
from tests import networks
from tests.conftest import Corpus
from tests.integration.flink.cluster import FlinkCluster
from training import train

ROOT = Path(__file__).parents[3]
JAR = Path(os.environ.get("FLINK_JOB_SERVER_JAR", ROOT / ".flink" / "job-server.jar"))
LIMIT_SECONDS = 400


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlinkCluster]:
    if not JAR.exists():
        pytest.skip(f"no Flink: {JAR} is not there; `make test-flink` says why")
    if shutil.which("java") is None:
        pytest.skip("no Flink: no `java` in PATH")
    flink = FlinkCluster(JAR, tmp_path_factory.mktemp("flink"))
    try:
        flink.add_task_managers("one", "two")
        yield flink
    finally:
        flink.stop()


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Flags: two slots, and Python started by the task managers."""
    command = tmp_path_factory.mktemp("worker") / "worker.sh"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m pipelines.runtime.beam_worker "$@"\n')
    command.chmod(0o755)
    return [
        *("--runner=FlinkRunner", "--parallelism=2", "--environment_type=PROCESS"),
        f"--environment_option=process_command={command}",
        "--environment_cache_millis=600000",
    ]


@pytest.fixture(scope="module")
def flags(cluster: FlinkCluster, workers: list[str]) -> list[str]:
    """Of a job that is handed to the job server of the cluster."""
    return [*workers, f"--job_endpoint={cluster.job_endpoint}"]


def prepare_and_extract(corpus: Corpus, root: Path, *runner: str) -> None:
    # Nine shards in six groups.
    subsets = ["--subsets=2,4", "--balanced-sets=1,2", "--examples-per-class=2"]
    dataset = ["--manifest", str(corpus.manifest), "--output", f"{root}/dataset", *subsets]
    assert prepare_dataset.main([*dataset, *runner]) == OK
    features = ["--dataset", f"{root}/dataset", "--output", f"{root}/features"]
    assert extract_features.main([*features, *runner]) == OK


def embed_score_and_evaluate(root: Path, run: Path, *runner: str) -> None:
    network = ["--features", f"{root}/features", "--run", str(run)]
    assert extract_embeddings.main([*network, "--output", f"{root}/embeddings", *runner]) == OK
    scores = [*network, "--output", f"{root}/scores", "--frame-scores"]
    assert score_videos.main([*scores, *runner]) == OK
    report = ["--scores", f"{root}/scores", "--output", f"{root}/report"]
    assert evaluate.main([*report, *runner]) == OK


@pytest.fixture(scope="module")
def local(cluster: FlinkCluster, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All folders as FnApiRunner makes them, and the run that is scored with."""
    root = tmp_path_factory.mktemp("local")
    prepare_and_extract(corpus, root)
    network = ["fully_connected", "--steps=20", "--batch-size=16", "--set=width=0.1"]
    train.main([*network, "--features", f"{root}/features", "--output", f"{root}/run"])
    embed_score_and_evaluate(root, root / "run")
    return root


def digests(folder: Path, pattern: str) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob(pattern))
    }


def test_a_network_over_media_gives_what_it_gives_without_flink(
    flags: list[str], tmp_path: Path
) -> None:
    if not (networks.YAMNETS and networks.SOUNDS):
        pytest.skip("no models/yamnet or no data/sounds beside the repository")
    manifest = networks.sounds_manifest(tmp_path, 6)
    dataset = ["--manifest", str(manifest), "--output", f"{tmp_path}/dataset"]
    assert prepare_dataset.main(dataset) == OK
    network = ["--from-media", f"{tmp_path}/dataset", *networks.yamnet_flags(tmp_path)]
    for name, runner in (("local", []), ("flink", flags)):
        output = ["--output", f"{tmp_path}/{name}", *runner]
        assert extract_embeddings.main([*network, *output]) == OK

    expected = digests(tmp_path / "local", "patches-*")
    assert expected
    assert digests(tmp_path / "flink", "patches-*") == expected


def test_five_jobs_give_what_they_give_without_flink(
    cluster: FlinkCluster, flags: list[str], corpus: Corpus, local: Path, tmp_path: Path
) -> None:
    prepare_and_extract(corpus, tmp_path, *flags)
    shards_read = cluster.records_read("{Extract, ")
    counters = cluster.counters()
    embed_score_and_evaluate(tmp_path, local / "run", *flags)

    for folder, pattern in (
        ("dataset/videos", "*"),
        ("features", "patches-*"),
        ("features/rejects", "*"),
        ("embeddings", "patches-*"),
        ("scores", "*.parquet"),
        ("report", "*.parquet"),
    ):
        expected = digests(local / folder, pattern)
        assert expected, folder
        assert digests(tmp_path / folder, pattern) == expected, folder
    for folder, name in (
        ("dataset", folders.DATASET),
        ("features", folders.FEATURES),
        ("scores", folders.SCORES),
        ("report", folders.METRICS),
    ):
        ours, theirs = (
            json.loads((root / folder / name).read_text()) for root in (tmp_path, local)
        )
        for where in ("made_by", "dataset", "features", "scores", "work"):
            for document in (ours, theirs):
                document.pop(where, None)
        assert ours == theirs
    # The counters are of the sidecars, since no attempt was repeated.
    assert counters["extract/videos_written"] == corpus.num_good
    assert counters["extract/videos_corrupt"] == counters["reject/corrupt"] == 1
    written = folders.read_document(f"{tmp_path}/features", Features)
    assert counters["extract/patches"] == written.num_patches
    # Both machines worked.
    num_shards = len(digests(tmp_path / "features", "patches-*.json"))
    assert sum(shards_read.values()) == num_shards
    assert set(shards_read) == {"one", "two"}
    assert min(shards_read.values()) > 0


def test_what_fails_a_job_is_said_in_the_same_words(
    flags: list[str], local: Path, tmp_path: Path
) -> None:
    features = ["--dataset", f"{local}/dataset", "--output", str(tmp_path)]

    with pytest.raises(TooManyRejectsError, match="2 of 16 videos are rejected"):
        extract_features.main([*features, "--max-reject-fraction=0.1", *flags])


def test_a_lost_task_manager_costs_nothing_but_time(
    cluster: FlinkCluster, workers: list[str], local: Path, tmp_path: Path
) -> None:
    """By the command of the manual, which starts a job server of its own."""
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.extract_features", *workers,
             "--dataset", f"{local}/dataset", "--output", f"{tmp_path}/features",
             f"--flink_master={cluster.address}", f"--flink_version={cluster.version()}",
             f"--flink_job_server_jar={JAR}"],
            stdout=file,
            stderr=file,
            cwd=ROOT,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not (done := digests(tmp_path, "patches-*.json")):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.001)
        cluster.kill_task_manager("one")
        expected = digests(local / "features", "patches-*")
        assert 0 < len(done) < len([name for name in expected if name.endswith(".json")])
        cluster.add_task_managers("three")
        assert process.wait(LIMIT_SECONDS) == OK, log.read_text()
    finally:
        process.kill()
        process.wait()

    assert cluster.failures()
    assert cluster.last_job()["state"] == "FINISHED"
    assert set(cluster.records_read("{Extract, ")) == {"two", "three"}
    assert digests(tmp_path / "features", "patches-*") == expected
    assert not list(tmp_path.rglob(".partial-*"))
    ours, theirs = (
        folders.read_document(f"{root}/features", Features) for root in (tmp_path, local)
    )
    for field in ("fingerprint", "num_videos", "num_written", "num_patches", "rejects", "splits"):
        assert getattr(ours, field) == getattr(theirs, field)


def test_the_doctor_finds_it_well(
    cluster: FlinkCluster, workers: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = [f"--flink_master={cluster.address}", f"--flink_version={cluster.version()}"]
    where += [f"--flink_job_server_jar={JAR}", "--output", str(tmp_path)]

    code = doctor.main([*workers, *where])

    assert code == OK, capsys.readouterr().out
