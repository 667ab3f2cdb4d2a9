"""Decoding in a child process, so that a file that crashes or hangs the decoder costs only itself.

FFmpeg is a million lines of C that reads untrusted bytes. A worker that dies with it would be
restarted by its runner on the same file, until the job fails. The child lives as long as its
worker; a new one is started (0.5 s) only after it had to be killed. It needs neither Beam nor
TensorFlow, and patches come back through a pipe (23 MB an hour of sound).
"""

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

import numpy as np

from features.front_end import FrontEnd
from features.outcome import AudioError, Outcome
from features.soundtrack import PatchSample, soundtrack_patches

_START_SECONDS = 120.0  # for a child to import what it needs on a busy machine
_END_SECONDS = 10.0  # from the end of its pipe to the end of a process
_READY = "ready"
# A minute of sound, 400 KB.
_PATCHES_PER_MESSAGE = 64
# Children that no thread is using now.
_idle: list["DecoderProcess"] = []


@contextlib.contextmanager
def decoder_process() -> Iterator["DecoderProcess"]:
    """A child process to decode with, from the worker's idle ones or a new one."""
    child = _idle.pop() if _idle else DecoderProcess()
    try:
        yield child
    except BaseException:
        child.kill()  # it may still be sending
        raise
    _idle.append(child)


@atexit.register
def _end_idle() -> None:
    while _idle:
        _idle.pop().kill()


class DecoderProcess:
    """A child process that turns soundtracks into patches."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._connection, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                # The packages are found here as in the parent, wherever that was started.
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                cwd=Path(__file__).parents[1],
            )
        try:
            ready = self._connection.poll(_START_SECONDS) and self._receive() == _READY
        except AudioError:
            ready = False
        if not ready:  # no fault of any file
            self.kill()
            raise RuntimeError(f"{__name__} did not start; see its message above")

    def patches(
        self,
        uri: str,
        front_end: FrontEnd,
        *,
        start_seconds: float,
        end_seconds: float | None,
        sample: PatchSample | None,
        timeout_seconds: float,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """As `features.soundtrack.soundtrack_patches`, within a time limit.

        Raises:
          AudioError: also of `Outcome.TIMEOUT` and `Outcome.DECODER_CRASHED`.
          RuntimeError: the child met a bug; the message has its traceback.
        """
        if self._process.poll() is not None:
            self._start()
        deadline = time.monotonic() + timeout_seconds
        self._connection.send((uri, front_end, start_seconds, end_seconds, sample))
        while True:
            if not self._connection.poll(max(0.0, deadline - time.monotonic())):
                self.kill()
                raise AudioError(
                    Outcome.TIMEOUT,
                    f"not done within {timeout_seconds:g} s; the decoder was killed",
                )
            answer = self._receive()
            if isinstance(answer, tuple):
                yield answer
            elif isinstance(answer, AudioError):
                raise answer
            elif answer is None:
                return
            else:
                raise RuntimeError(f"while decoding {uri}:\n{answer}")

    def _receive(self) -> object:
        try:
            return self._connection.recv()
        except (EOFError, ConnectionResetError) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)
            self.kill()
            code = self._process.returncode
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            raise AudioError(
                Outcome.DECODER_CRASHED, f"the decoder process ended with {how}"
            ) from error

    def kill(self) -> None:
        """End the child; the next use starts another."""
        self._process.kill()
        self._process.wait()
        self._connection.close()


def _serve(connection: Connection) -> None:
    """The child: one request after another, until the parent is gone."""
    parent = os.getppid()
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    connection.send(_READY)
    while True:
        try:
            uri, front_end, start, end, sample = connection.recv()
        except EOFError:
            return
        try:
            chunks = soundtrack_patches(
                uri, front_end, start_seconds=start, end_seconds=end, sample=sample
            )
            for message in _collected(chunks):
                connection.send(message)
            connection.send(None)
        except AudioError as error:
            connection.send(error)
        except (BrokenPipeError, ConnectionResetError):
            return
        except Exception:  # noqa: BLE001 - a bug, for the parent to raise
            connection.send(traceback.format_exc())


def _collected(
    chunks: Iterator[tuple[np.ndarray, np.ndarray]],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same patches in fewer messages; the parent spends its time on receiving them."""
    held: list[tuple[np.ndarray, np.ndarray]] = []
    try:
        for chunk in chunks:
            held.append(chunk)
            if sum(len(indices) for indices, _ in held) >= _PATCHES_PER_MESSAGE:
                yield _joined(held)
                held = []
    except AudioError:
        if held:  # what comes before an error is good
            yield _joined(held)
        raise
    if held:
        yield _joined(held)


def _joined(held: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    indices, patches = zip(*held, strict=True)
    return np.concatenate(indices), np.concatenate(patches)


def _end_with_parent(parent: int) -> None:
    """A decoder that hangs does not notice that its worker was killed; this thread does."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


if __name__ == "__main__":
    # Ctrl-C goes to the whole group; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _serve(Connection(int(sys.argv[1])))
