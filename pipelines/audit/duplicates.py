"""Finds soundtracks that occur under two ids, by prints that meet in buckets.

Only prints cross the shuffle, about 0.5 KB for each of 32 keys of a video. A bucket keeps a bounded
number of prints of each split, while it is filled, so that a soundtrack that is there a million
times is neither kept in memory nor compared with itself.
"""

import collections
import dataclasses
import enum
import hashlib
import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import apache_beam as beam
import numpy as np

from pipelines.audit import fingerprint

# Prints of a split that a bucket keeps: those of the first ids.
_BUCKET_SIZE = 16


class Kind(enum.StrEnum):
    """How two soundtracks are the same."""

    EXACT = "exact"  # every stored patch is equal
    COPY = "copy"  # encoded anew, or with another level, or one the beginning of the other


@dataclasses.dataclass(frozen=True, order=True)
class VideoPrint:
    """What the search knows of one video."""

    split: str
    id: str
    digest: str  # of all patches; "" where each is constant, since silence is nobody's
    marks: bytes  # of `soundprint.make_print`

    @property
    def prints(self) -> np.ndarray:
        """As `soundprint` takes it."""
        return np.frombuffer(self.marks, np.uint8).reshape(-1, 2, 8)


class Copy(NamedTuple):
    """Two ids of one soundtrack, the lesser (split, id) first."""

    split: str
    id: str
    other_split: str
    other_id: str
    kind: str
    likeness: float


class FindCopies(beam.PTransform):
    """`VideoPrint` -> each `Copy` once, within a split and between splits."""

    def __init__(self, num_videos: int):
        super().__init__()
        self._rows = fingerprint.num_rows(num_videos)

    def expand(self, prints: beam.PCollection) -> beam.PCollection:
        """Group by key, bounded; compare within the group; drop repetitions."""
        return (
            prints
            | "Keys" >> beam.FlatMap(_with_keys, self._rows)
            | "FillBuckets" >> beam.CombinePerKey(_fill)
            | "Compare" >> beam.FlatMap(_compare)
            | "Once" >> beam.Distinct()
        )


def _with_keys(video: VideoPrint, rows: int) -> Iterator[tuple[bytes, list[VideoPrint]]]:
    keys = fingerprint.bucket_keys(video.prints, rows)
    if video.digest:
        keys.append(hashlib.blake2b(video.digest.encode(), digest_size=8, person=b"exact").digest())
    for key in keys:
        yield key, [video]


def _fill(buckets: Iterable[list[VideoPrint]]) -> list[VideoPrint]:
    kept: collections.Counter[str] = collections.Counter()
    bucket = []
    for video in sorted(itertools.chain.from_iterable(buckets)):
        kept[video.split] += 1
        if kept[video.split] <= _BUCKET_SIZE:
            bucket.append(video)
    return bucket


def _compare(keyed: tuple[bytes, list[VideoPrint]]) -> Iterator[Copy]:
    _, bucket = keyed
    for one, other in itertools.combinations(sorted(bucket), 2):
        likeness = round(fingerprint.likeness(one.prints, other.prints), 3)
        exact = one.digest != "" and one.digest == other.digest
        if exact or likeness >= fingerprint.SAME:
            kind = Kind.EXACT if exact else Kind.COPY
            yield Copy(one.split, one.id, other.split, other.id, str(kind), likeness)
