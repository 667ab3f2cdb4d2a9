"""FEATURES (or media) + RUN -> SCORES: the mean score of each video's patches, as a Beam job.

python -m evaluation.score_videos --features features --run run --output scores
python -m evaluation.score_videos --from-media dataset --run run --output scores
python -m evaluation.score_videos --from-media dataset --network yamnet --output scores
"""

import argparse
import dataclasses
import functools
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import AsSingleton

from evaluation.metrics.selection import groups_of
from evaluation.scoring import media, stages
from evaluation.scoring.shard import Network
from features import terminal
from features.contracts import folders, forgotten, labels, progress, sharding, shards
from features.contracts.documents import (
    Dataset,
    Features,
    Run,
    Scores,
    ScoresPlan,
    VocabularyReference,
)
from features.contracts.export import (
    find_export,
    fingerprint_weights,
    read_exported_recipe,
    read_exported_vocabulary,
    read_front_end,
)
from features.contracts.scores import EMBEDDINGS, FRAMES, SCORES, add_accounts
from features.contracts.sharding import ShardKey
from features.contracts.videos import VIDEO_FILES, count_labels
from features.errors import OK, InputError, run_command
from features.front_end.front_end import FrontEnd
from features.storage import files
from pipelines.runtime import accelerator, launch, process_pool, web_access
from pipelines.runtime.counters import CountElements
from pipelines.runtime.model import add_precision_flag, choose_runtime
from pipelines.runtime.network import choose_network
from pipelines.runtime.network_flags import add_network_flags, require_float32
from pipelines.runtime.progress import progress_line

_DESCRIPTION = """\
Score every video of one split with a trained network: each 960 ms patch goes
through the network, and the scores of a video's patches are averaged. The
patches are read from extracted features, or decoded from the media of a data
set; a network that was not trained here may take windows of sound instead. Run
the same command again after an interruption: finished shards are kept.
"""


