"""Totals of a job that writes FEATURES, and `features.json`, which the last stage makes of them."""

import collections
import dataclasses
import itertools
import time
from collections.abc import Iterator, Mapping

from features.contracts import folders, forgotten
from features.contracts.documents import (
    Features,
    FeaturesRequest,
    FeaturesSplit,
    PatchCounts,
    PatchShard,
    Work,
)
from features.contracts.progress import SHARDS_KEPT, SHARDS_WRITTEN
from features.contracts.shards import PATCHES
from features.errors import JobFailedError, TooManyRejectsError
from features.fingerprint import fingerprint
from features.sound.decoder_version import DecoderVersion
from features.sound.outcome import WRITTEN
from features.storage import files
from pipelines.extraction import indexing
from pipelines.extraction.patches import ShardResult
from pipelines.runtime.counters import Counts, cpu_values
from pipelines.runtime.failure import fail

# Begins the names of the numbers of shards by decoder.
_DECODER = "decoder "
_COUNTS = tuple(field.name for field in dataclasses.fields(PatchCounts))

# (split, name) -> sum over all shards.
Totals = Mapping[tuple[str, str], int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeaturesJob:
    """What a command knows of a job.

    Attributes:
      source: folder that the labels are copied from.
      output: the FEATURES folder.
      shown_output: the same, as the person wrote it.
      request: the first fields of `features.json`.
      num_shards: split -> group -> number of shards.
      max_reject_fraction: share of the videos that may be rejected.
      started_at: seconds since the epoch.
      num_workers: processes of this machine.
      present_work: cost in the folder's earlier `features.json`, kept if this run decodes nothing.
      is_removal: whether the job removes videos, so that the earlier `features.json` lies aside.
    """

    source: str
    output: str
    shown_output: str
    request: FeaturesRequest
    num_shards: Mapping[str, Mapping[str, int]]
    max_reject_fraction: float = 1.0
    started_at: float = 0.0
    num_workers: int = 1
    present_work: Work | None = None
    is_removal: bool = False


def count_shard(sidecar: PatchShard) -> Iterator[tuple[tuple[str, str], int]]:
    """The summands of one sidecar: ((split, name), number)."""
    split, group = sidecar.key.split, sidecar.key.group
    for field in _COUNTS:
        yield (split, field), getattr(sidecar, field)
        yield (split, f"{group}/{field}"), getattr(sidecar, field)
    drawn_from = [video.drawn_from for video in sidecar.videos if video.drawn_from is not None]
    if drawn_from:
        yield (split, "num_drawn_from"), sum(drawn_from)
    for decoder in sidecar.list_decoders():
        yield (split, f"{_DECODER}{decoder.pyav} {decoder.ffmpeg}"), 1
    # A sum of digests does not depend on the order in which shards are finished. It is summed in
    # halves, because Beam's integers have 64 bits.
    digest = fingerprint([dataclasses.asdict(sidecar.key), sidecar.sha256])
    yield (split, "digest_high"), int(digest[:8], 16)
    yield (split, "digest_low"), int(digest[8:], 16)


def count_result(result: ShardResult) -> Iterator[tuple[tuple[str, str], int]]:
    """The summands of one sidecar and of the work on the shard: ((split, name), number)."""
    split = result.sidecar.key.split
    cpu_seconds = sum(result.decoder_seconds.values()) + result.worker_seconds
    work = [
        ((split, "num_decoded"), len(result.decoder_seconds)),
        ((split, "cpu_microseconds"), round(1e6 * cpu_seconds)),
    ]
    yield from itertools.chain(count_shard(result.sidecar), work)


def measure_result(result: ShardResult, hop_seconds: float) -> Counts:
    """What a shard adds to the counters of the runner; nothing but itself if it was kept.

    Args:
      result: of the shard.
      hop_seconds: from the start of a patch to that of the next.
    """
    sidecar, element = result.sidecar, result.sidecar.key.path(PATCHES)
    cpu_seconds = sum(result.decoder_seconds.values()) + result.worker_seconds
    if not cpu_seconds:
        return Counts(element=element, sums={SHARDS_KEPT: 1})
    outcomes = collections.Counter(video.outcome for video in sidecar.videos)
    decoded = result.decoder_seconds
    num_patches = sum(
        video.num_patches if video.drawn_from is None else video.drawn_from
        for video in sidecar.videos
        if not decoded or video.id in decoded
    )
    return Counts(
        element=element,
        sums={
            SHARDS_WRITTEN: 1,
            "videos_written": sum(outcomes[outcome] for outcome in WRITTEN),
            **{
                f"videos_{outcome}": count
                for outcome, count in sorted(outcomes.items())
                if outcome not in WRITTEN
            },
            "videos_decoded": len(decoded),
            "patches": sidecar.num_patches,
            "bytes": sidecar.num_bytes,
            "cpu_ms": round(1e3 * cpu_seconds),
        },
        values=cpu_values(cpu_seconds, num_patches * hop_seconds),
    )


def fingerprint_split(totals: Totals, split: str) -> str:
    """Fingerprint of the records of a split, independent of where the media were."""
    halves = (totals[split, "digest_high"], totals[split, "digest_low"])
    return "".join(f"{half % 2**32:08x}" for half in halves)


def list_decoders(totals: Totals) -> tuple[DecoderVersion, ...]:
    """What the shards were decoded with."""
    names = {name.removeprefix(_DECODER) for _, name in totals if name.startswith(_DECODER)}
    return tuple(
        DecoderVersion(pyav=pyav, ffmpeg=ffmpeg)
        for pyav, _, ffmpeg in (name.partition(" ") for name in sorted(names))
    )


def describe_rejects(num_rejects: int, num_videos: int, limit: float, output: str) -> str:
    """Message of a job that rejects too many videos."""
    return (
        f"{num_rejects} of {num_videos} videos are rejected, more than --max-reject-fraction "
        f"{limit:g} allows; see the sidecars and rejects in {output}, fix the cause, and run the "
        "same command with --only-rejects"
    )


def finish(
    job: FeaturesJob, totals: Totals, rejects: Mapping[str, int], indexes: indexing.Indexes
) -> None:
    """The last stage: check that videos = written + rejected, and write `features.json`.

    Args:
      job: what the command knows.
      totals: over all shards.
      rejects: outcome -> videos.
      indexes: of the training groups.

    Raises:
      JobFailedError: videos are missing, too many are rejected, or nothing was written.
    """
    output = job.output
    splits = {
        split: _total_split(totals, split, num_shards, indexes)
        for split, num_shards in job.num_shards.items()
    }
    num_videos = sum(split.num_videos for split in splits.values())
    num_patches = sum(split.num_patches for split in splits.values())
    num_rejects = sum(rejects.values())
    num_planned = job.request.num_videos_planned
    if num_videos != num_planned:
        message = (
            f"{num_planned} videos were planned and {num_videos} are accounted for; run the same "
            "command again: it resumes where it stopped"
        )
        fail(output, JobFailedError(message))
    if num_rejects > job.max_reject_fraction * num_videos:
        message = describe_rejects(num_rejects, num_videos, job.max_reject_fraction, output)
        fail(output, TooManyRejectsError(message))
    if not num_patches:
        message = (
            f"no patch was written: {num_videos} videos = 0 written + {num_rejects} rejected "
            f"{dict(rejects)}; see {files.join(output, 'rejects')}"
        )
        fail(output, JobFailedError(message))
    request = {
        field.name: getattr(job.request, field.name) for field in dataclasses.fields(job.request)
    }
    document = Features(
        **request,
        fingerprint=fingerprint({name: split.fingerprint for name, split in splits.items()}),
        num_videos=num_videos,
        num_written=num_videos - num_rejects,
        num_rejects=num_rejects,
        rejects=rejects,
        num_patches=num_patches,
        splits=splits,
        decoders=list_decoders(totals),
        work=_total_work(job, totals),
    )
    folders.write_document(output, document)
    if job.is_removal:
        forgotten.end_removal(output)


def _total_split(
    totals: Totals, split: str, num_shards: Mapping[str, int], indexes: indexing.Indexes
) -> FeaturesSplit:
    def counts(prefix: str = "") -> dict[str, int]:
        return {field: totals[split, prefix + field] for field in _COUNTS}

    return FeaturesSplit(
        **counts(),
        num_drawn_from=totals.get((split, "num_drawn_from")),
        num_shards=num_shards,
        groups={group: PatchCounts(**counts(f"{group}/")) for group in num_shards},
        fingerprint=fingerprint_split(totals, split),
        index_fingerprint=indexing.fingerprint_of(indexes, split, num_shards),
    )


def _total_work(job: FeaturesJob, totals: Totals) -> Work | None:
    """The cost of this run; if it decoded nothing, the cost that is known of an earlier run."""
    num_decoded = sum(totals[split, "num_decoded"] for split in job.num_shards)
    if not num_decoded:
        return job.present_work
    cpu_microseconds = sum(totals[split, "cpu_microseconds"] for split in job.num_shards)
    return Work(
        num_decoded=num_decoded,
        cpu_seconds=cpu_microseconds / 1e6,
        wall_seconds=round(time.time() - job.started_at, 3),
        num_workers=job.num_workers,
    )
