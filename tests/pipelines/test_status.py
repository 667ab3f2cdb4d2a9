"""What is shown of a folder while a job writes it, after a crash, and when it is finished."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import apache_beam as beam
import pytest

from features.contracts import folders, forgotten, leases, progress
from features.contracts.documents import Features, Scores
from features.contracts.progress import Tallying
from features.errors import FAILED, InputError
from features.storage import files
from pipelines import status
from pipelines.cost.prices import read_prices
from pipelines.cost.status import Status, read_status
from pipelines.runtime import launch
from pipelines.runtime.counters import CountElements, Counts
from pipelines.runtime.failure import Failure
from tests import emulator

ROOT = Path(__file__).parents[2]
DOCUMENTS = ROOT / "tests" / "features" / "contracts" / "documents"
PRICES = read_prices(None)
# A job on its own folder that is killed: it never returns.
KILLED = """
import sys, time
from features.contracts import leases, progress
with leases.hold(sys.argv[1]):
    progress.begin(sys.argv[1], "run.json", unit="steps", total=500)
    print("begun", flush=True)
    time.sleep(600)
"""


def name_shard(index: int, total: int) -> str:
    return f"train/all/patches-{index:05d}-of-{total:05d}"


def measure(index: int) -> Counts:
    if index < 0:  # kept
        return Counts(sums={"shards_kept": 1}, element=name_shard(-index, 8))
    sums = {"shards_written": 1, "videos_written": 4, "videos_corrupt": index, "cpu_ms": 3_600_000}
    return Counts(sums=sums, element=name_shard(index, 8))


def stop(numbers: list[int]) -> None:
    raise RuntimeError(f"after {len(numbers)} shards")


def begin(output: Path) -> None:
    progress.begin(str(output), Features.FILE, total=8, kind="patches")
    (output / Features.FILE).unlink(missing_ok=True)


def run_job(output: Path, *shards: int) -> None:
    """Count some of eight shards, of which negative ones are kept, and fail."""

    def build(pipeline: beam.Pipeline) -> None:
        _ = (
            pipeline
            | beam.Create(shards)
            | CountElements("extract", measure, tallies=True)
            | beam.combiners.ToList()
            | beam.Map(stop)
        )

    _, options = launch.parse(launch.parser("pipelines.test", "", "A job."), [])
    with pytest.raises(RuntimeError, match=f"after {len(shards)} shards"):
        launch.run(build, options, str(output), clear=lambda: begin(output))
    (output / "train" / "all").mkdir(parents=True, exist_ok=True)
    for index in shards:
        (output / f"{name_shard(abs(index), 8)}.json").touch()


def look(output: Path) -> Status:
    return read_status(str(output), PRICES)


def test_an_unfinished_folder_adds_up_all_jobs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_job(tmp_path, 1, 2)
    first = look(tmp_path)
    run_job(tmp_path, 3, -1, 4, -2)
    second = look(tmp_path)

    assert (first.kind, first.finished, first.unit, first.job) == (
        "FEATURES",
        False,
        "shards",
        None,
    )
    assert (first.done, first.total, dict(first.rejects)) == (2, 8, {"corrupt": 1 + 2})
    assert first.cpu_hours == pytest.approx(2.0)
    assert first.cpu_hours_left == pytest.approx(6.0)
    assert (second.done, dict(second.rejects)) == (4, {"corrupt": 1 + 2 + 3 + 4})
    assert second.cpu_hours == pytest.approx(second.cpu_hours_left)
    assert set(second.last) < {name_shard(index, 8) for index in range(1, 5)}
    assert second.shards_per_hour is not None
    assert second.seconds_left == pytest.approx(3600 * 4 / second.shards_per_hour)
    rates = [platform.dollars_per_core_hour for platform in PRICES.platforms.values()]
    assert second.dollars == pytest.approx((4 * min(rates), 4 * max(rates)))

    assert status.main([str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "4 of 8 shards (50.0 %)" in shown
    assert "rejected: 10 corrupt" in shown
    assert "no job runs: run `python -m" in shown
    assert status.main([str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rejects"] == {"corrupt": 10}


def test_shards_that_will_be_made_again_are_not_done(tmp_path: Path) -> None:
    """As in every night after the first one, and with --force."""
    run_job(tmp_path, *range(8))
    (tmp_path / Features.FILE).touch()  # finished
    run_job(tmp_path, 3, -4)
    assert look(tmp_path).done == 2
    begin(tmp_path)  # after a kill
    assert look(tmp_path).done == 1
    (tmp_path / Features.FILE).touch()
    begin(tmp_path)
    assert look(tmp_path).done == progress.find_done(str(tmp_path)) == 0


def test_only_jobs_that_make_shards_leave_tallies(tmp_path: Path) -> None:
    """An audit counts the shards of a finished folder, and leaves it as it was."""

    def build(pipeline: beam.Pipeline) -> None:
        _ = pipeline | beam.Create([1, 2]) | CountElements("audit", measure)

    _, options = launch.parse(launch.parser("pipelines.test", "", "A job."), [])
    launch.run(build, options, str(tmp_path), clear=lambda: None)

    assert list(tmp_path.iterdir()) == []


def test_a_killed_job_is_said_to_have_died(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        (tmp_path / "checkpoints").mkdir()
        for step in (90, 120):
            (tmp_path / "checkpoints" / f"ckpt-{step}.index").touch()
        running = look(tmp_path)
        process.kill()
    died = look(tmp_path)

    assert running.job is not None
    assert running.job_is_running
    assert "wait for the job" in running.next
    assert (running.kind, running.done, running.total, running.unit) == ("RUN", 120, 500, "steps")
    assert died.job_is_running is False
    assert "has died" in died.next


def test_a_job_elsewhere_is_known_by_its_lease(tmp_path: Path) -> None:
    with leases.hold(str(tmp_path), on_cluster=True) as holder:
        assert holder is not None
        progress.begin(str(tmp_path), Scores.FILE, total=3, kind="scores")
        elsewhere = look(tmp_path)
        assert elsewhere.job_is_running is None
        assert "still renewed: last at" in elsewhere.next
        holder.leave_to_workers(queue_seconds=1800.0)
    assert "first worker of the job, for up to 30 min 00 s" in look(tmp_path).next


@pytest.mark.parametrize(
    ("name", "kind", "following"),
    [
        ("dataset.json", "DATASET", "pipelines.extract_features --dataset"),
        ("features.json", "FEATURES", "training.train RECIPE --features"),
        ("run.json", "RUN", "evaluation.score_videos --run"),
        ("scores.json", "SCORES", "evaluation.evaluate --scores"),
    ],
)
def test_a_finished_folder_names_the_next_command(
    tmp_path: Path, name: str, kind: str, following: str
) -> None:
    (tmp_path / name).write_bytes((DOCUMENTS / name).read_bytes())
    found = look(tmp_path)
    assert (found.kind, found.finished) == (kind, True)
    assert f"python -m {following} {tmp_path}" in found.next
    document = json.loads((DOCUMENTS / name).read_text())
    assert dict(found.rejects) == document.get("rejects", document.get("missing", {}))
    # Watching ends with the job.
    assert status.main([str(tmp_path), "--watch", "600"]) == 0


def test_scores_whose_removal_of_videos_was_stopped(tmp_path: Path) -> None:
    (tmp_path / Scores.FILE).write_bytes((DOCUMENTS / Scores.FILE).read_bytes())
    scores = folders.read_document(str(tmp_path), Scores)
    forgotten.begin_removal(str(tmp_path), scores, ["a"])
    stopped = look(tmp_path)

    assert (stopped.kind, stopped.finished) == ("SCORES", False)
    assert f"python -m pipelines.forget --ids FILE --scores {tmp_path}" in stopped.next
    assert scores.made_by.command in stopped.next


def test_a_folder_of_no_job_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no job of DATASET, FEATURES, RUN, SCORES"):
        look(tmp_path)
    with pytest.raises(InputError, match="--watch: received 0"):
        status.main([str(tmp_path), "--watch", "0"])


def test_progress_of_a_finished_folder_begins_again(tmp_path: Path) -> None:
    folder = str(tmp_path)
    progress.begin(folder, Features.FILE, total=8, kind="patches")
    tally = Tallying(folder, progress.find_job(folder))
    tally.add(name_shard(0, 8), {"shards_written": 1})
    tally.write()
    (tmp_path / Features.FILE).touch()
    progress.begin(folder, Features.FILE, total=9, kind="patches")
    plan = folders.find_document(folder, progress.JobProgress)
    assert plan is not None
    assert (plan.total, dict(plan.counts), list(tmp_path.rglob("tally-*"))) == (9, {}, [])
    progress.end(folder)
    assert [path.name for path in tmp_path.iterdir()] == [Features.FILE]


def test_the_last_shards_are_the_newest_of_all_workers(tmp_path: Path) -> None:
    begin(tmp_path)
    job = progress.find_job(str(tmp_path))
    workers = [Tallying(str(tmp_path), job) for _ in range(4)]
    for index in (0, 1, 2, 3, 4, 5):
        workers[index % 4].add(name_shard(index, 8), {"shards_written": 1})
        time.sleep(0.002)  # the clock of tallies is in milliseconds
    for worker in workers:
        worker.write()

    assert look(tmp_path).last == tuple(name_shard(index, 8) for index in (3, 4, 5))


def test_a_kill_while_a_job_begins_loses_no_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_job(tmp_path, 1, 2)

    def kill(paths: list[str]) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(files, "delete_files", kill)
        with pytest.raises(KeyboardInterrupt):
            begin(tmp_path)
    assert dict(look(tmp_path).rejects) == {"corrupt": 1 + 2}
    begin(tmp_path)
    found = look(tmp_path)
    assert (found.done, dict(found.rejects)) == (2, {"corrupt": 1 + 2})
    assert not list(tmp_path.rglob("tally-*"))


def test_watching_ends_with_a_failed_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(tmp_path)
    folders.write_document(str(tmp_path), Failure(exit_code=3, message="too many rejects"))

    assert status.main([str(tmp_path), "--watch", "600"]) == FAILED
    assert "last failure: too many rejects" in capsys.readouterr().out


def test_many_shards_take_little_time(tmp_path: Path) -> None:
    """A fifth of the time of 100,000 shards, which are allowed 10 s."""
    num_shards = 20_000
    progress.begin(str(tmp_path), Features.FILE, total=num_shards, kind="patches")
    tally = Tallying(str(tmp_path), progress.find_job(str(tmp_path)))
    (tmp_path / "train" / "all").mkdir(parents=True)
    for index in range(num_shards):
        path = f"{tmp_path}/{name_shard(index, num_shards)}.json"
        os.close(os.open(path, os.O_CREAT))
    tally.add("", {"shards_written": num_shards})
    tally.write()

    start = time.process_time()
    found = look(tmp_path)
    seconds = time.process_time() - start

    assert (found.done, found.total) == (num_shards, num_shards)
    assert seconds < 2


def test_requests_do_not_grow_with_the_shards(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = f"gs://{emulator.BUCKET}/features"
    num_shards = 100
    with emulator.start(tmp_path_factory.mktemp("emulator")) as bucket:
        progress.begin(folder, Features.FILE, total=num_shards, kind="patches")
        tally = Tallying(folder, progress.find_job(folder))
        for index in range(num_shards // 2):
            for suffix in (".tfrecord", ".json"):
                bucket.put(f"features/{name_shard(index, num_shards)}{suffix}", b"x")
            tally.add(name_shard(index, num_shards), {"shards_written": 1, "cpu_ms": 1000})
        tally.write()
        bucket.forget()
        found = read_status(folder, PRICES)
        requests = bucket.requests()

    assert (found.done, found.total) == (num_shards // 2, num_shards)
    assert found.cpu_hours == pytest.approx(num_shards / 2 / 3600)
    # The plan, the tally, and a page of the listing for each thousand objects.
    assert sum(not request.is_listing for request in requests) == 2
    assert sum(request.is_listing for request in requests) == 1
