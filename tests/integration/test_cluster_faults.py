"""Processes of a real cluster are killed in the middle of a run, which has to reach its end."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from features.errors import DIVERGED
from tests.training.conftest import write_features
from training import train
from training.loops.checkpoints import last_step

STEPS = 400
# Every wait of these tests; none of them takes a third of it.
LIMIT_SECONDS = 300


def command(features: Path, output: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "training.train", "fully_connected"),
        *(f"--features={features}", f"--output={output}", f"--steps={STEPS}"),
        *("--batch-size=32", "--learning-rate=1e-5", "--wait-seconds=120"),
        *("--set", "width=0.05", "checkpoint_minutes=0.02", "normalise=true", *more),
    ]


class Run:
    """A command that trains in several processes."""

    def __init__(self, features: Path, output: Path, *more: str):
        self.output = output
        self.log = output.parent / f"{output.name}.log"
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(
                command(features, output, *more), stdout=file, stderr=file
            )

    def roles(self) -> dict[str, int]:
        """Process ids by role and index."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                environment = dict(
                    line.split("=", 1) for line in path.read_text().split("\0") if "=" in line
                )
            except (OSError, UnicodeDecodeError):
                continue
            if environment.get("SOUNDTRACK_SUPERVISOR_PID") == str(self.process.pid):
                task = json.loads(environment["TF_CONFIG"])["task"]
                found[f"{task['type']} {task['index']}"] = int(path.parent.name)
        return found

    def kill(self, role: str) -> None:
        os.kill(self.roles()[role], signal.SIGKILL)

    def step(self) -> int:
        return last_step(str(self.output))

    def wait_for(self, wanted: Callable[[], bool]) -> float:
        """Seconds until it is so."""
        start = time.monotonic()
        while not wanted():
            assert time.monotonic() < start + LIMIT_SECONDS, self.log.read_text()
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        return time.monotonic() - start

    def wait_for_progress(self) -> float:
        step = self.step()
        return self.wait_for(lambda: self.step() > step)

    def end(self) -> int:
        return self.process.wait(LIMIT_SECONDS)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs = []

    def start_run(*arguments: object) -> Run:
        runs.append(Run(*arguments))
        return runs[-1]

    yield start_run
    for run in runs:
        run.process.kill()
        run.process.wait()


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without a validation split: a process less."""
    folder = tmp_path_factory.mktemp("features")
    write_features(folder, shards={"train": 5})
    return folder


@pytest.fixture(scope="module")
def validated_features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("validated")
    write_features(folder, shards={"train": 5, "validation": 2})
    return folder


def last_loss(output: Path) -> float:
    return json.loads((output / "run.json").read_text())["metrics"]["loss"]


def test_killed_processes_do_not_change_what_is_learned(
    validated_features: Path, tmp_path: Path, start: Callable[..., Run]
) -> None:
    run = start(validated_features, tmp_path / "run", "--cluster=local", "--workers=2")
    run.wait_for_progress()
    before = run.roles()
    assert set(before) == {"chief 0", "worker 0", "worker 1", "ps 0", "evaluator 0"}

    run.kill("worker 0")
    run.wait_for_progress()
    run.wait_for(lambda: run.roles().get("worker 0", before["worker 0"]) != before["worker 0"])
    after = run.roles()
    for survivor in ("chief 0", "worker 1", "ps 0", "evaluator 0"):
        assert after[survivor] == before[survivor], run.log.read_text()

    run.kill("ps 0")
    assert run.wait_for_progress() < 120
    run.kill("chief 0")
    assert run.wait_for_progress() < 120
    assert run.end() == 0, run.log.read_text()
    assert run.roles() == {}
    text = run.log.read_text()
    for process in ("worker 0", "ps 0", "chief 0"):
        assert f"{process} was ended by signal 9 and restarts" in text

    document = json.loads((tmp_path / "run" / "run.json").read_text())
    assert STEPS <= document["steps"] <= STEPS + 4  # steps are done at least once
    assert 0 < document["metrics"]["staleness"] < 4  # of two workers
    alone = tmp_path / "alone"
    assert train.main(command(validated_features, alone)[3:]) == 0
    assert last_loss(tmp_path / "run") == pytest.approx(last_loss(alone), rel=0.15)


def test_a_killed_worker_that_shares_mini_batches_restarts_all_from_the_checkpoint(
    features: Path, tmp_path: Path, start: Callable[..., Run]
) -> None:
    flags = ("--cluster=local", "--workers=2", "--parameter-servers=0", "--steps=80")
    run = start(features, tmp_path / "run", *flags)
    run.wait_for_progress()
    before = run.roles()
    assert set(before) == {"worker 0", "worker 1"}

    run.kill("worker 1")
    run.wait_for(lambda: set(before.values()).isdisjoint(run.roles().values()))
    assert run.wait_for_progress() < 120
    assert run.end() == 0, run.log.read_text()
    text = run.log.read_text()
    assert "all processes restart from the last checkpoint" in text
    assert json.loads((tmp_path / "run" / "run.json").read_text())["steps"] == 80


def test_sigterm_saves_the_same_command_resumes_and_a_killed_supervisor_leaves_no_process(
    features: Path, tmp_path: Path, start: Callable[..., Run]
) -> None:
    flags = (features, tmp_path / "run", "--cluster=local", "--workers=1")
    run = start(*flags, "--set=checkpoint_minutes=100")
    # The first points of the curves of the chief, who has saved nothing yet.
    run.wait_for(lambda: any(file.stat().st_size > 500 for file in run.output.glob("events/*")))
    assert run.step() == 0
    run.process.terminate()
    assert run.end() == 130
    assert run.roles() == {}
    assert f"of {STEPS}, which is saved" in run.log.read_text()
    stopped_at = run.step()
    assert 0 < stopped_at < STEPS

    again = start(*flags)
    again.wait_for_progress()
    assert again.step() > stopped_at
    orphans = again.roles()
    again.process.kill()
    deadline = time.monotonic() + 15
    while any(Path(f"/proc/{pid}").exists() for pid in orphans.values()):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_worker_names_the_videos_that_are_not_finite(
    features: Path, tmp_path: Path, start: Callable[..., Run]
) -> None:
    flags = ("--cluster=local", "--workers=1", "--learning-rate=1e30")
    run = start(features, tmp_path / "run", *flags, "--set=checkpoint_minutes=100")
    assert run.end() == DIVERGED
    assert re.search(r"error: not finite in step \d+: .* its videos: train-\d", run.log.read_text())
    assert run.roles() == {}
