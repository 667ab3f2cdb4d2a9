"""Media files -> the labels of highest score over time, on the terminal.

python -m evaluation.tag --run run clip.mp4 song.ogg
python -m evaluation.tag --run run clip.mp4 --html clip.html
python -m evaluation.tag --network yamnet --card yamnet clip.mp4
"""

import argparse
import dataclasses
import math
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from evaluation.report.figure import SoundtrackView
from evaluation.report.page import render_soundtrack
from evaluation.report.soundtrack import Medium, decode_log_mel, read_clip, timeline
from evaluation.scoring import media
from features.errors import FAILED, OK, InputError, run_command
from features.front_end.front_end import FrontEnd
from features.sound.outcome import AudioError, Outcome
from features.storage import files
from features.terminal import clock
from pipelines.runtime.model import ExportedModel
from pipelines.runtime.network import CardNetwork

_DESCRIPTION = """\
Print the labels of highest score of media files, for the whole soundtrack (mean
over the patches) and over time. Needs only a trained network, no features and
no data set.
"""
# Lines per file without --every: as many as fit on a screen.
_MAX_LINES = 40


@dataclasses.dataclass(frozen=True, eq=False)
class Tagged:
    """The scores of one soundtrack.

    Attributes:
      uri: of the medium.
      label_names: [labels].
      start_seconds: float32 [patches], ascending.
      patch_seconds: length of a patch.
      hop_seconds: from the start of one patch to the start of the next.
      scores: float32 [patches, labels] in [0, 1].
      stored: [patches, *patch shape], input of the network in its stored form.
      outcome: OK, or TRUNCATED if the patches end at the damage.
      detail: the message of the library if the outcome is not OK.
    """

    uri: str
    label_names: tuple[str, ...]
    start_seconds: np.ndarray
    patch_seconds: float
    hop_seconds: float
    scores: np.ndarray
    stored: np.ndarray
    outcome: Outcome
    detail: str


def tag(uri: str, model: ExportedModel | CardNetwork) -> Tagged:
    """Decode one soundtrack and score its patches.

    Raises:
      AudioError: the soundtrack has no patch.
    """
    decoded, outputs = media.listen(uri, model)
    return Tagged(
        uri=uri,
        label_names=model.vocabulary.names,
        start_seconds=decoded.start_seconds,
        patch_seconds=model.front_end.patch_seconds,
        hop_seconds=model.front_end.patch_hop_seconds,
        scores=outputs.scores,
        stored=decoded.stored,
        outcome=decoded.outcome,
        detail=decoded.detail,
    )


def describe(tagged: Tagged, *, top: int, every_seconds: float | None) -> Iterator[str]:
    """Yield lines for a terminal: the whole soundtrack, then one line per interval of time.

    Args:
      tagged: the soundtrack.
      top: number of labels per line.
      every_seconds: length of an interval; None for one patch, or more if the lines would not fit
        on a screen.
    """
    num_patches = len(tagged.scores)
    if every_seconds is None:
        per_line = math.ceil(num_patches / _MAX_LINES)
    else:
        per_line = max(1, round(every_seconds / tagged.hop_seconds))
    yield f"  {'whole':<13} {_top_labels(tagged, slice(None), top)}"
    for first in range(0, num_patches, per_line):
        rows = slice(first, first + per_line)
        starts = tagged.start_seconds[rows]
        time = f"{clock(starts[0])}-{clock(starts[-1] + tagged.patch_seconds)}"
        yield f"  {time:<13} {_top_labels(tagged, rows, top)}"


def render_page(tagged: Tagged, *, title: str, front_end: FrontEnd) -> str:
    """Render the page that plays a soundtrack and shows its scores (Figure 2).

    Args:
      tagged: the soundtrack.
      title: heading of the page.
      front_end: of the network.

    Raises:
      NoSpectrogramError: the network takes samples, and the soundtrack is too short to show.
    """
    medium, params = Medium(tagged.uri), front_end.log_mel
    if front_end.windows is None:
        patches = front_end.storage.decode(tagged.stored)
        log_mel = timeline(patches, tagged.start_seconds, params)
    else:
        log_mel, params = decode_log_mel(medium, tagged.patch_seconds)
    view = SoundtrackView(
        title=title,
        uri=tagged.uri,
        params=params,
        log_mel=log_mel,
        label_names=tagged.label_names,
        labels=(),  # unknown
        scores=tagged.scores,
        start_seconds=tagged.start_seconds,
    )
    return render_soundtrack(view, read_clip(medium, view))


def _top_labels(tagged: Tagged, rows: slice, top: int) -> str:
    scores = tagged.scores[rows].mean(axis=0)  # [labels]
    best = np.argsort(-scores, kind="stable")[:top]
    return "   ".join(f"{scores[label]:.2f} {tagged.label_names[label]}" for label in best)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.tag", description=_DESCRIPTION, allow_abbrev=False
    )
    add = parser.add_argument
    add("files", metavar="FILE", nargs="+", help="media file or URI")
    media.add_model_flags(parser)
    add("--top", metavar="N", type=int, default=3, help="labels per line; default: 3")
    add(
        "--every",
        metavar="SECONDS",
        type=float,
        help=f"seconds per line; default: a line per patch, but at most {_MAX_LINES} lines",
    )
    add(
        "--html",
        metavar="PAGE",
        help="also write a page that plays FILE and shows its scores; for one FILE",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = _parser().parse_args(argv)
    if args.top < 1:
        raise InputError(f"--top: received {args.top}; give 1 or more")
    if args.every is not None and not args.every > 0:
        raise InputError(f"--every: received {args.every:g}; give seconds above 0")
    if args.html is not None and len(args.files) > 1:
        raise InputError(f"--html: a page is of one FILE; received {len(args.files)}")
    model = _load(args)
    code = OK
    for file in args.files:
        try:
            tagged = tag(files.absolute(file), model)
        except AudioError as error:  # the other files are still tagged
            print(f"error: {file}: {error}", file=sys.stderr)
            code = FAILED
            continue
        print(file)
        for line in describe(tagged, top=args.top, every_seconds=args.every):
            print(line)
        if args.html is not None:
            page = render_page(tagged, title=file, front_end=model.front_end)
            files.write_bytes(files.absolute(args.html), page.encode())
            print(f"wrote {args.html}")
        if tagged.outcome != Outcome.OK:
            print(f"{file}: only the part before the damage: {tagged.detail}", file=sys.stderr)
    return code


def _load(args: argparse.Namespace) -> ExportedModel | CardNetwork:
    model = media.load_any(args.run, args.network, args.card, args.precision)
    if not model.num_labels:
        raise InputError(f"--network {args.network}: its card names no scores, so it has no labels")
    return model


if __name__ == "__main__":
    run_command(main)
