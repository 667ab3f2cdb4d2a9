"""The split of every video, and its position within the split.

Videos of one origin (an uploader, an original recording) sound alike. The split is therefore drawn
by the hash of the origin if that is known, and an origin with videos in two splits is reported. A
video may have several origins, as a soundtrack that is composed of clips.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.contracts import sharding
from features.contracts.sharding import SPLITS
from pipelines.dataset.manifest_format import SCHEMA

# Videos of `SCHEMA` with the place of their split in `SPLITS`, and their position in
# [0, 1): the order in which subsets take them.
PLACED_SCHEMA = pa.schema(
    [
        *(field for field in SCHEMA if field.name != "split"),
        pa.field("split", pa.int8()),
        pa.field("position", pa.float64()),
    ]
)
# The same with labels as indices, rising, and a random number for each label of the video.
INDEXED_SCHEMA = PLACED_SCHEMA.set(
    PLACED_SCHEMA.get_field_index("labels"), pa.field("labels", pa.list_(pa.int32()))
).append(pa.field("draws", pa.list_(pa.uint32())))
ORIGINS = "origins"
_ORIGIN_SCHEMA = pa.schema([("origin", pa.string()), ("split", pa.int8())])
_NUM_PARTITIONS = 256
_NUM_EXAMPLES = 5


@dataclasses.dataclass(frozen=True)
class CountWithExamples:
    """How many there are of something, and the first few of them in order."""

    count: int = 0
    examples: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: Iterable[str]) -> "CountWithExamples":
        """Count these."""
        names = sorted(names)
        return cls(len(names), tuple(names[:_NUM_EXAMPLES]))

    @classmethod
    def of_all(cls, parts: Iterable["CountWithExamples"]) -> "CountWithExamples":
        """Add several."""
        parts = list(parts)
        names = sorted(name for part in parts for name in part.examples)
        return cls(sum(part.count for part in parts), tuple(names[:_NUM_EXAMPLES]))

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.examples) else ""
        return ", ".join(map(repr, self.examples)) + more


def assign_splits(batch: pa.RecordBatch) -> Iterator[Any]:
    """Batches of `SCHEMA` -> batches of `PLACED_SCHEMA`; tagged `ORIGINS`: origins by partition.

    A split that the manifest gives takes precedence over the hash.
    """
    own = pc.index_in(batch.column("split"), value_set=pa.array(list(SPLITS)))
    origins = batch.column("origins")
    joined = pc.binary_join(origins, ";")
    keys = pc.if_else(pc.equal(joined, ""), batch.column("id"), joined)
    splits = own.fill_null(0).to_numpy().astype(np.int8)
    is_drawn = own.is_null().to_numpy(zero_copy_only=False)
    splits[is_drawn] = sharding.splits_of(keys.filter(pa.array(is_drawn)).to_pylist())
    positions = sharding.unit_hashes("position", batch.column("id").to_pylist())
    columns = {name: batch.column(name) for name in batch.schema.names}
    columns |= {"split": pa.array(splits), "position": pa.array(positions)}
    yield pa.RecordBatch.from_arrays(
        [columns[name] for name in PLACED_SCHEMA.names], schema=PLACED_SCHEMA
    )
    of_origin = splits[pc.list_parent_indices(origins).to_numpy()]
    known = pa.table([origins.flatten(), pa.array(of_origin)], schema=_ORIGIN_SCHEMA)
    if known.num_rows:
        distinct = known.group_by(["origin", "split"]).aggregate([])
        names = distinct["origin"].to_pylist()
        partitions = (sharding.unit_hashes("origin", names) * _NUM_PARTITIONS).astype(int)
        for partition in np.unique(partitions):
            part = distinct.filter(pa.array(partitions == partition)).combine_chunks()
            yield beam.pvalue.TaggedOutput(ORIGINS, (int(partition), part))


class FindStraddling(beam.PTransform):
    """Origins by partition -> `CountWithExamples` of those with videos in more than one split."""

    def expand(self, origins: beam.PCollection) -> beam.PCollection:
        """Group by partition, so that all videos of an origin meet."""
        return (
            origins
            | "GroupByPartition" >> beam.GroupByKey()
            | "Straddling" >> beam.MapTuple(_straddling)
            | "SumStraddling" >> beam.CombineGlobally(CountWithExamples.of_all)
        )


def _straddling(partition: int, tables: Iterable[pa.Table]) -> CountWithExamples:
    del partition
    distinct = pa.concat_tables(tables).group_by(["origin", "split"]).aggregate([])
    splits_of = distinct.group_by("origin").aggregate([("split", "count")])
    return CountWithExamples.of(
        splits_of.filter(pc.greater(splits_of["split_count"], 1))["origin"].to_pylist()
    )
