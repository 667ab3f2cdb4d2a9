"""Which shards of a folder have some videos, found by the hashes of their ids in a few files."""

import concurrent.futures
import contextlib
import dataclasses
from collections.abc import Callable, Collection, Mapping

from features.contracts import sharding
from features.contracts.sharding import ShardKey
from features.storage import files

_THREADS = 16

# Split -> group -> number of shards.
NumShards = Mapping[str, Mapping[str, int]]


@dataclasses.dataclass(frozen=True)
class Found:
    """Where the videos of a removal are.

    Attributes:
      folder: the folder.
      num_ids: videos of the removal.
      num_earlier: of these, removed from the folder before.
      num_found: of these, not removed yet.
      keys: the shards that have the latter.
      kinds, suffix: of the files of their data.
    """

    folder: str
    num_ids: int
    num_earlier: int
    num_found: int
    keys: tuple[ShardKey, ...]
    kinds: tuple[str, ...]
    suffix: str

    def __str__(self) -> str:
        num_absent = self.num_ids - self.num_earlier - self.num_found
        return (
            f"{self.folder}: {self.num_ids} ids = {self.num_found} to remove, from "
            f"{len(self.keys)} shards + {self.num_earlier} forgotten before + {num_absent} not in "
            "the folder"
        )

    def num_bytes(self) -> int:
        """Bytes of the data of these shards."""
        total = 0
        for key in self.keys:
            for kind in self.kinds:
                with contextlib.suppress(FileNotFoundError):
                    total += files.size_of(files.join(self.folder, key.path(kind)) + self.suffix)
        return total


def find_videos(
    folder: str,
    ids: Collection[str],
    num_shards: NumShards,
    kinds: tuple[str, ...],
    suffix: str,
    read: Callable[[ShardKey], tuple[Collection[str], Collection[str]]],
) -> Found:
    """Find videos in a folder.

    Args:
      folder: the folder.
      ids: of the videos.
      num_shards: of the folder.
      kinds: of the files of the data of a shard.
      suffix: of these files.
      read: gives the ids of the videos of a shard, and of the forgotten ones.
    """
    keys = sorted(
        {
            sharding.shard_of(video_id, split, count, group)
            for video_id in ids
            for split, counts in num_shards.items()
            for group, count in counts.items()
        }
    )
    wanted = frozenset(ids)
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        shards = list(pool.map(read, keys))
    present = [wanted.intersection(videos) for videos, _ in shards]
    return Found(
        folder=folder,
        num_ids=len(wanted),
        num_earlier=sum(len(wanted.intersection(forgotten)) for _, forgotten in shards),
        num_found=sum(map(len, present)),
        keys=tuple(key for key, videos in zip(keys, present, strict=True) if videos),
        kinds=kinds,
        suffix=suffix,
    )
