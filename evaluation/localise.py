"""SCORES with frame scores + true times of events -> how well weak labels localise.

python -m evaluation.localise --scores scores --events events.parquet --output localisation
"""

import argparse
from collections.abc import Sequence
from typing import Any

import pyarrow.parquet as pq

from evaluation.metrics import localisation
from evaluation.metrics.selection import open_scores
from features import terminal
from features.contracts import folders
from features.errors import OK, InputError, run_command
from features.storage import files

_DESCRIPTION = """\
Compare the score of every patch with the true times of events, which the
network has never seen: it learned from labels of whole soundtracks. Average
precision of each class over all patches, beside what the soundtrack's mean
score earns when it is given to all its patches (which knows what is heard, not
when), and over the patches of the soundtracks that have the label. Writes
localisation.json and per_class.parquet.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.localise", description=_DESCRIPTION, allow_abbrev=False
    )
    add = parser.add_argument
    add("--scores", required=True, help="made by evaluation.score_videos --frame-scores")
    add(
        "--events",
        required=True,
        metavar="FILE",
        help="Parquet, JSON lines or CSV, one row an event: id, label, start, end (seconds)",
    )
    add("--output", required=True, help="folder of the figures to write")
    args = parser.parse_args(argv)
    source, output = files.absolute(args.scores), files.absolute(args.output)
    folders.claim_output(output, folders.LOCALISATION, inputs=(source,))
    folders.check_writable(output)
    opened = open_scores(source, flag="--scores", num_labels=None, subset=None)
    if not opened.document["frame_scores"]:
        raise InputError(f"--scores {source} has no frame scores; score with --frame-scores first")
    events = localisation.read_events(files.absolute(args.events), opened.vocabulary)
    frames = localisation.read_frames(opened, events)
    figures = localisation.localise(frames)
    with files.atomic_write(files.join(output, "per_class.parquet")) as file:
        pq.write_table(localisation.per_class_table(figures, opened.vocabulary), file)
    document = {
        "made_by": folders.made_by(),
        "scores": source,
        "events": args.events,
        "num_videos": frames.num_videos,
        "num_missing": len(events) - frames.num_videos,
        "num_patches": len(frames.scores),
        **localisation.means(figures),
    }
    folders.write_root(output, folders.LOCALISATION, document)
    terminal.report(summary(document), {}, args.output)
    return OK


def summary(document: dict[str, Any]) -> str:
    """The figures as a small table for a terminal."""
    rows = [
        ("of each patch", "mean_ap", "mean_ap_within"),
        ("of the soundtrack, for all its patches", "mean_ap_of_soundtrack", None),
        ("chance", "prior_mean_ap", "prior_mean_ap_within"),
    ]
    lines = [f"{'mAP over patches; scores':<40} {'all':>6} {'within':>7}"]
    for name, overall, within in rows:
        inside = "" if within is None else f"{document[within]:7.3f}"
        lines.append(f"{name:<40} {document[overall]:6.3f} {inside}".rstrip())
    lines.append(
        f"{document['num_patches']} patches of {document['num_videos']} soundtracks, "
        f"{document['num_missing']} others have no scores; {document['num_classes_evaluated']} "
        "classes"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
