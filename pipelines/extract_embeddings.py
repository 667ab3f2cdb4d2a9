"""FEATURES + RUN -> FEATURES: the embedding of every patch by a trained network, as one Beam job.

python -m pipelines.extract_embeddings --features features --run run --output embeddings
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence

import apache_beam as beam

from features.contracts import folders, sharding
from features.contracts.export import export_fingerprint, find_export
from features.errors import OK, InputError, run_command
from features.front_end.front_end import Embedding, FrontEnd, PatchStorage
from features.storage import files
from pipelines.extraction import stages
from pipelines.extraction.embeddings import Embedder, embed_shard
from pipelines.runtime import launch
from pipelines.runtime.model import ExportedModel, load_model

# What is as in the features.
_KEPT = (
    "dataset",
    "dataset_fingerprint",
    "vocabulary",
    "seed",
    "keep_partial",
    "patches_per_video",
    "only_subset",
    "subsets",
)
_DESCRIPTION = """\
Give every patch of a folder of features to a trained network, and write a
folder that has the network's layer before the last in place of each patch. It
is read as features are: a fully connected network can be trained on it. Run the
same command again after any interruption: finished shards are kept.
"""


def _parser() -> argparse.ArgumentParser:
    parser = launch.parser(
        "pipelines.extract_embeddings",
        "--features FEATURES --run RUN --output OUTPUT",
        _DESCRIPTION,
    )
    add = parser.add_argument
    add("--features", required=True, help="folder made by pipelines.extract_features")
    add("--run", required=True, help="folder made by training.train, or a copy of its export")
    add("--output", required=True, help="folder of the embeddings to write")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args, options = launch.parse(_parser(), argv)
    source, run = files.absolute(args.features), files.absolute(args.run)
    output = files.absolute(args.output)
    features = folders.read_root(source, folders.FEATURES)
    export = find_export(run)
    if export != run:  # of a run that has come to its end
        folders.read_root(run, folders.RUN)
    model = load_model(export)
    folders.require_equal(
        "front_end_fingerprint",
        expected=model.front_end.fingerprint,
        received=features["front_end_fingerprint"],
        where=source,
        cure="give features of the front end that the network was trained on",
    )
    folders.claim_output(output, folders.FEATURES, inputs=(source, run))
    front_end = embedding_front_end(model, export)
    plan = _plan(output, front_end)
    made = {
        "made_by": folders.made_by(),
        "features": source,
        "features_fingerprint": features["fingerprint"],
        "run": run,
        **{field: features.get(field) for field in _KEPT},
        "front_end": front_end.to_json(),
        "front_end_fingerprint": front_end.fingerprint,
        "max_reject_fraction": 1.0,  # what the features lack is known already
        "work": None,  # nothing is decoded
        "num_shards": {name: split["num_shards"] for name, split in features["splits"].items()},
        "num_videos_planned": features["num_videos"],
    }
    embedder = Embedder(source, export, front_end)
    keys = [
        key for name, counts in made["num_shards"].items() for key in sharding.keys(name, counts)
    ]

    def sidecars_of(pipeline: beam.Pipeline) -> beam.PCollection:
        return (
            pipeline
            | "Shards" >> beam.Create(keys)
            | "Spread" >> beam.Reshuffle()
            | "EmbedShard" >> beam.Map(embed_shard, embedder, output)
        )

    stages.write_features(
        sidecars_of, plan, made, options, source=source, output=output, shown_output=args.output
    )
    return OK


def embedding_front_end(model: ExportedModel, export: str) -> FrontEnd:
    """From a waveform to the stored embeddings of an exported network.

    float16 and not 8 bits: a unit's range is known only once all of its values are, and the 2,048
    units of ResNet-50 are two thirds of the bytes of a log-mel patch as they are.
    """
    return dataclasses.replace(
        model.front_end,
        storage=PatchStorage(dtype="float16"),
        embedding=Embedding(
            network=export_fingerprint(export),
            patches=model.front_end.fingerprint,
            units=model.num_units,
        ),
    )


def _plan(output: str, front_end: FrontEnd) -> dict[str, str]:
    """What the output folder is of.

    Raises:
      InputError: it is of something else.
    """
    now = {"front_end_fingerprint": front_end.fingerprint}
    try:
        present = json.loads(files.read_bytes(files.join(output, stages.PLAN)))
    except FileNotFoundError:
        return now
    if present["front_end_fingerprint"] != front_end.fingerprint:
        raise InputError(
            f"--output {output}: front_end_fingerprint was {present['front_end_fingerprint']!r} "
            f"and is {front_end.fingerprint!r} now: it holds log-mel patches, or embeddings of "
            "another network; name another folder"
        )
    return now


if __name__ == "__main__":
    run_command(main)
