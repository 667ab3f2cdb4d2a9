"""Two SCORES folders -> what differs, on the videos and the labels that both have.

python -m evaluation.compare scores-a scores-b --output comparison
"""

from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsSingleton

from evaluation.metrics import comparison
from evaluation.metrics.passes import ReadVideos, ThreePasses
from evaluation.metrics.selection import open_scores
from features import terminal
from features.contracts import folders as contract
from features.errors import OK, run_command
from features.storage import files
from pipelines.runtime import launch

_DESCRIPTION = """\
Compare two sets of scores, A and B, on the videos and the labels that both
have: the headline figures of each, and the difference A - B with its 95 %
interval, for which the same videos are left out of both. Writes comparison.json
and per_class.parquet.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = launch.parser("evaluation.compare", "A B --output OUTPUT", _DESCRIPTION)
    add = parser.add_argument
    add("a", metavar="A", help="folder made by evaluation.score_videos, or report/scores")
    add("b", metavar="B", help="another one")
    add("--output", required=True, help="folder of the comparison to write")
    add("--labels", metavar="N", type=int, help="only the N most frequent labels of A")
    add("--subset", metavar="NAME", help="only this subset of the videos of A")
    add(
        "--allow-two-values",
        action="store_true",
        help="take scores of a label that have two values at most, as a threshold leaves them",
    )
    args, options = launch.parse(parser, argv)
    folders = (files.absolute(args.a), files.absolute(args.b))
    output = files.absolute(args.output)
    contract.claim_output(output, contract.COMPARISON, inputs=folders)
    a = open_scores(folders[0], flag="A", num_labels=args.labels, subset=args.subset)
    b = open_scores(folders[1], flag="B", num_labels=None, subset=None)
    common = comparison.find_common(a, b)
    made = {
        "made_by": contract.made_by(),
        "scores_a": folders[0],
        "scores_b": folders[1],
        **common.counts,
    }

    def clear() -> None:
        files.delete(files.join(output, contract.COMPARISON))

    def build(pipeline: beam.Pipeline) -> None:
        passes = {
            f"{name}_{part}": AsSingleton(collection)
            for name, selection in (("a", common.a), ("b", common.b))
            for part, collection in (
                pipeline
                | f"Read{name}" >> ReadVideos(selection)
                | name >> ThreePasses(selection, common.vocabulary, common.num_videos, output)
            ).items()
        }
        _ = (
            pipeline
            | "Made" >> beam.Create([made])
            | "Finish"
            >> beam.Map(
                comparison.finish,
                **passes,
                vocabulary=common.vocabulary,
                allow_two_values=args.allow_two_values,
                output=output,
            )
        )

    launch.run(build, options, output, clear=clear)
    document = contract.read_root(output, contract.COMPARISON)
    terminal.report(summary(document), {}, args.output)
    return OK


def summary(document: dict[str, Any]) -> str:
    """Both headlines and their difference as a small table for a terminal."""
    lines = [f"{'':<9} {'A':>7} {'B':>7} {'A - B':>8}"]
    for name, field in (("mAP", "mean_ap"), ("AUC", "mean_auc"), ("d-prime", "d_prime")):
        one, other, difference = (document[part][field] for part in ("a", "b", "difference"))
        ends = document["intervals"][field]
        sure = "" if ends is None else f"  [{ends[0]:+.4f}, {ends[1]:+.4f}]"
        if ends is not None and ends[0] <= 0 <= ends[1]:
            sure += "  may be chance"
        lines.append(
            f"{name:<9} {_number(one, '7.4f')} {_number(other, '7.4f')} "
            f"{_number(difference, '+8.4f')}{sure}"
        )
    lines.append(
        f"{document['num_videos']} videos in both, {document['num_videos_only_a']} only in A, "
        f"{document['num_videos_only_b']} only in B; {document['num_classes_evaluated']} classes "
        f"of {document['num_labels']} labels in both"
    )
    return "\n".join(lines)


def _number(value: float | None, layout: str) -> str:
    return f"{'inf':>8}" if value is None else format(value, layout)


if __name__ == "__main__":
    run_command(main)
