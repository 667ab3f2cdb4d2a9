"""The stages of jobs that write FEATURES: plans, one shard an element, the accounts.

Only rows of videos (about 200 bytes) are grouped; patches never leave the element they are made in.
"""

import dataclasses
import functools
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import AsDict, AsSingleton

from features import terminal
from features.contracts import folders, labels, sharding, shards
from features.contracts.sharding import ShardKey
from features.contracts.shards import PATCHES, RECORDS_SUFFIX
from features.contracts.videos import Video, read_videos
from features.errors import JobFailedError, TooManyRejectsError
from features.storage import files
from pipelines.extraction.patches import (
    CPU_SECONDS,
    Mode,
    Settings,
    ShardPlan,
    extract_shard,
)
from pipelines.runtime import launch, rejects
from pipelines.runtime.failure import fail
from pipelines.runtime.process_pool import MapOnWorkers
from pipelines.runtime.progress import progress_line
from pipelines.runtime.rejects import rejects_of

# What the shards in a folder were planned with, finished or not.
PLAN = "plan.json"
# What the command tells `finish` and nobody after it.
_FOR_FINISH = ("num_shards", "max_reject_fraction", "started_at", "num_workers", "work")
_COUNTS = ("num_videos", "num_patches", "num_bytes")


def write_features(
    sidecars_of: Callable[[beam.Pipeline], beam.PCollection],
    plan: Mapping[str, Any],
    made: Mapping[str, Any],
    options: PipelineOptions,
    *,
    source: str,
    output: str,
    shown_output: str,
) -> None:
    """Run a job that writes FEATURES, and tell what it wrote.

    Args:
      sidecars_of: the beginning of the pipeline; it gives one sidecar a shard.
      plan: what the shards are planned with, for `PLAN`.
      made: what the command knows of `features.json`, see `finish`.
      options: of the pipeline.
      source: the folder that the labels are copied from.
      output: the FEATURES folder.
      shown_output: as the person called it.

    Raises:
      JobFailedError: see `finish`, and the stages of `sidecars_of`.
    """
    num_shards = made["num_shards"]
    keys = [key for split, counts in num_shards.items() for key in sharding.keys(split, counts)]

    def clear() -> None:
        files.write_bytes(files.join(output, PLAN), json.dumps(plan, indent=2).encode())
        # The root JSON goes first: from here on the folder is unfinished. Shards of this plan stay:
        # their sidecars decide whether they are kept.
        files.delete(files.join(output, folders.FEATURES))
        rejects.remove_rejects(output)
        shards.remove_leftovers(output, keys, kinds=(PATCHES,))
        labels.copy_vocabulary(source, output)

    def build(pipeline: beam.Pipeline) -> None:
        sidecars = sidecars_of(pipeline)
        account = (
            sidecars
            | "Account" >> beam.FlatMap(account_of)
            | "SumAccount" >> beam.CombinePerKey(sum)
        )
        reject_counts = (
            sidecars
            | "RejectsOf" >> beam.FlatMap(rejects_of)
            | "Rejects" >> rejects.WriteRejects(output)
        )
        _ = (
            pipeline
            | "Made" >> beam.Create([made])
            | "Finish"
            >> beam.Map(
                finish,
                account=AsDict(account),
                rejects=AsSingleton(reject_counts),
                output=output,
            )
        )

    sidecars_done = f"*/*/{PATCHES}-*{shards.SIDECAR_SUFFIX}"
    with progress_line("shards", len(keys), lambda: len(files.list_files(output, sidecars_done))):
        launch.run(build, options, output, clear=clear)
    shards.remove_partial_files(output)
    document = folders.read_root(output, folders.FEATURES)
    hours = document["num_patches"] * made["front_end"]["log_mel"]["patch_hop_seconds"] / 3600
    terminal.report(
        f"{document['num_videos']} videos = {document['num_written']} written "
        f"+ {document['num_rejects']} rejected; {document['num_patches']} patches, "
        f"{hours:.2f} hours",
        document["rejects"],
        shown_output,
    )


