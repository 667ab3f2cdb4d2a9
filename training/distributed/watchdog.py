"""No process of a cluster waits for another for ever, without a word."""

import contextlib
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator

from features.errors import JobFailedError

# Exit code: a process of the cluster was lost, and the same command goes on from the last
# checkpoint. A supervisor starts it again.
LOST_PEER = 4
# Set by a supervisor to its own process id: what it started ends with it, even where it is killed.
SUPERVISOR = "SOUNDTRACK_SUPERVISOR_PID"
_ALARM_AFTER_SECONDS = 5.0


class LostPeerError(JobFailedError):
    """Another process of the cluster does not come, or went away."""

    exit_code = LOST_PEER


class Watchdog:
    """Ends this process, with a message, where what it waits for does not come in time.

    It does so from a thread of its own: the calls that it watches are inside TensorFlow, where
    nothing else can reach them. Where such a call holds Python's lock even the thread cannot run;
    then the system's alarm ends the process a little later, without the message.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._deadline, self._wanted = math.inf, ""
        threading.Thread(target=self._watch, daemon=True).start()

    @contextlib.contextmanager
    def waiting_for(self, wanted: str) -> Iterator[None]:
        """Allow the block so many seconds; `wanted` completes "... did not come"."""
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
        while True:
            time.sleep(min(1.0, self.seconds / 4))
            if supervisor and os.getppid() != int(supervisor):
                os._exit(LOST_PEER)
            if time.monotonic() > self._deadline:
                print(
                    f"\nerror: {self._wanted} did not come within {self.seconds:.0f} s; "
                    "run the same command again: it goes on from the last checkpoint",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(LOST_PEER)


def wait_for_address(address: str, who: str, seconds: float) -> None:
    """Wait until something listens at host:port.

    Raises:
      LostPeerError: nothing does after so many seconds.
    """
    deadline = time.monotonic() + seconds
    while not is_listening(address):
        if time.monotonic() > deadline:
            raise LostPeerError(
                f"{who} did not come to {address} within {seconds:.0f} s; "
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
