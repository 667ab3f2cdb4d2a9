"""The metrics of the runs of a sweep, side by side: a table for the terminal, and a plot."""

import io
import itertools
import math
import textwrap
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from features.contracts.documents import VALIDATION_MAP, SweptRun

_COLUMNS = {
    "mAP": VALIDATION_MAP,
    "accuracy": "validation_accuracy",
    "loss": "validation_loss",
    "patches/s": "patches_per_second",
}
# Characters of an error in the table; sweep.json has the whole error.
_MAX_ERROR = 60
# A plot with more lines than this has no legend.
_MAX_LEGEND = 8
# Values whose ratio is larger are shown on a logarithmic axis.
_LINEAR_RANGE = 8
_PANEL_INCHES = (4.2, 3.4)


def table(results: Sequence[SweptRun]) -> str:
    """The lines of the table, the highest mAP first, failed runs last."""
    quantities = list(results[0].values)
    rows = [[*quantities, *_COLUMNS, "steps"]]

    def rank(result: SweptRun) -> tuple[bool, float]:
        precision = result.mean_average_precision
        return result.error is not None, math.inf if math.isnan(precision) else -precision

    for result in sorted(results, key=rank):
        row = [result.values[quantity] for quantity in quantities]
        if result.error is not None:
            row.append(textwrap.shorten(f"failed: {result.error}", _MAX_ERROR, placeholder=" ..."))
        else:
            row += [_rounded(result.metrics.get(metric)) for metric in _COLUMNS.values()]
            row.append(str(result.steps))
        rows.append(row)
    num_columns = len(rows[0])
    whole = [row for row in rows if len(row) == num_columns]
    widths = [max(map(len, column)) for column in zip(*whole, strict=True)]
    for index in range(len(quantities)):
        widths[index] = max(len(row[index]) for row in rows)
    return "\n".join(
        "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=False))
        for row in rows
    )


def plot(results: Sequence[SweptRun]) -> bytes | None:
    """Plot mAP against each swept quantity, with a line for each combination of the others.

    Returns:
      SVG; None if no run has an mAP.
    """
    measured = [run for run in results if not math.isnan(run.mean_average_precision)]
    if not measured:
        return None
    quantities = list(measured[0].values)
    width, height = _PANEL_INCHES
    drawn = Figure(figsize=(width * len(quantities), height), layout="constrained")
    panels = drawn.subplots(1, len(quantities), sharey=True, squeeze=False)[0]
    for panel, quantity in zip(panels, quantities, strict=True):
        _draw(panel, quantity, measured)
    panels[0].set_ylabel("validation mAP")
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "soundtrack"}):
        drawn.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _draw(panel: Axes, quantity: str, results: Sequence[SweptRun]) -> None:
    """A line for each combination of the other quantities."""

    def others(result: SweptRun) -> str:
        rest = {name: value for name, value in result.values.items() if name != quantity}
        return ", ".join(f"{name} {value}" for name, value in rest.items())

    numbers = [_number(result.values[quantity]) for result in results]
    is_numeric = None not in numbers

    def place(result: SweptRun) -> float | str:
        value = result.values[quantity]
        return float(value) if is_numeric else value

    lines = itertools.groupby(sorted(results, key=lambda run: (others(run), place(run))), others)
    for label, line in lines:
        points = [(place(run), run.mean_average_precision) for run in line]
        panel.plot(*zip(*points, strict=True), marker="o", markersize=4, label=label)
    panel.set_xlabel(quantity.replace("_", " "))
    panel.grid(visible=True, linewidth=0.4)
    places = [number for number in numbers if number is not None]
    if is_numeric and 0 < _LINEAR_RANGE * min(places) < max(places):
        panel.set_xscale("log")
    if len(results[0].values) > 1 and len(panel.lines) <= _MAX_LEGEND:
        panel.legend(fontsize="small", frameon=False)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _rounded(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
