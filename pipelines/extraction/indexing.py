"""The indexes of training groups, made of the sidecars that a job has at hand: no second reading.

A group that has a shard without padding, of an older version, gets no index.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

import apache_beam as beam
import numpy as np

from features.contracts import index
from features.contracts.documents import PatchShard
from features.contracts.sharding import TRAIN

# ((split, group), (number of the shard, records, bytes of each record or None)).
IndexRow = tuple[tuple[str, str], tuple[int, int, int | None]]
# (split, group) -> digest of its index; None for a group that gets none.
Indexes = Mapping[tuple[str, str], str | None]


@dataclasses.dataclass(eq=False)
class WriteIndexes(beam.PTransform):
    """Write the index of each training group; gives the items of `Indexes`.

    Attributes:
      folder: the FEATURES folder.
    """

    folder: str

    def expand(self, sidecars: beam.PCollection) -> beam.PCollection:
        """Bring the rows of a group together: 24 bytes of a shard, so 20 MB of 800,000."""
        return (
            sidecars
            | "Rows" >> beam.FlatMap(rows_of)
            | "GroupRows" >> beam.GroupByKey()
            | "Write" >> beam.MapTuple(self._write)
        )

    def _write(
        self, group: tuple[str, str], rows: Iterable[tuple[int, int, int | None]]
    ) -> tuple[tuple[str, str], str | None]:
        rows = sorted(rows)
        if any(record_bytes is None for _, _, record_bytes in rows):
            return group, None
        table = np.array(rows, np.int64)[:, 1:]
        return group, index.write_index(index.path_of(self.folder, *group), table)


def rows_of(sidecar: PatchShard) -> Iterator[IndexRow]:
    """The row of a training shard; none of another."""
    key = sidecar.key
    if key.split == TRAIN:
        yield (key.split, key.group), (key.index, sidecar.num_patches, sidecar.record_bytes)


def fingerprint_of(indexes: Indexes, split: str, groups: Iterable[str]) -> str | None:
    """`index_fingerprint` of a split; None if one of its groups has no index."""
    digests = {group: indexes.get((split, group)) for group in groups}
    found = {group: digest for group, digest in digests.items() if digest is not None}
    return index.split_fingerprint(found) if found and len(found) == len(digests) else None
