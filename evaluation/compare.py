"""Two SCORES folders -> COMPARISON: difference of the metrics on the common videos and labels.

python -m evaluation.compare scores-a scores-b --output comparison
"""

import evaluation.sorting  # noqa: F401  (before NumPy)

# isort: split
import argparse
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.pvalue import AsSingleton

from evaluation.metrics import comparison
from evaluation.metrics.comparison import Comparison
from evaluation.metrics.passes import MeasureScores, ReadVideos
from evaluation.metrics.selection import add_interval_flag, choose_interval, open_scores
from evaluation.metrics.summary import explain_interval
from features import terminal
from features.contracts import folders
from features.errors import OK, run_command
from features.storage import files
from pipelines.runtime import launch

_DESCRIPTION = """\
Compare two sets of scores, A and B, on the videos and the labels that both
have: mean metrics of each, and the difference A - B with a 95 % interval, for
which the same videos are left out of both. Writes comparison.json and
per_class.parquet.
"""


def _parser() -> argparse.ArgumentParser:
    parser = launch.parser("evaluation.compare", "A B --output OUTPUT", _DESCRIPTION)
    add = parser.add_argument
    add("a", metavar="A", help="folder made by evaluation.score_videos, or report/scores")
    add("b", metavar="B", help="another such folder")
    add("--output", required=True, help="folder of the comparison to write")
    add("--labels", metavar="N", type=int, help="only the N most frequent labels of A")
    add("--subset", metavar="NAME", help="only this subset of the videos of A")
    add(
        "--allow-two-values",
        action="store_true",
        help="accept labels whose scores have at most two values, as after thresholding",
    )
    add_interval_flag(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args, options = launch.parse(_parser(), argv)
    folder_a, folder_b = files.absolute(args.a), files.absolute(args.b)
    output = files.absolute(args.output)
    folders.claim_output(output, folders.COMPARISON, inputs=(folder_a, folder_b))
    a, b = choose_interval(
        args.interval_by,
        open_scores(folder_a, flag="A", num_labels=args.labels, subset=args.subset),
        open_scores(folder_b, flag="B"),
    )
    common = comparison.find_common(a, b)
    request = comparison.ComparisonRequest(
        common.overlap, common.vocabulary, args.allow_two_values, output
    )

    def clear() -> None:
        files.delete(files.join(output, folders.COMPARISON))

    def build(pipeline: beam.Pipeline) -> None:
        num_videos = common.overlap.num_videos
        measurements = {
            name: AsSingleton(
                pipeline
                | f"Read{name}" >> ReadVideos(selection)
                | name >> MeasureScores(selection, common.vocabulary, num_videos, output)
            )
            for name, selection in (("a", common.a), ("b", common.b))
        }
        _ = (
            pipeline
            | "Request" >> beam.Create([request])
            | "Finish" >> beam.Map(comparison.finish, **measurements)
        )

    launch.run(build, options, output, clear=clear)
    terminal.report(summary(folders.read_document(output, Comparison)), {}, args.output)
    return OK


def summary(compared: Comparison) -> str:
    """The means of both and the differences as a small table for a terminal."""
    lines = [f"{'':<9} {'A':>7} {'B':>7} {'A - B':>8}"]
    for name, field in (("mAP", "mean_ap"), ("AUC", "mean_auc"), ("d-prime", "d_prime")):
        a, b, difference, interval = (
            getattr(part, field)
            for part in (compared.a, compared.b, compared.difference, compared.intervals)
        )
        line = f"{name:<9} {_number(a, '7.4f')} {_number(b, '7.4f')} {_number(difference, '+8.4f')}"
        if interval is not None:
            line += f"  [{interval[0]:+.4f}, {interval[1]:+.4f}]"
            line += "  may be chance" if interval[0] <= 0 <= interval[1] else ""
        lines.append(line)
    lines.append(
        f"{compared.num_videos} videos in both, {compared.num_videos_only_a} only in A, "
        f"{compared.num_videos_only_b} only in B; {compared.num_classes_evaluated} classes of "
        f"{compared.num_labels} labels in both"
    )
    explained, warning = explain_interval(compared.intervals)
    lines.append(f"intervals {explained}")
    if warning is not None:
        lines.append(f"warning: {warning}")
    return "\n".join(lines)


def _number(value: float | None, layout: str) -> str:
    return f"{'inf':>8}" if value is None else format(value, layout)


if __name__ == "__main__":
    run_command(main)
