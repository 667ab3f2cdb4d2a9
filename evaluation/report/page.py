"""The page of an evaluation: one HTML file that needs nothing beside it, not even a network."""

import base64
import dataclasses
import io
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jinja2
import matplotlib.image
import numpy as np
import pyarrow as pa

# Section 5 and Figure 2: the outputs "with the greatest peak values across the entire video".
_LABELS_SHOWN = 16

# Twice the pixels of the widest plot; a longer soundtrack is averaged (spectrogram) or reduced to
# its peaks (scores), so that an hour of sound makes no larger page than a minute.
_MAX_SPECTROGRAM_COLUMNS = 2048
_MAX_SCORE_CELLS = 512

_MAX_TIME_TICKS = 8

_COLUMNS = (
    "label",
    "label_id",
    "name",
    "prior",
    "positives",
    "negatives",
    "auc",
    "d_prime",
    "ap",
)


@dataclasses.dataclass(frozen=True)
class SoundtrackView:
    """One soundtrack's scores over time (Figure 2).

    Attributes:
      video_id: id of the video.
      uri: where the video was read from; shown as text, never loaded.
      log_mel: [frames, mel bands] float32, log magnitudes.
      seconds_per_frame: hop between two frames of `log_mel`.
      label_names: [labels] names of the whole vocabulary.
      labels: indices of the true labels.
      frame_scores: [patches, labels] in [0, 1].
      patch_start_seconds: [patches], rising.
      patch_seconds: length of a patch.
    """

    video_id: str
    uri: str
    log_mel: np.ndarray
    seconds_per_frame: float
    label_names: Sequence[str]
    labels: Sequence[int]
    frame_scores: np.ndarray
    patch_start_seconds: np.ndarray
    patch_seconds: float

    def __post_init__(self) -> None:
        expected = (len(self.patch_start_seconds), len(self.label_names))
        if self.frame_scores.shape != expected:
            raise ValueError(
                f"frame_scores of video {self.video_id!r} has shape {self.frame_scores.shape}, but "
                f"patch_start_seconds and label_names ask for [patches, labels] = {expected}; "
                "pass the scores of one video and the vocabulary they were made with."
            )
        if not (np.isfinite(self.frame_scores).all() and np.isfinite(self.log_mel).all()):
            raise ValueError(
                f"frame_scores or log_mel of video {self.video_id!r} holds NaN or infinity; "
                "probably the model diverged or the audio is damaged: choose another video."
            )


def render_report(
    metrics: Mapping[str, Any], per_class: pa.Table, soundtrack: SoundtrackView | None
) -> str:
    """Renders the page of one evaluation.

    Args:
      metrics: the contents of `metrics.json`.
      per_class: one row per label, the contents of `per_class.parquet`; `auc`, `d_prime` and `ap`
        are null where undefined.
      soundtrack: the soundtrack whose scores are shown over time, if any.

    Returns:
      The HTML of the page, without references to anything outside it.
    """
    figure = None if soundtrack is None else _soundtrack_figure(soundtrack)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("evaluation.report", package_path="."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        figure=_figure_text, command=_command_text, flatten=lambda tree: list(_flatten(tree))
    )
    # A NaN in the embedded JSON would leave the reader an empty table: fail here instead.
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment.get_template("report.html").render(
        metrics=metrics,
        soundtrack=soundtrack,
        figure=figure,
        data={
            "columns": _COLUMNS,
            "rows": _table_rows(per_class),
            "soundtrack": figure and {key: figure[key] for key in ("duration", "cells", "rows")},
        },
    )


def _table_rows(per_class: pa.Table) -> list[list[Any]]:
    """Returns [classes][columns] values that JSON can hold."""
    columns = [
        [_json_number(value) if isinstance(value, float) else value for value in column]
        for column in (per_class[name].to_pylist() for name in _COLUMNS)
    ]
    return [list(row) for row in zip(*columns, strict=True)]


def _json_number(value: float) -> float | str | None:
    """Rounds to what can be seen; JSON has no infinities, so they travel as JavaScript's words."""
    if math.isnan(value):
        return None
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return float(f"{value:.6g}")


