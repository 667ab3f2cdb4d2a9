"""SCORES -> REPORT: class-balanced AUC, d' and mAP, and a page that shows them, as one Beam job.

python -m evaluation.evaluate --scores scores --output report
"""

import argparse
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsSingleton

from evaluation import accumulate, overview, pages, soundtrack
from evaluation.score_shard import SCORES
from features import contract, storage, terminal
from features.errors import OK, InputError, run_command
from features.labels import read_vocabulary
from pipelines import launch

_DESCRIPTION = """\
Compare the scores of videos with their labels: AUC and average precision of
each class, averaged over the classes that have a positive and a negative, d' of
the mean AUC, and 1-best accuracy. Writes metrics.json, per_class.parquet, and
pages: report.html, and example soundtracks where there are frame scores.
"""


def _parser() -> argparse.ArgumentParser:
    parser = launch.parser("evaluation.evaluate", _DESCRIPTION)
    add = parser.add_argument
    add("--scores", required=True, help="folder made by evaluation.score_videos")
    add("--output", required=True, help="folder of the report to write")
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
    source, output = storage.absolute(args.scores), storage.absolute(args.output)
    contract.claim_output(output, contract.METRICS, inputs=(source,))
    scores = contract.read_root(source, contract.SCORES)
    vocabulary = read_vocabulary(source)
    contract.require_equal(
        "vocabulary fingerprint",
        expected=scores["vocabulary"]["fingerprint"],
        received=vocabulary.fingerprint,
        where=storage.join(source, "labels.parquet"),
        cure="score the videos anew: the label file is of another data set",
    )
    if not scores["num_videos"]:
        raise InputError(f"--scores {source}: no video was scored")
    if args.soundtrack and not scores["frame_scores"]:
        raise InputError(
            f"--soundtrack: {source} has no frame scores; score with --frame-scores first"
        )
    if args.examples < 0:
        raise InputError(f"--examples: received {args.examples}; give 0 or more")
    blocks = accumulate.group_files(
        soundtrack.files(source, scores, SCORES), scores["num_videos"], len(vocabulary)
    )
    made = {
        "made_by": contract.made_by(),
        "scores": source,
        "recipe": scores["recipe"],
        "set": scores["split"],
        "num_videos_expected": scores["num_videos_expected"],
        "fingerprints": {
            "features": scores["features_fingerprint"],
            "front end": scores["front_end_fingerprint"],
            "model": scores["model_fingerprint"],
            "vocabulary": vocabulary.fingerprint,
        },
    }
    storage.delete(storage.join(output, contract.METRICS))

    def build(pipeline: beam.Pipeline) -> None:
        spread = pipeline | "Blocks" >> beam.Create(blocks) | "Spread" >> beam.Reshuffle()
        _ = spread | "Overview" >> overview.WriteOverview(output)
        first, ranks = accumulate.two_passes(spread)
        _ = (
            pipeline
            | "Made" >> beam.Create([made])
            | "Finish"
            >> beam.Map(
                accumulate.finish,
                first=AsSingleton(first),
                ranks=AsSingleton(ranks),
                vocabulary=vocabulary,
                output=output,
            )
        )

    launch.run(build, options, output)
    document = contract.read_root(output, contract.METRICS)
    pages.write(output, source, scores, video_id=args.soundtrack, num_examples=args.examples)
    terminal.report(summary(document), {}, storage.join(args.output, pages.REPORT))
    return OK


def summary(document: dict[str, Any]) -> str:
    """The headline figures as a small table for a terminal."""
    d_prime = "inf" if document["d_prime"] is None else f"{document['d_prime']:.3f}"
    undefined = len(document["undefined_classes"])
    rows = [
        ("mAP", f"{document['mean_ap']:.3f}", f"label prior: {document['prior_mean_ap']:.3f}"),
        ("AUC", f"{document['mean_auc']:.3f}", "chance: 0.500"),
        ("d-prime", d_prime, "chance: 0.000"),
        ("1-best accuracy", f"{document['accuracy_1best']:.3f}", ""),
        (
            "classes",
            str(document["num_classes_evaluated"]),
            f"of {document['num_labels']}; {undefined} without a positive or a negative",
        ),
        (
            "videos",
            str(document["num_videos"]),
            f"of {document['num_videos_expected']} in the {document['set']} set",
        ),
    ]
    return "\n".join(f"{name:<16} {value:>7}   {note}".rstrip() for name, value, note in rows)


if __name__ == "__main__":
    run_command(main)
