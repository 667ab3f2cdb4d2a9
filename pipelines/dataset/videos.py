"""The files of a data set: videos get their group and shard, and are written.

A file of `videos/` holds the videos of a range of hashes, of every split; so two rows of one id
always meet in one file, and are seen. Rows cross the shuffle as Arrow data, some hundreds in one
element.
"""

import dataclasses
import hashlib
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from features.contracts import folders, labels, sharding
from features.contracts.labels import Vocabulary
from features.contracts.sharding import EVALUATION, SPLITS
from features.contracts.videos import VIDEO_SCHEMA, VIDEOS_FOLDER
from features.errors import InputError, JobFailedError
from features.storage import files as storage
from pipelines.dataset import statistics
from pipelines.dataset.counts import Survey, add_counts
from pipelines.dataset.label_names import describe_names
from pipelines.dataset.page import render_page
from pipelines.dataset.splits import Named
from pipelines.dataset.subset_request import SubsetRequest
from pipelines.dataset.subsets import Strata, lay_strata
from pipelines.runtime.failure import fail

COVERAGE = "coverage.parquet"
PAGE = "dataset.html"
# A grouped value is one record to a runner (Flink keeps it in memory): 50,000 rows are about 10 MB.
_VIDEOS_PER_FILE = 50_000


@dataclasses.dataclass(frozen=True, eq=False)
class FileSummary:
    """What one file of `videos/` holds, or several together.

    Attributes:
      num_videos: (split, group) -> videos.
      label_videos: group of the evaluation split -> int64 [labels up to the last], videos.
      digest: a sum over files.
      duplicates: ids that another row has too, once for each row too many.
    """

    num_videos: Mapping[tuple[str, str], int]
    label_videos: Mapping[str, np.ndarray]
    digest: int
    duplicates: Named

    @classmethod
    def of_all(cls, summaries: Iterable["FileSummary"]) -> "FileSummary":
        """The sum of several."""
        num_videos: dict[tuple[str, str], int] = {}
        label_videos: dict[str, np.ndarray] = {}
        digest, duplicates = 0, Named()
        for summary in summaries:
            for key, number in summary.num_videos.items():
                num_videos[key] = num_videos.get(key, 0) + number
            add_counts(label_videos, summary.label_videos)
            digest += summary.digest
            duplicates = Named.of_all([duplicates, summary.duplicates])
        return cls(num_videos, label_videos, digest, duplicates)


def plan_strata(
    survey: Survey,
    vocabulary: Vocabulary,
    request: SubsetRequest,
    present_shards: Mapping[str, Mapping[str, int]],
    output: str,
) -> Strata:
    """`lay_strata` as a stage.

    Raises:
      InputError: a subset is larger than what it is taken from.
    """
    try:
        return lay_strata(survey, len(vocabulary), request, present_shards)
    except InputError as error:
        fail(output, error)


class WriteVideos(beam.PTransform):
    """Arrow batches of `placement.INDEXED_SCHEMA` -> files of `videos/`; one `FileSummary`."""

    def __init__(self, output: str, strata: beam.PCollection):
        super().__init__()
        self._folder = storage.join(output, VIDEOS_FOLDER)
        self._strata = strata

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        """Assign groups and shards, group by file, write."""
        return (
            batches
            | "AssignShards"
            >> beam.FlatMap(assign_shards, strata=beam.pvalue.AsSingleton(self._strata))
            | "GroupByFile" >> beam.GroupByKey()
            | "WriteFile" >> beam.Map(_write_file, folder=self._folder)
            | "SumFiles" >> beam.CombineGlobally(FileSummary.of_all)
        )


def assign_shards(batch: pa.RecordBatch, strata: Strata) -> Iterator[tuple[str, bytes]]:
    """(file name, rows of `VIDEO_SCHEMA`) for each file that the batch has videos of."""
    ids = batch.column("id").to_pylist()
    splits, positions = batch.column("split").to_numpy(), batch.column("position").to_numpy()
    # Every group of every split has a number.
    keys = [(split, group) for split in SPLITS for group in strata.groups[split]]
    number = np.empty(len(ids), np.int64)
    for place, split in enumerate(SPLITS):
        chosen = splits == place
        first = keys.index((split, strata.groups[split][0]))
        number[chosen] = first + strata.groups_of(split, positions[chosen])
    shards_of_group = [strata.num_shards.get(split, {}).get(group, 0) for split, group in keys]
    num_shards = np.array(shards_of_group, np.int32)[number]
    columns = {name: batch.column(name) for name in batch.schema.names} | {
        "split": pa.array([split for split, _ in keys]).take(pa.array(number)),
        "group": pa.array([group for _, group in keys]).take(pa.array(number)),
        "shard": pa.array(sharding.shards_of(ids, num_shards)),
        "num_shards": pa.array(num_shards),
    }
    num_files = math.ceil(strata.num_videos / _VIDEOS_PER_FILE)
    files = (sharding.unit_hashes("file", ids) * num_files).astype(np.int64)
    order = np.argsort(files, kind="stable")
    rows = pa.RecordBatch.from_arrays(
        [columns[name] for name in VIDEO_SCHEMA.names], schema=VIDEO_SCHEMA
    ).take(pa.array(order))
    start = 0
    for index, size in zip(*np.unique(files, return_counts=True), strict=True):
        name = f"part-{index:05d}-of-{num_files:05d}.parquet"
        yield name, rows.slice(start, size).serialize().to_pybytes()
        start += size


