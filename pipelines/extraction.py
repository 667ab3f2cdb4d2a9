"""The stages of `extract_features`: plans from the data set, one shard an element, the accounts.

Only rows of videos (about 200 bytes) are grouped; patches never leave the element they are made in.
"""

import collections
import dataclasses
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import pyarrow.parquet as pq

from features import contract, storage
from features.errors import JobFailedError, TooManyRejectsError
from pipelines import dataset, launch, sharding
from pipelines.extract_shard import (
    PATCHES,
    RECORDS_SUFFIX,
    WRITTEN,
    Mode,
    Settings,
    ShardPlan,
    Video,
    extract_shard,
)
from pipelines.rejects import Reject
from pipelines.sharding import ShardKey

# What the command tells `finish` and nobody after it.
_FOR_FINISH = ("num_shards", "max_reject_fraction")
_COUNTS = ("num_videos", "num_patches", "num_bytes")


class ExtractShards(beam.PTransform):
    """Paths of `videos/*.parquet` -> one sidecar a shard."""

    def __init__(
        self,
        output: str,
        num_shards: Mapping[str, Mapping[str, int]],
        settings: Settings,
        mode: Mode,
    ):
        super().__init__()
        self._output = output
        self._num_shards = num_shards
        self._settings = settings
        self._mode = mode

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
            | "ExtractShard" >> beam.ParDo(_ExtractShard(self._output, self._mode))
        )


def _every_shard(
    split_and_shards: tuple[str, Mapping[str, int]], output: str
) -> Iterator[tuple[tuple, int | None]]:
    """Shards of a split and the bytes of their record files, by one listing for all of them."""
    split, num_shards = split_and_shards
    present = storage.list_sizes(output, f"{split}/*/{PATCHES}-*{RECORDS_SUFFIX}")
    for key in sharding.keys(split, num_shards):
        path = storage.join(output, key.path(PATCHES)) + RECORDS_SUFFIX
        yield dataclasses.astuple(key), present.get(path)


class _ExtractShard(beam.DoFn):
    """`extract_shard`, until this worker rejects more than it may."""

    def __init__(self, output: str, mode: Mode):
        self._output = output
        self._mode = mode
        self._num_videos = self._num_rejects = 0

    def process(self, planned: tuple[ShardPlan, int | None]) -> Iterator[dict[str, Any]]:
        plan, present_bytes = planned
        sidecar = extract_shard(plan, self._output, self._mode, present_bytes)
        self._num_videos += sidecar["num_videos"]
        self._num_rejects += sum(1 for _ in rejects_of(sidecar))
        # A random sample of the videos: five standard deviations above the limit are no chance.
        limit = self._mode.max_reject_fraction
        expected = limit * self._num_videos
        if self._num_rejects > expected + 5 * math.sqrt(expected * (1 - limit)) + 5:
            message = _too_many(self._num_rejects, self._num_videos, limit, self._output)
            launch.fail(self._output, TooManyRejectsError(f"stopped early: {message}"))
        yield sidecar


def _too_many(num_rejects: int, num_videos: int, limit: float, output: str) -> str:
    return (
        f"{num_rejects} of {num_videos} videos are rejected, more than --max-reject-fraction "
        f"{limit:g} allows; see the sidecars and rejects in {output}, mend the cause, and run the "
        "same command with --only-rejects"
    )


def read_videos(
    path: str, groups: Mapping[str, Collection[str]]
) -> Iterator[tuple[tuple, list[tuple]]]:
    """One file of `videos/` as (shard key, rows of its videos), in native types.

    Args:
      path: of the file.
      groups: split -> its groups that are wanted.
    """
    rows_by_shard: dict[tuple, list[tuple]] = collections.defaultdict(list)
    with storage.open_read(path) as file:
        for row in pq.read_table(file, schema=dataset.VIDEO_SCHEMA).to_pylist():
            if row["group"] in groups.get(row["split"], ()):
                key = (row["split"], row["group"], row["shard"], row["num_shards"])
                video = (row["id"], row["uri"], row["start"], row["end"], tuple(row["labels"]))
                rows_by_shard[key].append(video)
    yield from rows_by_shard.items()


def _plan(
    keyed: tuple[tuple, Mapping[str, Iterable]], settings: Settings
) -> tuple[ShardPlan, int | None]:
    """A plan, and the bytes of the record file that is there."""
    key, grouped = keyed
    rows = (row for rows in grouped["videos"] for row in rows)
    videos = sorted((Video(*row) for row in rows), key=lambda video: video.id)
    (present_bytes,) = grouped["present_bytes"]
    return ShardPlan(ShardKey(*key), tuple(videos), settings), present_bytes


def rejects_of(sidecar: Mapping[str, Any]) -> Iterator[Reject]:
    """The videos of a shard that gave no patches."""
    for video in sidecar["videos"]:
        if video["outcome"] not in WRITTEN:
            yield Reject(video["id"], video["uri"], str(video["outcome"]), video["detail"])


def account_of(sidecar: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], int]]:
    """The summands of one sidecar: ((split, field), number)."""
    split, group = sidecar["key"]["split"], sidecar["key"]["group"]
    for field in _COUNTS:
        yield (split, field), sidecar[field]
        yield (split, f"{group}/{field}"), sidecar[field]
    # A sum of digests does not depend on the order in which shards are finished. In halves, since
    # Beam's integers have 64 bits.
    digest = contract.fingerprint([sidecar["key"], sidecar["sha256"]])
    yield (split, "digest_high"), int(digest[:8], 16)
    yield (split, "digest_low"), int(digest[8:], 16)


def digest_of(account: Mapping[tuple[str, str], int], split: str) -> str:
    """Of the records of a split; what a network was trained on, wherever its media lay."""
    halves = (account[split, "digest_high"], account[split, "digest_low"])
    return "".join(f"{half % 2**32:08x}" for half in halves)


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
        launch.fail(output, JobFailedError(message))
    if num_rejects > made["max_reject_fraction"] * num_videos:
        message = _too_many(num_rejects, num_videos, made["max_reject_fraction"], output)
        launch.fail(output, TooManyRejectsError(message))
    if not num_patches:
        message = (
            f"no patch was written: {num_videos} videos = 0 written + {num_rejects} rejected "
            f"{dict(rejects)}; see {storage.join(output, 'rejects')}"
        )
        launch.fail(output, JobFailedError(message))
    contract.write_root(
        output,
        contract.FEATURES,
        {
            **{field: value for field, value in made.items() if field not in _FOR_FINISH},
            "fingerprint": contract.fingerprint(
                {split: entry["fingerprint"] for split, entry in splits.items()}
            ),
            "num_videos": num_videos,
            "num_written": num_videos - num_rejects,
            "num_rejects": num_rejects,
            "rejects": rejects,
            "num_patches": num_patches,
            "splits": splits,
        },
    )
