"""The stages of `prepare_dataset`: videos get label indices, a split and a shard, and are written.

A file of `videos/` holds the videos of a range of hashes, of every split; so two rows of one id
always meet in one file, and are seen.
"""

import collections
import dataclasses
import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq

from features import contract, labels, storage
from features.errors import InputError, JobFailedError
from features.labels import Vocabulary
from features.params import LogMelParams
from pipelines import launch, sharding

VIDEOS_FOLDER = "videos"
VIDEO_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("uri", pa.string()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("labels", pa.list_(pa.int32())),
        ("split", pa.string()),
        ("group", pa.string()),
        ("shard", pa.int32()),
        ("num_shards", pa.int32()),
    ]
)
# A grouped value is one record to a runner (Flink keeps it in memory): 50,000 rows are about 10 MB.
_VIDEOS_PER_FILE = 50_000
_NAMED_DUPLICATES = 5


@dataclasses.dataclass(frozen=True)
class FileSummary:
    """What one file of `videos/` holds, or several together."""

    num_videos: Mapping[str, int]  # split -> videos
    digest: int  # a sum over rows: it does not depend on the cut into files
    duplicate_ids: tuple[str, ...]

    @classmethod
    def of_all(cls, summaries: Iterable["FileSummary"]) -> "FileSummary":
        """The sum of several."""
        num_videos: collections.Counter[str] = collections.Counter()
        digest = 0
        duplicate_ids: list[str] = []
        for summary in summaries:
            num_videos.update(summary.num_videos)
            digest += summary.digest
            duplicate_ids += summary.duplicate_ids
        return cls(dict(sorted(num_videos.items())), digest, tuple(sorted(duplicate_ids)))


class WriteVideos(beam.PTransform):
    """Arrow batches of `manifest.SCHEMA` -> files of `videos/`; returns one `FileSummary`."""

    def __init__(
        self, output: str, vocabulary: beam.PCollection, present_shards: Mapping[str, int]
    ):
        super().__init__()
        self._present_shards = present_shards
        self._folder = storage.join(output, VIDEOS_FOLDER)
        self._vocabulary = vocabulary

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        """Count the splits, assign shards, group by file, write."""
        split_counts = (
            batches
            | "Splits" >> beam.FlatMap(_splits)
            | "CountSplits" >> beam.combiners.Count.PerElement()
        )
        return (
            batches
            | "AssignShards"
            >> beam.FlatMap(
                _assign,
                vocabulary=beam.pvalue.AsSingleton(self._vocabulary),
                split_counts=beam.pvalue.AsDict(split_counts),
                present_shards=self._present_shards,
            )
            | "GroupByFile" >> beam.GroupByKey()
            | "WriteFile" >> beam.Map(_write_file, folder=self._folder)
            | "SumFiles" >> beam.CombineGlobally(FileSummary.of_all)
        )


def _splits(batch: pa.RecordBatch) -> Iterator[str]:
    """The split of each row: the manifest's own, else by the hash of the id."""
    ids, splits = batch.column("id").to_pylist(), batch.column("split").to_pylist()
    for video_id, split in zip(ids, splits, strict=True):
        yield split or sharding.split_of(video_id)


def _assign(
    batch: pa.RecordBatch,
    vocabulary: Vocabulary,
    split_counts: Mapping[str, int],
    present_shards: Mapping[str, int],
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """(file name, row of `VIDEO_SCHEMA`) for each row; native types, which shuffle cheaply."""
    index_of = {label: index for index, label in enumerate(vocabulary.ids)}
    num_shards = _num_shards(split_counts, present_shards)
    num_files = math.ceil(sum(split_counts.values()) / _VIDEOS_PER_FILE)
    for video, split in zip(batch.to_pylist(), _splits(batch), strict=True):
        key = sharding.shard_of(video["id"], split, num_shards[split])
        file_index = int(sharding.unit_hash("file", video["id"]) * num_files)
        yield (
            f"part-{file_index:05d}-of-{num_files:05d}.parquet",
            (
                video["id"],
                video["uri"],
                video["start"],
                video["end"],
                sorted(index_of[label] for label in video["labels"]),
                *dataclasses.astuple(key),
            ),
        )


def _num_shards(
    split_counts: Mapping[str, int], present_shards: Mapping[str, int]
) -> dict[str, int]:
    return {
        split: sharding.num_shards(num_videos, LogMelParams(), present_shards.get(split))
        for split, num_videos in split_counts.items()
    }


def _write_file(keyed: tuple[str, Iterable[tuple[Any, ...]]], folder: str) -> FileSummary:
    name, rows = keyed
    videos = [dict(zip(VIDEO_SCHEMA.names, row, strict=True)) for row in rows]
    videos.sort(key=lambda video: (video["id"], video["split"], video["uri"]))
    with storage.atomic_write(storage.join(folder, name)) as file:
        pq.write_table(pa.Table.from_pylist(videos, VIDEO_SCHEMA), file)
    ids = [video["id"] for video in videos]
    return FileSummary(
        num_videos=collections.Counter(video["split"] for video in videos),
        digest=sum(_row_digest(video) for video in videos),
        duplicate_ids=tuple(b for a, b in itertools.pairwise(ids) if a == b),
    )


def _row_digest(video: Mapping[str, Any]) -> int:
    text = contract.canonical_json(video)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def write_labels(vocabulary: Vocabulary, output: str) -> str:
    """Write `labels.parquet`; returns the vocabulary's fingerprint."""
    storage.write_bytes(storage.join(output, labels.FILE_NAME), vocabulary.to_bytes())
    return vocabulary.fingerprint


def finish(
    made: Mapping[str, Any],
    vocabulary: Vocabulary,
    labels_written: str,
    summary: FileSummary,
    rejects: Mapping[str, int],
    present_shards: Mapping[str, int],
    output: str,
) -> None:
    """The last stage: check the counts and write `dataset.json`, or fail the job.

    Raises:
      InputError: the manifest has an id twice.
      JobFailedError: no row of the manifest could be used.
    """
    num_videos, num_rejects = sum(summary.num_videos.values()), sum(rejects.values())
    if not num_videos:
        launch.fail(
            output,
            JobFailedError(
                f"none of the {num_rejects} rows can be used: {dict(rejects)}; "
                f"see {storage.join(output, 'rejects')}"
            ),
        )
    if summary.duplicate_ids:
        named = ", ".join(map(repr, summary.duplicate_ids[:_NAMED_DUPLICATES]))
        launch.fail(
            output,
            InputError(
                f"column id: {len(summary.duplicate_ids)} rows repeat an id of another row: "
                f"{named}{', ...' if len(summary.duplicate_ids) > _NAMED_DUPLICATES else ''}; "
                "an id may occur once, since a soundtrack in two splits would be evaluated on "
                "what it was trained on: remove the rows, or give excerpts ids of their own"
            ),
        )
    num_shards = _num_shards(summary.num_videos, present_shards)
    contract.write_root(
        output,
        contract.DATASET,
        {
            **made,
            "fingerprint": f"{summary.digest % 2**64:016x}",
            "vocabulary": {"num_labels": len(vocabulary), "fingerprint": labels_written},
            "num_rows": num_videos + num_rejects,
            "num_videos": num_videos,
            "num_rejects": num_rejects,
            "rejects": rejects,
            "splits": {
                split: {
                    "num_videos": count,
                    "num_shards": {sharding.ALL: num_shards[split]},
                }
                for split, count in summary.num_videos.items()
            },
        },
    )
