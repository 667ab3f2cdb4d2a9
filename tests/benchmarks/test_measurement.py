"""CPU time is that of all processes, and what cannot be is an error."""

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.benchmarks import measurement
from tests.benchmarks.measurement import (
    ImpossibleError,
    Lane,
    descendants_cpu_seconds,
    memory_mb,
    require_possible,
)

SECONDS = 0.3


def burn(path: Path) -> None:
    """Compute, and write the CPU seconds of this process so far."""
    end = time.process_time() + SECONDS
    while time.process_time() < end:
        sum(range(1_000))
    path.with_suffix(".part").write_text(f"{time.process_time()}")
    path.with_suffix(".part").rename(path)


def burn_as_orphan(folder: Path, name: str) -> None:
    """Burn in this process, and in a grandchild that outlives its parent as a decoder does."""
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            burn(folder / f"orphan-{name}")
        os._exit(0)
    os.waitpid(child, 0)
    burn(folder / f"worker-{name}")


def burn_below_a_fork_server(folder: Path) -> float:
    """Burn in two workers of a fork server and in an orphan of each; returns what they report."""
    folder.mkdir()
    context = multiprocessing.get_context("forkserver")
    workers = [context.Process(target=burn_as_orphan, args=(folder, name)) for name in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    while len(reports := [path for path in folder.iterdir() if not path.suffix]) < 4:
        time.sleep(0.01)
    return sum(float(path.read_text()) for path in reports)


@pytest.mark.parametrize("ignored", [False, True])
def test_processes_that_others_wait_for_are_counted(tmp_path: Path, ignored: bool) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN) if ignored else None
    try:
        lane = Lane()
    finally:
        if before is not None:
            signal.signal(signal.SIGCHLD, before)
    with lane:
        lane(burn_below_a_fork_server, tmp_path / "warm-up")  # starts the fork server
        counted, reported = lane(burn_below_a_fork_server, tmp_path / "measured")
    assert reported >= 4 * SECONDS
    # The rest is of the fork server, of this lane, and of the ends of the processes.
    assert reported - 0.05 < counted < reported + SECONDS


def test_children_are_counted_without_this_process(tmp_path: Path) -> None:
    before = descendants_cpu_seconds()
    burn(tmp_path / "here")
    assert descendants_cpu_seconds() - before < SECONDS / 2


def test_what_cannot_be_is_an_error() -> None:
    assert require_possible("cost", 1.0, at_least=1.0, at_most=1.0) == 1.0
    for value in (0.14, -23.0, math.nan):
        with pytest.raises(ImpossibleError, match=r"^over_decode is .*, which cannot be less"):
            require_possible("over_decode", value, at_least=1.0)
    with pytest.raises(ImpossibleError, match=r"^speed-up is 2\.31, which cannot be more than 2:"):
        require_possible("speed-up", 2.31, at_least=0, at_most=2)


# Hold 40 MB of a file and 20 MB of its own until there is input.
HOLD = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
touched, own = sum(mapped[::4096]), bytearray(b"x") * 20_000_000
print(flush=True)
input()
"""


def test_mapped_files_count_once(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(40_000_000))
    command = [sys.executable, "-c", HOLD, str(file)]
    pipe = subprocess.PIPE
    with ExitStack() as stack:
        holders = [
            stack.enter_context(subprocess.Popen(command, stdin=pipe, stdout=pipe))
            for _ in range(3)
        ]
        for holder in holders:
            assert holder.stdout is not None
            holder.stdout.readline()
        one, two, three = (
            memory_mb([holder.pid for holder in holders[:number]]) for number in (1, 2, 3)
        )
        for holder in holders:
            holder.communicate(b"\n")
    assert 60 < one < 90
    assert two - one == pytest.approx(20, abs=10)  # Python's own memory is some MB
    assert three - two == pytest.approx(20, abs=10)


def have_no_cores() -> None:
    """All CPU time of this process is too much from now on."""
    measurement._ROUNDING_SECONDS = -60.0


def test_more_cpu_time_than_all_cores_have_is_an_error() -> None:
    with Lane() as lane, pytest.raises(ImpossibleError, match=r"^CPU time of .*have_no_cores"):
        lane(have_no_cores)
