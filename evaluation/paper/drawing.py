"""Figures for print: sizes, fonts, file formats."""

import io
from collections.abc import Callable

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from features.errors import InputError
from features.storage import files

# Inches, on a page with two columns.
COLUMN_WIDTH, PAGE_WIDTH = 3.4, 7.0
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 7.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "grid.linewidth": 0.4,
    "grid.color": "#dfdcd5",
    "savefig.dpi": 400,
    "figure.constrained_layout.use": True,
    # Keep text as text: TrueType in PDF, as journals require, and characters in SVG.
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "soundtrack",
}
# Without dates, so that the same figure gives the same file.
_METADATA = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}


def check_output(path: str) -> str:
    """Return the suffix of a file.

    Raises:
      InputError: the suffix is not of a supported format.
    """
    suffix = path.rpartition(".")[2].lower()
    if suffix not in _METADATA:
        raise InputError(f"--output {path}: give a file that ends in .pdf, .svg or .png")
    return suffix


def draw(path: str, size: tuple[float, float], fill: Callable[[Figure], None]) -> None:
    """Draw a figure and write a file.

    Args:
      path: of the file; the suffix determines the format.
      size: width and height in inches.
      fill: draws on a figure without axes.
    """
    suffix = check_output(path)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size)
        FigureCanvasAgg(figure)
        fill(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix, metadata=_METADATA[suffix])
    files.write_bytes(files.absolute(path), buffer.getvalue())
