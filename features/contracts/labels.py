"""The label vocabulary: one row a label, the most frequent label first.

The order makes the paper's label sets prefixes of each other: the 3K set is the first 3,087 labels
of the 30K set, and the 400 set the first 400 of both (section 4.2).
"""

import dataclasses
import io
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.fingerprint import fingerprint
from features.storage import files

FILE_NAME = "labels.parquet"

_SCHEMA = pa.schema(
    [
        ("index", pa.int32()),
        ("id", pa.string()),
        ("name", pa.string()),
        ("count", pa.int64()),
        ("prior", pa.float64()),
    ]
)


@dataclasses.dataclass(frozen=True, eq=False)
class Vocabulary:
    """Labels, the most frequent first.

    Attributes:
      ids: [labels], their names in the manifest.
      names: [labels], their names for people.
      counts: int64 [labels], videos that have the label.
      num_videos: all videos that were counted.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    counts: np.ndarray
    num_videos: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def priors(self) -> np.ndarray:
        """float64 [labels], the share of videos that have the label."""
        return self.counts / self.num_videos

    @property
    def fingerprint(self) -> str:
        """A checksum of the ids in their order. Counts and names may change."""
        return fingerprint(list(self.ids))

    def prefix(self, size: int) -> "Vocabulary":
        """The most frequent `size` labels."""
        return Vocabulary(self.ids[:size], self.names[:size], self.counts[:size], self.num_videos)

    def to_bytes(self) -> bytes:
        """The content of `labels.parquet`."""
        table = pa.table(
            {
                "index": np.arange(len(self), dtype=np.int32),
                "id": list(self.ids),
                "name": list(self.names),
                "count": self.counts,
                "prior": self.priors,
            },
            schema=_SCHEMA.with_metadata({"num_videos": str(self.num_videos)}),
        )
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Vocabulary":
        """Parse the content of `labels.parquet`."""
        table = pq.read_table(io.BytesIO(content))
        return cls(
            ids=tuple(table["id"].to_pylist()),
            names=tuple(table["name"].to_pylist()),
            counts=table["count"].to_numpy(),
            num_videos=int(table.schema.metadata[b"num_videos"]),
        )


def match_labels(source: Vocabulary, target: Vocabulary) -> dict[int, int]:
    """Match labels of two vocabularies by equal ids, else by names that are equal but for case.

    Returns:
      Index in `source` -> index in `target`, without the labels that have no match.
    """
    by_name = {name.casefold(): index for index, name in enumerate(target.names)}
    by_id = {label: index for index, label in enumerate(target.ids)}
    matched = {}
    for index, (label, name) in enumerate(zip(source.ids, source.names, strict=True)):
        found = by_id.get(label, by_name.get(name.casefold()))
        if found is not None:
            matched[index] = found
    return matched


def count_matched(source: Vocabulary, target: Vocabulary, matched: Mapping[int, int]) -> Vocabulary:
    """The target with the counts of the labels of the source that match its own.

    `videos.count_labels` counts where two labels of the source match one of the target, since a
    video may have both.
    """
    counts = np.zeros(len(target), np.int64)
    for index, found in matched.items():
        counts[found] += source.counts[index]
    return dataclasses.replace(target, counts=counts, num_videos=source.num_videos)


def read_vocabulary(folder: str) -> Vocabulary:
    """Read `labels.parquet` of a folder."""
    return Vocabulary.from_bytes(files.read_bytes(files.join(folder, FILE_NAME)))


def copy_vocabulary(source: str, target: str) -> None:
    """Copy `labels.parquet` from one folder into another, byte for byte."""
    content = files.read_bytes(files.join(source, FILE_NAME))
    files.write_bytes(files.join(target, FILE_NAME), content)
