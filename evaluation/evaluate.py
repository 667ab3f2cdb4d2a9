"""SCORES -> REPORT: class-balanced AUC, d' and mAP, and a page that shows them, as a Beam job.

python -m evaluation.evaluate --scores scores --output report
python -m evaluation.evaluate --scores-file s.parquet --labels-file l.csv --output report
"""

import evaluation.sorting  # noqa: F401  (before NumPy)

# isort: split
import argparse
from collections.abc import Sequence

import apache_beam as beam

from evaluation.metrics import examples, passes, summary
from evaluation.metrics.selection import add_interval_flag, choose_interval, open_scores
from evaluation.report import write
from evaluation.scoring import external
from features import terminal
from features.contracts import folders
from features.contracts.documents import Metrics
from features.errors import OK, InputError, run_command
from features.storage import files
from pipelines.runtime import launch

_DESCRIPTION = """\
Compare the scores of videos with their labels: AUC and average precision of
each class, averaged over the classes that have a positive and a negative, d' of
the mean AUC, and 1-best accuracy, with 95 % intervals. The scores are a folder
of evaluation.score_videos, or a table of any other model. Writes metrics.json,
per_class.parquet, missing.parquet and report.html, and pages of example
soundtracks if there are frame scores.
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
        help="Parquet or CSV: a column `id`, and a column of scores for each label, named after "
        "the label",
    )
    add(
        "--labels-file",
        metavar="FILE",
        help="for --scores-file: Parquet or CSV with the columns `id` and `labels` (a list, or "
        "separated by ;), and optionally `group`, what the video was taken from",
    )
    add("--output", required=True, help="folder of the report to write")
    add("--labels", metavar="N", type=int, help="only the N most frequent labels, such as 400")
    add("--subset", metavar="NAME", help="only this subset of the videos, such as 400")
    add(
        "--allow-two-values",
        action="store_true",
        help="accept labels whose scores have at most two values, as after thresholding",
    )
    add_interval_flag(parser)
    add(
        "--soundtrack",
        metavar="VIDEO_ID",
        help="video whose scores the page shows over time; default: a video with many labels",
    )
    add(
        "--examples",
        metavar="N",
        type=int,
        default=5,
        help="write pages of example soundtracks of the N best and the N worst classes; default: 5",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args, options = launch.parse(_parser(), argv)
    output = files.absolute(args.output)
    if args.examples < 0:
        raise InputError(f"--examples: received {args.examples}; give 0 or more")
    source = _source(args, output)
    (selected,) = choose_interval(
        args.interval_by,
        open_scores(source, flag="--scores", num_labels=args.labels, subset=args.subset),
    )
    if args.soundtrack and not selected.document.frame_scores:
        raise InputError(
            f"--soundtrack: {source} has no frame scores; score with --frame-scores first"
        )
    request = summary.EvaluationRequest(
        made_by=folders.made_by(),
        scores=selected,
        subset=args.subset,
        allow_two_values=args.allow_two_values,
        output=output,
    )

    def clear() -> None:
        files.delete(files.join(output, folders.METRICS))

    def build(pipeline: beam.Pipeline) -> None:
        selection = selected.selection
        num_videos = sum(selection.num_videos.values())
        videos = pipeline | passes.ReadVideos(selection)
        confused = examples.choose_confused(selected.vocabulary.counts)
        _ = videos | examples.WriteExamples(confused, output)
        _ = (
            videos
            | passes.MeasureScores(selection, selected.vocabulary, num_videos, output)
            | "Finish" >> beam.Map(summary.finish, request)
        )

    launch.run(build, options, output, clear=clear)
    metrics = folders.read_document(output, Metrics)
    write.write(
        write.Pages(output, source, selected.document, args.soundtrack, args.examples), metrics
    )
    terminal.report(headline(metrics), {}, files.join(args.output, write.REPORT))
    return OK


def _source(args: argparse.Namespace, output: str) -> str:
    """The SCORES folder to evaluate: the given one, or a folder made from the given tables.

    Raises:
      InputError: flags or tables do not fit together.
    """
    if args.scores is not None:
        if args.labels_file is not None:
            raise InputError("--labels-file goes with --scores-file; --scores includes labels")
        source = files.absolute(args.scores)
        folders.claim_output(output, folders.METRICS, inputs=(source,))
        return source
    if args.dry_run:
        raise InputError("--dry-run goes with --scores; --scores-file first writes a folder")
    if args.labels_file is None:
        raise InputError("--scores-file: give the labels of the videos too, with --labels-file")
    folders.claim_output(output, folders.METRICS, inputs=())
    folders.check_writable(output)
    source = files.join(output, _SCORES_FOLDER)
    external.write_scores_folder(
        files.absolute(args.scores_file), files.absolute(args.labels_file), source
    )
    return source


def headline(metrics: Metrics) -> str:
    """The means over the classes as a small table for a terminal."""
    intervals = metrics.intervals
    videos = f"{metrics.num_videos} of {metrics.num_videos_expected} videos"
    labelled = f"{metrics.num_labelled} of {metrics.num_videos} videos"
    rows = [
        ("mAP", metrics.mean_ap, intervals.mean_ap, videos, metrics.prior_mean_ap),
        ("AUC", metrics.mean_auc, intervals.mean_auc, videos, 0.5),
        ("d-prime", metrics.d_prime, intervals.d_prime, videos, 0.0),
        ("1-best accuracy", metrics.accuracy_1best, None, labelled, None),
    ]
    lines = []
    for name, value, interval, counts, chance in rows:
        number = "  inf" if value is None else f"{value:5.3f}"
        ends = "" if interval is None else f"[{interval[0]:.3f}, {interval[1]:.3f}]"
        by_chance = "" if chance is None else f"chance: {chance:.3f}"
        lines.append(f"{name:<16} {number}  {ends:<16} {counts:<24} {by_chance}".rstrip())
    explained, warning = summary.explain_interval(intervals)
    lines.append(f"{'intervals':<22}  {explained}")
    if warning is not None:
        lines.append(f"{'warning':<22}  {warning}")
    lines.append(
        f"{'classes':<16} {metrics.num_classes_evaluated:>5}  of {metrics.num_labels}; "
        f"{len(metrics.undefined_classes)} without a positive or a negative"
    )
    if metrics.num_missing:
        reasons = ", ".join(f"{count} {name}" for name, count in metrics.missing.items())
        lines.append(f"{'missing':<16} {metrics.num_missing:>5}  {reasons}")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