class ExtractShards(beam.PTransform):
    """Paths of `videos/*.parquet` -> one sidecar a shard."""

    def __init__(
        self,
        output: str,
        num_shards: Mapping[str, Mapping[str, int]],
        settings: Settings,
        mode: Mode,
        num_workers: int,
    ):
        super().__init__()
        self._output = output
        self._num_shards = num_shards
        self._settings = settings
        self._mode = mode
        self._num_workers = num_workers

    def expand(self, paths: beam.PCollection) -> beam.PCollection:
        """Group rows by shard; the grouping also spreads the shards over the workers."""
        videos = (
            paths
            | "SpreadFiles" >> beam.Reshuffle()
            | "ReadVideos" >> beam.FlatMap(read_videos, self._num_shards)
        )
        # In a small corpus the hash leaves a shard without a video; it gets its file all the same.
        every_shard = (
            paths.pipeline
            | "Splits" >> beam.Create(list(self._num_shards.items()))
            | "EveryShard" >> beam.FlatMap(_every_shard, self._output)
        )
        return (
            {"videos": videos, "present_bytes": every_shard}
            | "GroupByShard" >> beam.CoGroupByKey()
            | "Plan" >> beam.Map(_plan, self._settings)
            | "ExtractShard"
            >> MapOnWorkers(
                functools.partial(_extract, output=self._output, mode=self._mode),
                self._num_workers,
            )
            | "CountRejects" >> beam.ParDo(_CountRejects(self._output, self._mode))
        )


def _every_shard(
    split_and_shards: tuple[str, Mapping[str, int]], output: str
) -> Iterator[tuple[tuple, int | None]]:
    """Shards of a split and the bytes of their record files, by one listing for all of them."""
    split, num_shards = split_and_shards
    present = files.list_sizes(output, f"{split}/*/{PATCHES}-*{RECORDS_SUFFIX}")
    for key in sharding.keys(split, num_shards):
        path = files.join(output, key.path(PATCHES)) + RECORDS_SUFFIX
        yield dataclasses.astuple(key), present.get(path)


def _extract(planned: tuple[ShardPlan, int | None], output: str, mode: Mode) -> dict[str, Any]:
    plan, present_bytes = planned
    return extract_shard(plan, output, mode, present_bytes)


class _CountRejects(beam.DoFn):
    """Lets sidecars pass, until there are more rejects in them than there may be."""

    def __init__(self, output: str, mode: Mode):
        self._output = output
        self._mode = mode
        self._num_videos = self._num_rejects = 0

    def process(self, sidecar: dict[str, Any]) -> Iterator[dict[str, Any]]:
        self._num_videos += sidecar["num_videos"]
        self._num_rejects += sum(1 for _ in rejects_of(sidecar))
        # A random sample of the videos: five standard deviations above the limit are no chance.
        limit = self._mode.max_reject_fraction
        expected = limit * self._num_videos
        if self._num_rejects > expected + 5 * math.sqrt(expected * (1 - limit)) + 5:
            message = _too_many(self._num_rejects, self._num_videos, limit, self._output)
            fail(self._output, TooManyRejectsError(f"stopped early: {message}"))
        yield sidecar


def _too_many(num_rejects: int, num_videos: int, limit: float, output: str) -> str:
    return (
        f"{num_rejects} of {num_videos} videos are rejected, more than --max-reject-fraction "
        f"{limit:g} allows; see the sidecars and rejects in {output}, mend the cause, and run the "
        "same command with --only-rejects"
    )


def _plan(
    keyed: tuple[tuple, Mapping[str, Iterable]], settings: Settings
) -> tuple[ShardPlan, int | None]:
    """A plan, and the bytes of the record file that is there."""
    key, grouped = keyed
    rows = (row for rows in grouped["videos"] for row in rows)
    videos = sorted((Video(*row) for row in rows), key=lambda video: video.id)
    (present_bytes,) = grouped["present_bytes"]
    return ShardPlan(ShardKey(*key), tuple(videos), settings), present_bytes


