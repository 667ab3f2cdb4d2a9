"""Finds soundtracks that occur under two ids: their fingerprints share a bucket.

Only fingerprints cross the shuffle, about 0.5 KB for each of the 32 keys of a video. A bucket keeps
a bounded number of fingerprints of each split while it is filled. So a soundtrack that occurs a
million times is neither kept in memory nor compared with itself.
"""

import collections
import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np

from pipelines.audit import fingerprint
from pipelines.audit.document import Duplicate, DuplicateKind

# Fingerprints of a split that a bucket keeps: those of the first ids.
_BUCKET_SIZE = 16
# Leaks in `audit.json`; of more leaks only the number is reported.
_NUM_LISTED_LEAKS = 10_000


@dataclasses.dataclass(frozen=True, order=True)
class VideoFingerprint:
    """A video in the search for duplicates.

    Attributes:
      split, id: of the video.
      digest: of all patches; empty if all patches are constant, so that silence never matches
        silence.
      packed_marks: bytes of `fingerprint.compute_fingerprint`.
    """

    split: str
    id: str
    digest: str
    packed_marks: bytes

    @property
    def marks(self) -> np.ndarray:
        """The result of `fingerprint.compute_fingerprint`."""
        return np.frombuffer(self.packed_marks, np.uint8).reshape(-1, 2, 8)


@dataclasses.dataclass(frozen=True)
class DuplicateTotals:
    """Number of duplicates between splits and within splits, and the first ones between splits."""

    num_leaks: int = 0
    num_within: int = 0
    leaks: tuple[Duplicate, ...] = ()


@dataclasses.dataclass(eq=False)
class FindDuplicates(beam.PTransform):
    """`VideoFingerprint` -> one `DuplicateTotals`; each pair of ids counts once.

    Attributes:
      num_videos: of the corpus.
    """

    num_videos: int

    def expand(self, fingerprints: beam.PCollection) -> beam.PCollection:
        """Group by key, compare within the groups, drop repetitions, count."""
        num_rows = fingerprint.num_rows(self.num_videos)
        return (
            fingerprints
            | "Keys" >> beam.FlatMap(_add_keys, num_rows)
            | "FillBuckets" >> beam.CombinePerKey(_fill_bucket)
            | "Compare" >> beam.FlatMap(_compare_bucket)
            | "Once" >> beam.Distinct()
            | "AsTotals" >> beam.Map(_count_duplicate)
            | "AddTotals" >> beam.CombineGlobally(_add_totals)
        )


def _add_keys(video: VideoFingerprint, num_rows: int) -> Iterator[tuple[bytes, list]]:
    keys = fingerprint.bucket_keys(video.marks, num_rows)
    if video.digest:
        keys.append(hashlib.blake2b(video.digest.encode(), digest_size=8, person=b"exact").digest())
    for key in keys:
        yield key, [video]


def _fill_bucket(buckets: Iterable[list[VideoFingerprint]]) -> list[VideoFingerprint]:
    num_kept: collections.Counter[str] = collections.Counter()
    bucket = []
    for video in sorted(itertools.chain.from_iterable(buckets)):
        num_kept[video.split] += 1
        if num_kept[video.split] <= _BUCKET_SIZE:
            bucket.append(video)
    return bucket


def _compare_bucket(keyed: tuple[bytes, list[VideoFingerprint]]) -> Iterator[Duplicate]:
    _, bucket = keyed
    for first, second in itertools.combinations(sorted(bucket), 2):
        likeness = round(fingerprint.likeness(first.marks, second.marks), 3)
        exact = first.digest != "" and first.digest == second.digest
        if exact or likeness >= fingerprint.THRESHOLD:
            kind = DuplicateKind.EXACT if exact else DuplicateKind.COPY
            yield Duplicate(first.split, first.id, second.split, second.id, kind, likeness)


def _count_duplicate(duplicate: Duplicate) -> DuplicateTotals:
    if duplicate.is_leak:
        return DuplicateTotals(num_leaks=1, leaks=(duplicate,))
    return DuplicateTotals(num_within=1)


def _add_totals(totals: Iterable[DuplicateTotals]) -> DuplicateTotals:
    totals = list(totals)
    leaks = sorted(leak for part in totals for leak in part.leaks)
    return DuplicateTotals(
        num_leaks=sum(part.num_leaks for part in totals),
        num_within=sum(part.num_within for part in totals),
        leaks=tuple(leaks[:_NUM_LISTED_LEAKS]),
    )