def _figure_text(value: float | None, digits: int = 3) -> str:
    """Writes a metric as in the paper's tables: "0.926", "∞" for a d' without overlap."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if 0 < value < 10**-digits:
        return f"{value:.2g}"  # the priors of a large vocabulary must not read as zero
    return f"{value:.{digits}f}"


def _command_text(command: str | Sequence[str]) -> str:
    return command if isinstance(command, str) else shlex.join(command)


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields ("optimizer.learning_rate", "0.0001") for a nested mapping."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def _soundtrack_figure(view: SoundtrackView) -> dict[str, Any]:
    """Computes what the figure of a soundtrack shows; all times in seconds."""
    sound_seconds = len(view.log_mel) * view.seconds_per_frame
    cells, scores = _score_cells(view)
    duration = max([sound_seconds, *(end for _, end in cells)])

    shown: list[int] = []
    peaks = np.zeros(len(view.label_names))
    if cells:
        peaks = scores.max(axis=0)  # [labels]
        shown = np.argsort(-peaks, kind="stable")[:_LABELS_SHOWN].tolist()
    true_labels = set(view.labels)
    return {
        "duration": duration,
        "sound_share": sound_seconds / duration if duration else 0.0,
        "spectrogram": _spectrogram_uri(view.log_mel) if len(view.log_mel) else None,
        "mel_bands": view.log_mel.shape[1],
        "ticks": _time_ticks(duration),
        "cells": cells,
        "grouped": len(cells) < len(view.patch_start_seconds),
        # Scores of rare labels stay far below 1; the colours span what the figure shows.
        "top": max([float(peaks[label]) for label in shown], default=0.0),
        "rows": [
            {
                "name": view.label_names[label],
                "true": label in true_labels,
                "peak": float(peaks[label]),
                "peak_seconds": cells[int(scores[:, label].argmax())][0],
                "scores": [round(score, 4) for score in scores[:, label].tolist()],
            }
            for label in shown
        ],
        "other_true": [
            {"name": view.label_names[label], "peak": float(peaks[label]) if cells else None}
            for label in sorted(true_labels.difference(shown))
        ],
    }


def _score_cells(view: SoundtrackView) -> tuple[list[tuple[float, float]], np.ndarray]:
    """Groups neighbouring patches of a long soundtrack; a group keeps its peak.

    Returns:
      [cells] (start, end) in seconds, and float64 [cells, labels] the highest scores therein.
    """
    patches = len(view.patch_start_seconds)
    if not patches:
        return [], np.zeros((0, len(view.label_names)))
    firsts = np.arange(0, patches, math.ceil(patches / _MAX_SCORE_CELLS))  # [cells]
    lasts = np.append(firsts[1:], patches) - 1
    starts = np.round(view.patch_start_seconds[firsts].astype(np.float64), 3)
    ends = np.round(view.patch_start_seconds[lasts].astype(np.float64) + view.patch_seconds, 3)
    scores = np.maximum.reduceat(view.frame_scores.astype(np.float64), firsts, axis=0)
    return list(zip(starts.tolist(), ends.tolist(), strict=True)), scores


def _spectrogram_uri(log_mel: np.ndarray) -> str:
    """Draws [frames, mel bands] as a PNG in a data URI, low frequencies at the bottom."""
    frames = len(log_mel)
    if frames > _MAX_SPECTROGRAM_COLUMNS:
        edges = np.arange(_MAX_SPECTROGRAM_COLUMNS + 1) * frames // _MAX_SPECTROGRAM_COLUMNS
        sums = np.add.reduceat(log_mel.astype(np.float64), edges[:-1], axis=0)
        log_mel = sums / np.diff(edges)[:, np.newaxis]  # [columns, mel bands]
    # A click or a stretch of digital silence must not take the whole range of colours.
    low, high = np.percentile(log_mel, [1, 99.5])
    buffer = io.BytesIO()
    matplotlib.image.imsave(
        buffer,
        log_mel.T,
        vmin=low,
        vmax=high,
        cmap="magma",
        origin="lower",
        format="png",
        metadata={"Software": "Soundtrack"},  # the same bytes from any version of Matplotlib
    )
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _time_ticks(duration: float) -> list[float]:
    """Returns the multiples of 1, 2 or 5 times a power of ten in [0, duration] seconds."""
    if not duration:
        return []
    rough = duration / _MAX_TIME_TICKS
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= rough)
    return [tick * step for tick in range(math.floor(duration / step) + 1)]
