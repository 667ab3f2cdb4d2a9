"""Counts over all videos of a data set, in one pass; memory grows with the labels only.

Counts are integers, so that their sums do not depend on the order. Memory does not grow with the
number of videos: of a label that a million videos have, only the few drawn ones are kept.
"""

import dataclasses
import functools
import pickle
import zlib
from collections.abc import Callable, Iterable, Mapping

import apache_beam as beam
import numpy as np
import pyarrow as pa

from features.contracts import sharding
from features.contracts.sharding import EVALUATION, SPLITS, TRAIN
from pipelines.dataset.splits import INDEXED_SCHEMA
from pipelines.dataset.subset_request import SubsetRequest

# Positions are divided into so many ranges, and a training subset ends where a range ends: its size
# is exact to half of the videos of a range, which is 33 of 70M.
NUM_RANGES = 2**20
# Most frequent labels whose co-occurrence is counted.
NUM_TOGETHER = 50
# Upper ends of the bins of lengths, in seconds; the last bin has none.
LENGTH_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
# An example of a label: a video of the evaluation split, identified by its position, and the random
# number of the label and the video.
_DRAWN = np.dtype(
    [
        ("label", np.int32),
        ("draw", np.uint32),
        ("position", np.float64),
        ("milliseconds", np.int64),
    ]
)
# Drawn examples are thinned out when there are so many more than needed.
_SLACK = 2**18


@dataclasses.dataclass(eq=False)
class CorpusCounts:
    """Sums over videos.

    Attributes:
      arrays: integer arrays by name. Splits are in the order of `SPLITS`.
        videos, milliseconds: [splits]; an unknown length counts as the paper's average.
        known_videos, known_milliseconds: [splits]; of the videos of known length.
        lengths: [bins of `LENGTH_SECONDS`]; videos of known length.
        label_videos: [splits, labels up to the last that occurs].
        labels_per_video: [number of labels]; videos.
        together: [`NUM_TOGETHER`, `NUM_TOGETHER`]; videos that have both labels.
        range_videos, range_milliseconds: [`NUM_RANGES`]; of the training split by position, if
          subsets of it are requested.
      drawn: for each label the evaluation videos of the lowest numbers; `_DRAWN`.
    """

    arrays: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    drawn: np.ndarray = dataclasses.field(default_factory=functools.partial(np.empty, 0, _DRAWN))

    def __getitem__(self, name: str) -> np.ndarray:
        """The counts of a name."""
        return self.arrays[name]

    def __reduce__(self) -> tuple[Callable[[bytes], "CorpusCounts"], tuple[bytes]]:
        """Pickle compressed: counts by position have 16 MB, mostly zeros or equal numbers.

        A grouped value has to fit into one of Flink's sort buffers of a few MB.
        """
        return _unpack, (zlib.compress(pickle.dumps((self.arrays, self.drawn)), level=1),)


def _unpack(packed: bytes) -> CorpusCounts:
    return CorpusCounts(*pickle.loads(zlib.decompress(packed)))


class CountVideos(beam.CombineFn):
    """Arrow batches of `splits.INDEXED_SCHEMA` -> one `CorpusCounts`.

    Args:
      request: decides which counts by position are needed.
    """

    def __init__(self, request: SubsetRequest):
        self._by_position = bool(request.training)
        self._num_labels_drawn = max(request.balanced, default=0)
        self._examples_per_class = request.examples_per_class

    def create_accumulator(self) -> CorpusCounts:
        """Counts of no video."""
        return self.add_input(CorpusCounts(), pa.RecordBatch.from_pylist([], INDEXED_SCHEMA))

    def add_input(self, counts: CorpusCounts, batch: pa.RecordBatch) -> CorpusCounts:
        """Add a batch."""
        columns = _Columns.of(batch)
        add_counts(counts.arrays, columns.counts(by_position=self._by_position))
        return self._draw(counts, columns.examples(self._num_labels_drawn))

    def merge_accumulators(self, accumulators: Iterable[CorpusCounts]) -> CorpusCounts:
        """Add several."""
        total = self.create_accumulator()
        for counts in accumulators:
            add_counts(total.arrays, counts.arrays)
            total = self._draw(total, counts.drawn)
        return total

    def compact(self, counts: CorpusCounts) -> CorpusCounts:
        """Keep only the examples that can still be drawn, before a shuffle."""
        return CorpusCounts(counts.arrays, lowest_draws(counts.drawn, self._examples_per_class))

    def extract_output(self, counts: CorpusCounts) -> CorpusCounts:
        """The counts of all videos."""
        return self.compact(counts)

    def _draw(self, counts: CorpusCounts, examples: np.ndarray) -> CorpusCounts:
        counts.drawn = np.concatenate([counts.drawn, examples])
        most = self._num_labels_drawn * self._examples_per_class
        return self.compact(counts) if len(counts.drawn) > most + _SLACK else counts


