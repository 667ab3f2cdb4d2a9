"""Figure 2 for print: the spectrogram of a soundtrack and its highest labels over time.

python -m evaluation.paper.figure2 --scores scores --video VIDEO_ID --output figure2.pdf
"""

import argparse
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from evaluation import soundtrack
from evaluation.paper.drawing import PAGE_WIDTH, check_output, draw
from evaluation.report.figure import (
    SoundtrackView,
    colour_range,
    frequency_ticks,
    soundtrack_figure,
)
from evaluation.report.page import SPECTROGRAM_COLOURS
from features import terminal
from features.errors import OK, InputError, run_command

# Starts at white, because most scores are close to 0.
_SCORE_COLOURS = "Blues"
_DESCRIPTION = """\
Draw Figure 2 of the paper for one video: its log-mel spectrogram, and below it
the scores of the 16 labels of highest peak over time, as PDF, SVG or PNG.
"""


def _parser() -> argparse.ArgumentParser:
    parser = soundtrack.video_parser("evaluation.paper.figure2", _DESCRIPTION)
    add = parser.add_argument
    add("--output", required=True, help="the file to write: .pdf, .svg or .png")
    add("--start", metavar="SECONDS", type=float, default=0.0, help="start of the excerpt")
    add(
        "--end",
        metavar="SECONDS",
        type=float,
        help="end of the excerpt; default: of the soundtrack",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = _parser().parse_args(argv)
    check_output(args.output)
    source, document = soundtrack.open_frame_scores(args.scores)
    medium = soundtrack.find_media(document, [args.video]).get(args.video)
    view = soundtrack.read_soundtrack(source, document, args.video, medium)
    end = args.end if args.end is not None else soundtrack_figure(view).duration
    if not 0 <= args.start < end:
        raise InputError(f"--start, --end: received {args.start:g} and {end:g}; start must be less")
    draw(
        args.output,
        (PAGE_WIDTH, 0.55 * PAGE_WIDTH),
        lambda figure: fill(figure, view, args.start, end),
    )
    terminal.report(f"{args.video}, {args.start:g} to {end:g} s", {}, args.output)
    return OK


def fill(figure: Figure, view: SoundtrackView, start: float, end: float) -> None:
    """Draw the spectrogram and the scores.

    Args:
      figure: without axes.
      view: the soundtrack; labels are chosen by their peaks in the whole of it, as in the paper.
      start: of the excerpt, in seconds.
      end: of the excerpt.
    """
    shown = soundtrack_figure(view)
    sound, labels = figure.subplots(
        2, sharex=True, gridspec_kw={"height_ratios": [4, max(1, len(shown.rows)) * 0.55]}
    )
    low, high = colour_range(shown.spectrogram)
    image = sound.imshow(
        np.ma.masked_invalid(shown.spectrogram.T),
        origin="lower",
        aspect="auto",
        extent=(0, shown.sound_seconds, 0, 1),
        cmap=SPECTROGRAM_COLOURS,
        vmin=low,
        vmax=high,
        interpolation="none",
    )
    figure.colorbar(image, ax=sound, label="log-mel", pad=0.01, aspect=12)
    ticks = frequency_ticks(view.params)
    sound.set_yticks(
        [height for height, _ in ticks],
        [f"{hertz / 1000:g}" for _, hertz in ticks],
    )
    sound.set(ylabel="frequency (kHz)", xlim=(start, end))
    sound.tick_params(labelbottom=False)

    # If a cell ends before the next starts, there is no score between them.
    edges = np.array([edge for cell in shown.cells for edge in cell])
    values = np.full((len(shown.rows), max(0, len(edges) - 1)), np.nan)
    if shown.rows:
        values[:, ::2] = np.array([row.scores for row in shown.rows])
        mesh = labels.pcolormesh(
            edges,
            np.arange(len(shown.rows) + 1),
            values,
            cmap=_SCORE_COLOURS,
            vmin=0,
            vmax=shown.top or 1,
            rasterized=True,
        )
        figure.colorbar(mesh, ax=labels, label="score", pad=0.01, aspect=20)
    labels.set_yticks(
        np.arange(len(shown.rows)) + 0.5,
        [f"{row.name} •" if row.is_true else row.name for row in shown.rows],
    )
    labels.tick_params(axis="y", length=0)
    labels.set(xlabel="time (s)", ylim=(len(shown.rows), 0))


if __name__ == "__main__":
    run_command(main)
