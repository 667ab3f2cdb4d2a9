"""Jobs on several processes of this machine that are killed, interrupted, or asked in vain."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from features.errors import InputError
from pipelines import extract_features, prepare_dataset
from pipelines.corpus.encoding import write_media
from pipelines.runtime import accelerator, process_pool
from pipelines.runtime.process_pool import default_workers  # not that of `single_worker`
from tests.benchmarks.measurement import Lane, descendants
from tests.conftest import known_labels

RATE = 16_000
MODULE = ["-m", "pipelines.extract_features"]
# As the installed script does.
SCRIPT = ["-c", "import sys; from features import commands; sys.exit(commands.main())"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 times the same minute of noise in 16 shards: a second or two of work."""
    folder = tmp_path_factory.mktemp("workers")
    noise = 0.1 * np.random.default_rng(0).standard_normal((60 * RATE, 1))
    write_media(folder / "noise.flac", noise.astype(np.float32), sample_rate=RATE, codec="flac")
    rows = [f"v{index},noise.flac,x,train" for index in range(64)]
    (folder / "m.csv").write_text("\n".join(["id,uri,labels,split", *rows]))
    flags = ["--manifest", str(folder / "m.csv"), known_labels(folder / "m.csv")]
    prepare_dataset.main([*flags, "--output", str(folder / "data")])
    return folder / "data"


def start(dataset: Path, output: Path, command: list[str] = MODULE) -> subprocess.Popen[str]:
    flags = ["--dataset", str(dataset), "--output", str(output), "--workers=2"]
    return subprocess.Popen(
        [sys.executable, *command, *flags],
        start_new_session=True,
        # A shell that runs the tests in the background has it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 180
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def wait_for_the_first_shard(output: Path) -> None:
    wait_until(lambda: list(output.glob("*/*/patches-*.json")))


def worker_processes(job: int) -> list[int]:
    """They have the command line of the fork server, which is forked, and not executed again."""
    forked = [pid for pid in descendants(job) if b"forkserver" in command_of(pid)]
    return [pid for pid in forked if any(pid in descendants(other) for other in forked)]


def are_gone(pids: list[int]) -> bool:
    return not any(map(command_of, pids))


def command_of(pid: int) -> bytes:
    """Empty where the process has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def modified(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob("*/*/patches-*.json")}


def test_a_killed_worker_fails_the_job_at_once_and_it_goes_on_when_run_again(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = start(dataset, tmp_path)
    wait_for_the_first_shard(tmp_path)
    below = descendants(job.pid)
    os.kill(worker_processes(job.pid)[0], signal.SIGKILL)
    _, errors = job.communicate(timeout=120)

    assert job.returncode == 1
    assert errors.strip().splitlines()[-1].startswith("error: a worker process was ended by a")
    assert "Traceback" not in errors
    wait_until(lambda: are_gone(below))
    done = modified(tmp_path)
    assert 0 < len(done) < 16
    assert extract_features.main(["--dataset", str(dataset), "--output", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("64 videos = 64 written")
    assert done.items() <= modified(tmp_path).items()


@pytest.mark.parametrize(
    ("command", "cause", "code"),
    [
        ([*SCRIPT, "extract-features"], signal.SIGINT, 130),
        (MODULE, signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_no_process_outlives_an_interrupted_or_killed_job(
    dataset: Path, tmp_path: Path, command: list[str], cause: signal.Signals, code: int
) -> None:
    job = start(dataset, tmp_path, command)
    wait_for_the_first_shard(tmp_path)
    below = descendants(job.pid)
    assert below
    if cause is signal.SIGINT:
        os.killpg(job.pid, cause)  # as a terminal does
    else:
        job.kill()
    _, errors = job.communicate(timeout=120)

    assert job.returncode == code
    assert "Traceback" not in errors
    wait_until(lambda: are_gone(below))


def test_a_job_in_a_child_process_ends(dataset: Path, tmp_path: Path) -> None:
    flags = ["--dataset", str(dataset), "--output", str(tmp_path), "--workers=2"]
    with Lane() as lane:  # whose process ends with the block, and its workers before it
        assert lane(extract_features.main, flags)[1] == 0


def visible_gpus(seconds: float) -> str | None:
    time.sleep(seconds)
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def test_each_worker_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "find_gpus", lambda: ["2", "GPU-a"])
    with process_pool.end_with_job():
        found = list(process_pool.pool(2).map(visible_gpus, [0.5] * 6))
    assert set(found) == {"2", "GPU-a"}


def number(wanted: int | None, *flags: str) -> int:
    return process_pool.num_workers(wanted, PipelineOptions(list(flags)))


def test_how_many_workers() -> None:
    local = "--runner=FnApiRunner"
    assert number(3, local) == 3
    assert number(None, local) == process_pool.default_workers()
    assert 1 <= default_workers() <= len(os.sched_getaffinity(0))
    # Those of the runner itself.
    assert number(None, "--runner=FlinkRunner") == 1
    assert number(None, local, "--direct_num_workers=2") == 1
    with pytest.raises(InputError, match=r"--workers 2: .* received --runner=DataflowRunner.*"):
        number(2, "--runner=DataflowRunner")
    with pytest.raises(InputError, match=r"without --direct_num_workers"):
        number(1, local, "--direct_num_workers=2")
    with pytest.raises(InputError, match="--workers: received 0; give 1 or more"):
        number(0, local)


def test_memory_limits_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_pool, "available_memory_mb", lambda: 900)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64))
    assert default_workers() == 2
    monkeypatch.setattr(process_pool, "available_memory_mb", lambda: 100)
    assert default_workers() == 1
