"""Processes of this machine that run `training.train` under the eyes of this process."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from training.distributed.watchdog import SUPERVISOR

POLL_SECONDS = 0.2
# Time for a process to save and end before it is killed.
_GRACE_SECONDS = 300.0
_LOG_LINES = 12


@dataclasses.dataclass(frozen=True)
class TrainingProcess:
    """A started `training.train`, whose watchdog ends it when this process ends.

    Attributes:
      name: for messages.
      popen: the process.
      log: file of its output; None if it writes to the output of this process.
    """

    name: str
    popen: subprocess.Popen
    log: Path | None

    @classmethod
    def start(
        cls,
        name: str,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path | None,
    ) -> Self:
        """Start the command, with more variables than those of this process."""
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(log.open("ab")) if log else None
            popen = subprocess.Popen(
                [sys.executable, "-m", "training.train", *arguments],
                env={**os.environ, **environment, SUPERVISOR: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                # Ctrl-C reaches this process alone, which decides who is stopped, and when.
                start_new_session=True,
            )
        return cls(name, popen, log)

    def wait(self) -> int:
        """Wait for the process to save and end, or kill it; returns its exit code."""
        try:
            return self.popen.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            print(f"{self.name} did not end within {_GRACE_SECONDS:.0f} s", file=sys.stderr)
            self.popen.kill()
            return self.popen.wait()

    def print_log(self) -> list[str]:
        """Print the last lines of the log to stderr; returns all lines."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log else []
        print(*(f"  | {line}" for line in lines[-_LOG_LINES:]), sep="\n", file=sys.stderr)
        return lines


def kill(processes: Iterable[TrainingProcess]) -> None:
    """Kill processes, finished or not, and wait for their end."""
    started = list(processes)
    for process in started:
        process.popen.kill()
    for process in started:
        process.popen.wait()


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """In the block SIGTERM raises KeyboardInterrupt, as Ctrl-C does."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
