"""What a job could not use, in `rejects/*.parquet`: id, uri, reason and detail."""

import collections
import dataclasses
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq

from features.contracts.documents import PatchShard
from features.contracts.sharding import unit_hash
from features.sound.outcome import WRITTEN
from features.storage import files
from pipelines.runtime.counters import CountElements, Counts

FOLDER = "rejects"
_SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "uri", "reason", "detail")])
# Enough files that a job in which everything fails still writes them in parallel.
_NUM_FILES = 16
# A malformed row may be of any length.
_DETAIL_CHARACTERS = 500


class Reject(NamedTuple):
    """A row of a manifest or a video that a job could not use."""

    id: str
    uri: str
    reason: str
    detail: str


def list_rejects(sidecar: PatchShard) -> Iterator[Reject]:
    """The videos of a shard without patches."""
    for video in sidecar.videos:
        if video.outcome not in WRITTEN:
            yield Reject(video.id, video.uri, str(video.outcome), video.detail)


def remove_rejects(output: str) -> None:
    """Remove the rejects of an earlier run."""
    files.delete_files(files.list_files(output, f"{FOLDER}/rejects-*.parquet"))


@dataclasses.dataclass(eq=False)
class WriteRejects(beam.PTransform):
    """Rejects to files under `output`; gives one dict, reason -> count."""

    output: str

    def expand(self, rejects: beam.PCollection) -> beam.PCollection:
        """Group by hash, write a file for each group, count."""
        return (
            rejects
            | "KeyByFile" >> beam.Map(_with_file)
            | "GroupByFile" >> beam.GroupByKey()
            | "WriteFile" >> beam.Map(_write, folder=files.join(self.output, FOLDER))
            | "Counters" >> CountElements("reject", _measure)
            | "CountReasons" >> beam.CombineGlobally(_add_counts)
        )


def _with_file(reject: Reject) -> tuple[int, Reject]:
    reject = reject._replace(detail=reject.detail[:_DETAIL_CHARACTERS])
    return int(unit_hash("rejects", reject.id + reject.detail) * _NUM_FILES), reject


def _write(keyed: tuple[int, Iterable[Reject]], folder: str) -> dict[str, int]:
    index, rejects = keyed
    rows = sorted(Reject(*reject) for reject in rejects)
    table = pa.Table.from_pylist([row._asdict() for row in rows], _SCHEMA)
    with files.atomic_write(files.join(folder, f"rejects-{index:02d}.parquet")) as file:
        pq.write_table(table, file)
    return collections.Counter(row.reason for row in rows)


def _measure(counts: dict[str, int]) -> Counts:
    return Counts(sums=counts)


def _add_counts(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: collections.Counter[str] = collections.Counter()
    for count in counts:
        total.update(count)
    return dict(sorted(total.items()))
