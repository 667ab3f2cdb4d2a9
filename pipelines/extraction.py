"""The stages of `extract_features`: plans from the data set, one shard an element, the accounts.

Only rows of videos (about 200 bytes) are grouped; patches never leave the element they are made in.
"""

import collections
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import pyarrow.parquet as pq

from features import contract, storage
from features.audio import Outcome
from features.errors import JobFailedError
from features.front_end import FrontEnd
from pipelines import dataset, launch
from pipelines.extract_shard import ShardPlan, Video, extract_shard
from pipelines.rejects import Reject
from pipelines.sharding import ShardKey

_COUNTS = ("num_videos", "num_patches", "num_bytes", "num_files")


class ExtractShards(beam.PTransform):
    """Paths of `videos/*.parquet` -> one sidecar a shard."""

    def __init__(self, output: str, splits: frozenset[str], front_end: FrontEnd, seed: int):
        super().__init__()
        self._output = output
        self._splits = splits
        self._front_end = front_end
        self._seed = seed

    def expand(self, paths: beam.PCollection) -> beam.PCollection:
        """Group rows by shard; the grouping also spreads the shards over the workers."""
        return (
            paths
            | "SpreadFiles" >> beam.Reshuffle()
            | "ReadVideos" >> beam.FlatMap(read_videos, self._splits)
            | "GroupByShard" >> beam.GroupByKey()
            | "Plan" >> beam.Map(_plan, self._front_end, self._seed)
            | "ExtractShard" >> beam.Map(extract_shard, self._output)
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


def _plan(keyed: tuple[tuple, Iterable[list[tuple]]], front_end: FrontEnd, seed: int) -> ShardPlan:
    key, row_lists = keyed
    videos = sorted((Video(*row) for rows in row_lists for row in rows), key=lambda v: v.id)
    return ShardPlan(ShardKey(*key), tuple(videos), front_end, seed)


def rejects_of(sidecar: Mapping[str, Any]) -> Iterator[Reject]:
    """The videos of a shard that gave no patches."""
    for video in sidecar["videos"]:
        if video["outcome"] != Outcome.OK:
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
            **{field: value for field, value in made.items() if field != "num_shards"},
            "fingerprint": _digest(account),
            "num_videos": num_videos,
            "num_written": num_videos - num_rejects,
            "num_rejects": num_rejects,
            "rejects": rejects,
            "num_patches": num_patches,
            "splits": splits,
        },
    )
