"""A decoder that crashes or hangs costs the file that it was decoding, and nothing else."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Pipe
from pathlib import Path

import numpy as np
import pytest
import soundfile

from features.front_end.front_end import FrontEnd
from features.sound.outcome import AudioError, Outcome
from features.sound.soundtrack import soundtrack_patches
from features.sound.waveform import RESAMPLER
from pipelines.runtime import decoder
from pipelines.runtime.decoder import DecoderProcess, decoder_process
from pipelines.runtime.spool import PatchSpool

FRONT_END = FrontEnd(resampler=RESAMPLER)
PAGE_BYTES = resource.getpagesize()


@pytest.fixture
def wav(tmp_path: Path) -> str:
    samples = np.random.default_rng(1).uniform(-0.5, 0.5, 16_000 * 5)
    soundfile.write(tmp_path / "a.wav", samples, 16_000)
    return str(tmp_path / "a.wav")


@pytest.fixture
def pipe(tmp_path: Path) -> str:
    """A file that opens only when somebody writes to it: nobody does."""
    os.mkfifo(tmp_path / "pipe.wav")
    return str(tmp_path / "pipe.wav")


@pytest.fixture
def child() -> Iterator[DecoderProcess]:
    process = DecoderProcess()
    yield process
    process.kill()


def decode(child: DecoderProcess, uri: str, timeout_seconds: float = 60.0) -> np.ndarray:
    shape = FRONT_END.log_mel.patch_shape
    with PatchSpool(FRONT_END.patch_bytes) as spool:
        chunks = list(child.decode(uri, FRONT_END, spool, timeout_seconds=timeout_seconds))
        np.testing.assert_array_equal(np.concatenate(chunks), np.arange(len(spool)))
        stored = b"".join(spool.read(index) for index in range(len(spool)))
    return np.frombuffer(stored, np.uint8).reshape(-1, *shape)


def test_patches_are_those_of_this_process(child: DecoderProcess, wav: str) -> None:
    expected = np.concatenate([chunk.patches for chunk in soundtrack_patches(wav, FRONT_END)])

    for _ in range(2):
        np.testing.assert_array_equal(decode(child, wav), expected)
    assert len(expected) == 5


def test_errors_of_the_file_come_back(child: DecoderProcess, wav: str) -> None:
    with pytest.raises(AudioError) as error:
        decode(child, wav + ".none")

    assert error.value.outcome is Outcome.NOT_FOUND
    assert len(decode(child, wav)) == 5


def test_a_hang_ends_at_the_time_limit(child: DecoderProcess, wav: str, pipe: str) -> None:
    with pytest.raises(AudioError) as error:
        decode(child, pipe, timeout_seconds=0.5)

    assert error.value.outcome is Outcome.TIMEOUT
    assert "0.5 s" in error.value.detail
    assert len(decode(child, wav)) == 5


def test_a_crash_costs_the_file(child: DecoderProcess, wav: str, pipe: str) -> None:
    # The pipe holds the child where a decoder would be when it follows a wild pointer.
    crash = threading.Timer(0.5, os.kill, (child._process.pid, signal.SIGSEGV))
    crash.start()

    with pytest.raises(AudioError) as error:
        decode(child, pipe)

    assert error.value.outcome is Outcome.DECODER_CRASHED
    assert "SIGSEGV" in error.value.detail
    assert len(decode(child, wav)) == 5


def test_a_child_is_used_again_and_not_after_an_error(wav: str) -> None:
    with decoder_process() as first:
        decode(first, wav)
    with decoder_process() as second:
        assert second is first

    def fail_inside() -> None:
        with decoder_process():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_inside()
    assert first not in decoder._idle
    assert first._process.poll() is not None


def test_a_bug_is_raised_with_its_traceback(child: DecoderProcess, wav: str) -> None:
    no_front_end: FrontEnd = None  # type: ignore[assignment]
    with (
        PatchSpool(1) as spool,
        pytest.raises(RuntimeError, match=r"(?s)while decoding .*Traceback.*AttributeError"),
    ):
        list(child.decode(wav, no_front_end, spool, timeout_seconds=60.0))


def test_too_little_memory_is_the_fault_of_the_file(
    child: DecoderProcess, wav: str, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "long.wav", np.zeros(16_000 * 120, np.int16), 16_000)
    assert len(decode(child, wav)) == 5  # with all imports
    memory = int(Path(f"/proc/{child._process.pid}/statm").read_text().split()[0]) * PAGE_BYTES
    resource.prlimit(child._process.pid, resource.RLIMIT_AS, (memory, memory))

    with pytest.raises(AudioError) as error:
        decode(child, str(tmp_path / "long.wav"))

    assert error.value.outcome is Outcome.DECODER_CRASHED
    assert "out of memory" in error.value.detail


def test_a_full_disk_is_no_fault_of_the_file(child: DecoderProcess, wav: str) -> None:
    class Full(PatchSpool):
        def fileno(self) -> int:
            return full.fileno()

    with (
        open("/dev/full", "wb", buffering=0) as full,  # noqa: PTH123
        Full(1) as spool,
        pytest.raises(OSError, match="No space left"),
    ):
        list(child.decode(wav, FRONT_END, spool, timeout_seconds=60.0))
    assert len(decode(child, wav)) == 5


def test_the_child_ends_with_its_parent(wav: str) -> None:
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:  # a worker that is killed while its child waits for a request
        process = DecoderProcess()
        os.write(writer, str(process._process.pid).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(parent, 0)
    child = int(os.read(reader, 20))
    os.close(reader)
    os.close(writer)

    deadline = time.monotonic() + 20
    while os.path.exists(f"/proc/{child}") and time.monotonic() < deadline:  # noqa: PTH110
        time.sleep(0.05)
        if Path(f"/proc/{child}/stat").exists():
            state = Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0]
            if state == "Z":
                return
    assert not Path(f"/proc/{child}").exists()


def test_a_child_that_starts_when_its_worker_is_gone_ends_quietly() -> None:
    ours, theirs = Pipe()
    ours.close()
    with theirs:
        command = [sys.executable, "-m", "pipelines.runtime.decoder", str(theirs.fileno())]
        done = subprocess.run(command, pass_fds=[theirs.fileno()], capture_output=True, timeout=120)

    assert (done.returncode, done.stderr) == (0, b"")
