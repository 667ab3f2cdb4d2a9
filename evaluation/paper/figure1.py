"""Figure 1 for print: d' of each class against its prior, coloured by average precision.

python -m evaluation.paper.figure1 --report report --output figure1.pdf
"""

import argparse
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from evaluation.metrics.class_interval import is_small
from evaluation.metrics.summary import PER_CLASS
from evaluation.paper.drawing import COLUMN_WIDTH, check_output, draw
from evaluation.report.page import FIGURE_COLOURS
from features import terminal
from features.contracts import folders
from features.contracts.documents import Metrics
from features.errors import OK, InputError, run_command
from features.storage import files

_DESCRIPTION = """\
Draw Figure 1 of the paper from a report: the d-prime of each class against its
prior, coloured by average precision, as PDF, SVG or PNG; classes of fewer than
10 positives, or of which more than a fifth have the same origin, are hollow.
The paper shows a random 20 % of 30,871 classes:
--share 0.2.
"""
# More points are drawn as pixels even in PDF and SVG, which viewers would display slowly.
_MAX_VECTOR_POINTS = 5000


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.paper.figure1",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--report", required=True, help="folder made by evaluation.evaluate")
    add("--output", required=True, help="the file to write: .pdf, .svg or .png")
    add("--share", type=float, default=1.0, help="random share of the classes; default: 1")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = _parser().parse_args(argv)
    check_output(args.output)
    if not 0 < args.share <= 1:
        raise InputError(f"--share: received {args.share:g}; give more than 0 and at most 1")
    source = files.absolute(args.report)
    folders.read_document(source, Metrics)
    with files.open_read(files.join(source, PER_CLASS)) as file:
        per_class = shown_classes(pq.read_table(file), args.share)
    draw(args.output, (COLUMN_WIDTH, 0.75 * COLUMN_WIDTH), lambda figure: fill(figure, per_class))
    terminal.report(f"{len(per_class)} classes", {}, args.output)
    return OK


def shown_classes(per_class: pa.Table, share: float) -> pa.Table:
    """Select the classes that have a d' and a prior, or a share of them with a fixed seed."""
    d_prime = per_class["d_prime"].to_numpy(zero_copy_only=False).astype(np.float64)
    rows = np.flatnonzero(~np.isnan(d_prime) & (per_class["prior"].to_numpy() > 0))
    drawn = np.argsort(np.random.PCG64(0).random_raw(len(rows)), kind="stable")
    return per_class.take(np.sort(rows[drawn[: round(share * len(rows))]]))


def fill(figure: Figure, per_class: pa.Table) -> None:
    """Draw the scatter plot.

    Args:
      figure: without axes.
      per_class: rows of `per_class.parquet` that have a d' and a prior.
    """
    prior, d_prime, ap, positives, origins = (
        per_class[name].to_numpy(zero_copy_only=False).astype(np.float64)
        for name in ("prior", "d_prime", "ap", "positives", "effective_origins")
    )
    axes = figure.add_subplot()
    finite = np.isfinite(d_prime)
    top = np.ceil(max(1.0, d_prime[finite].max(initial=1.0)) + 0.1)
    bottom = np.floor(d_prime[finite].min(initial=0.0))
    size = 10 if len(prior) <= 500 else 4 if len(prior) <= _MAX_VECTOR_POINTS else 1
    colours = ScalarMappable(Normalize(0.0, 1.0), FIGURE_COLOURS)
    figure.colorbar(colours, ax=axes, label="average precision", pad=0.03, aspect=30)
    of_ap, grey = colours.to_rgba(ap), to_rgba("#575e67")
    # A class of few positives is hollow. A perfect class has no finite d' and is a triangle at the
    # edge.
    few = is_small(positives, origins)
    faces = np.where(few[:, None], to_rgba("none"), of_ap)
    edges = np.where(few[:, None], of_ap, grey)
    widths = np.where(few, 0.5, 0.2 if size > 1 else 0.0)
    for shown, marker in ((finite, "o"), (d_prime > top, "^"), (d_prime < bottom, "v")):
        axes.scatter(
            prior[shown],
            np.clip(d_prime[shown], bottom, top),
            s=size,
            marker=marker,
            facecolors=faces[shown],
            edgecolors=edges[shown],
            linewidths=widths[shown],
            clip_on=False,
            rasterized=len(prior) > _MAX_VECTOR_POINTS,
        )
    axes.set(
        xscale="log",
        ylim=(bottom, top),
        xlabel="prior (share of videos, log scale)",
        ylabel="d′ (standard deviations)",
    )
    axes.xaxis.set_minor_formatter(NullFormatter())
    if prior.max() < 100 * prior.min():  # too few powers of ten
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    if not finite.all():
        ticks = np.arange(bottom, top + 1)
        axes.set_yticks(ticks, [*(f"{tick:g}" for tick in ticks[:-1]), "∞"])
    axes.grid()
    axes.set_axisbelow(True)


if __name__ == "__main__":
    run_command(main)
