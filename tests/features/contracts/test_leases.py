"""One job a folder: two that start together, jobs that are killed, clocks that differ."""

import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from features.code_version import code_version
from features.contracts import leases
from features.contracts.leases import Lease
from features.errors import FOLDER_TAKEN, INTERRUPTED, OK, FolderTakenError
from features.storage import files
from tests import emulator, s3

ROOT = Path(__file__).parents[3]
ROUNDS = 50
HOUR_APART = ("2026-01-01T01:00:00+00:00", "2099-01-01T01:00:00+00:00")
# Runs in a process of its own, prints when it has the lease, and never releases it.
HOLD = """
import sys, time
from features.contracts import leases
with leases.hold(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[emulator.Emulator]:
    with emulator.start(tmp_path_factory.mktemp("emulator")) as served:
        yield served


@pytest.fixture(scope="module")
def started_s3() -> Iterator[s3.Emulator]:
    with s3.start() as served:
        yield served


@pytest.fixture(params=["disk", "started", "started_s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "disk":
        return str(tmp_path)
    served = request.getfixturevalue(request.param)
    served.wipe()
    scheme, module = ("gs", emulator) if request.param == "started" else ("s3", s3)
    return f"{scheme}://{module.BUCKET}/folder"


def write(folder: str, content: bytes) -> None:
    present = leases.find_lease(folder)
    expected = None if present is None else present.to_json()
    assert files.exchange(files.join(folder, Lease.FILE), expected, content) == content


def make_lease(**changes: object) -> Lease:
    """The lease of a job on another machine."""
    lease = Lease(
        owner="other",
        beat=0,
        expiry_seconds=0.6,
        command="python -m pipelines.extract_features",
        code=code_version(),
        host="other",
        process=None,
        started="2026-01-01T00:00:00+00:00",
        renewed="2026-01-01T00:00:00+00:00",
    )
    return dataclasses.replace(lease, **changes)  # type: ignore[arg-type]


def make_newer_lease() -> bytes:
    """The same lease, by a later version of the code."""
    return make_lease().to_json().replace(b'"format_version": 1', b'"format_version": 2')


def try_to_hold(folder: str, meet: Callable[[], object]) -> bool:
    meet()
    try:
        with leases.hold(folder) as holder:
            assert holder is not None
            meet()  # neither ends before both have tried
    except FolderTakenError:
        meet()
        return False
    return True


def try_in_rounds(folder: str, barrier: Barrier) -> list[bool]:
    return [try_to_hold(f"{folder}/{number}", barrier.wait) for number in range(ROUNDS)]


def test_of_two_jobs_that_start_together_one_runs(tmp_path: Path) -> None:
    for number in range(ROUNDS):
        (tmp_path / str(number)).mkdir()
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(2) as pool:
        barrier = manager.Barrier(2, timeout=30)
        first, second = pool.starmap(try_in_rounds, [(str(tmp_path), barrier)] * 2, chunksize=1)
    assert [a + b for a, b in zip(first, second, strict=True)] == [1] * ROUNDS
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_of_two_jobs_that_start_together_in_a_bucket_one_runs(started: emulator.Emulator) -> None:
    barrier = threading.Barrier(2, timeout=30)
    rounds = [f"gs://{emulator.BUCKET}/{number}" for number in range(ROUNDS)]
    started.set_faults(7)
    with ThreadPoolExecutor(2) as threads:
        for folder in rounds:
            tried = list(threads.map(lambda path: try_to_hold(path, barrier.wait), [folder] * 2))
            assert sorted(tried) == [False, True]
    started.set_faults(0)
    assert started.num_faults() > 0
    assert started.objects("") == {}


def test_the_second_job_is_told_who_runs_and_since_when(folder: str) -> None:
    with leases.hold(folder) as first:
        lease = leases.find_lease(folder)
        assert first is not None
        assert lease is not None
        assert lease.owner == first.owner
        with pytest.raises(FolderTakenError) as error, leases.hold(folder):
            pass
    assert lease.command in str(error.value)
    assert lease.started in str(error.value)
    assert error.value.exit_code == FOLDER_TAKEN
    assert leases.find_lease(folder) is None


def test_a_killed_process_of_this_machine_is_followed_at_once(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(FolderTakenError), leases.hold(str(tmp_path)):
            pass
        process.kill()
    start = time.monotonic()
    with leases.hold(str(tmp_path)) as holder:
        assert holder is not None
    assert time.monotonic() - start < leases.EXPIRY_SECONDS / 2


def test_a_process_that_proc_hides_may_be_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As other users' processes under hidepid: this /proc has none but that of the test."""
    for name in ("self", "sys", str(os.getpid())):
        (tmp_path / name).symlink_to(f"/proc/{name}")
    here = leases._this_process()
    assert here is not None
    monkeypatch.setattr(leases, "_PROC", tmp_path)
    with subprocess.Popen(["sleep", "600"]) as process:
        hidden = make_lease(process=dataclasses.replace(here, number=process.pid))
        found = hidden.is_running()
        process.kill()
    assert found is None
    assert hidden.is_running() is False
    assert make_lease(process=here).is_running()


@pytest.mark.parametrize("clock", HOUR_APART)
def test_a_dead_job_elsewhere_is_followed_after_its_expiry(folder: str, clock: str) -> None:
    write(folder, make_lease(started=clock, renewed=clock).to_json())
    start = time.monotonic()
    with leases.hold(folder) as holder:
        assert holder is not None
    assert time.monotonic() - start >= 0.6


