"""SCORES with frame scores -> the page of a video: scores over time, and sound (Figure 2).

python -m evaluation.soundtrack --scores scores --video VIDEO_ID --output page.html
"""

import argparse
from collections.abc import Sequence

from evaluation.report.page import render_soundtrack
from evaluation.report.soundtrack import find_media, open_frame_scores, read_clip, read_soundtrack
from features import terminal
from features.errors import OK, run_command
from features.storage import files

_DESCRIPTION = """\
Write the page of one soundtrack: spectrogram, the scores of the 16 labels of
highest peak over time, and the sound, with a cursor that follows the sound. The
page is one file that needs no other file and no network access.
"""


def video_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """A parser for a command that shows a video of SCORES."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {prog}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--scores", required=True, help="folder made by score_videos --frame-scores"
    )
    parser.add_argument("--video", metavar="ID", required=True, help="video of the folder")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = video_parser("evaluation.soundtrack", _DESCRIPTION)
    parser.add_argument("--output", required=True, help="the HTML file to write")
    args = parser.parse_args(argv)
    source, scores = open_frame_scores(args.scores)
    medium = find_media(scores, [args.video]).get(args.video)
    view = read_soundtrack(source, scores, args.video, medium)
    clip = read_clip(medium, view)
    files.write_bytes(files.absolute(args.output), render_soundtrack(view, clip).encode())
    terminal.report(f"{len(view.scores)} patches of {args.video}", {}, args.output)
    return OK


if __name__ == "__main__":
    run_command(main)
