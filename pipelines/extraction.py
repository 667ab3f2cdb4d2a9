"""The stages of `extract_features`: plans from the data set, one shard an element, the accounts.

Only rows of videos (about 200 bytes) are grouped; patches never leave the element they are made in.
"""

import collections
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import pyarrow.parquet as pq

from features import contract, storage
from features.errors import JobFailedError, TooManyRejectsError
from pipelines import dataset, launch
from pipelines.extract_shard import (
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
_COUNTS = ("num_videos", "num_patches", "num_bytes", "num_files")


class ExtractShards(beam.PTransform):
    """Paths of `videos/*.parquet` -> one sidecar a shard."""

    def __init__(self, output: str, splits: frozenset[str], settings: Settings, mode: Mode):
        super().__init__()
        self._output = output
        self._splits = splits
        self._settings = settings
        self._mode = mode

    def expand(self, paths: beam.PCollection) -> beam.PCollection:
        """Group rows by shard; the grouping also spreads the shards over the workers."""
        return (
            paths
            | "SpreadFiles" >> beam.Reshuffle()
            | "ReadVideos" >> beam.FlatMap(read_videos, self._splits)
            | "GroupByShard" >> beam.GroupByKey()
            | "Plan" >> beam.Map(_plan, self._settings)
            | "ExtractShard" >> beam.ParDo(_ExtractShard(self._output, self._mode))
        )


class _ExtractShard(beam.DoFn):
    """`extract_shard`, until this worker rejects more than it may."""

    def __init__(self, output: str, mode: Mode):
        self._output = output
        self._mode = mode
        self._num_videos = self._num_rejects = 0

    def process(self, plan: ShardPlan) -> Iterator[dict[str, Any]]:
        sidecar = extract_shard(plan, self._output, self._mode)
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


def read_videos(path: str, splits: frozenset[str]) -> Iterator[tuple[tuple, list[tuple]]]:
    """One file of `videos/` as (shard key, rows of its videos), in native types."""
    rows_by_shard: dict[tuple, list[tuple]] = collections.defaultdict(list)
    with storage.open_read(path) as file:
        for row in pq.read_table(file, schema=dataset.VIDEO_SCHEMA).to_pylist():
            if row["split"] in splits:
                key = (row["split"], row["group"], row["shard"], row["num_shards"])
                video = (row["id"], row["uri"], row["start"], row["end"], tuple(row["labels"]))
                rows_by_shard[key].append(video)
    yield from rows_by_shard.items()


def _plan(keyed: tuple[tuple, Iterable[list[tuple]]], settings: Settings) -> ShardPlan:
    key, row_lists = keyed
    videos = sorted((Video(*row) for rows in row_lists for row in rows), key=lambda v: v.id)
    return ShardPlan(ShardKey(*key), tuple(videos), settings)


def rejects_of(sidecar: Mapping[str, Any]) -> Iterator[Reject]:
    """The videos of a shard that gave no patches."""
    for video in sidecar["videos"]:
        if video["outcome"] not in WRITTEN:
            yield Reject(video["id"], video["uri"], str(video["outcome"]), video["detail"])


def account_of(sidecar: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], int]]:
    """The summands of one sidecar: ((split or "", field), number)."""
    split = sidecar["key"]["split"]
    yield (split, "num_files"), 1
    for field in ("num_videos", "num_patches", "num_bytes"):
        yield (split, field), sidecar[field]
    # A sum of digests does not depend on the order in which shards are finished. In halves, since
    # Beam's integers have 64 bits.
    digest = contract.fingerprint([sidecar["plan"], sidecar["sha256"]])
    yield ("", "digest_high"), int(digest[:8], 16)
    yield ("", "digest_low"), int(digest[8:], 16)


def _digest(account: Mapping[tuple[str, str], int]) -> str:
    halves = (account["", "digest_high"], account["", "digest_low"])
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
            **{field: account.get((split, field), 0) for field in _COUNTS},
            # In the names of the files; a shard of a small corpus may draw no video, and no file.
            "num_shards": num_shards,
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
            "fingerprint": _digest(account),
            "num_videos": num_videos,
            "num_written": num_videos - num_rejects,
            "num_rejects": num_rejects,
            "rejects": rejects,
            "num_patches": num_patches,
            "splits": splits,
        },
    )
