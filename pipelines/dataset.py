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
# Of the data set's files alone: media may lie in a folder of that name.
VIDEO_FILES = f"{VIDEOS_FOLDER}/part-*-of-*.parquet"
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
    num_shards: Mapping[str, int]  # split -> shards of the whole split
    digest: int  # a sum over rows: it does not depend on the cut into files
    num_duplicates: int  # rows whose id another row has
    duplicate_ids: tuple[str, ...]  # a few of them

    @classmethod
    def of_all(cls, summaries: Iterable["FileSummary"]) -> "FileSummary":
        """The sum of several."""
        num_videos: collections.Counter[str] = collections.Counter()
        num_shards: dict[str, int] = {}
        digest = num_duplicates = 0
        duplicate_ids: list[str] = []
        for summary in summaries:
            num_videos.update(summary.num_videos)
            num_shards.update(summary.num_shards)
            digest += summary.digest
            num_duplicates += summary.num_duplicates
            duplicate_ids = sorted([*duplicate_ids, *summary.duplicate_ids])[:_NAMED_DUPLICATES]
        return cls(
            dict(sorted(num_videos.items())),
            num_shards,
            digest,
            num_duplicates,
            tuple(duplicate_ids),
        )


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
        sizes = (
            batches
            | "Sizes" >> beam.FlatMap(_sizes)
            | "SumSizes" >> beam.CombinePerKey(beam.combiners.TupleCombineFn(sum, sum))
        )
        return (
            batches
            | "AssignShards"
            >> beam.FlatMap(
                _assign,
                vocabulary=beam.pvalue.AsSingleton(self._vocabulary),
                sizes=beam.pvalue.AsDict(sizes),
                present_shards=self._present_shards,
            )
            | "GroupByFile" >> beam.GroupByKey()
            | "WriteFile" >> beam.Map(_write_file, folder=self._folder)
            | "SumFiles" >> beam.CombineGlobally(FileSummary.of_all)
        )


def _sizes(batch: pa.RecordBatch) -> Iterator[tuple[str, tuple[int, float]]]:
    """(split, (1, seconds)) of each row; the paper's average where the length is not known."""
    starts, ends = batch.column("start").to_pylist(), batch.column("end").to_pylist()
    for split, start, end in zip(_splits(batch), starts, ends, strict=True):
        yield split, (1, sharding.MEAN_VIDEO_SECONDS if end is None else end - (start or 0.0))


def _splits(batch: pa.RecordBatch) -> Iterator[str]:
    """The split of each row: the manifest's own, else by the hash of the id."""
    ids, splits = batch.column("id").to_pylist(), batch.column("split").to_pylist()
    for video_id, split in zip(ids, splits, strict=True):
        yield split or sharding.split_of(video_id)


def _assign(
    batch: pa.RecordBatch,
    vocabulary: Vocabulary,
    sizes: Mapping[str, tuple[int, float]],
    present_shards: Mapping[str, int],
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """(file name, row of `VIDEO_SCHEMA`) for each row; native types, which shuffle cheaply."""
    index_of = {label: index for index, label in enumerate(vocabulary.ids)}
    num_shards = {
        split: sharding.num_shards(num_videos, seconds, LogMelParams(), present_shards.get(split))
        for split, (num_videos, seconds) in sizes.items()
    }
    num_files = math.ceil(sum(num_videos for num_videos, _ in sizes.values()) / _VIDEOS_PER_FILE)
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


def _write_file(keyed: tuple[str, Iterable[tuple[Any, ...]]], folder: str) -> FileSummary:
    name, rows = keyed
    videos = [dict(zip(VIDEO_SCHEMA.names, row, strict=True)) for row in rows]
    videos.sort(key=lambda video: (video["id"], video["split"], video["uri"]))
    with storage.atomic_write(storage.join(folder, name)) as file:
        pq.write_table(pa.Table.from_pylist(videos, VIDEO_SCHEMA), file)
    ids = [video["id"] for video in videos]
    duplicates = [b for a, b in itertools.pairwise(ids) if a == b]
    return FileSummary(
        num_videos=collections.Counter(video["split"] for video in videos),
        num_shards={video["split"]: video["num_shards"] for video in videos},
        digest=sum(_row_digest(video) for video in videos),
        num_duplicates=len(duplicates),
        duplicate_ids=tuple(duplicates[:_NAMED_DUPLICATES]),
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
    if summary.num_duplicates:
        named = ", ".join(map(repr, summary.duplicate_ids))
        launch.fail(
            output,
            InputError(
                f"column id: {summary.num_duplicates} rows repeat an id of another row: "
                f"{named}{', ...' if summary.num_duplicates > _NAMED_DUPLICATES else ''}; an id "
                "may occur once, since a soundtrack in two splits would be evaluated on what it "
                "was trained on: remove the rows"
            ),
        )
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
                    "num_shards": {sharding.ALL: summary.num_shards[split]},
                }
                for split, count in summary.num_videos.items()
            },
        },
    )
