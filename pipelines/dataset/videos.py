"""The files of a data set: assign groups and shards to videos, and write them.

A file of `videos/` has the videos of a range of hashes, of every split, so that two rows of one id
always meet in one file and are found. Rows cross the shuffle as Arrow data, some hundreds in one
element.
"""

import dataclasses
import hashlib
import io
import math
from collections.abc import Iterable, Iterator, Mapping

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from features.contracts import sharding
from features.contracts.sharding import EVALUATION, SPLITS
from features.contracts.videos import VIDEO_SCHEMA, VIDEOS_FOLDER
from features.storage import files
from pipelines.dataset.counts import add_counts
from pipelines.dataset.splits import CountWithExamples
from pipelines.dataset.subsets import SubsetPlan
from pipelines.runtime.counters import CountElements, Counts
from pipelines.runtime.membership import JoinJob

# A grouped value is one record to a runner (Flink keeps it in memory): 50,000 rows are about 10 MB.
_VIDEOS_PER_FILE = 50_000


@dataclasses.dataclass(frozen=True, eq=False)
class FileSummary:
    """The contents of a file of `videos/`, or of several.

    Attributes:
      num_videos: (split, group) -> videos.
      label_videos: group of the evaluation split -> int64 [labels up to the last], videos.
      digest: checksum of the rows; a sum over files.
      duplicates: ids of more than one row, once for each row too many.
    """

    num_videos: Mapping[tuple[str, str], int]
    label_videos: Mapping[str, np.ndarray]
    digest: int
    duplicates: CountWithExamples

    @classmethod
    def of_all(cls, summaries: Iterable["FileSummary"]) -> "FileSummary":
        """Add several."""
        num_videos: dict[tuple[str, str], int] = {}
        label_videos: dict[str, np.ndarray] = {}
        digest, duplicates = 0, CountWithExamples()
        for summary in summaries:
            for key, number in summary.num_videos.items():
                num_videos[key] = num_videos.get(key, 0) + number
            add_counts(label_videos, summary.label_videos)
            digest += summary.digest
            duplicates = CountWithExamples.of_all([duplicates, summary.duplicates])
        return cls(num_videos, label_videos, digest, duplicates)


@dataclasses.dataclass(eq=False)
class WriteVideos(beam.PTransform):
    """Arrow batches of `splits.INDEXED_SCHEMA` -> files of `videos/`; one `FileSummary`.

    Attributes:
      output: DATASET.
      plan: one `SubsetPlan`.
    """

    output: str
    plan: beam.PCollection

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        """Assign groups and shards, group by file, write."""
        return (
            batches
            | "AssignShards" >> beam.FlatMap(assign_shards, beam.pvalue.AsSingleton(self.plan))
            | "GroupByFile" >> beam.GroupByKey()
            | JoinJob()
            | "WriteFile" >> beam.Map(_write_file, folder=files.join(self.output, VIDEOS_FOLDER))
            | "Counters" >> CountElements("prepare", _measure)
            | "SumFiles" >> beam.CombineGlobally(FileSummary.of_all)
        )


def assign_shards(batch: pa.RecordBatch, plan: SubsetPlan) -> Iterator[tuple[str, bytes]]:
    """Split a batch into (file name, rows of `VIDEO_SCHEMA`)."""
    ids = batch.column("id").to_pylist()
    splits, positions = batch.column("split").to_numpy(), batch.column("position").to_numpy()
    # Number the groups of all splits.
    keys = [(split, group) for split in SPLITS for group in plan.groups[split]]
    number = np.empty(len(ids), np.int64)
    for place, split in enumerate(SPLITS):
        chosen = splits == place
        first = keys.index((split, plan.groups[split][0]))
        number[chosen] = first + plan.groups_of(split, positions[chosen])
    shards_of_group = [plan.num_shards.get(split, {}).get(group, 0) for split, group in keys]
    num_shards = np.array(shards_of_group, np.int32)[number]
    columns = {name: batch.column(name) for name in batch.schema.names} | {
        "split": pa.array([split for split, _ in keys]).take(pa.array(number)),
        "group": pa.array([group for _, group in keys]).take(pa.array(number)),
        "shard": pa.array(sharding.shards_of(ids, num_shards)),
        "num_shards": pa.array(num_shards),
    }
    num_files = math.ceil(plan.num_videos / _VIDEOS_PER_FILE)
    numbers = (sharding.unit_hashes("file", ids) * num_files).astype(np.int64)
    order = np.argsort(numbers, kind="stable")
    rows = pa.RecordBatch.from_arrays(
        [columns[name] for name in VIDEO_SCHEMA.names], schema=VIDEO_SCHEMA
    ).take(pa.array(order))
    start = 0
    for index, size in zip(*np.unique(numbers, return_counts=True), strict=True):
        name = f"part-{index:05d}-of-{num_files:05d}.parquet"
        yield name, rows.slice(start, size).serialize().to_pybytes()
        start += size


def _write_file(keyed: tuple[str, Iterable[bytes]], folder: str) -> FileSummary:
    name, parts = keyed
    batches = [pa.ipc.read_record_batch(pa.py_buffer(part), VIDEO_SCHEMA) for part in parts]
    # The order of rows with the same id does not matter: the job is refused.
    videos = pa.Table.from_batches(batches).sort_by("id").combine_chunks()
    with files.atomic_write(files.join(folder, name)) as file:
        pq.write_table(videos, file)
    ids = videos["id"]
    sizes = videos.group_by(["split", "group"]).aggregate([([], "count_all")]).to_pylist()
    evaluation = videos.filter(pc.equal(videos["split"], EVALUATION))
    return FileSummary(
        num_videos={(row["split"], row["group"]): row["count_all"] for row in sizes},
        label_videos={
            group: _label_videos(evaluation.filter(pc.equal(evaluation["group"], group)))
            for group in pc.unique(evaluation["group"]).to_pylist()
        },
        digest=_digest(videos),
        duplicates=CountWithExamples.of(ids[1:].filter(pc.equal(ids[1:], ids[:-1])).to_pylist()),
    )


def _measure(summary: FileSummary) -> Counts:
    num_videos = sum(summary.num_videos.values())
    sums = {"files_written": 1, "videos": num_videos, "repeated_ids": summary.duplicates.count}
    return Counts(sums=sums)


def _label_videos(videos: pa.Table) -> np.ndarray:
    return np.bincount(pc.list_flatten(videos["labels"]).to_numpy())


def _digest(videos: pa.Table) -> int:
    """Checksum of the rows of a file as text: their layout in Arrow's memory may change."""
    place = videos.schema.get_field_index("labels")
    indices = pc.cast(videos["labels"], pa.list_(pa.string()))
    rows = videos.set_column(place, "labels", pc.binary_join(indices, " "))
    origins = pc.binary_join(videos["origins"], ";")
    rows = rows.set_column(rows.num_columns - 1, "origins", origins)
    if not pc.any(pc.not_equal(origins, "")).as_py():
        rows = rows.drop_columns("origins")  # the checksum of older data sets, which have none
    text = io.BytesIO()
    pyarrow.csv.write_csv(rows, text)
    return int.from_bytes(hashlib.blake2b(text.getbuffer(), digest_size=8).digest(), "big")
