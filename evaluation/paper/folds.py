"""Classify single clips in four folds: the command, and the steps from clips to features."""

import argparse
import dataclasses
from collections.abc import Sequence

from evaluation.paper import corpus, experiment
from evaluation.paper.corpus import FOLDS
from evaluation.paper.experiment import Experiment
from evaluation.paper.fold_results import ClassificationResults
from evaluation.paper.fold_runs import ClipSet, FoldRuns, Method
from evaluation.paper.runs import require_recipes
from evaluation.paper.steps import START_SECONDS, Making, Step
from features.contracts.sharding import TRAIN
from features.errors import OK, InputError
from features.storage import files

# Patches of 2.4 s that overlap: training crops them, and so sees any stretch of a clip. The scores
# of a tested clip are the mean over its 6 patches.
_PATCHES = ("--patch-frames", "240", "--patch-hop-frames", "48")
# Of the paper's log-mel for event detection.
_SHORT = ("--patch-frames", "20")
# To decode a clip and apply YAMNet to it, on one core.
_SECONDS_TO_EMBED = 0.12


def main(clips: ClipSet, methods: Sequence[Method], argv: Sequence[str] | None = None) -> int:
    """Run the command of an experiment; returns its exit code.

    Raises:
      InputError: a method needs a network that is not given.
    """
    args = _parser(clips, methods).parse_args(argv)
    setup = Experiment.of(args)
    chosen = [
        FoldRuns(clips=clips, method=method.at(setup.scale.name), setup=setup)
        for method in methods
        if method.name in _wanted(args, methods)
    ]

    def plan() -> list[Step]:
        data = {step.name: step for runs in chosen for step in _data(runs, args)}
        return [*data.values(), *(step for runs in chosen for step in runs.steps(args.folds))]

    measured = [
        run
        for runs in chosen
        for fold in args.folds
        for run in (*runs.candidate_runs(fold), *runs.tested_runs(fold))
    ]
    require_recipes(measured, setup.folder)
    if not setup.run(clips.title, measured, plan):
        return OK
    found = {
        runs.method.name: dataclasses.replace(
            runs.results(args.folds),
            making=Making.of([*_data(runs, args), *runs.steps(args.folds)], setup.folder),
        )
        for runs in chosen
    }
    if set(args.folds) != set(FOLDS):
        part = ClassificationResults(scale=setup.scale.name, methods=found)
        print(f"\n{part.render({})}\nnot kept: {experiment.RESULTS} is of all {len(FOLDS)} folds")
        return OK
    earlier = experiment.read_results(setup.folder).get(clips.name, {})
    results = ClassificationResults(
        scale=setup.scale.name,
        methods={**ClassificationResults.from_plain({"scale": "", **earlier}).methods, **found},
    )
    setup.keep_results(clips.name, results.to_plain(), results.render(clips.published))
    return OK


def _parser(clips: ClipSet, methods: Sequence[Method]) -> argparse.ArgumentParser:
    parser = experiment.parser(
        f"evaluation.paper.{clips.name}",
        f"Classify the clips of {clips.title} in four folds: train on three, test on the fourth.\n"
        "What is chosen is chosen inside the three. After an interruption run the same\n"
        "command again.",
    )
    add = parser.add_argument
    add("--clips", required=True, metavar="FOLDER", help="with clips.csv, as clip-list imports it")
    names = [method.name for method in methods]
    usual = " ".join(method.name for method in methods if method.by_default)
    add(
        "--methods",
        nargs="+",
        choices=names,
        metavar="METHOD",
        help=f"of {' '.join(names)}; default: {usual}, those on embeddings only with --network",
    )
    add(
        "--folds",
        nargs="+",
        type=int,
        choices=FOLDS,
        default=list(FOLDS),
        help="to test on; the results of some are printed only, and those of all four kept",
    )
    add("--network", metavar="FOLDER", help="of YAMNet, for its embeddings")
    add("--card", default="yamnet", help="of --network; default: yamnet")
    return parser


def _wanted(args: argparse.Namespace, methods: Sequence[Method]) -> list[str]:
    """The names of the methods to run."""
    without = [method.name for method in methods if args.network or not method.on_embeddings]
    missing = sorted(set(args.methods or ()) - set(without))
    if missing:
        raise InputError(f"--methods {' '.join(missing)} takes embeddings; give --network")
    return args.methods or [
        method.name for method in methods if method.by_default and method.name in without
    ]


def _data(runs: FoldRuns, args: argparse.Namespace) -> list[Step]:
    """The steps to the inputs of all runs of a method."""
    clips = runs.clips
    steps = [_imported(runs, args.clips)]
    for fold in args.folds:
        for part, training in runs.parts(fold).items():
            dataset = files.join(runs.setup.folder, f"dataset-{clips.name}-{part}")
            output = runs.input_of(part)
            steps.append(_prepared(runs.manifest, dataset, training))
            if runs.method.on_embeddings:
                steps.append(_embedded(clips, dataset, output, args))
            elif runs.method.input == "short":
                steps.append(corpus.extracted(dataset, output, *_SHORT, num_videos=clips.num_clips))
            else:
                steps += _extracted(clips, dataset, output)
    return steps


def _imported(runs: FoldRuns, source: str) -> Step:
    labels = ("--labels", *runs.clips.labels) if runs.clips.labels else ()
    output, _, _ = runs.manifest.rpartition("/")
    command = (
        *("pipelines.import_dataset", "clip-list", "--source", files.absolute(source)),
        *("--sources", runs.clips.source, *labels, "--output", output),
        # All folds are kept; each part of the clips has splits of its own.
        *("--split-values", "train=1,2,3", "evaluation=4"),
    )
    return Step(name=output.rpartition("/")[2], command=command)


def _prepared(manifest: str, dataset: str, training: Sequence[int]) -> Step:
    """Make a data set with these folds for training and the others for evaluation."""
    evaluated = [fold for fold in FOLDS if fold not in training]
    command = (
        *("pipelines.prepare_dataset", "--manifest", manifest, "--output", dataset),
        *("--count-split", TRAIN, "--split-column", "published_split"),
        *("--split-values", f"train={_joined(training)}", f"evaluation={_joined(evaluated)}"),
    )
    return Step(name=dataset.rpartition("/")[2], command=command)


def _joined(folds: Sequence[int]) -> str:
    return ",".join(map(str, folds))


def _extracted(clips: ClipSet, dataset: str, output: str) -> list[Step]:
    """Make features, and the statistics of their bands."""
    bands = Step(
        name="band_statistics" + output.rpartition("/features")[2],
        command=("pipelines.band_statistics", "--features", output),
    )
    return [corpus.extracted(dataset, output, *_PATCHES, num_videos=clips.num_clips), bands]


def _embedded(clips: ClipSet, dataset: str, output: str, args: argparse.Namespace) -> Step:
    command = (
        *("pipelines.extract_embeddings", "--from-media", dataset),
        *("--network", files.absolute(args.network), "--card", args.card, "--output", output),
    )
    seconds = START_SECONDS + clips.num_clips * _SECONDS_TO_EMBED
    return Step(name=output.rpartition("/")[2], command=command, seconds=seconds)
