"""Videos that are not independent: they share an origin, such as an uploader or a clip.

The variance of a mean over n videos is the sum of the products of the influences of all pairs of
videos that are not independent, over n^2. A pair that shares several origins is counted once. For
videos of one origin each this is the variance over clusters (Liang and Zeger 1986), for composed
soundtracks, which share some of their clips, that of dyadic data (Cameron, Gelbach and Miller
2011). Two corrections keep it from being too small:

- Influences are taken from the mean of the same videos, so they are too small by the share of the
  videos that a video depends on. They are divided by what is left, which for clusters is the
  jackknife that leaves out whole clusters (MacKinnon, Nielsen and Webb 2023).
- A sum of products may fall below the variance of independent videos by chance, even below 0. The
  variance of independent videos is its lower limit.

Pairs are counted from a sparse matrix of videos by origins. Videos of the same origins are one row,
so that clusters cost nothing, however large they are.
"""

import collections
import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import scipy.sparse

from features.contracts.sharding import unit_hashes
from features.errors import InputError

# Most origins whose videos are left out; of more, a random sample gives the standard error to a
# few percent.
MAX_ORIGINS = 16_384
# Fewer origins give no reliable interval.
MIN_ORIGINS = 50
# Pairs of rows that are looked at: 5e9 take about a minute; and of a block, which is 0.5 GB.
_MAX_PAIRS, _BLOCK_PAIRS = 5e9, 2e7


def origins_or_own(video_id: str, origins: tuple[str, ...]) -> tuple[str, ...]:
    """The origins of a video; a video without any has one that no other video has."""
    return origins or (f"\0{video_id}",)


def hash_origins(video_ids: Sequence[str], origins: Sequence[tuple[str, ...]]) -> np.ndarray:
    """Distinct hashes of the origins of some videos, rising float64."""
    pairs = zip(video_ids, origins, strict=True)
    return np.unique(_hashes({name for pair in pairs for name in origins_or_own(*pair)}))


def _hashes(names: Iterable[str]) -> np.ndarray:
    return unit_hashes("jackknife", names)


def sample_share(num_origins: int) -> float:
    """Share of the origins whose videos are left out: those with a lower hash."""
    return min(1.0, MAX_ORIGINS / max(1, num_origins))


def is_sampled(
    video_ids: Sequence[str], origins: Sequence[tuple[str, ...]], share: float
) -> np.ndarray:
    """Bool [videos]: whether an origin of the video is in the sample."""
    lists = [origins_or_own(*pair) for pair in zip(video_ids, origins, strict=True)]
    ends = np.cumsum([0, *map(len, lists)])
    sampled = _hashes(name for names in lists for name in names) < share
    return np.add.reduceat(np.append(sampled, False), ends[:-1]) > 0 if lists else sampled


def effective_origins(
    labels: Sequence[Sequence[int]], origins: Sequence[tuple[str, ...]], num_classes: int
) -> np.ndarray:
    """The positives of each class over those that its most frequent origin has.

    For positives of one origin each, of equal numbers, this is the number of origins.

    Args:
      labels: [videos], the classes of each.
      origins: [videos], of each; () for one that no other video has.
      num_classes: of all.

    Returns:
      float64 [classes], NaN for a class without positives.
    """
    positives, most = np.zeros(num_classes), np.ones(num_classes)
    counts: collections.Counter[tuple[int, str]] = collections.Counter()
    for of_video, names in zip(labels, origins, strict=True):
        positives[list(of_video)] += 1
        counts.update((label, name) for label in of_video for name in names)
    for (label, _), count in counts.items():
        most[label] = max(most[label], count)
    return np.where(positives > 0, positives / most, np.nan)


