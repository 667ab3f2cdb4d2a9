"""Workers of another version of the code, and two jobs in one folder."""

import threading
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from features.contracts import leases
from features.contracts.leases import Lease
from features.errors import FolderTakenError, JobFailedError
from pipelines.runtime import launch, membership
from pipelines.runtime.failure import Failure
from pipelines.runtime.process_pool import MapOnWorkers

started, goes_on = threading.Event(), threading.Event()


def options(*flags: str) -> PipelineOptions:
    _, parsed = launch.parse(launch.parser("pipelines.test", "", "A job."), flags)
    return parsed


def work(output: str) -> None:
    started.set()
    assert goes_on.wait(60)
    (Path(output) / "work").touch()


def run_job(output: Path, *flags: str) -> None:
    def build(pipeline: beam.Pipeline) -> None:
        _ = pipeline | beam.Create([str(output)]) | MapOnWorkers(work, 1)

    def clear() -> None:
        assert (output / Lease.FILE).exists()

    launch.run(build, options(*flags), str(output), clear=clear)


def test_the_second_job_is_refused_or_waits(tmp_path: Path) -> None:
    output = tmp_path / "output"
    first = threading.Thread(target=run_job, args=[output])
    first.start()
    assert started.wait(60)

    with pytest.raises(FolderTakenError, match=r"by `.*` on .*, since 20.*--wait-for-lease"):
        run_job(output)

    assert not (output / "work").exists()
    second = threading.Thread(target=run_job, args=[output, "--wait-for-lease"])
    second.start()
    goes_on.set()
    first.join()
    second.join()
    assert [path.name for path in output.iterdir()] == ["work"]


def test_workers_of_another_version_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = iter(["1", *["2"] * 9])  # of the command, then of its workers
    monkeypatch.setattr(membership, "code_version", lambda: next(versions))

    with pytest.raises(JobFailedError, match="version 1 of the code, and a worker has 2"):
        run_job(tmp_path)

    assert (tmp_path / Failure.FILE).exists()
    assert leases.find_lease(str(tmp_path)) is None