def _write_file(keyed: tuple[str, Iterable[bytes]], folder: str) -> FileSummary:
    name, parts = keyed
    batches = [pa.ipc.read_record_batch(pa.py_buffer(part), VIDEO_SCHEMA) for part in parts]
    # Of rows with one id the order decides nothing: the job is refused.
    videos = pa.Table.from_batches(batches).sort_by("id").combine_chunks()
    with storage.atomic_write(storage.join(folder, name)) as file:
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
        duplicates=Named.of(ids[1:].filter(pc.equal(ids[1:], ids[:-1])).to_pylist()),
    )


def _label_videos(videos: pa.Table) -> np.ndarray:
    return np.bincount(pc.list_flatten(videos["labels"]).to_numpy())


def _digest(videos: pa.Table) -> int:
    """Of the rows of a file, as text: how Arrow lays them out in memory may change."""
    place = videos.schema.get_field_index("labels")
    indices = pc.cast(videos["labels"], pa.list_(pa.string()))
    text = io.BytesIO()
    pyarrow.csv.write_csv(videos.set_column(place, "labels", pc.binary_join(indices, " ")), text)
    return int.from_bytes(hashlib.blake2b(text.getbuffer(), digest_size=8).digest(), "big")


def write_labels(vocabulary: Vocabulary, output: str) -> str:
    """Write `labels.parquet`; returns the vocabulary's fingerprint."""
    storage.write_bytes(storage.join(output, labels.FILE_NAME), vocabulary.to_bytes())
    return vocabulary.fingerprint


def finish(
    made: Mapping[str, Any],
    vocabulary: Vocabulary,
    labels_written: str,
    label_names: Mapping[str, str] | None,
    survey: Survey,
    strata: Strata,
    summary: FileSummary,
    straddling: Named,
    rejects: Mapping[str, int],
    request: SubsetRequest,
    output: str,
) -> None:
    """The last stage: check the counts and write `dataset.json`, or fail the job.

    Raises:
      InputError: the manifest has an id twice, or an origin in two splits.
      JobFailedError: no row of the manifest could be used.
    """
    num_videos, num_rejects = sum(summary.num_videos.values()), sum(rejects.values())
    if not num_videos:
        fail(
            output,
            JobFailedError(
                f"none of the {num_rejects} rows can be used: {dict(rejects)}; "
                f"see {storage.join(output, 'rejects')}"
            ),
        )
    if summary.duplicates.number:
        fail(
            output,
            InputError(
                f"column id: {summary.duplicates.number} rows repeat an id of another row: "
                f"{summary.duplicates}; an id may occur once, since a soundtrack in two splits "
                "would be evaluated on what it was trained on: remove the rows"
            ),
        )
    if straddling.number:
        fail(
            output,
            InputError(
                f"column group: {straddling.number} groups have videos in more than one split: "
                f"{straddling}; the network would be evaluated on what it was trained on: put "
                "each group into one split, or leave the split of all its videos to the hash"
            ),
        )
    coverage = statistics.coverage_table(vocabulary, survey, summary.label_videos, request)
    with storage.atomic_write(storage.join(output, COVERAGE)) as file:
        pq.write_table(coverage, file)
    num_groups = {
        split: {group: summary.num_videos.get((split, group), 0) for group in groups}
        for split, groups in strata.num_shards.items()
    }
    named = {} if label_names is None else describe_names(label_names, vocabulary.ids)
    document = {
        **made,
        "fingerprint": f"{summary.digest % 2**64:016x}",
        "vocabulary": {"num_labels": len(vocabulary), "fingerprint": labels_written, **named},
        "num_rows": num_videos + num_rejects,
        "num_videos": num_videos,
        "num_rejects": num_rejects,
        "rejects": rejects,
        "splits": {
            split: {
                "num_videos": sum(num_groups[split].values()),
                "num_videos_by_group": num_groups[split],
                "num_shards": dict(groups),
            }
            for split, groups in sorted(strata.num_shards.items())
        },
        "subsets": strata.subsets,
        "balanced_sets": statistics.balanced_sets(coverage, request, strata, num_groups),
        "statistics": statistics.statistics(survey, vocabulary),
    }
    page = render_page(document, coverage)
    storage.write_bytes(storage.join(output, PAGE), page.encode())
    folders.write_root(output, folders.DATASET, document)