def lowest_draws(drawn: np.ndarray, number: int) -> np.ndarray:
    """The `number` examples of the lowest draws of each label, by label and draw."""
    drawn = drawn[np.lexsort((drawn["position"], drawn["draw"], drawn["label"]))]
    first = np.searchsorted(drawn["label"], drawn["label"])  # of each example's label
    return drawn[np.arange(len(drawn)) - first < number]


@dataclasses.dataclass(frozen=True, eq=False)
class _Columns:
    """A batch as arrays: [videos], and of its labels [label bearings]."""

    split: np.ndarray
    position: np.ndarray
    milliseconds: np.ndarray
    is_known: np.ndarray
    row: np.ndarray  # the video of each label
    label: np.ndarray
    draw: np.ndarray  # of each label

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> "_Columns":
        start = batch.column("start").fill_null(0.0).to_numpy(zero_copy_only=False)
        end = batch.column("end").to_numpy(zero_copy_only=False)  # NaN where it is not known
        seconds = np.where(np.isnan(end), sharding.MEAN_VIDEO_SECONDS, end - start)
        labels = batch.column("labels")
        return cls(
            split=batch.column("split").to_numpy(),
            position=batch.column("position").to_numpy(),
            milliseconds=np.round(seconds * 1000).astype(np.int64),
            is_known=~np.isnan(end),
            row=np.repeat(np.arange(len(labels)), np.diff(labels.offsets.to_numpy())),
            label=labels.flatten().to_numpy(),
            draw=batch.column("draws").flatten().to_numpy(),
        )

    def counts(self, *, by_position: bool) -> dict[str, np.ndarray]:
        """The counts of this batch."""
        known = self.milliseconds[self.is_known]
        frequent = self.label < NUM_TOGETHER
        bears = np.zeros((len(self.split), NUM_TOGETHER), np.float32)
        bears[self.row[frequent], self.label[frequent]] = 1
        counts = {
            "videos": _sums(self.split, len(SPLITS)),
            "milliseconds": _sums(self.split, len(SPLITS), self.milliseconds),
            "known_videos": _sums(self.split[self.is_known], len(SPLITS)),
            "known_milliseconds": _sums(self.split[self.is_known], len(SPLITS), known),
            "lengths": _sums(
                np.searchsorted(LENGTH_SECONDS, known / 1000, side="right"), len(LENGTH_SECONDS) + 1
            ),
            "label_videos": self._label_videos(),
            "labels_per_video": _sums(_sums(self.row, len(self.split)), 1),
            "together": (bears.T @ bears).astype(np.int64),
        }
        if by_position:
            train = self.split == list(SPLITS).index(TRAIN)
            ranges = (self.position[train] * NUM_RANGES).astype(np.int64)
            counts["range_videos"] = _sums(ranges, NUM_RANGES)
            counts["range_milliseconds"] = _sums(ranges, NUM_RANGES, self.milliseconds[train])
        return counts

    def _label_videos(self) -> np.ndarray:
        num_labels = int(self.label.max(initial=-1)) + 1
        keys = self.split[self.row].astype(np.int64) * num_labels + self.label
        return _sums(keys, len(SPLITS) * num_labels).reshape(len(SPLITS), num_labels)

    def examples(self, num_labels: int) -> np.ndarray:
        """Evaluation videos of the `num_labels` most frequent labels, once a label; `_DRAWN`."""
        is_candidate = self.split[self.row] == list(SPLITS).index(EVALUATION)
        is_candidate &= self.label < num_labels
        row = self.row[is_candidate]
        drawn = np.empty(len(row), _DRAWN)
        drawn["label"] = self.label[is_candidate]
        drawn["draw"] = self.draw[is_candidate]
        drawn["position"] = self.position[row]
        drawn["milliseconds"] = self.milliseconds[row]
        return drawn


def _sums(keys: np.ndarray, num_keys: int, values: np.ndarray | None = None) -> np.ndarray:
    """int64 [at least num_keys]: how often each key occurs, or the sum of its values."""
    # bincount adds in float64, which is exact below 2^53 ms, or 285,000 years.
    return np.bincount(keys, weights=values, minlength=num_keys).astype(np.int64)


def add_counts(totals: dict[str, np.ndarray], summands: Mapping[str, np.ndarray]) -> None:
    """Add arrays by name, in place; the shorter of two is padded with zeros."""
    for name, summand in summands.items():
        total = totals.get(name, np.zeros([0] * summand.ndim, np.int64))
        if any(mine < its for mine, its in zip(total.shape, summand.shape, strict=True)):
            totals[name] = np.zeros(np.maximum(total.shape, summand.shape), np.int64)
            totals[name][tuple(map(slice, total.shape))] = total
        totals[name][tuple(map(slice, summand.shape))] += summand
