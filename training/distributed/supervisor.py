"""A cluster of processes on this machine: starts them, and starts them again where they die.

A worker that dies is started again beside the others. Where the chief, a parameter server, or a
worker that shares mini-batches dies, all are, and go on from the last checkpoint.
"""

import collections
import contextlib
import dataclasses
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from features.errors import INTERRUPTED, OK, JobFailedError
from training.distributed.cluster import (
    CHIEF,
    EVALUATOR,
    PARAMETER_SERVER,
    VARIABLE,
    WORKER,
    Cluster,
)
from training.distributed.watchdog import LOST_PEER, SUPERVISOR, Watchdog

# More deaths than this in so many seconds are no accident.
_MAX_DEATHS, _DEATHS_SECONDS = 6, 600.0
# What a process is given to save and end, before it is killed.
_GRACE_SECONDS = 300.0
_POLL_SECONDS = 0.2
_LOG_LINES = 12


@dataclasses.dataclass
class _Process:
    cluster: Cluster
    popen: subprocess.Popen
    log: Path | None  # None where it writes to our own output

    @property
    def name(self) -> str:
        return f"{self.cluster.role} {self.cluster.index}"


def supervise(arguments: Sequence[str], *, num_workers: int, num_servers: int) -> int:
    """Train in processes of this machine; returns the exit code of the chief.

    Args:
      arguments: of `training.train`, for all processes.
      num_workers: processes that compute gradients.
      num_servers: processes that hold the variables; 0 for workers that share mini-batches.

    Raises:
      JobFailedError: processes keep dying.
    """
    Watchdog(math.inf)  # ends this process with whoever supervises it
    deaths: collections.deque[float] = collections.deque(maxlen=_MAX_DEATHS)
    with (
        tempfile.TemporaryDirectory(prefix="training-logs-") as logs,
        terminated_as_interrupted(),
    ):
        while True:
            processes = _start_all(arguments, num_workers, num_servers, Path(logs))
            try:
                code = _watch(processes, arguments, deaths)
            except KeyboardInterrupt:
                return _interrupt(processes)
            finally:
                _end(processes)
            if code is not None:
                return code
            print("all processes are started again, from the last checkpoint", file=sys.stderr)


def _watch(
    processes: list[_Process], arguments: Sequence[str], deaths: collections.deque[float]
) -> int | None:
    """Until the chief is done (its exit code), or all must be started again (None)."""
    while True:
        for place, process in enumerate(processes):
            code = process.popen.poll()
            if code is None:
                continue
            if process.cluster.is_chief and code >= 0 and code != LOST_PEER:
                return code
            if code == OK:  # it has seen that the chief is done, or is about to be
                continue
            _report_death(process, code)
            deaths.append(time.monotonic())
            if len(deaths) == _MAX_DEATHS and deaths[-1] - deaths[0] < _DEATHS_SECONDS:
                raise JobFailedError(
                    f"{_MAX_DEATHS} processes died within {_DEATHS_SECONDS / 60:.0f} minutes; "
                    "see their last words above"
                )
            is_alone = process.cluster.role == EVALUATOR or (
                process.cluster.asynchronous and process.cluster.role == WORKER
            )
            if not is_alone:
                return None
            processes[place] = _start(process.cluster, arguments, process.log)
        time.sleep(_POLL_SECONDS)


def _start_all(
    arguments: Sequence[str], num_workers: int, num_servers: int, logs: Path
) -> list[_Process]:
    sizes = {WORKER: num_workers}
    if num_servers:
        sizes |= {CHIEF: 1, PARAMETER_SERVER: num_servers}
    ports = iter(_free_ports(sum(sizes.values())))
    addresses = {
        role: tuple(f"localhost:{next(ports)}" for _ in range(size)) for role, size in sizes.items()
    }
    roles = [(role, index) for role, size in sizes.items() for index in range(size)]
    started = []
    for role, index in [*roles, (EVALUATOR, 0)]:
        cluster = Cluster(addresses, role, index)
        log = None if cluster.is_chief else logs / f"{role}-{index}.log"
        started.append(_start(cluster, arguments, log))
    return started


def _start(cluster: Cluster, arguments: Sequence[str], log: Path | None) -> _Process:
    environment = {
        **os.environ,
        VARIABLE: cluster.to_tf_config(),
        SUPERVISOR: str(os.getpid()),
    }
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(log.open("ab")) if log else None
        popen = subprocess.Popen(
            [sys.executable, "-m", "training.train", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,  # Ctrl-C is for us: the chief must save while others serve it
        )
    return _Process(cluster, popen, log)


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("localhost", 0))
        return [one.getsockname()[1] for one in sockets]


def _report_death(process: _Process, code: int) -> None:
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    print(f"\n{process.name} {how} and is started again", file=sys.stderr)
    if process.log and code >= 0:
        lines = process.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        print(*(f"  | {line}" for line in lines), sep="\n", file=sys.stderr)


def _interrupt(processes: Sequence[_Process]) -> int:
    """Let those that save do so while the others serve them."""
    savers = [one for one in processes if one.cluster.is_chief or not one.cluster.asynchronous]
    for process in savers:
        process.popen.terminate()
    codes = [_wait(process) for process in savers if process.cluster.is_chief]
    return INTERRUPTED if codes[0] < 0 else codes[0]


def _end(processes: Sequence[_Process]) -> None:
    for process in processes:
        process.popen.kill()
    for process in processes:
        process.popen.wait()


def _wait(process: _Process) -> int:
    try:
        return process.popen.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        print(f"{process.name} did not end within {_GRACE_SECONDS:.0f} s", file=sys.stderr)
        process.popen.kill()
        return process.popen.wait()


@contextlib.contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """In the block SIGTERM raises KeyboardInterrupt, as Ctrl-C does."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
