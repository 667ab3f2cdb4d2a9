"""Render the pages of an evaluation: HTML files without external resources."""

import base64
import dataclasses
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jinja2
import matplotlib
import matplotlib.colors
import matplotlib.image
import numpy as np
import pyarrow as pa

from evaluation.metrics.class_interval import MIN_ORIGINS, MIN_POSITIVES
from evaluation.metrics.summary import explain_interval
from evaluation.report.clip import Clip
from evaluation.report.figure import (
    Row,
    SoundtrackFigure,
    SoundtrackView,
    colour_range,
    frequency_ticks,
    soundtrack_figure,
)
from evaluation.report.neighbours import Excerpt
from features.contracts.documents import Metrics

# Perceptually uniform and suitable for colour-blind readers: magma for sound, viridis for AP.
SPECTROGRAM_COLOURS, FIGURE_COLOURS = "magma", "viridis"

_COLUMNS = (
    "label",
    "label_id",
    "name",
    "prior",
    "positives",
    "negatives",
    "effective_origins",
    "auc",
    "auc_low",
    "auc_high",
    "d_prime",
    "ap",
)


@dataclasses.dataclass(frozen=True)
class Example:
    """An example video of a class: id, score for the class, and path of its page if it has one."""

    video_id: str
    score: float
    page: str | None


@dataclasses.dataclass(frozen=True)
class ClassExamples:
    """A class among the best or the worst.

    Attributes:
      metrics: row of `per_class.parquet`.
      examples: by kind: `hit`, `miss`, `false_alarm`.
    """

    metrics: Mapping[str, Any]
    examples: Mapping[str, Example]


def render_report(
    metrics: Metrics,
    per_class: pa.Table,
    *,
    best: Sequence[ClassExamples],
    worst: Sequence[ClassExamples],
    are_certain: bool,
    confusion: pa.Table,
    soundtrack: tuple[SoundtrackView, Clip | None] | None,
) -> str:
    """Render the page of an evaluation.

    Args:
      metrics: `metrics.json`.
      per_class: `per_class.parquet`.
      best: classes of the highest AUC, the best first; of the most videos, if not `are_certain`.
      worst: classes of the lowest AUC, the worst first.
      are_certain: whether there are classes whose AUC is not explained by chance.
      confusion: `confusion.parquet`.
      soundtrack: a soundtrack to show over time, and its sound.

    Returns:
      HTML that refers to nothing outside the page but the pages of the examples.
    """
    return (
        _environment()
        .get_template("report.html")
        .render(
            metrics=metrics,
            explained_interval=explain_interval(metrics.intervals),
            format_version=Metrics.VERSION,
            best=best,
            worst=worst,
            are_certain=are_certain,
            min_positives=MIN_POSITIVES,
            min_origins=MIN_ORIGINS,
            confusion=_confusion_rows(confusion, per_class),
            plot=None if soundtrack is None else _plot(*soundtrack),
            colours=_colours(),
            data={
                "columns": _COLUMNS,
                "rows": _table_rows(per_class),
                "colours": _colours(),
                "min_positives": MIN_POSITIVES,
                "min_origins": MIN_ORIGINS,
            },
        )
    )


def render_soundtrack(view: SoundtrackView, clip: Clip | None) -> str:
    """Render the page of a soundtrack (Figure 2).

    Args:
      view: the soundtrack and its scores over time.
      clip: the sound; None if there is none.

    Returns:
      HTML that refers to nothing outside the page.
    """
    return _environment().get_template("soundtrack.html").render(_plot(view, clip))


