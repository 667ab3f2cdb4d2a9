"""SCORES -> REPORT: class-balanced AUC, d' and mAP, and a page that shows them, as one Beam job.

python -m evaluation.evaluate --scores scores --output report
python -m evaluation.evaluate --scores-file s.parquet --labels-file l.csv --output report
"""

import argparse
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsSingleton

from evaluation.metrics import examples
from evaluation.metrics import passes as accumulate
from evaluation.metrics import summary as figures
from evaluation.metrics.selection import open_scores
from evaluation.report import write
from evaluation.scoring import external
from features import terminal
from features.contracts import folders
from features.errors import OK, InputError, run_command
from features.storage import files
from pipelines.runtime import launch

_DESCRIPTION = """\
Compare the scores of videos with their labels: AUC and average precision of
each class, averaged over the classes that have a positive and a negative, d' of
the mean AUC, and 1-best accuracy, with 95 % intervals. The scores are those of
evaluation.score_videos, or a table that any other model has left. Writes
metrics.json, per_class.parquet, missing.parquet, and pages: report.html, and
example soundtracks where there are frame scores.
"""
_SCORES_FOLDER = "scores"


def _parser() -> argparse.ArgumentParser:
    parser = launch.parser(
        "evaluation.evaluate",
        "(--scores SCORES | --scores-file FILE --labels-file FILE)\n--output OUTPUT",
        _DESCRIPTION,
    )
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--scores", help="folder made by evaluation.score_videos")
    source.add_argument(
        "--scores-file",
        metavar="FILE",
        help="Parquet or CSV: a column `id`, and one of scores for each label, named after it",
    )
    add(
        "--labels-file",
        metavar="FILE",
        help="for --scores-file: Parquet or CSV with the columns `id` and `labels` (a list, or "
        "separated by ;)",
    )
    add("--output", required=True, help="folder of the report to write")
    add("--labels", metavar="N", type=int, help="only the N most frequent labels, such as 400")
    add("--subset", metavar="NAME", help="only this subset of the videos, such as 400")
    add(
        "--allow-two-values",
        action="store_true",
        help="take scores of a label that have two values at most, as a threshold leaves them",
    )
    add(
        "--soundtrack",
        metavar="VIDEO_ID",
        help="the video whose scores the page shows over time; default: one with many labels",
    )
    add(
        "--examples",
        metavar="N",
        type=int,
        default=5,
        help="pages for soundtracks of the N best and the N worst classes; default: 5",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args, options = launch.parse(_parser(), argv)
    output = files.absolute(args.output)
    source = _source(args, output)
    selection, scores, vocabulary = open_scores(
        source, flag="--scores", num_labels=args.labels, subset=args.subset
    )
    if args.soundtrack and not scores["frame_scores"]:
        raise InputError(
            f"--soundtrack: {source} has no frame scores; score with --frame-scores first"
        )
    if args.examples < 0:
        raise InputError(f"--examples: received {args.examples}; give 0 or more")
    made = {
        "made_by": folders.made_by(),
        "scores": source,
        "recipe": scores["recipe"],
        "set": scores["split"],
        "subset": args.subset,
        "num_videos_expected": sum(
            scores["groups"][group]["num_videos_expected"] for group in selection.num_shards
        ),
        "fingerprints": {
            "features": scores["features_fingerprint"],
            "front end": scores["front_end_fingerprint"],
            "model": scores["model_fingerprint"],
            "vocabulary": vocabulary.fingerprint,
        },
    }

    def clear() -> None:
        files.delete(files.join(output, folders.METRICS))

    def build(pipeline: beam.Pipeline) -> None:
        num_videos = sum(selection.num_videos.values())
        videos = pipeline | accumulate.ReadVideos(selection)
        _ = videos | examples.WriteOverview(output)
        passes = videos | accumulate.ThreePasses(selection, vocabulary, num_videos, output)
        _ = (
            pipeline
            | "Made" >> beam.Create([made])
            | "Finish"
            >> beam.Map(
                figures.finish,
                **{name: AsSingleton(passed) for name, passed in passes.items()},
                vocabulary=vocabulary,
                allow_two_values=args.allow_two_values,
                output=output,
            )
        )

    launch.run(build, options, output, clear=clear)
    document = folders.read_root(output, folders.METRICS)
    write.write(output, source, scores, video_id=args.soundtrack, num_examples=args.examples)
    terminal.report(summary(document), {}, files.join(args.output, write.REPORT))
    return OK


def _source(args: argparse.Namespace, output: str) -> str:
    """The SCORES folder that is evaluated: the one given, or one made of the tables given.

    Raises:
      InputError: flags or tables do not fit together.
    """
    if args.scores is not None:
        if args.labels_file is not None:
            raise InputError("--labels-file goes with --scores-file; --scores has its own labels")
        source = files.absolute(args.scores)
        folders.claim_output(output, folders.METRICS, inputs=(source,))
        return source
    if args.dry_run:
        raise InputError("--dry-run goes with --scores: tables become a folder of scores first")
    if args.labels_file is None:
        raise InputError("--scores-file: give the labels of the videos too, with --labels-file")
    folders.claim_output(output, folders.METRICS, inputs=())
    folders.check_writable(output)
    source = files.join(output, _SCORES_FOLDER)
    external.write_scores_folder(
        files.absolute(args.scores_file), files.absolute(args.labels_file), source
    )
    return source


def summary(document: dict[str, Any]) -> str:
    """The headline figures as a small table for a terminal."""
    intervals = document["intervals"]
    num_undefined = len(document["undefined_classes"])
    videos = f"{document['num_videos']} of {document['num_videos_expected']} videos"
    rows = [
        ("mAP", document["mean_ap"], intervals["mean_ap"], document["prior_mean_ap"]),
        ("AUC", document["mean_auc"], intervals["mean_auc"], 0.5),
        ("d-prime", document["d_prime"], intervals["d_prime"], 0.0),
        ("1-best accuracy", document["accuracy_1best"], None, None),
    ]
    lines = [
        f"{name:<16} {_number(value)}  {_ends(ends):<16} {videos:<24} {_chance(chance)}".rstrip()
        for name, value, ends, chance in rows
    ]
    lines.append(
        f"{'classes':<16} {document['num_classes_evaluated']:>5}  of {document['num_labels']}; "
        f"{num_undefined} without a positive or a negative"
    )
    if document["num_missing"]:
        reasons = ", ".join(f"{count} {name}" for name, count in document["missing"].items())
        lines.append(f"{'missing':<16} {document['num_missing']:>5}  {reasons}")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "  inf" if value is None else f"{value:5.3f}"


def _ends(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"[{interval[0]:.3f}, {interval[1]:.3f}]"


def _chance(value: float | None) -> str:
    return "" if value is None else f"chance: {value:.3f}"


if __name__ == "__main__":
    run_command(main)
