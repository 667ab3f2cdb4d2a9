"""The shards of a split by their numbers: a split may have 800,000, which nothing here lists."""

import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from features.contracts import index, sharding, tfrecord
from features.contracts.shards import PATCHES, RECORDS_SUFFIX
from features.storage import files

# Shards that are read at the same time in search of a damaged shard.
_SCANS_AT_ONCE = 8
# Parts of TensorFlow's messages about a run that is incomplete, and about a file that is missing.
_ENDS_EARLY = "was expected to contain"
_RECORD_FILE = re.compile(rf"\b{PATCHES}-\d+-of-\d+{re.escape(RECORDS_SUFFIX)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shards:
    """The shards of a split that are read; iterating gives the paths of their record files.

    Attributes:
      folder: the FEATURES folder.
      split: of the shards.
      num_shards: by group, of the groups that are read.
      indexed: whether each group has an index.
      left_out: paths of shards that are not read; those of other folders count for nothing.
    """

    folder: str
    split: str
    num_shards: Mapping[str, int]
    indexed: bool
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return sum(self.num_shards.values()) - len(self.numbers_left_out)

    def __iter__(self) -> Iterator[str]:
        return (path for path in self._all_paths() if path not in self.left_out)

    def expected_records(self) -> Iterator[tuple[str, int | None]]:
        """The path of each shard, and how many records its index says; None without an index."""
        for group, number in self.num_shards.items():
            part = dataclasses.replace(self, num_shards={group: number}, left_out=())
            counts: Iterable[int | None] = itertools.repeat(None)
            if self.indexed:
                path = index.path_of(self.folder, self.split, group)
                counts = index.read_index(path)[0][:, 0].tolist()
            found = zip(part, counts, strict=False)
            yield from (shard for shard in found if shard[0] not in self.left_out)

    def without(self, path: str) -> "Shards":
        """The same shards but one."""
        return dataclasses.replace(self, left_out=(*self.left_out, path))

    @property
    def numbers_left_out(self) -> list[int]:
        """Places of the shards that are not read among those of all groups."""
        if not self.left_out:
            return []
        return [i for i, path in enumerate(self._all_paths()) if path in self.left_out]

    def _all_paths(self) -> Iterator[str]:
        for key in sharding.keys(self.split, self.num_shards):
            yield f"{self.folder}/{key.path(PATCHES)}{RECORDS_SUFFIX}"

    def paths_of(self, numbers: tf.Tensor) -> tf.Tensor:
        """Paths of record files, in a graph, by the places of their shards among all."""
        ends = np.cumsum([*self.num_shards.values()])
        groups = tf.searchsorted(ends, tf.reshape(numbers, [-1]), side="right", out_type=tf.int64)
        groups = tf.reshape(groups, tf.shape(numbers))
        firsts = tf.constant([0, *ends[:-1]], tf.int64)
        starts = [f"{self.folder}/{self.split}/{group}/{PATCHES}-" for group in self.num_shards]
        suffixes = [f"-of-{number:05d}{RECORDS_SUFFIX}" for number in self.num_shards.values()]
        within = tf.strings.as_string(numbers - tf.gather(firsts, groups), width=5, fill="0")
        return tf.strings.join([tf.gather(starts, groups), within, tf.gather(suffixes, groups)])

    def read_index(self) -> tf.Tensor:
        """Records and bytes a record of every shard, int64 [shards, 2], in a graph.

        The graph has the names of the indexes only. Shards that are left out have no records.
        """
        tables = [
            tf.io.decode_raw(
                tf.io.read_file(index.path_of(self.folder, self.split, group)), tf.int32
            )
            for group in self.num_shards
        ]
        table = tf.cast(tf.reshape(tf.concat(tables, axis=0), [-1, 2]), tf.int64)
        numbers = self.numbers_left_out
        return tf.tensor_scatter_nd_update(
            table,
            tf.constant(numbers, tf.int64, [len(numbers), 1]),
            tf.zeros([len(numbers), 2], tf.int64),
        )


def names_damage(error: BaseException | None) -> bool:
    """Whether an error of training says that a shard is damaged, too short, or missing."""
    match error:
        case tf.errors.DataLossError():
            return True
        case tf.errors.FailedPreconditionError():
            return _ENDS_EARLY in error.message
        case tf.errors.NotFoundError():
            return _RECORD_FILE.search(error.message) is not None
    return False


def find_damage(splits: Iterable[Shards]) -> tuple[str, str] | None:
    """Find a damaged shard; a reader in a graph does not say which shard is damaged.

    Returns:
      The path of the first damaged shard and what is wrong with it; None if there is none.
    """

    def damage_of(shard: tuple[str, int | None]) -> tuple[str, str] | None:
        path, expected = shard
        try:
            with files.open_read(path) as file:
                num_records = sum(1 for _ in tfrecord.read_records(file, path))
        except tfrecord.CorruptRecordError as error:
            return path, str(error)
        except FileNotFoundError:
            return path, f"{path} is missing"
        if expected not in (None, num_records):
            return path, f"{path} has {num_records} records, its index says {expected}"
        return None

    shards = (shard for split in splits for shard in split.expected_records())
    with ThreadPoolExecutor(_SCANS_AT_ONCE) as pool:
        return next(filter(None, pool.map(damage_of, shards)), None)
