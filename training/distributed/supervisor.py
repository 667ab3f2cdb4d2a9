"""A cluster of processes on this machine: starts the processes and restarts those that die.

An asynchronous worker or the evaluator is restarted beside the others. If the chief, a parameter
server, or a worker that shares mini-batches dies, all processes restart from the last checkpoint.
"""

import collections
import contextlib
import dataclasses
import math
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
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
from training.distributed.processes import POLL_SECONDS, TrainingProcess, kill, sigterm_as_interrupt
from training.distributed.watchdog import LOST_PEER, Watchdog

# Give up after this many deaths within this many seconds: restarting does not remove their cause.
_MAX_DEATHS, _DEATHS_SECONDS = 6, 600.0


@dataclasses.dataclass(frozen=True)
class _Member:
    """A process of the cluster."""

    cluster: Cluster
    process: TrainingProcess

    @classmethod
    def start(
        cls, cluster: Cluster, arguments: Sequence[str], environment: Mapping[str, str], logs: Path
    ) -> "_Member":
        name = f"{cluster.role} {cluster.index}"
        process = TrainingProcess.start(
            name,
            arguments,
            environment={**environment, VARIABLE: cluster.to_tf_config()},
            log=None if cluster.is_chief else logs / f"{name.replace(' ', '-')}.log",
        )
        return cls(cluster, process)

    @property
    def can_restart_alone(self) -> bool:
        """Whether the other processes continue without this one."""
        role = self.cluster.role
        return role == EVALUATOR or (self.cluster.asynchronous and role == WORKER)


def supervise(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    num_workers: int,
    num_servers: int,
    validates: bool,
) -> int:
    """Train in processes of this machine; returns the exit code of the chief.

    Args:
      arguments: of `training.train`, for all processes.
      environment: more variables than those of this process.
      num_workers: processes that compute gradients.
      num_servers: processes that hold the variables; 0 for workers that share mini-batches.
      validates: whether there are patches to validate on, for an evaluator.

    Raises:
      JobFailedError: processes keep dying.
    """
    deaths: collections.deque[float] = collections.deque(maxlen=_MAX_DEATHS)
    with (
        Watchdog(math.inf),  # ends this process with the process that supervises it
        tempfile.TemporaryDirectory(prefix="training-logs-") as folder,
        sigterm_as_interrupt(),
    ):
        logs = Path(folder)
        while True:
            members = [
                _Member.start(cluster, arguments, environment, logs)
                for cluster in _local_cluster(num_workers, num_servers, validates=validates)
            ]
            try:
                code = _watch(members, arguments, environment, logs, deaths)
            except KeyboardInterrupt:
                return _interrupt(members)
            finally:
                kill(member.process for member in members)
            if code is not None:
                return code
            print("all processes restart from the last checkpoint", file=sys.stderr)


def _watch(
    members: list[_Member],
    arguments: Sequence[str],
    environment: Mapping[str, str],
    logs: Path,
    deaths: collections.deque[float],
) -> int | None:
    """Wait until the chief is done (its exit code) or all processes must restart (None)."""
    while True:
        for place, member in enumerate(members):
            code = member.process.popen.poll()
            if code is None:
                continue
            if member.cluster.is_chief and code >= 0 and code != LOST_PEER:
                return code
            if code == OK:  # the chief is done, or is about to be
                continue
            _report_death(member.process, code)
            deaths.append(time.monotonic())
            if len(deaths) == _MAX_DEATHS and deaths[-1] - deaths[0] < _DEATHS_SECONDS:
                raise JobFailedError(
                    f"{_MAX_DEATHS} processes died within {_DEATHS_SECONDS / 60:.0f} minutes; "
                    "see the ends of their logs above"
                )
            if not member.can_restart_alone:
                return None
            members[place] = _Member.start(member.cluster, arguments, environment, logs)
        time.sleep(POLL_SECONDS)


def _local_cluster(num_workers: int, num_servers: int, *, validates: bool) -> list[Cluster]:
    """The cluster as each of its processes sees it, on free ports of this machine."""
    sizes = {WORKER: num_workers}
    if num_servers:
        sizes |= {CHIEF: 1, PARAMETER_SERVER: num_servers}
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(sum(sizes.values()))]
        for bound in sockets:
            bound.bind(("localhost", 0))
        ports = iter([bound.getsockname()[1] for bound in sockets])
    addresses = {
        role: tuple(f"localhost:{next(ports)}" for _ in range(size)) for role, size in sizes.items()
    }
    roles = [(role, index) for role, size in sizes.items() for index in range(size)]
    if validates:
        roles.append((EVALUATOR, 0))
    return [Cluster(addresses, role, index) for role, index in roles]


def _report_death(process: TrainingProcess, code: int) -> None:
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    print(f"\n{process.name} {how} and restarts", file=sys.stderr)
    if code >= 0:
        process.print_log()


def _interrupt(members: Sequence[_Member]) -> int:
    """Let the processes that save do so while the others serve them."""
    savers = [m for m in members if m.cluster.is_chief or not m.cluster.asynchronous]
    for member in savers:
        member.process.popen.send_signal(signal.SIGTERM)
    (code,) = [member.process.wait() for member in savers if member.cluster.is_chief]
    return INTERRUPTED if code < 0 else code