@pytest.mark.parametrize("clock", HOUR_APART)
def test_a_live_job_elsewhere_keeps_its_folder(
    folder: str, clock: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_now", lambda: clock)
    monkeypatch.setattr(leases, "_this_process", lambda: None)  # as on another machine
    with leases.hold(folder, expiry_seconds=1.2):
        for _ in range(2):
            with pytest.raises(FolderTakenError), leases.hold(folder):
                pass


def test_a_job_waits_for_the_lease(folder: str) -> None:
    ends: dict[str, float] = {}

    def work() -> None:
        with leases.hold(folder, expiry_seconds=1.2):
            entered.set()
            time.sleep(0.5)
            ends["first"] = time.monotonic()

    entered = threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    entered.wait()
    with leases.hold(folder, wait=True):
        assert time.monotonic() > ends["first"]
    thread.join()


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN])
def test_a_job_whose_lease_is_taken_over_is_stopped(folder: str, handler: Any) -> None:
    def lose() -> None:
        signal.signal(signal.SIGINT, handler)  # a script ignores it for what it starts with &
        with leases.hold(folder, expiry_seconds=0.6):
            write(folder, make_lease().to_json())
            time.sleep(60)

    with pytest.raises(FolderTakenError, match="did not renew"):
        lose()
    lease = leases.find_lease(folder)
    assert lease is not None
    assert lease.owner == "other"


def test_a_job_that_returns_when_it_is_interrupted_has_lost_its_lease_too(tmp_path: Path) -> None:
    """As the supervisor of a training cluster, which lets its processes save."""

    def lose() -> int:
        with leases.hold(str(tmp_path), expiry_seconds=0.6):
            write(str(tmp_path), make_lease().to_json())
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                return INTERRUPTED
        return OK

    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(FolderTakenError, match="did not renew"):
        lose()


def test_a_job_of_another_version_that_takes_over_is_seen(tmp_path: Path) -> None:
    def lose() -> None:
        with leases.hold(str(tmp_path), expiry_seconds=0.6) as holder:
            assert holder is not None
            workers.append(leases.Member(str(tmp_path), holder.owner))
            write(str(tmp_path), make_newer_lease())
            time.sleep(60)

    workers: list[leases.Member] = []
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(FolderTakenError, match="did not renew"):
        lose()
    time.sleep(0.5)
    with pytest.raises(FolderTakenError, match="did not renew"):
        workers[0].require_held()
    assert (tmp_path / Lease.FILE).read_bytes() == make_newer_lease()


def test_a_process_of_the_holder_needs_no_lease(folder: str) -> None:
    """As the chief that a supervisor starts: with the environment of the holder."""
    code = "import sys; from features.contracts import leases\n"
    code += "with leases.hold(sys.argv[1]) as holder: print(holder)"
    with leases.hold(folder) as holder:
        assert holder is not None
        command = [sys.executable, "-c", code, folder]
        environment = {**os.environ, **holder.environment}
        assert subprocess.check_output(command, cwd=ROOT, text=True, env=environment) == "None\n"


def test_workers_renew_what_their_command_left(folder: str) -> None:
    with leases.hold(folder, expiry_seconds=0.6, on_cluster=True) as holder:
        assert holder is not None
        workers = [leases.Member(folder, holder.owner) for _ in range(3)]
        holder.leave_to_workers(queue_seconds=0.0)
    left = leases.find_lease(folder)
    with pytest.raises(FolderTakenError), leases.hold(folder):
        pass
    renewed = leases.find_lease(folder)
    assert left is not None
    assert renewed is not None
    assert renewed.owner == left.owner
    assert renewed.beat > left.beat
    for worker in workers:
        worker.require_held()
    write(folder, make_lease().to_json())
    time.sleep(0.5)
    for worker in workers:
        with pytest.raises(FolderTakenError):
            worker.require_held()


def test_a_job_that_waits_for_its_workers_keeps_its_folder(folder: str) -> None:
    with leases.hold(folder, expiry_seconds=0.6, on_cluster=True) as holder:
        assert holder is not None
        holder.leave_to_workers(queue_seconds=60.0)
    worker = threading.Timer(1.2, lambda: leases.Member(folder, holder.owner))
    worker.start()
    with pytest.raises(FolderTakenError), leases.hold(folder):
        pass
    renewed = leases.find_lease(folder)
    assert renewed is not None
    assert (renewed.owner, renewed.dead_after_seconds) == (holder.owner, 0.6)
    assert not worker.is_alive()


def test_a_lease_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / Lease.FILE).write_bytes(make_newer_lease())
    with pytest.raises(FolderTakenError, match="format_version is 2"), leases.hold(str(tmp_path)):
        pass
    assert (tmp_path / Lease.FILE).read_bytes() == make_newer_lease()


def test_a_process_that_died_before_it_wrote_left_no_lease(tmp_path: Path) -> None:
    (tmp_path / Lease.FILE).touch()
    with leases.hold(str(tmp_path)) as holder:
        assert holder is not None
    assert list(tmp_path.iterdir()) == []


def test_a_filesystem_without_conditional_writes_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with leases.hold("azfs://account/bucket/folder") as holder:
        assert holder is None
    assert "would not be noticed" in capsys.readouterr().err
