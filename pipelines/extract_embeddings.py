"""Features or media to FEATURES of embeddings by a network, as one Beam job.

python -m pipelines.extract_embeddings --features features --run run --output embeddings
python -m pipelines.extract_embeddings --from-media dataset --network yamnet --output embeddings
"""

import argparse
import dataclasses
import functools
from collections.abc import Sequence

from apache_beam.options.pipeline_options import PipelineOptions

from features.contracts import folders, forgotten
from features.contracts.documents import EmbeddingsPlan, Features, FeaturesRequest, PatchesPlan, Run
from features.contracts.export import find_export, fingerprint_weights
from features.errors import OK, InputError, run_command
from features.front_end.front_end import Embedding, FrontEnd, PatchStorage
from features.storage import files
from pipelines.extraction import stages
from pipelines.extraction.embeddings import Embedder, EmbedShards
from pipelines.extraction.flags import add_media_flags, choose_sampled_splits, refuse_media_flags
from pipelines.extraction.media import choose_media, write_features_of_media
from pipelines.extraction.patches import Settings
from pipelines.extraction.plans import begin
from pipelines.extraction.totals import FeaturesJob
from pipelines.runtime import accelerator, launch, network_flags, process_pool, web_access
from pipelines.runtime.model import (
    ExportedModel,
    add_precision_flag,
    choose_runtime,
    load_model,
)
from pipelines.runtime.network import choose_network

_DESCRIPTION = """\
Give every patch of a folder of features to a trained network, or the media of
a data set to any network with a model card, and write a folder that has the
embeddings in place of patches. The folder is read like features: a fully
connected network can be trained on it. Run the same command again after any
interruption: finished shards are kept.
"""


def _parser() -> argparse.ArgumentParser:
    parser = launch.parser(
        "pipelines.extract_embeddings",
        "(--features FEATURES --run RUN |\n--from-media DATASET --network FOLDER) --output OUTPUT",
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
    add("--run", help="with --features: folder made by training.train, or a copy of its export")
    network_flags.add_network_flags(parser, parser, "with --from-media: ")
    add("--output", required=True, help="folder of the embeddings to write")
    add_precision_flag(parser)
    add_media_flags(parser, "with --from-media")
    web_access.add_flags(parser)
    process_pool.add_flag(
        parser,
        "with --from-media one a core; with --features one a GPU, or 1, in which the network uses "
        "all cores",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = _parser()
    args, options = launch.parse(parser, argv)
    if args.from_media is not None:
        _embed_media(args, options)
    else:
        refuse_media_flags(parser, args)
        _embed_features(args, options)
    return OK


def _embed_features(args: argparse.Namespace, options: PipelineOptions) -> None:
    if args.run is None or args.network is not None:
        raise InputError("--features: give the network of these features with --run")
    source, run = files.absolute(args.features), files.absolute(args.run)
    output = files.absolute(args.output)
    features = folders.read_document(source, Features)
    export = find_export(run)
    if export != run:  # the folder of a run, which has to be finished
        folders.read_document(run, Run)
    folders.claim_output(output, folders.FEATURES, inputs=(source, run))
    present = folders.find_document(output, EmbeddingsPlan)
    here = process_pool.runs_here(options)
    runtime = choose_runtime(
        export,
        args.precision,
        present.runtime if present else None,
        output=output,
        here=here,
        gpu=accelerator.workers_have_gpu(options),
    )
    # Workers may have instructions and a GPU that this machine lacks.
    device = runtime.device if here else "cpu"
    model = load_model(
        export, dataclasses.replace(runtime, precision="float32", weights=None, device=device)
    )
    folders.require_equal(
        "front_end_fingerprint",
        expected=model.front_end.fingerprint,
        received=features.front_end_fingerprint,
        where=source,
        cure="give features of the front end that the network was trained on",
    )
    forgotten.require_forgotten(source, forgotten.read_forgotten(output), output)
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
    num_workers = process_pool.num_network_workers(args.workers, options, runtime)
    embed = EmbedShards(embedder, job.num_shards, output, num_workers)
    stages.write_features(embed, functools.partial(begin, output, plan), job, options)


def _embed_media(args: argparse.Namespace, options: PipelineOptions) -> None:
    if args.network is None or args.run is not None:
        raise InputError("--from-media: give the network with --network; a run's is RUN/export")
    network_flags.require_float32(args.precision)
    sampled_splits = choose_sampled_splits(args)
    media = choose_media(args.from_media, args)
    folder, output = files.absolute(args.network), files.absolute(args.output)
    folders.claim_output(output, folders.FEATURES, inputs=(folder, media.source))
    present = folders.find_document(output, PatchesPlan)
    network, place = choose_network(
        folder,
        args.card,
        present.runtime if present and not args.force else None,
        gpu=accelerator.workers_have_gpu(options),
    )
    if not network.num_units:
        raise InputError(
            f"--network {args.network}: the card names no output under outputs.embedding, so "
            "there is nothing to extract; name one, or run evaluation.score_videos"
        )
    settings = Settings(
        front_end=network.folder.embedding_front_end(network.num_units),
        seed=args.seed,
        keep_partial=args.keep_partial,
        patches_per_video=args.patches_per_video,
        sampled_splits=sampled_splits,
        network=place,
    )
    write_features_of_media(media, settings, args, options)


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