def account_of(sidecar: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], int]]:
    """The summands of one sidecar: ((split, field), number)."""
    split, group = sidecar["key"]["split"], sidecar["key"]["group"]
    for field in _COUNTS:
        yield (split, field), sidecar[field]
        yield (split, f"{group}/{field}"), sidecar[field]
    # A sum of digests does not depend on the order in which shards are finished. In halves, since
    # Beam's integers have 64 bits.
    digest = folders.fingerprint([sidecar["key"], sidecar["sha256"]])
    yield (split, "digest_high"), int(digest[:8], 16)
    yield (split, "digest_low"), int(digest[8:], 16)
    # In integers, as the rest; a shard that was kept cost nothing.
    cost = sidecar.get(CPU_SECONDS, {"decoders": {}, "worker": 0.0})
    yield (split, "num_decoded"), len(cost["decoders"])
    cpu_seconds = sum(cost["decoders"].values()) + cost["worker"]
    yield (split, "cpu_microseconds"), round(1e6 * cpu_seconds)


def digest_of(account: Mapping[tuple[str, str], int], split: str) -> str:
    """Of the records of a split; what a network was trained on, wherever its media lay."""
    halves = (account[split, "digest_high"], account[split, "digest_low"])
    return "".join(f"{half % 2**32:08x}" for half in halves)


def _work(
    made: Mapping[str, Any], account: Mapping[tuple[str, str], int]
) -> dict[str, float] | None:
    """What this run cost; or where it decoded nothing, what is known of an earlier one."""
    num_decoded = sum(account[split, "num_decoded"] for split in made["num_shards"])
    if not num_decoded:
        return made["work"]
    cpu_microseconds = sum(account[split, "cpu_microseconds"] for split in made["num_shards"])
    return {
        "num_decoded": num_decoded,
        "cpu_seconds": cpu_microseconds / 1e6,
        "wall_seconds": round(time.time() - made["started_at"], 3),
        "num_workers": made["num_workers"],
    }


def finish(
    made: Mapping[str, Any],
    account: Mapping[tuple[str, str], int],
    rejects: Mapping[str, int],
    output: str,
) -> None:
    """The last stage: videos in = written + rejected, then `features.json`; or fail the job.

    Raises:
      JobFailedError: the accounts do not add up, or nothing was written.
    """
    splits = {
        split: {
            **{field: account[split, field] for field in _COUNTS},
            "num_shards": num_shards,
            "groups": {
                group: {field: account[split, f"{group}/{field}"] for field in _COUNTS}
                for group in num_shards
            },
            "fingerprint": digest_of(account, split),
        }
        for split, num_shards in made["num_shards"].items()
    }
    num_videos = sum(split["num_videos"] for split in splits.values())
    num_patches = sum(split["num_patches"] for split in splits.values())
    num_rejects = sum(rejects.values())
    if num_videos != made["num_videos_planned"]:
        message = (
            f"{made['num_videos_planned']} videos were planned and {num_videos} are accounted "
            "for; run the command again: it goes on where it stopped"
        )
        fail(output, JobFailedError(message))
    if num_rejects > made["max_reject_fraction"] * num_videos:
        message = _too_many(num_rejects, num_videos, made["max_reject_fraction"], output)
        fail(output, TooManyRejectsError(message))
    if not num_patches:
        message = (
            f"no patch was written: {num_videos} videos = 0 written + {num_rejects} rejected "
            f"{dict(rejects)}; see {files.join(output, 'rejects')}"
        )
        fail(output, JobFailedError(message))
    folders.write_root(
        output,
        folders.FEATURES,
        {
            **{field: value for field, value in made.items() if field not in _FOR_FINISH},
            "fingerprint": folders.fingerprint(
                {split: entry["fingerprint"] for split, entry in splits.items()}
            ),
            "num_videos": num_videos,
            "num_written": num_videos - num_rejects,
            "num_rejects": num_rejects,
            "rejects": rejects,
            "num_patches": num_patches,
            "splits": splits,
            "work": _work(made, account),
        },
    )
