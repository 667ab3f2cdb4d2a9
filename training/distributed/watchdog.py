"""Time limits for everything that a process of a cluster waits for."""

import contextlib
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Self

from features.errors import JobFailedError

# Exit code: another process of the cluster was lost; the same command resumes from the last
# checkpoint. A supervisor restarts the process.
LOST_PEER = 4
# Environment variable that a supervisor sets to its process id: the processes that it starts end
# when it ends, even if it is killed.
SUPERVISOR = "SOUNDTRACK_SUPERVISOR_PID"
_ALARM_AFTER_SECONDS = 5.0


class LostPeerError(JobFailedError):
    """Another process of the cluster did not appear in time, or is gone."""

    exit_code = LOST_PEER


class Watchdog:
    """Ends this process, with a message, if a wait takes too long or the supervisor is gone.

    A context manager: a thread watches while the block runs. A thread, because the watched calls
    are inside TensorFlow and cannot be interrupted otherwise. If such a call holds Python's lock,
    the thread cannot run either; the system's alarm then ends the process a little later, without
    the message.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._deadline, self._wanted = math.inf, ""
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        self._stopped.clear()
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()

    @contextlib.contextmanager
    def waiting_for(self, wanted: str) -> Iterator[None]:
        """Limit the duration of the block; `wanted` completes "... did not appear"."""
        self._wanted = wanted
        self._deadline = time.monotonic() + self.seconds
        alarm = self.seconds + _ALARM_AFTER_SECONDS if math.isfinite(self.seconds) else 0
        signal.setitimer(signal.ITIMER_REAL, alarm)
        try:
            yield
        finally:
            self._deadline = math.inf
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _watch(self) -> None:
        supervisor = os.environ.get(SUPERVISOR)
        while not self._stopped.wait(min(1.0, self.seconds / 4)):
            if supervisor and os.getppid() != int(supervisor):
                os._exit(LOST_PEER)
            if time.monotonic() > self._deadline:
                print(
                    f"\nerror: {self._wanted} did not appear within {self.seconds:.0f} s; "
                    "run the same command again: it resumes from the last checkpoint",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(LOST_PEER)


def wait_for_address(address: str, who: str, seconds: float) -> None:
    """Wait until something listens at host:port.

    Raises:
      LostPeerError: nothing listens after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not is_listening(address):
        if time.monotonic() > deadline:
            raise LostPeerError(
                f"{who} did not appear at {address} within {seconds:.0f} s; "
                "start it there, then run the same command again"
            )
        time.sleep(0.2)


def is_listening(address: str) -> bool:
    """Whether something accepts connections at host:port."""
    host, port = address.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=5):
            return True
    except OSError:
        return False
