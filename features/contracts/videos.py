"""The videos of a data set: one row each in `videos/*.parquet`, in no order."""

import collections
import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from features.storage import files

VIDEOS_FOLDER = "videos"
# Only files of the data set: media may lie in a folder of the same name.
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
        ("origins", pa.list_(pa.string())),
    ]
)


@dataclasses.dataclass(frozen=True)
class Video:
    """A soundtrack to extract: a media file, or its part from start to end (seconds).

    `origins` are what it was taken from, such as its uploader or the clips that it is composed of.
    They decide no patch and no score: a plan of work is the same without them.
    """

    id: str
    uri: str
    start: float | None
    end: float | None
    labels: tuple[int, ...]
    origins: tuple[str, ...] = ()

    def content(self) -> dict[str, Any]:
        """The fields that decide patches and scores."""
        return {name: value for name, value in vars(self).items() if name != "origins"}


def count_labels(paths: Sequence[str], matched: Mapping[int, int], num_labels: int) -> np.ndarray:
    """Count the videos that have each label of another vocabulary, reading the labels of all.

    Args:
      paths: files of `videos/`.
      matched: index of a label of the videos -> index in the other vocabulary.
      num_labels: of the other vocabulary.

    Returns:
      int64 [labels].
    """
    other = np.full(1 + max(matched, default=-1), -1)
    other[list(matched)] = list(matched.values())
    counts = np.zeros(num_labels, np.int64)
    for path in paths:
        with files.open_read(path) as file:
            column = pq.read_table(file, columns=["labels"])["labels"].combine_chunks()
        label, video = pc.list_flatten(column).to_numpy(), pc.list_parent_indices(column).to_numpy()
        is_matched = np.isin(label, list(matched))
        pairs = np.unique(video[is_matched] * num_labels + other[label[is_matched]])
        counts += np.bincount(pairs % num_labels, minlength=num_labels)
    return counts


def read_videos(
    path: str, groups: Mapping[str, Collection[str]]
) -> Iterator[tuple[tuple, list[tuple]]]:
    """Read a file of `videos/` as (shard key, rows of its videos), in native types.

    Args:
      path: of the file.
      groups: split -> its groups to read.
    """
    rows_by_shard: dict[tuple, list[tuple]] = collections.defaultdict(list)
    with files.open_read(path) as file:
        for row in pq.read_table(file, schema=VIDEO_SCHEMA).to_pylist():
            if row["group"] in groups.get(row["split"], ()):
                key = (row["split"], row["group"], row["shard"], row["num_shards"])
                video = (row["id"], row["uri"], row["start"], row["end"], tuple(row["labels"]))
                # Older data sets do not have the origins.
                rows_by_shard[key].append((*video, tuple(row["origins"] or ())))
    yield from rows_by_shard.items()
