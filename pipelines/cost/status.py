"""How far a folder is, what it cost and will cost, and what to do next, while a job runs or not.

One listing of the folder and a few small files: the document at its root, `lease.json`, and the
tallies that workers leave. No sidecar is read.
"""

import contextlib
import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from features.contracts import folders, forgotten, progress
from features.contracts.documents import Dataset, Features, Run, Scores
from features.contracts.forgotten import Forgotten
from features.contracts.leases import Lease, find_lease
from features.contracts.progress import SHARDS_WRITTEN, JobProgress, Tally
from features.contracts.shards import SIDECAR_SUFFIX
from features.errors import ContractError, InputError
from features.storage import files
from features.terminal import duration
from features.typed_json import Document
from pipelines.cost.prices import Prices
from pipelines.runtime.failure import Failure

# Kind of folder -> the document at its root, and the command that takes the finished folder.
_KINDS: Mapping[str, tuple[type[Document], str]] = {
    "DATASET": (Dataset, "python -m pipelines.extract_features --dataset {} --output FEATURES"),
    "FEATURES": (Features, "python -m training.train RECIPE --features {} --output RUN"),
    "RUN": (Run, "python -m evaluation.score_videos --run {} --features FEATURES --output SCORES"),
    "SCORES": (Scores, "python -m evaluation.evaluate --scores {} --output REPORT"),
}
_CHECKPOINT = re.compile(r"checkpoints/[^/]*-(\d+)\.index")
_TALLY = re.compile(rf"{progress.FOLDER}/tally-[^/]*\.json")
# Names of counters; those of videos by outcome begin with `videos_`, and these are no rejects.
_CPU_MS, _VIDEOS = "cpu_ms", "videos_"
_USED = {"videos_written", "videos_decoded", "videos_scored"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Status:
    """How far a folder is.

    Attributes:
      folder: the folder.
      kind: DATASET, FEATURES, RUN or SCORES.
      finished: whether the document at its root exists.
      next: what to do.
      job: the lease of a job that writes it; None if there is none.
      job_is_running: whether its process exists; None if that cannot be seen from here.
      failure: why the last job failed; None if it did not say so.
      unit: what is counted: shards or steps; None if unknown.
      done: number of finished ones, as in `progress.count_done`.
      total: number of planned ones; None if unknown.
      shards_per_hour: by all workers that have finished a shard; None if there are none.
      seconds_left: at this rate.
      rejects: reason -> videos; of the shards of all jobs since the folder was last finished.
      last: names of the last shards of the workers.
      cpu_hours: of the same shards as `rejects`; None if unknown.
      cpu_hours_left: for the other shards, if they cost as much.
      dollars, dollars_left: of these hours, for the cheapest and the most expensive platform.
    """

    folder: str
    kind: str
    finished: bool
    next: str
    job: Lease | None
    job_is_running: bool | None
    failure: str | None
    unit: str | None = None
    done: int = 0
    total: int | None = None
    shards_per_hour: float | None = None
    seconds_left: float | None = None
    rejects: Mapping[str, int] = dataclasses.field(default_factory=dict)
    last: tuple[str, ...] = ()
    cpu_hours: float | None = None
    cpu_hours_left: float | None = None
    dollars: tuple[float, float] | None = None
    dollars_left: tuple[float, float] | None = None


def read_status(folder: str, prices: Prices) -> Status:
    """Look at a folder.

    Raises:
      InputError: no job of these kinds has written into the folder.
    """
    names = files.list_names(folder)
    lease = find_lease(folder) if Lease.FILE in names else None
    plan = folders.find_document(folder, JobProgress) if JobProgress.FILE in names else None
    failure = folders.find_document(folder, Failure) if Failure.FILE in names else None
    removal = _find_removal(folder) if plan is None and forgotten.ASIDE in names else None
    kind = _find_kind(folder, names, plan, lease, removal)
    root, following = _KINDS[kind]
    status = Status(
        folder=folder,
        kind=kind,
        finished=root.FILE in names,
        job=lease,
        job_is_running=lease.is_running() if lease else None,
        failure=failure.message if failure else None,
        next=f"run `{following.format(folder)}`",
    )
    if status.finished:
        return _add_totals(status, folders.find_document(folder, root), prices)
    tallies = progress.read_tallies(
        folder, plan, (files.join(folder, name) for name in sorted(names) if _TALLY.fullmatch(name))
    )
    status = dataclasses.replace(status, next=_advise(status, plan, removal))
    return _add_progress(status, names, plan, tallies, prices) if plan else status


def _find_removal(folder: str) -> Scores | None:
    """The document of SCORES whose removal of videos was stopped; one of FEATURES has a plan."""
    with contextlib.suppress(ContractError):
        return forgotten.find_aside(folder, Scores)
    return None


def _find_kind(
    folder: str,
    names: Collection[str],
    plan: JobProgress | None,
    lease: Lease | None,
    removal: Scores | None,
) -> str:
    for kind, (root, _) in _KINDS.items():
        if root.FILE in names or (plan is not None and plan.document == root.FILE):
            return kind
    if removal is not None:
        return "SCORES"
    for kind, (root, _) in _KINDS.items():
        if lease is not None and lease.command.startswith(root.MAKER):
            return kind
    raise InputError(
        f"{folder}: no job of {', '.join(_KINDS)} has written into this folder, or it does not "
        "exist; name the --output of such a job"
    )


def _add_totals(status: Status, document: Document | None, prices: Prices) -> Status:
    """Add what the document of a finished folder says."""
    rejects: Mapping[str, int] = {}
    hours = None
    if isinstance(document, Dataset | Features):
        rejects = document.rejects
    if isinstance(document, Features | Scores) and document.work is not None:
        hours = document.work.cpu_seconds / 3600
    if isinstance(document, Scores):
        rejects = document.missing
    return dataclasses.replace(
        status, rejects=rejects, cpu_hours=hours, dollars=_price(hours, prices)
    )


def _add_progress(
    status: Status,
    names: Collection[str],
    plan: JobProgress,
    tallies: Sequence[Tally],
    prices: Prices,
) -> Status:
    """Add how far an unfinished folder is."""
    if plan.unit == "steps":
        saved = [int(found[1]) for name in names if (found := _CHECKPOINT.fullmatch(name))]
        return dataclasses.replace(
            status, unit=plan.unit, done=max(saved, default=0), total=plan.total
        )
    sidecar = re.compile(rf"[^/]+/[^/]+/{plan.kind}-\d+-of-\d+{re.escape(SIDECAR_SUFFIX)}")
    num_sidecars = sum(1 for name in names if sidecar.fullmatch(name))
    done = progress.count_done(plan, tallies, num_sidecars)
    left = max(0, plan.total - done)
    rate = sum(
        tally.counts.get(SHARDS_WRITTEN, 0) / tally.seconds
        for tally in tallies
        if tally.seconds > 0
    )
    counts = progress.add_counts(plan, tallies)
    hours = hours_left = None
    if counts[SHARDS_WRITTEN]:
        hours = counts[_CPU_MS] / 3.6e6
        hours_left = hours / counts[SHARDS_WRITTEN] * left
    return dataclasses.replace(
        status,
        unit=plan.unit,
        done=done,
        total=plan.total,
        shards_per_hour=3600 * rate if rate else None,
        seconds_left=left / rate if rate else None,
        rejects={
            name.removeprefix(_VIDEOS): count
            for name, count in sorted(counts.items())
            if name.startswith(_VIDEOS) and name not in _USED
        },
        last=progress.find_last(tallies),
        cpu_hours=hours,
        cpu_hours_left=hours_left,
        dollars=_price(hours, prices),
        dollars_left=_price(hours_left, prices),
    )


def _price(hours: float | None, prices: Prices) -> tuple[float, float] | None:
    if hours is None:
        return None
    rates = [platform.dollars_per_core_hour for platform in prices.platforms.values()]
    return hours * min(rates), hours * max(rates)


def _advise(status: Status, plan: JobProgress | None, removal: Scores | None) -> str:
    """What to do about an unfinished folder."""
    again = f"run `{plan.made_by.command}` again" if plan else "run the same command again"
    if removal is not None:
        again = (
            f"run `{Forgotten.MAKER} --ids FILE --scores {status.folder}` again, or "
            f"`{removal.made_by.command}`, to finish the removal of videos"
        )
    lease = status.job
    if lease is None:
        return f"no job runs: {again}; it resumes where it stopped"
    if status.job_is_running is False:
        return f"the job has died: {again}; it resumes where it stopped"
    if status.job_is_running:
        return "wait for the job, which runs on this machine"
    if lease.queue_seconds:
        return (
            f"wait for the first worker of the job, for up to {duration(lease.queue_seconds)} from "
            f"{lease.renewed} by the clock of its command; if the job was cancelled, delete "
            f"{files.join(status.folder, Lease.FILE)} and {again}"
        )
    return (
        f"wait, if the lease is still renewed: last at {lease.renewed} by the job's clock, every "
        f"{duration(lease.beat_seconds)}; else {again}"
    )


def describe(status: Status) -> Iterator[str]:
    """Lines for a person."""
    state = "finished" if status.finished else "unfinished"
    yield f"{status.folder}: {status.kind}, {state}"
    if status.job is not None:
        yield f"job: {status.job}, lease renewed {status.job.renewed}"
    if status.failure:
        yield f"last failure: {status.failure}"
    if status.total:
        share = f"{100 * status.done / status.total:.1f} %"
        yield f"{status.done} of {status.total} {status.unit} ({share})"
    if status.shards_per_hour is not None and status.seconds_left is not None:
        yield (
            f"{status.shards_per_hour:.1f} shards an hour, about "
            f"{duration(status.seconds_left)} left while the job runs"
        )
    for reason, count in status.rejects.items():
        yield f"  rejected: {count} {reason}"
    if status.last:
        yield f"last shards: {', '.join(status.last)}"
    for what, hours, dollars in (
        ("so far", status.cpu_hours, status.dollars),
        ("to come", status.cpu_hours_left, status.dollars_left),
    ):
        if hours is not None and dollars is not None:
            yield f"{what}: {hours:.3g} CPU hours, {dollars[0]:.2g} to {dollars[1]:.2g} dollars"
    yield f"next: {status.next}"
