"""How far an unfinished folder is: what its job planned, and what each worker has counted.

    progress/job.json                what the job plans, and what earlier jobs counted
    progress/tally-*.json            one for each worker, which replaces it as it works

Together they are small, so that nobody has to read the sidecars of all shards to see the rejects
and the cost. A runner may repeat an attempt, so the counts may exceed those of the sidecars, which
decide. The folder `progress` is deleted when the job has succeeded.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import datetime
import time
import uuid
from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal

from features.contracts import folders
from features.contracts.folders import MadeBy
from features.contracts.shards import SIDECAR_SUFFIX
from features.errors import ContractError
from features.storage import files
from features.typed_json import Document

# Counters of shards that were made, and of those that were found finished.
SHARDS_WRITTEN, SHARDS_KEPT = "shards_written", "shards_kept"
FOLDER = "progress"
_TALLIES = f"{FOLDER}/tally-*.json"
# A tally is replaced at most so often.
_WRITE_SECONDS = 10.0
_NUM_LAST = 3
# Requests at a time, since there is a tally for each worker.
_THREADS = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobProgress(Document):
    """`progress/job.json`: what a job plans.

    Attributes:
      job: random name of the job.
      made_by: the command.
      document: file at the root of the folder that the job writes last.
      unit: what is counted.
      total: number of shards, or steps.
      kind: of the files of the shards; empty for steps.
      counts: of all earlier jobs since the folder was last finished.
    """

    FILE: ClassVar[str] = f"{FOLDER}/job.json"
    MAKER: ClassVar[str] = "the same command"

    job: str
    made_by: MadeBy
    document: str
    unit: Literal["shards", "steps"]
    total: int
    kind: str
    counts: Mapping[str, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tally(Document):
    """`progress/tally-*.json`: what a worker has counted.

    Attributes:
      job: of the worker; tallies of an earlier job count no more.
      counts: as the counters of the runner.
      seconds: from the start of the worker to its last shard.
      last: its last shards -> when they were counted, ISO 8601 in UTC, by the worker's clock.
    """

    FILE: ClassVar[str] = _TALLIES
    MAKER: ClassVar[str] = "the same command"

    job: str
    counts: Mapping[str, int]
    seconds: float
    last: Mapping[str, str]


class Tallying:
    """Counts the shards of a worker, and replaces its tally now and then.

    Args:
      folder: the output of the job.
      job: as in `JobProgress`.
    """

    def __init__(self, folder: str, job: str):
        self._job = job
        self._path = files.join(folder, FOLDER, f"tally-{uuid.uuid4().hex}.json")
        self._counts: collections.Counter[str] = collections.Counter()
        self._last: collections.deque[tuple[str, str]] = collections.deque(maxlen=_NUM_LAST)
        self._start = self._counted_at = time.monotonic()
        self._written_at, self._is_written = self._start, True

    def add(self, element: str, sums: Mapping[str, int]) -> None:
        """Count a shard."""
        self._counts.update(sums)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        self._last.append((element, now))
        self._counted_at, self._is_written = time.monotonic(), False
        if self._counted_at - self._written_at > _WRITE_SECONDS:
            self.write()

    def write(self) -> None:
        """Write what was counted since the last writing, if anything."""
        if self._is_written:
            return
        seconds = round(self._counted_at - self._start, 3)
        tally = Tally(
            job=self._job, counts=dict(self._counts), seconds=seconds, last=dict(self._last)
        )
        with contextlib.suppress(OSError):  # no job fails for its progress; the next tally has all
            files.write_bytes(self._path, tally.to_json())
        self._written_at, self._is_written = time.monotonic(), True


def begin(
    folder: str,
    document: str,
    *,
    unit: Literal["shards", "steps"] = "shards",
    total: int,
    kind: str = "",
) -> None:
    """Write the plan of a job, before it removes the document at the root of the folder.

    Args:
      folder: the output of the job.
      document: as in `JobProgress`.
      unit: the same.
      total: the same.
      kind: the same.
    """
    counts: collections.Counter[str] = collections.Counter()
    if files.exists(files.join(folder, document)):
        files.delete_folder(files.join(folder, FOLDER))
    else:
        with contextlib.suppress(ContractError):
            earlier = folders.find_document(folder, JobProgress)
            counts = add_counts(earlier, read_tallies(folder, earlier))
    plan = JobProgress(
        job=uuid.uuid4().hex,
        made_by=folders.made_by(),
        document=document,
        unit=unit,
        total=total,
        kind=kind,
        counts=dict(counts),
    )
    folders.write_document(folder, plan)
    files.delete_files(files.list_files(folder, _TALLIES))  # which are of earlier jobs


def end(folder: str) -> None:
    """Delete the progress of a job that has succeeded."""
    files.delete_folder(files.join(folder, FOLDER))


def find_job(folder: str) -> str:
    """The name of the job that has begun in a folder; empty if there is none."""
    plan = folders.find_document(folder, JobProgress)
    return plan.job if plan else ""


def read_tallies(
    folder: str, plan: JobProgress | None, paths: Iterable[str] | None = None
) -> list[Tally]:
    """The tallies of a job; those that are deleted meanwhile are left out.

    Args:
      folder: the folder.
      plan: of the job.
      paths: of the tallies, if a listing of the folder has them.

    Raises:
      ContractError: a file is no tally.
    """
    if plan is None:
        return []
    if paths is None:
        paths = files.list_files(folder, _TALLIES)
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(_find_tally, paths)
        return [tally for tally in found if tally is not None and tally.job == plan.job]


def _find_tally(path: str) -> Tally | None:
    with contextlib.suppress(FileNotFoundError):
        return Tally.from_json(files.read_bytes(path), path)
    return None


def find_last(tallies: Iterable[Tally]) -> tuple[str, ...]:
    """The last shards of all workers, the newest one at the end."""
    counted = sorted((when, name) for tally in tallies for name, when in tally.last.items())
    return tuple(name for _, name in counted[-_NUM_LAST:])


def add_counts(plan: JobProgress | None, tallies: Iterable[Tally]) -> collections.Counter[str]:
    """The counts of earlier jobs and of this one."""
    counts = collections.Counter(plan.counts if plan else {})
    for tally in tallies:
        counts.update(tally.counts)
    return counts


def count_done(plan: JobProgress, tallies: Iterable[Tally], num_sidecars: int) -> int:
    """Shards that are done, of as many that have a sidecar.

    The others may have the sidecar of an earlier plan, which decides nothing before a worker reads
    it. So those count that the workers have made or kept, or that earlier jobs have made since the
    folder was last finished, which the workers are going to keep.
    """
    seen = add_counts(None, tallies)
    earlier = plan.counts.get(SHARDS_WRITTEN, 0)
    return min(num_sidecars, max(earlier, seen[SHARDS_WRITTEN] + seen[SHARDS_KEPT]))


def find_done(folder: str) -> int:
    """The same for a folder, by a listing and the tallies; 0 if its job has no plan yet."""
    plan = None
    with contextlib.suppress(ContractError):  # of an earlier version, before this job begins
        plan = folders.find_document(folder, JobProgress)
    if plan is None:
        return 0
    sidecars = files.list_files(folder, f"*/*/{plan.kind}-*{SIDECAR_SUFFIX}")
    return count_done(plan, read_tallies(folder, plan), len(sidecars))
