"""How jobs are run: dry runs, and what a command makes of the errors of a runner."""

from collections.abc import Callable
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from features.errors import InputError, JobFailedError, StoreRefusalError, TooManyRejectsError
from pipelines.runtime import launch
from pipelines.runtime.failure import Failure, fail, name_place


def options(*flags: str) -> PipelineOptions:
    _, parsed = launch.parse(launch.parser("pipelines.test", "", "A job."), flags)
    return parsed


def run_stage(stage: beam.PTransform, output: Path) -> None:
    def build(pipeline: beam.Pipeline) -> None:
        _ = pipeline | beam.Create([str(output)]) | stage

    launch.run(build, options(), str(output), clear=lambda: None)


def raise_bug(output: str) -> None:
    raise RuntimeError(f"cannot decode {output}")


def raise_long_bug(output: str) -> None:
    raise RuntimeError(f"cannot decode:\nKeyboardInterrupt {output}")


def raise_interrupt(output: str) -> None:
    raise KeyboardInterrupt


def reject_all(output: str) -> None:
    fail(output, TooManyRejectsError("9 of 10 videos are rejected"))


def refuse_process(output: str) -> None:
    with name_place("shard 3"):
        raise StoreRefusalError(f"{output}: the token has expired; renew it")


def test_a_dry_run_neither_writes_nor_removes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def build(pipeline: beam.Pipeline) -> None:
        _ = pipeline | beam.Create([1]) | beam.Map(print)

    def clear() -> None:
        pytest.fail("a dry run removes nothing")

    with pytest.raises(SystemExit) as left:
        launch.run(build, options("--dry-run"), str(tmp_path / "output"), clear=clear)

    assert left.value.code == 0
    assert list(tmp_path.iterdir()) == []
    assert "dry run: nothing was started" in capsys.readouterr().out


def test_temporary_files_of_killed_jobs_are_deleted(tmp_path: Path) -> None:
    def build(pipeline: beam.Pipeline) -> None:
        _ = pipeline | beam.Create([1])

    (tmp_path / "transform_temp-of-another" / "deep").mkdir(parents=True)
    (tmp_path / "transform_temp-of-another" / "deep" / "file").touch()
    (tmp_path / "transform").mkdir()
    own = launch.temporary_folder(str(tmp_path), options())

    launch.run(build, options(), str(tmp_path), clear=lambda: None, temp_dir=own)

    assert [path.name for path in tmp_path.iterdir()] == ["transform"]


def test_a_folder_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(InputError, match=r"file/output cannot be written: .*; a part of the path"):
        run_stage(beam.Map(raise_bug), tmp_path / "file" / "output")


def test_a_store_that_refuses_a_worker_fails_the_job_with_its_reason_alone(tmp_path: Path) -> None:
    with pytest.raises(JobFailedError) as error:
        run_stage(beam.Map(refuse_process), tmp_path)
    assert str(error.value) == f"{tmp_path}: the token has expired; renew it"


def test_temporary_files_of_tensorflow_lie_where_it_opens_them() -> None:
    local, flink = options(), options("--runner=FlinkRunner")
    assert launch.temporary_folder("gs://b/data", flink).startswith("gs://b/data/transform_temp-")
    folder = Path(launch.temporary_folder("s3://b/data", local))
    folder.rmdir()  # it exists on this machine
    with pytest.raises(InputError, match=r"--output s3://b/data: .* FlinkRunner .*leave out"):
        launch.temporary_folder("s3://b/data", flink)


@pytest.mark.parametrize("stage", [raise_bug, raise_long_bug])
def test_a_path_in_an_error_is_no_interrupt(tmp_path: Path, stage: Callable[[str], None]) -> None:
    """Exit code 130 would say that a person stopped the job."""
    with pytest.raises(RuntimeError, match="cannot decode"):
        run_stage(beam.Map(stage), tmp_path / "KeyboardInterrupt")


def test_an_interrupt_that_the_runner_wraps_is_one(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_stage(beam.Map(raise_interrupt), tmp_path)


def test_the_reason_of_a_stage_is_the_error(tmp_path: Path) -> None:
    with pytest.raises(TooManyRejectsError) as error:
        run_stage(beam.Map(reject_all), tmp_path)

    assert str(error.value) == "9 of 10 videos are rejected"
    failure = Failure.from_json((tmp_path / Failure.FILE).read_bytes(), "")
    assert failure == Failure(exit_code=3, message="9 of 10 videos are rejected")


def test_the_reason_of_an_earlier_run_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / Failure.FILE).write_bytes(Failure(exit_code=3, message="earlier").to_json())

    run_stage(beam.Map(len), tmp_path)

    assert not (tmp_path / Failure.FILE).exists()
