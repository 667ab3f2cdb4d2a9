"""The pages of an evaluation: HTML files that need nothing beside them, not even a network."""

import base64
import dataclasses
import io
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jinja2
import matplotlib
import matplotlib.colors
import matplotlib.image
import numpy as np
import pyarrow as pa

from evaluation.report.clip import Clip
from evaluation.report.figure import (
    Row,
    SoundtrackFigure,
    SoundtrackView,
    colour_range,
    frequency_ticks,
    soundtrack_figure,
)

# Perceptually uniform and safe for colour-blind eyes: magma for sound, viridis for figures.
SPECTROGRAM_COLOURS, FIGURE_COLOURS = "magma", "viridis"

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
class Example:
    """A soundtrack to listen to: its id, its score for a class, and its page, if it has one."""

    video_id: str
    score: float
    page: str | None


@dataclasses.dataclass(frozen=True)
class ClassExamples:
    """A class among the best or the worst.

    Attributes:
      figures: its row of `per_class.parquet`.
      examples: by kind: `hit`, `miss`, `false_alarm`.
    """

    figures: Mapping[str, Any]
    examples: Mapping[str, Example]


def render_report(
    metrics: Mapping[str, Any],
    per_class: pa.Table,
    *,
    best: Sequence[ClassExamples],
    worst: Sequence[ClassExamples],
    confusion: pa.Table,
    soundtrack: tuple[SoundtrackView, Clip | None] | None,
) -> str:
    """Renders the page of one evaluation.

    Args:
      metrics: the contents of `metrics.json`.
      per_class: one row per label, the contents of `per_class.parquet`; `auc`, `d_prime` and `ap`
        are null where undefined.
      best: classes of the highest AUC, the best first.
      worst: classes of the lowest AUC, the worst first.
      confusion: the contents of `confusion.parquet`.
      soundtrack: the soundtrack whose scores are shown over time, if any, and its sound.

    Returns:
      The HTML of the page, without references to anything outside it but the examples' pages.
    """
    return (
        _environment()
        .get_template("report.html")
        .render(
            metrics=metrics,
            best=best,
            worst=worst,
            confusion=_confusion_rows(confusion, per_class),
            plot=None if soundtrack is None else _plot(*soundtrack),
            colours=_colours(),
            data={"columns": _COLUMNS, "rows": _table_rows(per_class), "colours": _colours()},
        )
    )


def render_soundtrack(view: SoundtrackView, clip: Clip | None) -> str:
    """Renders the page of one soundtrack (Figure 2).

    Args:
      view: the soundtrack and its scores over time.
      clip: its sound; None where there is none to be played.

    Returns:
      The HTML of the page, without references to anything outside it.
    """
    return _environment().get_template("soundtrack.html").render(_plot(view, clip))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("evaluation.report", package_path="."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        area=_area,
        bytes=_bytes_text,
        clock=_clock_text,
        command=_command_text,
        figure=_figure_text,
        percent=lambda share: f"{100 * share:.0f}" if share else "",
        flatten=lambda tree: list(_flatten(tree)),
        moment=lambda created: f"{created[:10]} {created[11:16]} UTC",
        score=_score_text,
        score_data=_score_data,
    )
    # A NaN in the embedded JSON would leave the reader an empty table: fail here instead.
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment


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


def _confusion_rows(confusion: pa.Table, per_class: pa.Table) -> list[dict[str, Any]]:
    """For each of the most frequent labels, the shares of its videos by their top label."""
    names = per_class["name"].to_pylist()
    rows = []
    for label, row in enumerate(confusion.to_pylist()):
        count = sum(row["answers"]) + row["another_right"] + row["another_wrong"]
        rows.append(
            {
                "label": label,
                "name": names[label],
                "count": count,
                "answers": [answer / max(count, 1) for answer in row["answers"]],
                "another_right": row["another_right"] / max(count, 1),
                "another_wrong": row["another_wrong"] / max(count, 1),
            }
        )
    return rows


def _colours() -> list[str]:
    """The colours of Figure 1 from AP 0 to 1."""
    scale = matplotlib.colormaps[FIGURE_COLOURS]
    return [matplotlib.colors.to_hex(scale(step / 16)) for step in range(17)]


def _plot(view: SoundtrackView, clip: Clip | None) -> dict[str, Any]:
    """What the template of a soundtrack's figure takes."""
    figure = soundtrack_figure(view)
    return {
        "view": view,
        "figure": figure,
        "spectrogram": _spectrogram_uri(figure.spectrogram) if len(figure.spectrogram) else None,
        "frequencies": frequency_ticks(view.params),
        "clip": clip,
    }


def _score_data(figure: SoundtrackFigure) -> dict[str, Any]:
    return {
        "duration": figure.duration,
        "cells": figure.cells,
        "scores": [row.scores.round(4).tolist() for row in figure.rows],
    }


def _area(row: Row, figure: SoundtrackFigure) -> str:
    """The scores of a row as an SVG path: a step a cell, 1 at the bottom and 0 at the top."""
    steps = [
        f"M{start:g} 1V{1 - score / figure.top:.3f}H{end:g}V1"
        for (start, end), score in zip(figure.cells, row.scores, strict=True)
        if score > figure.top / 256
    ]
    return "".join(steps)


def _spectrogram_uri(spectrogram: np.ndarray) -> str:
    """Draws [columns, mel bands] as WebP in a data URI, low frequencies at the bottom.

    A quarter of the bytes of PNG, which would outweigh the sound.
    """
    low, high = colour_range(spectrogram)
    buffer = io.BytesIO()
    matplotlib.image.imsave(
        buffer,
        np.ma.masked_invalid(spectrogram.T),  # transparent where nothing was looked at
        vmin=low,
        vmax=high,
        cmap=SPECTROGRAM_COLOURS,
        origin="lower",
        format="webp",
        pil_kwargs={"quality": 85},
    )
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _figure_text(value: float | None, digits: int = 3) -> str:
    """Writes a metric as in the paper's tables: "0.926", "∞" for a d' without overlap."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if 0 < value < 10**-digits:
        return f"{value:.2g}"  # the priors of a large vocabulary must not read as zero
    return f"{value:.{digits}f}".replace("-", "−")


def _score_text(value: float) -> str:
    return f"{value:.2f}" if value >= 0.005 else "<0.01"


def _clock_text(seconds: float) -> str:
    """As the page's script writes it, for example "4:36.0"."""
    minutes, tenths = divmod(math.floor(seconds * 10 + 1e-6), 600)
    return f"{minutes}:{tenths / 10:04.1f}"


def _bytes_text(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{math.ceil(count / 1e3)} kB"


def _command_text(command: str | Sequence[str]) -> str:
    return command if isinstance(command, str) else shlex.join(command)


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields ("optimizer.learning_rate", "0.0001") for a nested mapping."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