@dataclasses.dataclass(frozen=True, eq=False)
class SharedOrigins:
    """Which of the videos that are left out share an origin.

    A row stands for all videos of the same set of origins.

    Attributes:
      row: int64 [videos].
      members: float32 sparse [rows, origins], 1 where the row has the origin.
      sampled: bool [origins], whether the origin is in the sample, which all its videos are in.
      share: of the origins that are in the sample.
    """

    row: np.ndarray
    members: scipy.sparse.csr_array
    sampled: np.ndarray
    share: float

    @classmethod
    def of(
        cls, video_ids: Sequence[str], origins: Sequence[tuple[str, ...]], share: float
    ) -> "SharedOrigins":
        """Find the videos of the same origins.

        Raises:
          InputError: so many videos share an origin that their pairs cannot be counted.
        """
        columns: dict[str, int] = {}
        rows: dict[tuple[int, ...], int] = {}
        row = np.empty(len(video_ids), np.int64)
        for place, pair in enumerate(zip(video_ids, origins, strict=True)):
            names = origins_or_own(*pair)
            key = tuple(columns.setdefault(name, len(columns)) for name in names)
            row[place] = rows.setdefault(key, len(rows))
        offsets = np.cumsum([0, *map(len, rows)])
        column = np.array([index for key in rows for index in key], np.int64)
        members = scipy.sparse.csr_array(
            (np.ones(len(column), np.float32), column, offsets), (len(rows), len(columns))
        )
        shared = cls(row, members, _hashes(columns) < share, share)
        if shared.num_pairs > _MAX_PAIRS:
            raise InputError(
                f"--interval-by origin: {shared.num_pairs:.2g} pairs of videos share an origin, "
                f"more than {_MAX_PAIRS:.0e}: videos of several origins share common ones; leave "
                "such origins out of the group column, or give --interval-by video"
            )
        return shared

    @property
    def num_pairs(self) -> float:
        """Pairs of rows to look at, a pair once for each origin that it shares."""
        return float((self.members.sum(axis=0, dtype=np.float64) ** 2).sum())

    @property
    def degrees_of_freedom(self) -> float:
        """Of the standard error, by Satterthwaite: as many equal origins vary as much, less 1.

        The sum over an origin of k videos that hang together has a square of about k^2.
        """
        squares = (self.members.T @ self._sizes)[self.sampled] ** 2
        return float(squares.sum() ** 2 / max(1.0, (squares**2).sum())) - 1

    def standard_error(self, influences: np.ndarray, num_videos: int) -> float:
        """Standard error of the mean of all videos; infinite if a video depends on all others.

        Args:
          influences: float64 [videos that are left out], as `jackknife.influences` returns them.
          num_videos: number of all videos.
        """
        stands_for = self._stands_for[self.row]
        centred = influences - stands_for @ influences / stands_for.sum()
        share_left = 1 - self._num_dependent / num_videos  # [rows]
        if share_left.min() <= 0:
            return math.inf
        sums = np.bincount(self.row, centred) / share_left
        products = sum(float(sums[rows] @ (pairs @ sums)) for rows, pairs in self._pairs())
        products *= 1 - float(self._stands_for * self._sizes @ self._num_dependent) / num_videos**2
        independent = float(stands_for @ centred**2) * num_videos / (num_videos - 1)
        return math.sqrt(max(products, independent)) / num_videos

    @functools.cached_property
    def _sizes(self) -> np.ndarray:
        """Float64 [rows]: number of videos."""
        return np.bincount(self.row, minlength=self.members.shape[0]).astype(np.float64)

    @functools.cached_property
    def _stands_for(self) -> np.ndarray:
        """Float64 [rows]: of how many videos a video of the row is a sample; 1 without sampling."""
        num_origins = np.diff(self.members.indptr)
        return self.members @ self.sampled.astype(np.float64) / num_origins / self.share

    @functools.cached_property
    def _num_dependent(self) -> np.ndarray:
        """Float64 [rows]: number of videos that share an origin with the row, its own included."""
        found = [(pairs != 0) @ self._sizes for _, pairs in self._pairs()]
        return np.concatenate([np.empty(0), *found])

    def _pairs(self) -> Iterator[tuple[slice, scipy.sparse.csr_array]]:
        """Blocks of rows, and the weights of their pairs with all rows, sparse [block, rows].

        The weight is 1 for a pair that shares an origin. In a sample it is the share of the common
        origins that are sampled, over the share of the sample: 1 on average over samples.
        """
        num_rows = self.members.shape[0]
        num_blocks = math.ceil(self.num_pairs / _BLOCK_PAIRS)
        in_sample = self.members.multiply(self.sampled).tocsr()
        for places in np.array_split(np.arange(num_rows), min(num_blocks, num_rows)):
            rows = slice(places[0], places[-1] + 1)
            common = self.members[rows] @ self.members.T
            if self.share == 1:
                common.data[:] = 1
                yield rows, common
            else:
                common.data = 1 / common.data
                sampled = in_sample[rows] @ self.members.T
                yield rows, common.multiply(sampled).tocsr() / self.share
