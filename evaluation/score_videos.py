"""FEATURES + RUN -> SCORES: the mean of the frame scores of every video, as one Beam job.

python -m evaluation.score_videos --features features --run run --output scores
"""

import argparse
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.pvalue import AsSingleton

from evaluation import scoring
from evaluation.score_shard import FRAMES, SCORES, score_shard
from features import contract, labels, storage, terminal
from features.errors import OK, InputError, run_command
from pipelines import launch, resume, sharding
from pipelines.extract_shard import PATCHES
from pipelines.progress import progress_line

_DESCRIPTION = """\
Score every video of one split with a trained network: each 960 ms patch goes
through the network, and the scores of a video's patches are averaged. Run the
same command again after any interruption: finished shards are kept.
"""


def _parser() -> argparse.ArgumentParser:
    parser = launch.parser("evaluation.score_videos", _DESCRIPTION)
    add = parser.add_argument
    add("--features", required=True, help="folder made by pipelines.extract_features")
    add("--run", required=True, help="folder made by training.train")
    add("--output", required=True, help="folder of the scores to write")
    add("--split", default="evaluation", help="which split to score; default: evaluation")
    add(
        "--frame-scores",
        action="store_true",
        help="also keep the scores of every patch, for pages that show them over time",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args, options = launch.parse(_parser(), argv)
    source, run = storage.absolute(args.features), storage.absolute(args.run)
    output = storage.absolute(args.output)
    contract.claim_output(output, contract.SCORES, inputs=(source, run))
    features = contract.read_root(source, contract.FEATURES)
    trained = contract.read_root(run, contract.RUN)
    if args.split not in features["splits"]:
        raise InputError(
            f"--split: received {args.split!r}; {source} has {', '.join(features['splits'])}"
        )
    split = features["splits"][args.split]
    if not split["num_patches"]:
        raise InputError(f"--split {args.split}: {source} has no patch in it")
    # A network may know only the most frequent of the labels.
    known = labels.read_vocabulary(source).prefix(trained["vocabulary"]["num_labels"])
    for field, expected, received in (
        (
            "front_end_fingerprint",
            trained["front_end_fingerprint"],
            features["front_end_fingerprint"],
        ),
        ("vocabulary fingerprint", trained["vocabulary"]["fingerprint"], known.fingerprint),
    ):
        contract.require_equal(
            field,
            expected=expected,
            received=received,
            where=source,
            cure="score features of the front end and the labels that the network was trained on",
        )
    model_fingerprint = contract.fingerprint(
        [trained[field] for field in ("recipe", "features_fingerprint", "made_by")]
    )
    made = {
        "made_by": contract.made_by(),
        "features": source,
        "features_fingerprint": split["fingerprint"],
        "num_shards": split["num_shards"],
        "run": run,
        "model_fingerprint": model_fingerprint,
        "recipe": trained["recipe"],
        "vocabulary": features["vocabulary"],
        "front_end_fingerprint": features["front_end_fingerprint"],
        "split": args.split,
        "num_videos_expected": split["num_videos"],
        "num_patches_expected": split["num_patches"],
        "frame_scores": args.frame_scores,
    }
    storage.delete(storage.join(output, contract.SCORES))
    keys = list(sharding.keys(args.split, split["num_shards"]))
    resume.remove_leftovers(output, keys, kinds=(SCORES, FRAMES))
    labels.copy_vocabulary(source, output)
    sidecars = storage.list_files(source, f"{args.split}/*/{PATCHES}-*{resume.SIDECAR_SUFFIX}")

    def build(pipeline: beam.Pipeline) -> None:
        counts = (
            pipeline
            | "Shards" >> beam.Create(sidecars)
            | "Spread" >> beam.Reshuffle()
            | "Plan"
            >> beam.FlatMap(
                scoring.plan_shard,
                features=source,
                export=storage.join(run, "export"),
                model_fingerprint=model_fingerprint,
                frame_scores=args.frame_scores,
            )
            | "ScoreShard" >> beam.Map(score_shard, output)
            | "SumCounts" >> beam.CombineGlobally(scoring.sum_counts)
        )
        _ = (
            pipeline
            | "Made" >> beam.Create([made])
            | "Finish" >> beam.Map(scoring.finish, counts=AsSingleton(counts), output=output)
        )

    done = f"{args.split}/*/{SCORES}-*{resume.SIDECAR_SUFFIX}"
    with progress_line("shards", len(sidecars), lambda: len(storage.list_files(output, done))):
        launch.run(build, options, output)
    resume.remove_partial_files(output)
    document = contract.read_root(output, contract.SCORES)
    terminal.report(
        f"{document['num_videos']} of {document['num_videos_expected']} videos scored, "
        f"{document['num_patches']} patches",
        {},
        args.output,
    )
    return OK


if __name__ == "__main__":
    run_command(main)
