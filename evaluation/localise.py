"""SCORES with frame scores + times of events -> LOCALISATION: average precision over patches.

python -m evaluation.localise --scores scores --events events.parquet --output localisation
"""

import evaluation.sorting  # noqa: F401  (before NumPy)

# isort: split
import argparse
from collections.abc import Sequence

import pyarrow.parquet as pq

from evaluation.metrics import localisation
from evaluation.metrics.localisation import Localisation
from evaluation.metrics.selection import open_scores
from features import terminal
from features.contracts import folders
from features.errors import OK, InputError, run_command
from features.storage import files

_DESCRIPTION = """\
Compare the score of every patch with the times of events, although the network
was trained on labels of whole soundtracks. Computes the average precision of
each class over all patches; the same if every patch has the mean score of its
soundtrack, which says what is heard but not when; and the average precision
over the patches of the soundtracks that have the label. Writes
localisation.json and per_class.parquet.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.localise",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--scores", required=True, help="folder made by evaluation.score_videos --frame-scores")
    add(
        "--events",
        required=True,
        metavar="FILE",
        help="Parquet, JSON lines or CSV, a row per event: id, label, start, end (seconds)",
    )
    add("--output", required=True, help="folder of the results to write")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = _parser().parse_args(argv)
    source, output = files.absolute(args.scores), files.absolute(args.output)
    folders.claim_output(output, folders.LOCALISATION, inputs=(source,))
    folders.check_writable(output)
    scores = open_scores(source, flag="--scores")
    if not scores.document.frame_scores:
        raise InputError(f"--scores {source} has no frame scores; score with --frame-scores first")
    events = localisation.read_events(files.absolute(args.events), scores.vocabulary)
    frames = localisation.read_frames(scores, events)
    classes = localisation.localise(frames)
    document = localisation.summarise(
        frames,
        classes,
        scores=source,
        events=args.events,
        num_missing=len(events) - frames.num_videos,
    )
    with files.atomic_write(files.join(output, "per_class.parquet")) as file:
        pq.write_table(localisation.per_class_table(classes, scores.vocabulary), file)
    folders.write_document(output, document)
    terminal.report(summary(document), {}, args.output)
    return OK


def summary(document: Localisation) -> str:
    """The mean metrics as a small table for a terminal."""
    rows = [
        ("of each patch", document.mean_ap, f"{document.mean_ap_within:7.3f}"),
        ("of the soundtrack, for all its patches", document.mean_ap_of_soundtrack, ""),
        ("chance", document.prior_mean_ap, f"{document.prior_mean_ap_within:7.3f}"),
    ]
    lines = [f"{'mAP over patches; scores':<40} {'all':>6} {'within':>7}"]
    lines += [f"{name:<40} {overall:6.3f} {within}".rstrip() for name, overall, within in rows]
    lines.append(
        f"{document.num_patches} patches of {document.num_videos} soundtracks, "
        f"{document.num_missing} others have no scores; {document.num_classes_evaluated} classes"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
