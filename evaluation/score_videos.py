"""FEATURES (or media) + RUN -> SCORES: the mean of the frame scores of every video, as a Beam job.

python -m evaluation.score_videos --features features --run run --output scores
python -m evaluation.score_videos --from-media dataset --run run --output scores
"""

import argparse
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsSingleton

from evaluation.metrics.selection import groups_of
from evaluation.scoring import media, stages
from evaluation.scoring.shard import (
    EMBEDDINGS,
    FRAMES,
    SCORES,
    Network,
    score_shard,
)
from features import terminal
from features.contracts import folders, labels, sharding, shards
from features.contracts.export import (
    find_export,
    fingerprint_weights,
    read_exported_recipe,
    read_exported_vocabulary,
    read_front_end,
)
from features.contracts.videos import VIDEO_FILES
from features.errors import OK, InputError, run_command
from features.storage import files as storage
from pipelines.runtime import launch, process_pool
from pipelines.runtime.progress import progress_line

_DESCRIPTION = """\
Score every video of one split with a trained network: each 960 ms patch goes
through the network, and the scores of a video's patches are averaged. The
patches are those of extracted features, or are made from the media of a data
set. Run the same command again after any interruption: finished shards are
kept.
"""


def _parser() -> argparse.ArgumentParser:
    parser = launch.parser(
        "evaluation.score_videos",
        "(--features FEATURES | --from-media DATASET)\n--run RUN --output OUTPUT",
        _DESCRIPTION,
    )
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--features", help="folder made by pipelines.extract_features")
    source.add_argument(
        "--from-media",
        metavar="DATASET",
        help="folder made by pipelines.prepare_dataset: decode its media, without features",
    )
    add("--run", required=True, help="folder made by training.train, or a copy of its export")
    add("--output", required=True, help="folder of the scores to write")
    add("--split", default="evaluation", help="which split to score; default: evaluation")
    add("--subset", metavar="NAME", help="only this subset of the split, such as 400")
    add(
        "--frame-scores",
        action="store_true",
        help="also keep the scores of every patch, for pages that show them over time",
    )
    add(
        "--embeddings",
        action="store_true",
        help="also keep the layer before the last of every patch",
    )
    add(
        "--dtype",
        choices=("float32", "float16"),
        default="float32",
        help="of the scores written; float16 halves the bytes and ties scores below 6e-8",
    )
    add(
        "--timeout-seconds",
        metavar="SECONDS",
        type=float,
        default=900.0,
        help="for one soundtrack of --from-media, whose decoder is then killed; default: 900",
    )
    process_pool.add_flag(
        parser, "1, whose TensorFlow uses all cores; more decode --from-media faster"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args, options = launch.parse(_parser(), argv)
    num_workers = 1 if args.workers is None else process_pool.num_workers(args.workers, options)
    from_media = args.features is None
    source = storage.absolute(args.from_media if from_media else args.features)
    run, output = storage.absolute(args.run), storage.absolute(args.output)
    folders.claim_output(output, folders.SCORES, inputs=(source, run))
    root = folders.read_root(source, folders.DATASET if from_media else folders.FEATURES)
    flag = "--from-media" if from_media else "--features"
    if args.split not in root["splits"]:
        raise InputError(
            f"--split: received {args.split!r}; {source} has {', '.join(root['splits'])}"
        )
    split = root["splits"][args.split]
    subsets = root.get("subsets", {}).get(args.split, {})
    groups = groups_of(args.subset, subsets, split["num_shards"], where=f"{flag} {source}")
    if not split.get("num_patches", 1):
        raise InputError(f"--split {args.split}: {source} has no patch in it")
    export = find_export(run)
    if export != run:  # of a run that has come to its end
        folders.read_root(run, folders.RUN)
    known = read_exported_vocabulary(export)
    _check_labels(source, known)
    front_end = read_front_end(export)
    if from_media:
        media.require_log_mel(front_end)
    else:
        folders.require_equal(
            "front_end_fingerprint",
            expected=front_end.fingerprint,
            received=root["front_end_fingerprint"],
            where=source,
            cure="score features of the front end that the network was trained on",
        )
    network = Network(
        export=export,
        fingerprint=fingerprint_weights(export),
        vocabulary_fingerprint=known.fingerprint,
        dtype=args.dtype,
        frame_scores=args.frame_scores,
        embeddings=args.embeddings,
    )
    made = {
        "made_by": folders.made_by(),
        **_source_fields(source, root, args.split, from_media=from_media),
        "num_shards": {group: split["num_shards"][group] for group in groups},
        "run": run,
        "model_fingerprint": network.fingerprint,
        "recipe": read_exported_recipe(export),
        "vocabulary": root["vocabulary"],
        "num_labels": len(known),
        "front_end_fingerprint": front_end.fingerprint,
        "patch_seconds": front_end.log_mel.patch_seconds,
        "split": args.split,
        "subset": args.subset,
        "subsets": {
            name: members for name, members in subsets.items() if set(members) <= set(groups)
        },
        "dtype": args.dtype,
        "frame_scores": args.frame_scores,
        "embeddings": args.embeddings,
    }
    keys = list(sharding.keys(args.split, made["num_shards"]))

    def clear() -> None:
        storage.delete(storage.join(output, folders.SCORES))
        shards.remove_leftovers(output, keys, kinds=(SCORES, FRAMES, EMBEDDINGS))
        labels.copy_vocabulary(source, output)

    def build(pipeline: beam.Pipeline) -> None:
        if from_media:
            files = storage.list_files(source, VIDEO_FILES)
            wanted = {args.split: groups}
            plan = stages.PlanFromMedia(files, wanted, args.timeout_seconds, network)
        else:
            plan = stages.PlanFromFeatures(source, network)
        account = (
            pipeline
            | "Shards" >> beam.Create(keys)
            | "Plans" >> plan
            | "ScoreShard"
            >> process_pool.MapOnWorkers(functools.partial(score_shard, output=output), num_workers)
            | "SumSidecars" >> beam.CombineGlobally(stages.SumSidecars())
        )
        _ = (
            pipeline
            | "Made" >> beam.Create([made])
            | "Finish" >> beam.Map(stages.finish, account=AsSingleton(account), output=output)
        )

    done = f"{args.split}/*/{SCORES}-*{shards.SIDECAR_SUFFIX}"
    with progress_line("shards", len(keys), lambda: len(storage.list_files(output, done))):
        launch.run(build, options, output, clear=clear)
    shards.remove_partial_files(output)
    document = folders.read_root(output, folders.SCORES)
    terminal.report(
        f"{document['num_videos']} of {document['num_videos_expected']} videos scored, "
        f"{document['num_patches']} patches",
        document["missing"],
        args.output,
    )
    return OK


def _check_labels(source: str, known: labels.Vocabulary) -> None:
    """A network may know only the most frequent of the labels."""
    folders.require_equal(
        "vocabulary fingerprint",
        expected=known.fingerprint,
        received=labels.read_vocabulary(source).prefix(len(known)).fingerprint,
        where=source,
        cure="score videos of the labels that the network was trained on",
    )


def _source_fields(
    source: str, root: Mapping[str, Any], split: str, *, from_media: bool
) -> dict[str, Any]:
    """Where the patches are from; what belongs to the other kind of source is null."""
    return {
        "features": None if from_media else source,
        "features_fingerprint": None if from_media else root["splits"][split]["fingerprint"],
        "dataset": source if from_media else root["dataset"],
        "dataset_fingerprint": root["fingerprint" if from_media else "dataset_fingerprint"],
    }


if __name__ == "__main__":
    run_command(main)
