"""FEATURES + RUN -> FEATURES: the embedding of every patch by a trained network, as one Beam job.

python -m pipelines.extract_embeddings --features features --run run --output embeddings
"""

import argparse
import dataclasses
from collections.abc import Sequence

from features.contracts import folders
from features.contracts.documents import EmbeddingsPlan, Features, FeaturesRequest, Run
from features.contracts.export import find_export, fingerprint_weights
from features.errors import OK, InputError, run_command
from features.front_end.front_end import Embedding, FrontEnd, PatchStorage
from features.storage import files
from pipelines.extraction import stages
from pipelines.extraction.embeddings import Embedder, EmbedShards
from pipelines.extraction.totals import FeaturesJob
from pipelines.runtime import launch, process_pool
from pipelines.runtime.model import (
    ExportedModel,
    add_precision_flag,
    choose_runtime,
    load_model,
)

_DESCRIPTION = """\
Give every patch of a folder of features to a trained network, and write a
folder that has the output of the network's second-to-last layer in place of
each patch. The folder is read like features: a fully connected network can be
trained on it. Run the same command again after any interruption: finished
shards are kept.
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
    add_precision_flag(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args, options = launch.parse(_parser(), argv)
    source, run = files.absolute(args.features), files.absolute(args.run)
    output = files.absolute(args.output)
    features = folders.read_document(source, Features)
    export = find_export(run)
    if export != run:  # the folder of a run, which has to be finished
        folders.read_document(run, Run)
    present = folders.find_document(output, EmbeddingsPlan)
    runtime = choose_runtime(
        args.precision,
        present.runtime if present else None,
        output=output,
        here=process_pool.runs_here(options),
    )
    # Workers may have instructions that this machine lacks.
    model = load_model(export, dataclasses.replace(runtime, precision="float32"))
    folders.require_equal(
        "front_end_fingerprint",
        expected=model.front_end.fingerprint,
        received=features.front_end_fingerprint,
        where=source,
        cure="give features of the front end that the network was trained on",
    )
    folders.claim_output(output, folders.FEATURES, inputs=(source, run))
    front_end = embedding_front_end(model, export)
    if present is not None:
        _require_same_front_end(output, present, front_end)
    plan = EmbeddingsPlan(front_end_fingerprint=front_end.fingerprint, runtime=runtime)
    job = FeaturesJob(
        source=source,
        output=output,
        shown_output=args.output,
        request=_request(source, features, run, front_end),
        num_shards={name: split.num_shards for name, split in features.splits.items()},
    )
    embedder = Embedder(source, export, runtime, front_end)
    embed = EmbedShards(embedder, job.num_shards, output)
    stages.write_features(embed, plan, job, options)
    return OK


def embedding_front_end(model: ExportedModel, export: str) -> FrontEnd:
    """From a waveform to the stored embeddings of an exported network.

    Embeddings are stored as float16 rather than in 8 bits, because the range of a unit is unknown
    before all embeddings are. The 2,048 units of ResNet-50 then take two thirds of the bytes of a
    log-mel patch.
    """
    return dataclasses.replace(
        model.front_end,
        storage=PatchStorage(dtype="float16"),
        embedding=Embedding(
            network=fingerprint_weights(export),
            patches=model.front_end.fingerprint,
            units=model.num_units,
        ),
    )


def _request(source: str, features: Features, run: str, front_end: FrontEnd) -> FeaturesRequest:
    """The first fields of `features.json`."""
    return FeaturesRequest(
        made_by=folders.made_by(),
        features=source,
        features_fingerprint=features.fingerprint,
        run=run,
        dataset=features.dataset,
        dataset_fingerprint=features.dataset_fingerprint,
        vocabulary=features.vocabulary,
        front_end=front_end,
        front_end_fingerprint=front_end.fingerprint,
        seed=features.seed,
        keep_partial=features.keep_partial,
        patches_per_video=features.patches_per_video,
        sampled_splits=features.sampled_splits,
        only_subset=features.only_subset,
        subsets=features.subsets,
        num_videos_planned=features.num_videos,
    )


def _require_same_front_end(output: str, present: EmbeddingsPlan, front_end: FrontEnd) -> None:
    """Make sure that the output folder has no shards of another front end.

    Raises:
      InputError: it has.
    """
    if present.front_end_fingerprint != front_end.fingerprint:
        raise InputError(
            f"--output {output}: front_end_fingerprint was {present.front_end_fingerprint!r} and "
            f"is {front_end.fingerprint!r} now: the folder holds log-mel patches, or "
            "embeddings of another network; name another folder"
        )


if __name__ == "__main__":
    run_command(main)
