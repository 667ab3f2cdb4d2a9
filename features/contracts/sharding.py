"""Which shard a video is in: a stable hash of its id, the same on every machine and runner.

A shard is the unit of work of extraction and scoring, and one file of features. Its videos are
drawn by hash, so that a shard is a random sample of its split.
"""

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from features.front_end.params import LogMelParams

TRAIN, VALIDATION, EVALUATION = "train", "validation", "evaluation"
# Shares of the split by hash: the paper's 70M, 20M and 10M videos (section 2).
SPLITS = {TRAIN: 0.7, VALIDATION: 0.2, EVALUATION: 0.1}

# TFRecord files cannot be split: big enough to stream well, small enough to be one unit of work.
SHARD_BYTES = 150e6
# The paper's average soundtrack, where the manifest does not say how long a video is.
MEAN_VIDEO_SECONDS = 4.6 * 60
# Small corpora still get several shards a split, to be worked on and interleaved at random.
_SMALL_NUM_SHARDS, _SMALL_VIDEOS_PER_SHARD = 16, 4
# The group of a split that is not cut into subsets, and of what no subset of one that is holds.
ALL, REST = "all", "rest"


@dataclasses.dataclass(frozen=True, order=True)
class ShardKey:
    """The name of one shard: split, group within the split, index out of how many."""

    split: str
    group: str
    index: int
    num_shards: int

    def path(self, kind: str) -> str:
        """Relative path without suffix of the shard's file of a kind, as `patches` or `scores`."""
        return f"{self.split}/{self.group}/{kind}-{self.index:05d}-of-{self.num_shards:05d}"


def unit_hash(purpose: str, key: str) -> float:
    """A uniform number in [0, 1) from a key; independent for each purpose."""
    digest = hashlib.blake2b(key.encode(), digest_size=8, person=purpose.encode()).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def unit_hashes(purpose: str, keys: Iterable[str]) -> np.ndarray:
    """float64 [keys]: `unit_hash` of each."""
    person = purpose.encode()
    digests = [hashlib.blake2b(key.encode(), digest_size=8, person=person).digest() for key in keys]
    return (np.frombuffer(b"".join(digests), ">u8") >> 11) / 2**53


def splits_of(keys: Iterable[str]) -> np.ndarray:
    """int8 [keys]: the place in `SPLITS` of the split that the hash of a key draws."""
    bounds = np.cumsum([*SPLITS.values()])[:-1]  # the last split has the shares' rounding
    return np.searchsorted(bounds, unit_hashes("split", keys), side="right").astype(np.int8)


def split_of(key: str) -> str:
    """The split that the hash of a key draws: of a video's id, or of what it was taken from."""
    return list(SPLITS)[splits_of([key])[0]]


def num_shards(
    num_videos: int, seconds: float, params: LogMelParams, present: int | None = None
) -> int:
    """Shards for so many videos: about `SHARD_BYTES` of uint8 patches each.

    Args:
      num_videos: of the group.
      seconds: of all its videos together, as far as they are known.
      params: of the front end.
      present: shards that the group has already, of a smaller or larger corpus. They are kept while
        they are within a factor of two of the right size, so that videos stay in their shards and
        a corpus that grows is not extracted anew.
    """
    patch_bytes = math.prod(params.patch_shape)
    patches = seconds / params.patch_hop_seconds
    small = min(_SMALL_NUM_SHARDS, math.ceil(num_videos / _SMALL_VIDEOS_PER_SHARD))
    best = max(small, math.ceil(patches * patch_bytes / SHARD_BYTES))
    return present if present is not None and present / 2 <= best <= 2 * present else best


def shards_of(video_ids: Iterable[str], num_shards: np.ndarray) -> np.ndarray:
    """int32 [videos]: the shard of each video, out of so many (one number, or one a video)."""
    return (unit_hashes("shard", video_ids) * num_shards).astype(np.int32)


def shard_of(video_id: str, split: str, num_shards: int, group: str = ALL) -> ShardKey:
    """The shard of a video."""
    return ShardKey(split, group, int(unit_hash("shard", video_id) * num_shards), num_shards)


def keys(split: str, num_shards: Mapping[str, int]) -> Iterator[ShardKey]:
    """All shards of a split, from its shards by group; one may turn out to have no video."""
    for group, count in num_shards.items():
        for index in range(count):
            yield ShardKey(split, group, index, count)
