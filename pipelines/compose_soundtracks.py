"""Composes labelled clips into a corpus of longer, weakly labelled soundtracks, as media files.

python -m pipelines.compose_soundtracks --clips clips.parquet --output corpus --soundtracks 400
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from features.errors import OK, InputError, run_command
from features.storage import files
from pipelines.adapters.csv_rows import read_rows, write_rows
from pipelines.corpus import writer
from pipelines.corpus.clips import Clip, check_origins, find_audible, read_clips
from pipelines.corpus.composition import Composition, add_generic_labels, plan_soundtracks
from pipelines.corpus.encoding import FORMATS
from pipelines.runtime.rejects import Reject

LEFT_OUT = "left_out.csv"
_LABEL_COLUMNS = ("label", "generic_labels")
_DESCRIPTION = """\
Mix labelled clips into soundtracks of several events with gaps between them,
over a background. A soundtrack has the labels of all its events, as a video
has; the times of the events are written to a file of their own. Soundtracks of
a split use only clips of that split.

--clips is a manifest (id, uri, labels; optionally split, group, start, end),
such as import_dataset writes, or a folder with a folder per label. Missing
splits are drawn by a stable hash of the group (the recording that a clip was
cut from), or of the id if there is no group. Silence within clips is left out.

Written into the output folder:
  media/            the soundtracks
  manifest.csv      id, uri, labels, split, group: what its sounds were taken
                    from, the groups of its clips and of its background, or
                    their ids; soundtracks that share some are not independent
  events.parquet    id, label, start, end (seconds), labelled, source (id of
                    the clip): a row for each label of each event
  left_out.csv      id, uri, reason, detail of clips that cannot be used
