"""The shard of a video: a stable hash of its id, the same on every machine and runner.

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

# TFRecord files cannot be split: a shard is large enough to stream well, and small enough to be a
# unit of work.
SHARD_BYTES = 150e6
# The paper's average soundtrack, for videos whose length the manifest does not give.
MEAN_VIDEO_SECONDS = 4.6 * 60
# Small corpora still get several shards a split, for parallel work and random interleaving.
_SMALL_NUM_SHARDS, _SMALL_VIDEOS_PER_SHARD = 16, 4
# The group of a split without subsets, and the group of the videos in no subset of a split.
ALL, REST = "all", "rest"


@dataclasses.dataclass(frozen=True, order=True)
class ShardKey:
    """The name of a shard: split, group within the split, index and number of shards."""

    split: str
    group: str
    index: int
    num_shards: int

    def path(self, kind: str) -> str:
        """Relative path without suffix of the shard's file of a kind, as `patches` or `scores`."""
        return f"{self.split}/{self.group}/{kind}-{self.index:05d}-of-{self.num_shards:05d}"


def unit_hash(purpose: str, key: str) -> float:
    """Hash a key to a uniform number in [0, 1), independent for each purpose."""
    digest = hashlib.blake2b(key.encode(), digest_size=8, person=purpose.encode()).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def unit_hashes(purpose: str, keys: Iterable[str]) -> np.ndarray:
    """Hash keys as `unit_hash` does; float64 [keys]."""
    person = purpose.encode()
    digests = [hashlib.blake2b(key.encode(), digest_size=8, person=person).digest() for key in keys]
    return (np.frombuffer(b"".join(digests), ">u8") >> 11) / 2**53


def splits_of(keys: Iterable[str]) -> np.ndarray:
    """Draw the split of each key by its hash; int8 [keys], indices into `SPLITS`."""
    bounds = np.cumsum([*SPLITS.values()])[:-1]  # the last split has the shares' rounding
    return np.searchsorted(bounds, unit_hashes("split", keys), side="right").astype(np.int8)


def split_of(key: str) -> str:
    """Draw a split by the hash of a key: the id of a video, or of the recording that it is from."""
    return list(SPLITS)[splits_of([key])[0]]


def num_shards(
    num_videos: int, seconds: float, params: LogMelParams, present: int | None = None
) -> int:
    """Choose the number of shards, of about `SHARD_BYTES` of uint8 patches each.

    Args:
      num_videos: of the group.
      seconds: sum over all videos of the group.
      params: of the front end.
      present: number of shards that the group has from a smaller or larger corpus. It is kept if
        it is within a factor of two of the best number, so that videos stay in their shards and
        a corpus that grows is not extracted again.
    """
    patch_bytes = math.prod(params.patch_shape)
    patches = seconds / params.patch_hop_seconds
    small = min(_SMALL_NUM_SHARDS, math.ceil(num_videos / _SMALL_VIDEOS_PER_SHARD))
    best = max(small, math.ceil(patches * patch_bytes / SHARD_BYTES))
    return present if present is not None and present / 2 <= best <= 2 * present else best


def shards_of(video_ids: Iterable[str], num_shards: np.ndarray) -> np.ndarray:
    """Index of the shard of each video, int32 [videos]; `num_shards` is a number or [videos]."""
    return (unit_hashes("shard", video_ids) * num_shards).astype(np.int32)


def shard_of(video_id: str, split: str, num_shards: int, group: str = ALL) -> ShardKey:
    """The shard of a video."""
    return ShardKey(split, group, int(unit_hash("shard", video_id) * num_shards), num_shards)


def keys(split: str, num_shards: Mapping[str, int]) -> Iterator[ShardKey]:
    """All shards of a split, from group -> number of shards; a shard may have no video."""
    for group, count in num_shards.items():
        for index in range(count):
            yield ShardKey(split, group, index, count)
