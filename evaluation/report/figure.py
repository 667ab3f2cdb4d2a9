"""The content of Figure 2 as numbers: the labels that the plot shows and the scores over time."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from features.front_end.logmel import hertz_to_mel
from features.front_end.params import LogMelParams

# Section 5 and Figure 2: the outputs "with the greatest peak values across the entire video".
NUM_LABELS_SHOWN = 16

# A longer spectrogram is averaged and longer scores are reduced to their peaks, so that the page of
# an hour of sound is no larger than that of a minute. The first is twice the width of the plot.
_MAX_SPECTROGRAM_COLUMNS = 2048
_MAX_SCORE_CELLS = 512

_MAX_TIME_TICKS = 8
_FREQUENCY_TICKS_HZ = (125, 500, 1000, 2000, 4000, 8000)


@dataclasses.dataclass(frozen=True, eq=False)
class SoundtrackView:
    """A soundtrack and its scores over time.

    Attributes:
      title: heading: a video id or the name of a file.
      uri: of the medium; shown as text, never loaded.
      params: of the front end.
      log_mel: float32 [frames, mel bands]; NaN in frames without a patch.
      label_names: [labels], of the whole vocabulary.
      labels: indices of the true labels; empty if unknown.
      scores: [patches, labels] in [0, 1].
      start_seconds: [patches], ascending.
    """

    title: str
    uri: str
    params: LogMelParams
    log_mel: np.ndarray
    label_names: Sequence[str]
    labels: Sequence[int]
    scores: np.ndarray
    start_seconds: np.ndarray

    def __post_init__(self) -> None:
        expected = (len(self.start_seconds), len(self.label_names))
        if self.scores.shape != expected:
            raise ValueError(
                f"scores of {self.title!r} have shape {self.scores.shape}, but start_seconds and "
                f"label_names have [patches, labels] = {expected}; pass the scores of one "
                "soundtrack and the vocabulary of the scores"
            )
        if not np.isfinite(self.scores).all() or np.isinf(self.log_mel).any():
            raise ValueError(
                f"scores of {self.title!r} have NaN or infinity, or log_mel has infinity; the "
                "network has diverged or the sound is damaged: choose another soundtrack"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """A label of the plot.

    Attributes:
      name: of the label.
      is_true: whether the soundtrack has the label.
      peak: highest score.
      peak_seconds: start of the cell with the highest score.
      scores: float64 [cells].
    """

    name: str
    is_true: bool
    peak: float
    peak_seconds: float
    scores: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class SoundtrackFigure:
    """The content of the plot of a soundtrack; all times are in seconds.

    Attributes:
      duration: of the time axis.
      sound_seconds: of the spectrogram, which starts at 0.
      spectrogram: [columns, mel bands]; NaN in frames without a patch.
      cells: [cells], start and end of the intervals that have one score per label.
      patches_per_cell: patches whose highest score a cell has; 1 unless the soundtrack is long.
      rows: the labels with the highest peaks, descending.
      other_true: name and peak of the true labels without a row; None without scores.
    """

    duration: float
    sound_seconds: float
    spectrogram: np.ndarray
    cells: list[tuple[float, float]]
    patches_per_cell: int
    rows: list[Row]
    other_true: list[tuple[str, float | None]]

    @property
    def top(self) -> float:
        """The highest score, where scales end: scores of rare labels are far below 1."""
        return max((row.peak for row in self.rows), default=0.0)

    @property
    def time_ticks(self) -> list[float]:
        """Multiples of 1, 2 or 5 times a power of ten in [0, duration]."""
        if not self.duration:
            return []
        rough = self.duration / _MAX_TIME_TICKS
        magnitude = 10.0 ** math.floor(math.log10(rough))
        step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= rough)
        return [tick * step for tick in range(math.floor(self.duration / step) + 1)]


def soundtrack_figure(view: SoundtrackView) -> SoundtrackFigure:
    """Choose the content of the plot of a soundtrack."""
    cells, patches_per_cell, scores = _cells(view)
    sound_seconds = len(view.log_mel) * view.params.hop_seconds
    peaks = scores.max(axis=0, initial=0.0)  # [labels]
    shown = np.argsort(-peaks, kind="stable")[: NUM_LABELS_SHOWN if cells else 0].tolist()
    true_labels = set(view.labels)
    return SoundtrackFigure(
        duration=max([sound_seconds, *(end for _, end in cells)]),
        sound_seconds=sound_seconds,
        spectrogram=_columns(view.log_mel),
        cells=cells,
        patches_per_cell=patches_per_cell,
        rows=[
            Row(
                name=view.label_names[label],
                is_true=label in true_labels,
                peak=float(peaks[label]),
                peak_seconds=cells[int(scores[:, label].argmax())][0],
                scores=scores[:, label],
            )
            for label in shown
        ],
        other_true=[
            (view.label_names[label], float(peaks[label]) if cells else None)
            for label in sorted(true_labels.difference(shown))
        ],
    )


def frequency_ticks(params: LogMelParams) -> list[tuple[float, int]]:
    """Octaves within the mel range: height on the mel axis from 0 to 1, and frequency in Hz."""
    low, high = hertz_to_mel(np.array([params.mel_min_hz, params.mel_max_hz]))
    return [
        (float((hertz_to_mel(np.array(hertz)) - low) / (high - low)), hertz)
        for hertz in _FREQUENCY_TICKS_HZ
        if params.mel_min_hz <= hertz <= params.mel_max_hz
    ]


def colour_range(spectrogram: np.ndarray) -> tuple[float, float]:
    """The range of log-mel values that the colours of a spectrogram represent."""
    if np.isnan(spectrogram).all():
        return 0.0, 1.0
    # Percentiles, so that a click or digital silence does not take up the whole range.
    low, high = np.nanpercentile(spectrogram, [1, 99.5])
    return float(low), float(max(high, low + 1e-3))


def _cells(view: SoundtrackView) -> tuple[list[tuple[float, float]], int, np.ndarray]:
    """The cells, patches per cell, and the highest scores of each cell, float64 [cells, labels].

    A cell ends with its last patch, or where the next cell starts if patches overlap.
    """
    patches = len(view.start_seconds)
    group = max(1, math.ceil(patches / _MAX_SCORE_CELLS))
    firsts = np.arange(0, patches, group)  # [cells]
    starts = view.start_seconds.astype(np.float64)
    lasts = np.append(firsts[1:], patches)[: len(firsts)] - 1
    ends = starts[lasts] + view.params.patch_seconds
    ends[:-1] = np.minimum(ends[:-1], starts[firsts[1:]])
    cells = list(zip(starts[firsts].round(3).tolist(), ends.round(3).tolist(), strict=True))
    if not cells:
        return [], 1, np.zeros((0, len(view.label_names)))
    return cells, group, np.maximum.reduceat(view.scores.astype(np.float64), firsts, axis=0)


def _columns(log_mel: np.ndarray) -> np.ndarray:
    """Average neighbours of [frames, bands], down to `_MAX_SPECTROGRAM_COLUMNS` columns."""
    frames = len(log_mel)
    if frames <= _MAX_SPECTROGRAM_COLUMNS:
        return log_mel
    edges = np.arange(_MAX_SPECTROGRAM_COLUMNS + 1) * frames // _MAX_SPECTROGRAM_COLUMNS
    sums = np.add.reduceat(log_mel.astype(np.float64), edges[:-1], axis=0)
    return sums / np.diff(edges)[:, np.newaxis]