def _parser() -> argparse.ArgumentParser:
    parser = launch.parser(
        "evaluation.score_videos",
        "(--features FEATURES | --from-media DATASET)\n(--run RUN | --network FOLDER) "
        "--output OUTPUT",
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
    network = parser.add_mutually_exclusive_group(required=True)
    network.add_argument("--run", help="folder made by training.train, or a copy of its export")
    add_network_flags(network, parser, "with --from-media: ")
    add("--output", required=True, help="folder of the scores to write")
    add("--split", default="evaluation", help="split to score; default: evaluation")
    add("--subset", metavar="NAME", help="only this subset of the split, such as 400")
    add(
        "--frame-scores",
        action="store_true",
        help="also keep the scores of every patch, for pages that show them over time",
    )
    add("--embeddings", action="store_true", help="also keep the last hidden layer of every patch")
    add(
        "--dtype",
        choices=("float32", "float16"),
        default="float32",
        help="type of the scores on disk; float16 halves the size and rounds scores below 6e-8 to "
        "ties",
    )
    add(
        "--timeout-seconds",
        metavar="SECONDS",
        type=float,
        default=900.0,
        help="with --from-media: time to decode one soundtrack, after which it is given up; "
        "default: 900",
    )
    add_precision_flag(parser)
    web_access.add_flags(parser)
    process_pool.add_flag(
        parser,
        "one a GPU, or 1, in which the network uses all cores; more workers decode --from-media "
        "faster",
    )
    return parser


@dataclasses.dataclass(frozen=True)
class _Job:
    """A checked call of the command.

    Attributes:
      planned: `scores.json` with counts of zero.
      network: scores the patches.
      vocabulary: of the scores.
      source: the FEATURES or DATASET folder.
      output: the SCORES folder.
      hop_seconds: from the start of a patch to that of the next.
      started_at: seconds since the epoch.
    """

    planned: Scores
    network: Network
    vocabulary: labels.Vocabulary
    source: str
    output: str
    hop_seconds: float
    started_at: float = dataclasses.field(default_factory=time.time)

    @property
    def keys(self) -> list[ShardKey]:
        """All shards to score."""
        return list(sharding.keys(self.planned.split, self.planned.num_shards))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args, options = launch.parse(_parser(), argv)
    job = _check(args, options)
    num_workers = process_pool.num_network_workers(args.workers, options, job.network.runtime)
    with progress_line("shards", len(job.keys), lambda: progress.find_done(job.output)):
        launch.run(
            functools.partial(_build, args=args, job=job, num_workers=num_workers),
            options,
            job.output,
            clear=functools.partial(_clear, job),
            tidy=functools.partial(_tidy, job.output),
        )
    document = folders.read_document(job.output, Scores)
    terminal.report(
        f"{document.num_videos} of {document.num_videos_expected} videos scored, "
        f"{document.num_patches} patches",
        dict(document.missing),
        args.output,
    )
    return OK


def _build(pipeline: beam.Pipeline, args: argparse.Namespace, job: _Job, num_workers: int) -> None:
    """Add the stages of the job."""
    plan: beam.PTransform = stages.PlanFromFeatures(job.source, job.network)
    if args.from_media is not None:
        groups = {job.planned.split: list(job.planned.num_shards)}
        video_files = files.list_files(job.source, VIDEO_FILES)
        plan = stages.PlanFromMedia(
            video_files,
            groups,
            args.timeout_seconds,
            job.network,
            forgotten.read_forgotten(job.output),
        )
    score = functools.partial(stages.score, output=job.output)
    measure = functools.partial(stages.measure_result, hop_seconds=job.hop_seconds)
    account = (
        pipeline
        | "Shards" >> beam.Create(job.keys)
        | "Plans" >> plan
        | "ScoreShard" >> process_pool.MapOnWorkers(score, num_workers)
        | "Counters" >> CountElements("score", measure, tallies=True)
        | "CountShard" >> beam.Map(stages.count_result)
        | "AddAccounts" >> beam.CombineGlobally(add_accounts)
    )
    finish = functools.partial(
        stages.finish, output=job.output, started_at=job.started_at, num_workers=num_workers
    )
    _ = (
        pipeline
        | "Planned" >> beam.Create([job.planned])
        | "Finish" >> beam.Map(finish, account=AsSingleton(account))
    )


def _clear(job: _Job) -> None:
    """Remove what the job makes again, and write what its folder has from the start."""
    output = job.output
    progress.begin(output, folders.SCORES, total=len(job.keys), kind=SCORES)
    files.delete(files.join(output, folders.SCORES))
    forgotten.end_removal(output)
    shards.remove_leftovers(output, job.keys, kinds=(SCORES, FRAMES, EMBEDDINGS))
    if job.network.place is None:
        labels.copy_vocabulary(job.source, output)
    else:
        files.write_bytes(files.join(output, labels.FILE_NAME), job.vocabulary.to_bytes())
    folders.write_document(output, ScoresPlan(runtime=job.network.runtime))


@dataclasses.dataclass(frozen=True)
class _Chosen:
    """A network, the labels of its scores, what it takes, and the recipe that trained it."""

    network: Network
    vocabulary: labels.Vocabulary
    front_end: FrontEnd
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _tidy(output: str) -> None:
    shards.remove_partial_files(output)
    progress.end(output)


def _check(args: argparse.Namespace, options: PipelineOptions) -> _Job:
    """Check flags and inputs.

    Raises:
      InputError: a flag or an input is wrong, or the inputs do not belong together.
    """
    is_media = args.from_media is not None
    source = files.absolute(args.from_media if is_media else args.features)
    network_folder = files.absolute(args.run or args.network)
    output = files.absolute(args.output)
    folders.claim_output(output, folders.SCORES, inputs=(source, network_folder))
    root: Dataset | Features = (
        folders.read_document(source, Dataset)
        if is_media
        else folders.read_document(source, Features)
    )
    if not is_media:
        forgotten.require_forgotten(source, forgotten.read_forgotten(output), output)
    flag = "--from-media" if is_media else "--features"
    groups = _choose_groups(args, root, where=f"{flag} {source}")
    if args.network is None:
        chosen = _choose_run(args, options, root, source, network_folder, output)
    else:
        chosen = _choose_network(args, options, source, network_folder, output)
    network, vocabulary, is_run = chosen.network, chosen.vocabulary, args.network is None
    present = folders.find_document(output, Scores)
    planned = Scores(
        made_by=folders.made_by(),
        features=source if isinstance(root, Features) else None,
        features_fingerprint=_fingerprint(root, args.split),
        dataset=root.dataset if isinstance(root, Features) else source,
        dataset_fingerprint=(
            root.dataset_fingerprint if isinstance(root, Features) else root.fingerprint
        ),
        num_shards={group: root.splits[args.split].num_shards[group] for group in groups},
        run=network_folder if is_run else None,
        network=None if is_run else network_folder,
        model_fingerprint=network.fingerprint,
        runtime=network.runtime,
        recipe=chosen.recipe,
        vocabulary=(
            root.vocabulary
            if is_run
            else VocabularyReference(num_labels=len(vocabulary), fingerprint=vocabulary.fingerprint)
        ),
        num_labels=len(vocabulary),
        front_end_fingerprint=chosen.front_end.fingerprint,
        patch_seconds=chosen.front_end.patch_seconds,
        split=args.split,
        subset=args.subset,
        subsets={
            name: members
            for name, members in root.subsets.get(args.split, {}).items()
            if set(members) <= set(groups)
        },
        dtype=args.dtype,
        frame_scores=args.frame_scores,
        embeddings=args.embeddings,
        num_videos_expected=0,
        num_videos=0,
        num_patches=0,
        groups={},
        missing={},
        work=present.work if present else None,
    )
    hop_seconds = chosen.front_end.patch_hop_seconds
    return _Job(planned, network, vocabulary, source, output, hop_seconds)


def _choose_run(
    args: argparse.Namespace,
    options: PipelineOptions,
    root: Dataset | Features,
    source: str,
    run: str,
    output: str,
) -> _Chosen:
    """The network of a run, which was trained on the labels of the videos."""
    export = find_export(run)
    if export != run:  # a folder of training.train, which must be finished
        folders.read_document(run, Run)
    vocabulary, front_end = read_exported_vocabulary(export), read_front_end(export)
    _check_network(root, source, vocabulary, front_end)
    present = folders.find_document(output, ScoresPlan)
    network = Network(
        export=export,
        runtime=choose_runtime(
            export,
            args.precision,
            present.runtime if present else None,
            output=output,
            here=process_pool.runs_here(options),
            gpu=accelerator.workers_have_gpu(options),
        ),
        fingerprint=fingerprint_weights(export),
        vocabulary_fingerprint=vocabulary.fingerprint,
        dtype=args.dtype,
        frame_scores=args.frame_scores,
        embeddings=args.embeddings,
    )
    return _Chosen(network, vocabulary, front_end, read_exported_recipe(export))


def _choose_network(
    args: argparse.Namespace, options: PipelineOptions, source: str, folder: str, output: str
) -> _Chosen:
    """A network with a card, which has labels of its own."""
    if args.from_media is None:
        raise InputError("--network: takes media; give --from-media in place of --features")
    require_float32(args.precision)
    present = folders.find_document(output, ScoresPlan)
    loaded, place = choose_network(
        folder,
        args.card,
        present.runtime if present else None,
        gpu=accelerator.workers_have_gpu(options),
    )
    if present is not None and present.runtime != place.runtime:
        raise InputError(
            f"--output {output} has shards by {present.runtime}, and this command would use "
            f"{place.runtime}; name another folder: outputs of two are not equal"
        )
    for flag, size, field in (
        ("the scores of this command", loaded.num_labels, "scores or outputs.logits"),
        ("--embeddings", loaded.num_units if args.embeddings else 1, "embedding"),
    ):
        if not size:
            raise InputError(
                f"--network {folder}: {flag} need an output that the card does not name, under "
                f"outputs.{field}"
            )
    videos = labels.read_vocabulary(source)
    matched = labels.match_labels(videos, loaded.vocabulary)
    if not matched:
        print(
            f"note: no label of {source} is a label of this network: the scores have the labels "
            "of the network, and no video has any of these",
            file=sys.stderr,
        )
    network = Network(
        export="",
        runtime=place.runtime,
        fingerprint=place.fingerprint,
        vocabulary_fingerprint=loaded.vocabulary.fingerprint,
        dtype=args.dtype,
        frame_scores=args.frame_scores,
        embeddings=args.embeddings,
        place=place,
        matched=matched,
    )
    vocabulary = labels.count_matched(videos, loaded.vocabulary, matched)
    if len(set(matched.values())) < len(matched):
        counts = count_labels(files.list_files(source, VIDEO_FILES), matched, len(vocabulary))
        vocabulary = dataclasses.replace(vocabulary, counts=counts)
    return _Chosen(network, vocabulary, loaded.front_end)


def _fingerprint(root: Dataset | Features, split: str) -> str | None:
    return root.splits[split].fingerprint if isinstance(root, Features) else None


def _choose_groups(args: argparse.Namespace, root: Dataset | Features, *, where: str) -> list[str]:
    if args.split not in root.splits:
        raise InputError(f"--split: received {args.split!r}; {where} has {', '.join(root.splits)}")
    if isinstance(root, Features) and not root.splits[args.split].num_patches:
        raise InputError(f"--split {args.split}: {where} has no patches of this split")
    subsets = root.subsets.get(args.split, {})
    return groups_of(args.subset, subsets, root.splits[args.split].num_shards, where=where)


def _check_network(
    root: Dataset | Features, source: str, vocabulary: labels.Vocabulary, front_end: FrontEnd
) -> None:
    """Require that the network takes the patches, and was trained on the labels of the videos."""
    folders.require_equal(
        "vocabulary fingerprint",
        expected=vocabulary.fingerprint,
        # A network may have only the most frequent labels.
        received=labels.read_vocabulary(source).prefix(len(vocabulary)).fingerprint,
        where=source,
        cure="score videos of the labels that the network was trained on",
    )
    if isinstance(root, Dataset):
        media.require_log_mel(front_end)
    else:
        folders.require_equal(
            "front_end_fingerprint",
            expected=front_end.fingerprint,
            received=root.front_end_fingerprint,
            where=source,
            cure="score features of the front end that the network was trained on",
        )


if __name__ == "__main__":
    run_command(main)
