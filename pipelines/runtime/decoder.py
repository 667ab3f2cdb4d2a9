"""Decoding in a child process, so that a file that crashes or hangs the decoder costs only itself.

FFmpeg is a million lines of C that reads untrusted bytes. If a worker crashed with it, the runner
would restart the worker on the same file until the job fails. The child process lives as long as
the worker; another one is started (0.5 s) only after a kill. The child imports neither Beam nor
TensorFlow. It writes patches into the file of the worker's spool and sends only their indices.
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
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path

import numpy as np

from features.front_end.front_end import FrontEnd
from features.sound.outcome import AudioError, Outcome
from features.sound.soundtrack import PatchChunk, PatchSample, soundtrack_patches
from pipelines.runtime.spool import PatchSpool, write_patches

_START_SECONDS = 120.0  # for a child to import what it needs on a busy machine
_END_SECONDS = 10.0  # from the end of the pipe to the end of the process
_READY = "ready"
_PATCHES_PER_MESSAGE = 64  # a minute of sound
# By default glibc returns large blocks to the system as soon as they are free, and the page faults
# of the next block of samples cost up to a fifth of the CPU time of decoding. Keep 64 MB instead.
MEMORY_SETTINGS = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
# Child processes that no thread is using.
_idle: list["DecoderProcess"] = []


@contextlib.contextmanager
def decoder_process() -> Iterator["DecoderProcess"]:
    """Borrow a child process of the worker that is idle, or start one."""
    child = _idle.pop() if _idle else DecoderProcess()
    try:
        yield child
    except BaseException:
        child.kill()  # it may still be sending
        raise
    _idle.append(child)


@atexit.register
def end_idle() -> None:
    """End the idle child processes; later ones start with the environment of that time."""
    while _idle:
        _idle.pop().kill()


class DecoderProcess:
    """A child process that turns soundtracks into patches."""

    def __init__(self) -> None:
        self.cpu_seconds = 0.0  # of all files, good or bad, that were decoded without a kill
        # Patches of the last file, if a sample of them was drawn.
        self.drawn_from: int | None = None
        self._start()

    def _start(self) -> None:
        self._connection, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={
                    **os.environ,
                    **MEMORY_SETTINGS,
                    # The child finds the same packages, wherever the parent was started.
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                },
                cwd=Path(__file__).parents[2],
            )
        try:
            ready = self._connection.poll(_START_SECONDS) and self._receive() == _READY
        except AudioError:
            ready = False
        if not ready:  # not the fault of a file
            self.kill()
            raise RuntimeError(f"{__name__} did not start; see its message above")

    def decode(
        self,
        uri: str,
        front_end: FrontEnd,
        spool: PatchSpool,
        *,
        start_seconds: float = 0.0,
        end_seconds: float | None = None,
        sample: PatchSample | None = None,
        timeout_seconds: float,
    ) -> Iterator[np.ndarray]:
        """Run `features.sound.soundtrack.soundtrack_patches` within a time limit, into a spool.

        Yields:
          Indices of the patches that were appended to the spool, int64 [patches].

        Raises:
          AudioError: also of `Outcome.TIMEOUT` and `Outcome.DECODER_CRASHED`.
          OSError: the spool cannot be written, as on a full disk.
          RuntimeError: a bug in the child; the message has the traceback.
        """
        if self._process.poll() is not None:
            self._start()
        self.drawn_from = None
        deadline = time.monotonic() + timeout_seconds
        self._connection.send((uri, front_end, start_seconds, end_seconds, sample, spool.num_bytes))
        send_handle(self._connection, spool.fileno(), self._process.pid)
        while True:
            if not self._connection.poll(max(0.0, deadline - time.monotonic())):
                self.kill()
                raise AudioError(
                    Outcome.TIMEOUT,
                    f"not done within {timeout_seconds:g} s; the decoder was killed",
                )
            answer = self._receive()
            if isinstance(answer, np.ndarray):
                spool.extend(len(answer))
                yield answer
            elif isinstance(answer, int):
                self.drawn_from = answer
            elif isinstance(answer, float):
                self.cpu_seconds += answer
            elif isinstance(answer, AudioError | OSError):
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
        """End the child process; the next use starts another."""
        self._process.kill()
        self._process.wait()
        self._connection.close()


def _serve(connection: Connection) -> None:
    """Main loop of the child: answer requests until the parent is gone."""
    parent = os.getppid()
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # parent is gone
        connection.send(_READY)
        while True:
            _answer(connection)


def _answer(connection: Connection) -> None:
    uri, front_end, start, end, sample, offset = connection.recv()
    file = recv_handle(connection)
    start_cpu = time.process_time()
    answer: object = None
    try:
        chunks = soundtrack_patches(
            uri, front_end, start_seconds=start, end_seconds=end, sample=sample
        )
        for written in _written(chunks, file, offset):
            connection.send(written)
    except (BrokenPipeError, ConnectionResetError):
        raise
    except (AudioError, OSError) as error:
        answer = error
    except MemoryError as error:  # what a file asks for is no bug
        answer = AudioError(Outcome.DECODER_CRASHED, f"out of memory: {error}")
    except Exception:  # noqa: BLE001 - a bug, for the parent to raise
        answer = traceback.format_exc()
    finally:
        os.close(file)
    connection.send(time.process_time() - start_cpu)
    connection.send(answer)


def _written(chunks: Iterator[PatchChunk], file: int, offset: int) -> Iterator[np.ndarray | int]:
    """Write patches to a file from `offset` on.

    Yields:
      Their indices in larger arrays; of a sample, before them, the number it was drawn from.
    """
    unsent: list[np.ndarray] = []
    try:
        for indices, patches, drawn_from in chunks:
            if drawn_from is not None:
                yield drawn_from
            offset += write_patches(file, patches, offset)
            unsent.append(indices)
            if sum(map(len, unsent)) >= _PATCHES_PER_MESSAGE:
                yield np.concatenate(unsent)
                unsent = []
    except AudioError:
        if unsent:  # patches before the error are good
            yield np.concatenate(unsent)
        raise
    if unsent:
        yield np.concatenate(unsent)


def _end_with_parent(parent: int) -> None:
    """End this process after its worker was killed, which a decoder that hangs does not notice."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


if __name__ == "__main__":
    # Ctrl-C reaches the whole process group; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _serve(Connection(int(sys.argv[1])))