def render_neighbours(
    *, query: str, clip: Clip | None, excerpts: Sequence[Excerpt], patch_seconds: float
) -> str:
    """Render the page of a search.

    Args:
      query: name of the media file.
      clip: its sound; None if there is none.
      excerpts: of the videos found, the nearest first.
      patch_seconds: length of the sounds that are compared.

    Returns:
      HTML that refers to nothing outside the page.
    """
    template = _environment().get_template("neighbours.html")
    return template.render(
        query=query, clip=clip, excerpts=excerpts, patch_seconds=f"{patch_seconds:g}"
    )


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
        file_name=lambda uri: uri.rpartition("/")[2],
        metric=_metric_text,
        percent=lambda share: f"{100 * share:.0f}" if share else "",
        flatten=lambda tree: list(_flatten(tree)),
        moment=lambda created: f"{created[:10]} {created[11:16]} UTC",
        score=_score_text,
        score_data=_score_data,
    )
    # NaN in the embedded JSON would make the table of the page empty: fail here instead.
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment


def _table_rows(per_class: pa.Table) -> list[list[Any]]:
    """The table as [classes][columns] of values that JSON can represent."""
    columns = [
        [_json_number(value) if isinstance(value, float) else value for value in column]
        for column in (per_class[name].to_pylist() for name in _COLUMNS)
    ]
    return [list(row) for row in zip(*columns, strict=True)]


def _json_number(value: float) -> float | str | None:
    """Round to six digits; None for NaN, and a string that JavaScript parses for infinity."""
    if math.isnan(value):
        return None
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return float(f"{value:.6g}")


def _confusion_rows(confusion: pa.Table, per_class: pa.Table) -> list[dict[str, Any]]:
    """Shares of the videos of each of the most frequent labels, by the label of highest score."""
    names = per_class["name"].to_pylist()
    rows = []
    for position, row in enumerate(confusion.to_pylist()):
        count = sum(row["answers"]) + row["another_right"] + row["another_wrong"]
        rows.append(
            {
                "position": position,
                "name": names[row["label"]],
                "count": count,
                "answers": [answer / max(count, 1) for answer in row["answers"]],
                "another_right": row["another_right"] / max(count, 1),
                "another_wrong": row["another_wrong"] / max(count, 1),
            }
        )
    return rows


def _colours() -> list[str]:
    """The colours of Figure 1, from AP 0 to AP 1."""
    scale = matplotlib.colormaps[FIGURE_COLOURS]
    return [matplotlib.colors.to_hex(scale(step / 16)) for step in range(17)]


def _plot(view: SoundtrackView, clip: Clip | None) -> dict[str, Any]:
    """The variables of `_soundtrack.html`."""
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
    """The scores of a row as an SVG path, a step per cell; y is 1 at the bottom, 0 at the top."""
    steps = [
        f"M{start:g} 1V{1 - score / figure.top:.3f}H{end:g}V1"
        for (start, end), score in zip(figure.cells, row.scores, strict=True)
        if score > figure.top / 256
    ]
    return "".join(steps)


def _spectrogram_uri(spectrogram: np.ndarray) -> str:
    """Encode [columns, mel bands] as WebP in a data URI, low frequencies at the bottom.

    WebP has a quarter of the bytes of PNG, which would be more than the sound has.
    """
    low, high = colour_range(spectrogram)
    buffer = io.BytesIO()
    matplotlib.image.imsave(
        buffer,
        np.ma.masked_invalid(spectrogram.T),  # transparent in frames without a patch
        vmin=low,
        vmax=high,
        cmap=SPECTROGRAM_COLOURS,
        origin="lower",
        format="webp",
        pil_kwargs={"quality": 85},
    )
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _metric_text(value: float | None, digits: int = 3) -> str:
    """Format a metric as in the paper's tables, "0.926"; "∞" for an infinite d'."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if 0 < value < 10**-digits:
        return f"{value:.2g}"  # not 0.000 for the priors of rare labels
    return f"{value:.{digits}f}".replace("-", "−")


def _score_text(value: float) -> str:
    return f"{value:.2f}" if value >= 0.005 else "<0.01"


def _clock_text(seconds: float) -> str:
    """Format a time like the script of the page, for example "4:36.0"."""
    minutes, tenths = divmod(math.floor(seconds * 10 + 1e-6), 600)
    return f"{minutes}:{tenths / 10:04.1f}"


def _bytes_text(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{math.ceil(count / 1e3)} kB"


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield pairs such as ("optimizer.learning_rate", "0.0001") from a nested mapping."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
