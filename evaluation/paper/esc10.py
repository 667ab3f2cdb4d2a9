"""ESC-10, the clips themselves: mean accuracy over four folds.

python -m evaluation.paper.esc10 --scale small --clips esc10/audio --output experiments
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import scipy.stats

from evaluation.paper import corpus, experiment, steps
from evaluation.paper.corpus import FOLDS
from evaluation.paper.experiment import Run
from evaluation.paper.scales import Scale
from evaluation.paper.steps import Step
from features.errors import OK, run_command
from features.storage import files

PAPER_RECIPE, MODERN_RECIPE = "resnet50", "modern"
# What results.json calls them.
_SHORT = {PAPER_RECIPE: "paper", MODERN_RECIPE: "modern"}
# Recipes that read the statistics of the bands.
_NORMALISED = (MODERN_RECIPE,)
# Piczak, ESC: Dataset for Environmental Sound Classification, 2015: people, and a random forest on
# MFCC over five folds of 80 clips, of which ours are four.
PUBLISHED = {"human": 0.957, "random forest on MFCC": 0.727}
_NUM_CLIPS, _PATCHES_PER_CLIP = 320, 5
_DESCRIPTION = """\
Train a recipe from scratch on three folds of ESC-10 and test it on the fourth,
four times. No recording has clips in two folds. Run the same command again
after any interruption.
"""


def _parser() -> argparse.ArgumentParser:
    parser = experiment.parser("evaluation.paper.esc10", _DESCRIPTION)
    add = parser.add_argument
    add("--clips", required=True, metavar="FOLDER", help="LABEL/FOLD-RECORDING-TAKE.ogg below it")
    add(
        "--recipes",
        nargs="+",
        metavar="RECIPE",
        default=[PAPER_RECIPE, MODERN_RECIPE],
        help=f"of training.train; default: {PAPER_RECIPE} {MODERN_RECIPE}",
    )
    add("--folds", nargs="+", type=int, choices=FOLDS, default=list(FOLDS), help="to test on")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = _parser().parse_args(argv)
    scale, folder = experiment.scale_of(args), files.absolute(args.output)
    runs = {
        recipe: {fold: _run(recipe, fold, scale, folder) for fold in args.folds}
        for recipe in args.recipes
    }
    experiment.measure([run for by_fold in runs.values() for run in by_fold.values()], folder)
    plan = steps.unfinished(_plan(args.clips, runs, folder), folder)
    print(f"ESC-10, scale {scale.name}: {steps.cost(plan)}", flush=True)
    if args.estimate:
        return OK
    steps.execute(plan, folder)
    document = experiment.read_results(folder).get("esc10", {}) | {"scale": scale.name}
    for recipe, by_fold in runs.items():
        document |= _results(_SHORT.get(recipe, recipe), by_fold)
    text = render(document)
    experiment.keep_results(folder, "esc10", document, text)
    print(f"\n{text}\nwrote {args.output}/{experiment.RESULTS}")
    return OK


def _run(recipe: str, fold: int, scale: Scale, folder: str) -> Run:
    features = files.join(folder, f"features-fold{fold}")
    settings = {**scale.clip_settings, **scale.clip_settings_of.get(recipe, {})}
    return Run(
        name=f"esc10-{recipe}-fold{fold}",
        recipe=recipe,
        network=recipe,
        settings=settings,
        features=features,
        folder=folder,
    )


def _plan(clips: str, runs: Mapping[str, Mapping[int, Run]], folder: str) -> list[Step]:
    manifest = files.join(folder, "clips", "manifest.parquet")
    plan = [corpus.imported(clips, folder)]
    for recipe, by_fold in runs.items():
        for fold, run in by_fold.items():
            training = ",".join(str(other) for other in FOLDS if other != fold)
            plan += corpus.prepared(
                manifest,
                folder,
                split_values=(f"train={training}", f"evaluation={fold}"),
                suffix=f"-fold{fold}",
                num_videos=_NUM_CLIPS,
            )
            plan += [corpus.band_statistics(run.features)] if recipe in _NORMALISED else []
            plan += run.steps(
                recipe_steps=5_000_000,
                subset=None,
                evaluation_patches=_NUM_CLIPS // len(FOLDS) * _PATCHES_PER_CLIP,
            )
    return plan


def _results(name: str, by_fold: Mapping[int, Run]) -> dict[str, Any]:
    figures = {fold: run.figures() for fold, run in by_fold.items()}
    accuracies = [one["accuracy"] for one in figures.values()]
    num_clips = sum(one["num_videos"] for one in figures.values())
    correct = round(sum(one["accuracy"] * one["num_videos"] for one in figures.values()))
    interval = scipy.stats.binomtest(correct, num_clips).proportion_ci(method="wilson")
    return {
        f"accuracy_{name}": statistics.mean(accuracies),
        name: {
            "accuracy": statistics.mean(accuracies),
            # Of the clips as if they were independent; takes of one recording are not.
            "interval": [float(interval.low), float(interval.high)],
            "num_clips": num_clips,
            "folds": figures,
        },
    }


def render(document: Mapping[str, Any]) -> str:
    """Markdown: a row for each recipe, and what is published."""
    lines = [
        "| | mean accuracy [95 %] | by fold | patches a fold | time a fold |",
        "|---|---|---|---|---|",
    ]
    for name, ours in document.items():
        if not isinstance(ours, dict):
            continue
        folds = list(ours["folds"].values())
        low, high = ours["interval"]
        by_fold = ", ".join(f"{100 * fold['accuracy']:.1f}" for fold in folds)
        minutes = statistics.mean(fold["seconds"] for fold in folds) / 60
        lines.append(
            f"| {name} | **{100 * ours['accuracy']:.1f} %** [{100 * low:.1f}, {100 * high:.1f}] | "
            f"{by_fold} | {folds[0]['patches']:,} | {minutes:.1f} min |"
        )
    lines += [
        f"| {name} (published) | {100 * accuracy:.1f} % | | | |"
        for name, accuracy in PUBLISHED.items()
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_command(main)
