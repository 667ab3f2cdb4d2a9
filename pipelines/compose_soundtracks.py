"""Composes labelled clips into a corpus of longer, weakly labelled soundtracks, as media files.

python -m pipelines.compose_soundtracks --clips clips.parquet --output corpus --soundtracks 400
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from features.contracts.sharding import SPLITS
from features.errors import OK, InputError, run_command
from features.storage import files
from pipelines.adapters.csv_rows import read_rows, write_rows
from pipelines.corpus import writer
from pipelines.corpus.clips import Clip, check_origins, find_audible, read_clips
from pipelines.corpus.composition import Composition, add_generic_labels, plan_soundtracks
from pipelines.corpus.encoding import FORMATS
from pipelines.corpus.label_law import LabelLaw, limit_recordings
from pipelines.corpus.mixing import Soundtrack
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
cut from), or of the id if there is no group. Silence within clips is left out;
a clip without a part of --event-seconds MIN is placed as it is.

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
    add(
        "--soundtracks",
        nargs="+",
        default=["100"],
        metavar="N",
        help="number, shared as the clips are; or SPLIT=N for each split (default: 100)",
    )
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
    _add_label_law(parser)
    add("--seed", type=int, default=1, help="0 or more (default: 1)")
    add("--workers", type=int, metavar="N", help="processes (default: one per core)")
    return parser


def _add_label_law(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group(
        "how often labels are used (default: clips equally)"
    ).add_argument
    add(
        "--zipf",
        nargs=2,
        type=float,
        metavar=("EXPONENT", "SHIFT"),
        help="draw the labels of a soundtrack by (rank + SHIFT) ** -EXPONENT, in a random order of "
        "the labels, and its events from clips of these labels in turn",
    )
    add(
        "--labels",
        nargs=2,
        type=int,
        metavar=("MIN", "MAX"),
        help="with --zipf: labels drawn for a soundtrack, without generic ones (default: 1 3)",
    )
    add(
        "--least",
        type=int,
        metavar="N",
        help="with --zipf: soundtracks of validation, and of evaluation, that every label has at "
        "least (default: 0)",
    )
    add(
        "--recordings-per-label",
        type=int,
        metavar="N",
        help="train on clips of N recordings of each label at most (default: all)",
    )


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
    num_unused = 0
    if args.recordings_per_label is not None:
        clips, num_unused = limit_recordings(clips, args.recordings_per_label, args.seed)
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
    print(_account(audible, rejects, soundtracks, num_unused=num_unused, shortest=shortest))
    print(writer.describe(soundtracks, args.output))
    return OK


def _account(
    audible: Sequence[Clip],
    rejects: Sequence[Reject],
    soundtracks: Sequence[Soundtrack],
    *,
    num_unused: int,
    shortest: float,
) -> str:
    """What became of the clips, the soundtracks of each split, and their priors."""
    lines = []
    num_own = sum(clip.origins == (clip.id,) for clip in audible)
    if num_own:
        lines.append(f"  no group: {num_own} of {len(audible)} clips, each its own origin")
    num_short = sum(max(end - start for start, end in clip.parts) < shortest for clip in audible)
    if num_short:
        lines.append(f"  short: {num_short} clips, placed as they are, below {shortest:g} s")
    if num_unused:
        lines.append(f"  unused: {num_unused} clips, of recordings above --recordings-per-label")
    lines += [
        f"  left out: {count} clips, {reason}"
        for reason, count in sorted(Counter(reject.reason for reject in rejects).items())
    ]
    splits = Counter(soundtrack.split for soundtrack in soundtracks)
    for split, number in splits.items():
        counts = Counter(
            label for other in soundtracks if other.split == split for label in other.labels
        )
        lines.append(
            f"{number} {split}, {len(counts)} labels with priors of "
            f"{min(counts.values()) / number:.2g} to {max(counts.values()) / number:.2g}"
        )
    return "\n".join(lines)


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
        ("--seed", args.seed, 0),
        ("--workers", args.workers, 1),
        ("--recordings-per-label", args.recordings_per_label, 1),
    ):
        if value is not None and value < minimum:
            raise InputError(f"{flag}: received {value}; give {minimum} or more")
    by_name = {media_format.suffix.removeprefix("."): media_format for media_format in FORMATS}
    return Composition(
        num_soundtracks=_num_soundtracks(args.soundtracks),
        seconds=tuple(args.seconds),
        events=tuple(args.events),
        gap_seconds=tuple(args.gap),
        event_seconds=tuple(args.event_seconds),
        decibels=tuple(args.snr),
        formats=[by_name[name] for name in args.formats],
        seed=args.seed,
        label_law=_label_law(args),
    )


def _num_soundtracks(values: Sequence[str]) -> int | dict[str, int]:
    """The value of --soundtracks: a number, or one for each split in the order of `SPLITS`."""
    pairs = [value.rpartition("=") for value in values]
    splits = [split for split, _, _ in pairs]
    is_valid = all(number.isdecimal() and int(number) > 0 for _, _, number in pairs)
    if is_valid and splits == [""]:
        return int(pairs[0][2])
    if not is_valid or not set(splits) <= set(SPLITS) or len(set(splits)) < len(splits):
        raise InputError(
            f"--soundtracks: received {' '.join(values)}; give a number of 1 or more, or SPLIT=N "
            f"for each split, of {', '.join(SPLITS)}"
        )
    numbers = {split: int(number) for split, _, number in pairs}
    return {split: numbers[split] for split in SPLITS if split in numbers}


def _label_law(args: argparse.Namespace) -> LabelLaw | None:
    if args.zipf is None:
        if args.labels is not None or args.least is not None:
            raise InputError("--labels and --least are for --zipf; give --zipf or leave them out")
        return None
    exponent, shift = args.zipf
    labels = (1, 3) if args.labels is None else tuple(args.labels)
    least = args.least or 0
    if not (exponent >= 0 and shift > -1):
        raise InputError(
            f"--zipf: received {exponent:g} {shift:g}; give an EXPONENT of 0 or more, and a SHIFT "
            "above -1"
        )
    if not 1 <= labels[0] <= labels[1]:
        raise InputError(f"--labels: received {labels[0]} {labels[1]}; give 1 <= MIN <= MAX")
    if least < 0:
        raise InputError(f"--least: received {least}; give 0 or more")
    return LabelLaw(exponent=exponent, shift=shift, labels=labels, least=least)


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
