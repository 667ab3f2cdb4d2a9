"""CPU time is that of all processes, and what cannot be is an error."""

import math
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from tests.benchmarks.measurement import (
    ImpossibleError,
    Lane,
    descendants_cpu_seconds,
    require_possible,
)

SECONDS = 0.3


def burn(seconds: float) -> float:
    """Compute for some CPU seconds; returns those of this process so far."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        sum(range(1_000))
    return time.process_time()


def burn_as_orphan(path: Path, seconds: float) -> None:
    """Burn in this process, and in a grandchild that outlives its parent as a decoder does."""
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            spent = burn(seconds)
            path.with_suffix(".part").write_text(f"{spent}")
            path.with_suffix(".part").rename(path)
        os._exit(0)
    os.waitpid(child, 0)
    burn(seconds)


def burn_below_a_fork_server(folder: Path, seconds: float) -> float:
    """Burn in two workers of a fork server and in an orphan of each; returns the orphans' own."""
    folder.mkdir()
    context = multiprocessing.get_context("forkserver")
    paths = [folder / "0", folder / "1"]
    workers = [context.Process(target=burn_as_orphan, args=(path, seconds)) for path in paths]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    while not all(path.exists() for path in paths):
        time.sleep(0.01)
    return sum(float(path.read_text()) for path in paths)


@pytest.mark.parametrize("ignored", [False, True])
def test_processes_that_others_wait_for_are_counted(tmp_path: Path, ignored: bool) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN) if ignored else None
    try:
        lane = Lane()
    finally:
        if before is not None:
            signal.signal(signal.SIGCHLD, before)
    with lane:
        lane(burn_below_a_fork_server, tmp_path / "warm-up", 0.0)
        idle, of_idle = lane(burn_below_a_fork_server, tmp_path / "idle", 0.0)
        busy, of_orphans = lane(burn_below_a_fork_server, tmp_path / "busy", SECONDS)
    assert of_orphans - of_idle == pytest.approx(2 * SECONDS, abs=0.05)
    assert busy - idle == pytest.approx(4 * SECONDS, abs=0.15)


def test_children_are_counted_without_this_process() -> None:
    before = descendants_cpu_seconds()
    burn(0.1)
    assert descendants_cpu_seconds() - before < 0.05


def test_what_cannot_be_is_an_error() -> None:
    assert require_possible("cost", 1.0, at_least=1.0) == 1.0
    for value in (0.14, -23.0, math.nan):
        with pytest.raises(ImpossibleError, match=r"^over_decode is .*, which cannot be less"):
            require_possible("over_decode", value, at_least=1.0)