The same clips and flags give the same bytes, whatever the number of workers.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.compose_soundtracks",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--clips", required=True, metavar="PATH", help="manifest or folder of labelled clips")
    add("--output", required=True, metavar="FOLDER", type=Path, help="folder to write")
    add("--soundtracks", type=int, default=100, metavar="N", help="number (default: 100)")
    for flag, kind, default, text in (
        ("--seconds", float, (15.0, 40.0), "seconds of a soundtrack"),
        ("--events", int, (2, 5), "events of a soundtrack; fewer if they do not fit"),
        ("--gap", float, (0.5, 3.0), "seconds between events; negative lets them overlap"),
        ("--event-seconds", float, (0.3, 5.0), "seconds of an event; longer sounds are cut"),
        ("--snr", float, (0.0, 15.0), "decibels of an event over the background"),
    ):
        shown = f"{text} (default: {default[0]:g} {default[1]:g})"
        add(flag, nargs=2, type=kind, default=default, metavar=("MIN", "MAX"), help=shown)
    add(
        "--background",
        metavar="PATH",
        help="manifest or folder of recordings for backgrounds; their labels are ignored "
        "(default: noise)",
    )
    add(
        "--generic-labels",
        metavar="FILE",
        help="CSV file with the columns label and generic_labels (separated by ;): the labels that "
        "hold wherever the label does",
    )
    names = [media_format.suffix.removeprefix(".") for media_format in FORMATS]
    add(
        "--formats",
        nargs="+",
        choices=names,
        default=names,
        metavar="NAME",
        help=f"formats of the files, in turn (default: {' '.join(names)})",
    )
    add("--seed", type=int, default=1, help="0 or more (default: 1)")
    add("--workers", type=int, metavar="N", help="processes (default: one per core)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = _parser().parse_args(argv)
    composition = _composition(args)
    shortest = composition.event_seconds[0]
    clips, rejects = read_clips(args.clips)
    recordings: list[Clip] = []
    if args.background is not None:
        recordings, more = read_clips(args.background, pattern="(?P<label>.*)")
        rejects += more
    with writer.process_pool(args.workers) as executor:
        audible, more = find_audible(clips, shortest=shortest, executor=executor)
        rejects += more
        backgrounds, more = find_audible(recordings, shortest=shortest, executor=executor)
        rejects += more
        _check_clips(audible, rejects, args.clips)
        check_origins([*audible, *backgrounds])
        if args.generic_labels is not None:
            parents = _read_generic_labels(args.generic_labels)
            audible = add_generic_labels(audible, parents, args.generic_labels)
        soundtracks = plan_soundtracks(audible, backgrounds, composition)
        writer.write_corpus(soundtracks, args.output, executor)
    write_rows(str(args.output / LEFT_OUT), Reject._fields, rejects)
    num_own = sum(clip.origins == (clip.id,) for clip in audible)
    if num_own:
        print(f"  no group: {num_own} of {len(audible)} clips, each its own origin")
    for reason, count in sorted(Counter(reject.reason for reject in rejects).items()):
        print(f"  left out: {count} clips, {reason}")
    splits = Counter(soundtrack.split for soundtrack in soundtracks)
    print(", ".join(f"{count} {split}" for split, count in splits.items()))
    print(writer.describe(soundtracks, args.output))
    return OK


def _composition(args: argparse.Namespace) -> Composition:
    """Check the flags and make the settings of the corpus.

    Raises:
      InputError: a flag is out of its range, or two flags contradict each other.
    """
    least = {"--seconds": 0.0, "--events": 1, "--event-seconds": 0.1}
    for flag in ("--seconds", "--events", "--gap", "--event-seconds", "--snr"):
        low, high = getattr(args, flag.removeprefix("--").replace("-", "_"))
        if not least.get(flag, low) <= low <= high:
            raise InputError(
                f"{flag}: received {low:g} {high:g}; give MIN and MAX, with MIN not above MAX"
                + (f" and not below {least[flag]:g}" if flag in least else "")
            )
    if args.seconds[0] < args.event_seconds[0]:
        raise InputError(
            f"--seconds: received {args.seconds[0]:g}, which has no room for an event of "
            f"--event-seconds {args.event_seconds[0]:g}"
        )
    for flag, value, minimum in (
        ("--soundtracks", args.soundtracks, 1),
        ("--seed", args.seed, 0),
        ("--workers", args.workers, 1),
    ):
        if value is not None and value < minimum:
            raise InputError(f"{flag}: received {value}; give {minimum} or more")
    by_name = {media_format.suffix.removeprefix("."): media_format for media_format in FORMATS}
    return Composition(
        num_soundtracks=args.soundtracks,
        seconds=tuple(args.seconds),
        events=tuple(args.events),
        gap_seconds=tuple(args.gap),
        event_seconds=tuple(args.event_seconds),
        decibels=tuple(args.snr),
        formats=[by_name[name] for name in args.formats],
        seed=args.seed,
    )


def _check_clips(audible: Sequence[Clip], rejects: Sequence[Reject], path: str) -> None:
    """Check that there are clips, and that their labels can be written to a manifest."""
    if not audible:
        first = f"; the first: {rejects[0].reason}, {rejects[0].detail}" if rejects else ""
        raise InputError(f"--clips {path}: none of {len(rejects)} clips can be used{first}")
    separator = writer.LABEL_SEPARATOR
    for label in (label for clip in audible for label in clip.labels):
        if separator in label:
            raise InputError(
                f"--clips {path}: the label {label!r} contains {separator!r}, which separates "
                "labels in the manifest to be written; rename the label"
            )


def _read_generic_labels(path: str) -> dict[str, list[str]]:
    """Read label -> the generic labels directly above it."""
    separator = writer.LABEL_SEPARATOR
    parents: dict[str, list[str]] = {}
    for row in read_rows(files.absolute(path), _LABEL_COLUMNS):
        generic = [label.strip() for label in row["generic_labels"].split(separator)]
        parents.setdefault(row["label"], []).extend(filter(None, generic))
    return parents


if __name__ == "__main__":
    run_command(main)
