"""The example DAG in a real Airflow, with the real commands: `make test-airflow`."""

import contextlib
import csv
import dataclasses
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from features.contracts import folders, leases
from features.contracts.documents import Dataset, Features, Metrics

ROOT = Path(__file__).parents[2]
DAG_FOLDER = ROOT / "pipelines" / "deploy" / "airflow"
AIRFLOW = os.environ.get("AIRFLOW")
LIMIT_SECONDS = 300

pytestmark = pytest.mark.skipif(
    AIRFLOW is None, reason="needs an Airflow of its own: `make test-airflow`"
)


def run(*command: str) -> None:
    subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=True)


class Airflow:
    """Airflow with a new database, and the folder of its DAG."""

    def __init__(self, command: str, home: Path):
        self.command = command
        self.root = home / "root"
        self.database = home / "airflow.db"
        self.environment = {
            **os.environ,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAG_FOLDER),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "SOUNDTRACK_PYTHON": sys.executable,
        }
        self.call("db", "migrate")

    def call(self, *arguments: str) -> str:
        """Output of an `airflow` command."""
        done = subprocess.run(
            [self.command, *arguments],
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LIMIT_SECONDS,
            check=False,
        )
        return done.stdout

    def test_dag(self, day: str) -> str:
        """Run `airflow dags test` for a day; returns its output."""
        return self.call("dags", "test", "soundtrack_daily", day, "--conf", self._params())

    def test_task(self, task: str, day: str) -> str:
        """Run one try of a task of a day, without its retries; returns its output."""
        return self.call("tasks", "test", "soundtrack_daily", task, day, "-t", self._params())

    def _params(self) -> str:
        return json.dumps({"root": str(self.root), "run": str(self.root / "run")})

    def ask(self, query: str, *values: str) -> list[tuple]:
        """Rows of Airflow's database."""
        with contextlib.closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(query, values).fetchall()

    def tasks(self, day: str) -> dict[str, tuple[str, int]]:
        """State and number of tries of each task of a day's run."""
        rows = self.ask(
            "SELECT task_id, task_instance.state, try_number FROM task_instance "
            "JOIN dag_run USING (dag_id, run_id) WHERE logical_date LIKE ?",
            f"{day}%",
        )
        return {task: (state, tries) for task, state, tries in rows}

    def day(self, day: str) -> Path:
        """The folder of a day."""
        return self.root / "days" / day

    def write_manifest(self, day: str, rows: list[list[str]]) -> None:
        with (self.root / "manifests" / f"{day}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["id", "uri", "labels", "split"], *rows])


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """Rows of a manifest, all for evaluation, and beside their media a network `run`."""
    folder = tmp_path_factory.mktemp("corpus")
    run("pipelines.demo_corpus", f"--output={folder}", "--soundtracks=12")
    manifest, output = folder / "manifest.csv", f"--output={folder}"
    run("pipelines.prepare_dataset", f"--manifest={manifest}", f"{output}/dataset")
    run("pipelines.extract_features", f"--dataset={folder}/dataset", f"{output}/features")
    flags = ["--steps=5", "--batch-size=32", "--set", "num_layers=1", "units=16"]
    features = f"--features={folder}/features"
    run("training.train", "fully_connected", features, f"{output}/run", *flags)
    with manifest.open(newline="") as file:
        return [
            [row["id"], str(folder / row["uri"]), row["labels"], "evaluation"]
            for row in csv.DictReader(file)
        ]


@pytest.fixture(scope="module")
def airflow(rows: list[list[str]], tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    assert AIRFLOW is not None
    started = Airflow(AIRFLOW, tmp_path_factory.mktemp("airflow"))
    (started.root / "manifests").mkdir(parents=True)
    (started.root / "run").symlink_to(Path(rows[0][1]).parents[1] / "run")
    return started


def shards(folder: Path) -> dict[str, tuple[int, str]]:
    """Modification time and digest of each file of a shard."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for kind in ("features/*/*/patches-*", "scores/*/*/scores-*")
        for path in folder.glob(kind)
    }


def test_second_run_of_a_day_writes_no_shard_again(airflow: Airflow, rows: list[list[str]]) -> None:
    airflow.write_manifest("2026-01-01", rows[:6])

    first_log = airflow.test_dag("2026-01-01")

    tasks = ("dataset", "features", "scores", "report")
    assert airflow.tasks("2026-01-01") == dict.fromkeys(tasks, ("success", 1)), first_log
    day = airflow.day("2026-01-01")
    written = shards(day)
    assert {Path(name).suffix for name in written} == {".tfrecord", ".parquet", ".json"}
    metrics = folders.read_document(str(day / "report"), Metrics)
    assert metrics.num_videos == metrics.num_videos_expected == 6
    assert "6 videos = 6 written + 0 rejected" in first_log

    second_log = airflow.test_dag("2026-01-01")

    assert "6 videos = 6 written + 0 rejected" in second_log
    assert "6 of 6 videos scored" in second_log
    assert shards(day) == written
    again = folders.read_document(str(day / "report"), Metrics)
    assert dataclasses.replace(again, made_by=metrics.made_by) == metrics


def processes_of(module: str, folder: Path) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_text().split("\0")
        except (OSError, UnicodeDecodeError):
            continue
        if module in words and f"--output={folder}" in words:
            yield int(path.parent.name)


def test_killed_extraction_is_retried(airflow: Airflow, rows: list[list[str]]) -> None:
    airflow.write_manifest("2026-01-02", rows[6:])
    folder = airflow.day("2026-01-02") / "features"
    killed: list[int] = []

    def kill_first() -> None:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not killed and time.monotonic() < deadline:
            # plan.json: the extraction has begun.
            if (folder / "plan.json").exists():
                for pid in processes_of("pipelines.extract_features", folder):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
            time.sleep(0.05)

    killer = threading.Thread(target=kill_first)
    killer.start()
    log = airflow.test_dag("2026-01-02")
    killer.join()

    assert len(killed) == 1
    assert airflow.tasks("2026-01-02") == {
        "dataset": ("success", 1),
        "features": ("success", 2),
        "scores": ("success", 1),
        "report": ("success", 1),
    }, log
    assert "pipelines.extract_features: exit code -9" in log
    features = folders.read_document(str(folder), Features)
    assert (features.num_written, features.num_rejects) == (6, 0)


@pytest.mark.parametrize(
    ("day", "task", "message", "tries"),
    [
        ("2026-01-03", "dataset", "prepare_dataset: exit code 1", 3),  # two retries
        ("2026-01-04", "dataset", "prepare_dataset: bad input", 1),
        ("2026-01-05", "features", "extract_features: too many rejects", 1),
    ],
)
def test_exit_code_decides_on_retries(
    airflow: Airflow, rows: list[list[str]], day: str, task: str, message: str, tries: int
) -> None:
    if day == "2026-01-03":
        airflow.write_manifest(day, [["a", "a.wav", "", "evaluation"]])  # no usable row
    elif day == "2026-01-05":
        absent = [f"{row[1]}.absent" for row in rows]
        given = [[row[0], uri, *row[2:]] for row, uri in zip(rows[:3], absent, strict=False)]
        airflow.write_manifest(day, [*given, *rows[3:6]])

    log = airflow.test_dag(day)

    tasks = airflow.tasks(day)
    assert tasks[task] == ("failed", tries), log
    assert message in log
    assert tasks["report"][0] == "upstream_failed"
    assert not airflow.day(day).joinpath("report").exists()


def test_another_job_in_the_folder_is_waited_for(airflow: Airflow, rows: list[list[str]]) -> None:
    airflow.write_manifest("2026-01-06", rows[:6])
    folder = airflow.day("2026-01-06") / "dataset"
    folder.mkdir(parents=True)

    with ThreadPoolExecutor() as pool:
        with leases.hold(str(folder)):
            test = pool.submit(airflow.test_task, "dataset", "2026-01-06")
            while not any(processes_of("pipelines.prepare_dataset", folder)):
                assert not test.done(), test.result()
                time.sleep(0.1)
            time.sleep(15)  # until the command sees the lease
        log = test.result()

    assert folders.find_document(str(folder), Dataset) is not None, log


def test_backfill_is_a_run_for_each_day(airflow: Airflow) -> None:
    airflow.call("dags", "reserialize")
    days = ["--from-date=2026-02-01", "--to-date=2026-02-03"]

    log = airflow.call("backfill", "create", "--dag-id=soundtrack_daily", *days)

    rows = airflow.ask("SELECT logical_date FROM dag_run WHERE run_type = 'backfill' ORDER BY 1")
    assert [row[0][:16] for row in rows] == ["2026-02-01 03:00", "2026-02-02 03:00"], log
