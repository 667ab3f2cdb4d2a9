"""What is counted over all videos of a data set, in one pass, in memory that labels decide.

Counts are integers, so that their sums are the same in any order. Nothing here grows with the
number of videos: a label that a million videos bear keeps the few of them that are drawn.
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

# Subsets of the training split end where one of so many ranges of positions ends: the size of a
# subset is exact to half of what a range holds, which is 33 of 70M videos.
NUM_RANGES = 2**20
# Labels whose co-occurrence is counted.
NUM_TOGETHER = 50
# Upper ends of the classes of lengths, in seconds; the last class has none.
LENGTH_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
# An example of a label: a video of the evaluation split, known by its position.
_DRAWN = np.dtype([("label", np.int32), ("position", np.float64), ("milliseconds", np.int64)])
# Drawn examples are thinned out when so many more have come.
_SLACK = 2**18


@dataclasses.dataclass(eq=False)
class Survey:
    """Sums over videos.

    Attributes:
      counts: integer arrays by name. Splits are in the order of `SPLITS`.
        videos, milliseconds: [splits]; a length that is not known counts as the paper's average.
        known_videos, known_milliseconds: [splits]; of the videos whose length is known.
        lengths: [classes of `LENGTH_SECONDS`]; of these.
        label_videos: [splits, labels], up to the last label that occurs.
        labels_per_video: [labels of a video].
        together: [`NUM_TOGETHER`, `NUM_TOGETHER`]; videos that bear both labels.
        range_videos, range_milliseconds: [`NUM_RANGES`]; of the training split by position, where
          it is cut into subsets.
      drawn: for each label the evaluation videos of the lowest positions; `_DRAWN`.
    """

    counts: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    drawn: np.ndarray = dataclasses.field(default_factory=functools.partial(np.empty, 0, _DRAWN))

    def __getitem__(self, name: str) -> np.ndarray:
        """The counts of a name."""
        return self.counts[name]

    def __reduce__(self) -> tuple[Callable[[bytes], "Survey"], tuple[bytes]]:
        """Pickled small: a survey by position has 16 MB, most of it zeros or much the same.

        A value that is grouped has to fit into one of Flink's sort buffers, of a few MB each.
        """
        return _unpack, (zlib.compress(pickle.dumps((self.counts, self.drawn)), level=1),)


def _unpack(packed: bytes) -> Survey:
    return Survey(*pickle.loads(zlib.decompress(packed)))


class TakeSurvey(beam.CombineFn):
    """Arrow batches of `placement.INDEXED_SCHEMA` -> one `Survey`.

    Args:
      request: the subsets decide what has to be known of positions.
    """

    def __init__(self, request: SubsetRequest):
        self._by_position = bool(request.training)
        self._num_labels_drawn = max(request.balanced, default=0)
        self._examples_per_class = request.examples_per_class

    def create_accumulator(self) -> Survey:
        """No video."""
        return self.add_input(Survey(), pa.RecordBatch.from_pylist([], INDEXED_SCHEMA))

    def add_input(self, survey: Survey, batch: pa.RecordBatch) -> Survey:
        """One batch more."""
        columns = _Columns.of(batch)
        add_counts(survey.counts, columns.counts(by_position=self._by_position))
        return self._draw(survey, columns.examples(self._num_labels_drawn))

    def merge_accumulators(self, accumulators: Iterable[Survey]) -> Survey:
        """The sum of several."""
        total = self.create_accumulator()
        for survey in accumulators:
            add_counts(total.counts, survey.counts)
            total = self._draw(total, survey.drawn)
        return total

    def compact(self, survey: Survey) -> Survey:
        """What crosses a shuffle: only the examples that can still be drawn."""
        return Survey(survey.counts, lowest_positions(survey.drawn, self._examples_per_class))

    def extract_output(self, survey: Survey) -> Survey:
        """The survey of all."""
        return self.compact(survey)

    def _draw(self, survey: Survey, examples: np.ndarray) -> Survey:
        survey.drawn = np.concatenate([survey.drawn, examples])
        most = self._num_labels_drawn * self._examples_per_class
        return self.compact(survey) if len(survey.drawn) > most + _SLACK else survey


def lowest_positions(drawn: np.ndarray, number: int) -> np.ndarray:
    """The examples of the lowest positions of each label; by label, then position."""
    drawn = drawn[np.lexsort((drawn["position"], drawn["label"]))]
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
        )

    def counts(self, *, by_position: bool) -> dict[str, np.ndarray]:
        """The summands of this batch."""
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
        """The evaluation videos of the most frequent labels, one for each label; `_DRAWN`."""
        is_candidate = self.split[self.row] == list(SPLITS).index(EVALUATION)
        is_candidate &= self.label < num_labels
        row = self.row[is_candidate]
        drawn = np.empty(len(row), _DRAWN)
        drawn["label"] = self.label[is_candidate]
        drawn["position"] = self.position[row]
        drawn["milliseconds"] = self.milliseconds[row]
        return drawn


def _sums(keys: np.ndarray, num_keys: int, values: np.ndarray | None = None) -> np.ndarray:
    """int64 [at least num_keys]: how often each key occurs, or the sum of its values."""
    # bincount weighs in float64, which is exact below 2^53: a batch has 2^53 ms in 285,000 years.
    return np.bincount(keys, weights=values, minlength=num_keys).astype(np.int64)


def add_counts(totals: dict[str, np.ndarray], summands: Mapping[str, np.ndarray]) -> None:
    """Add arrays by name, in place; each is taken to go on with zeros where another is longer."""
    for name, summand in summands.items():
        total = totals.get(name, np.zeros([0] * summand.ndim, np.int64))
        if any(mine < its for mine, its in zip(total.shape, summand.shape, strict=True)):
            totals[name] = np.zeros(np.maximum(total.shape, summand.shape), np.int64)
            totals[name][tuple(map(slice, total.shape))] = total
        totals[name][tuple(map(slice, summand.shape))] += summand
