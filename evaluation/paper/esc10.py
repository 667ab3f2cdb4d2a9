"""Classify the clips of ESC-10: mean accuracy over four folds.

python -m evaluation.paper.esc10 --scale small --clips sounds --output experiments
"""

import argparse
import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import scipy.stats

from evaluation.paper import corpus, experiment
from evaluation.paper.corpus import FOLDS
from evaluation.paper.experiment import CURE, RESULTS, Experiment
from evaluation.paper.runs import Run, RunResults
from evaluation.paper.steps import Step
from features.errors import OK, run_command
from features.paper import REPORTED
from features.storage import files
from features.typed_json import convert, to_plain

PAPER_RECIPE, MODERN_RECIPE = "resnet50", "modern"
# Names in results.json.
_SHORT_NAMES = {PAPER_RECIPE: "paper", MODERN_RECIPE: "modern"}
# Recipes that need the statistics of the mel bands.
_NORMALISED = (MODERN_RECIPE,)
# Piczak, ESC: Dataset for Environmental Sound Classification, 2015: over five folds of 80 clips, of
# which ours are four.
PUBLISHED = {"human": 0.957, "random forest on MFCC": 0.727}
_LABELS = (
    *("chainsaw", "clock tick", "crackling fire", "crying baby", "dog"),
    *("helicopter", "rain", "rooster", "sea waves", "sneezing"),
)
_NUM_CLIPS, _PATCHES_PER_CLIP = 320, 5
_DESCRIPTION = """\
Train a recipe from scratch on three folds of ESC-10 and test it on the fourth,
four times. No recording has clips in two folds. After an interruption run the
same command again.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecipeAccuracy:
    """What results.json has of a recipe.

    Attributes:
      accuracy: mean over the folds.
      interval: 95 %, of the clips as if they were independent; takes of one recording are not.
      num_clips: of all folds.
      folds: by number of the fold tested on.
    """

    accuracy: float
    interval: tuple[float, float]
    num_clips: int
    folds: Mapping[str, RunResults]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipResults:
    """What results.json has of the experiment, with the recipes by name."""

    scale: str
    recipes: Mapping[str, RecipeAccuracy]

    @classmethod
    def from_plain(cls, document: Mapping[str, Any]) -> "ClipResults":
        """The inverse of `to_plain`."""
        recipes = {
            name: convert(value, RecipeAccuracy, where=f"{RESULTS}: {name}", cure=CURE)
            for name, value in document.items()
            if isinstance(value, dict)
        }
        return cls(scale=document["scale"], recipes=recipes)

    def to_plain(self) -> dict[str, Any]:
        """The results as in results.json, where the recipes lie beside the other fields."""
        document: dict[str, Any] = {"scale": self.scale}
        for name, recipe in self.recipes.items():
            document |= {f"accuracy_{name}": recipe.accuracy, name: to_plain(recipe)}
        return document


def _parser() -> argparse.ArgumentParser:
    parser = experiment.parser("evaluation.paper.esc10", _DESCRIPTION)
    add = parser.add_argument
    add("--clips", required=True, metavar="FOLDER", help="with clips.csv")
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
    setup = Experiment.of(args)
    runs = {
        recipe: {fold: _run(recipe, fold, setup) for fold in args.folds} for recipe in args.recipes
    }
    all_runs = [run for by_fold in runs.values() for run in by_fold.values()]
    if not setup.run("ESC-10", all_runs, lambda: _plan(args.clips, runs, setup.folder)):
        return OK
    earlier = experiment.read_results(setup.folder).get("esc10", {})
    results = ClipResults(
        scale=setup.scale.name,
        recipes={
            **ClipResults.from_plain({"scale": "", **earlier}).recipes,
            **{_SHORT_NAMES.get(name, name): _accuracy(by_fold) for name, by_fold in runs.items()},
        },
    )
    setup.keep_results("esc10", results.to_plain(), render(results))
    return OK


def _run(recipe: str, fold: int, setup: Experiment) -> Run:
    return Run(
        name=f"esc10-{recipe}-fold{fold}",
        recipe=recipe,
        settings=setup.scale.clip_settings_of(recipe),
        features=files.join(setup.folder, f"features-fold{fold}"),
        folder=setup.folder,
    )


def _plan(clips: str, runs: Mapping[str, Mapping[int, Run]], folder: str) -> list[Step]:
    manifest = files.join(folder, "esc10", "manifest.parquet")
    imported = (
        *("pipelines.import_dataset", "clip-list", "--source", files.absolute(clips)),
        *("--sources", "esc50", "--labels", *_LABELS, "--output", files.join(folder, "esc10")),
        *("--split-values", *corpus.split_values_of(4, 3)),
    )
    plan = [Step(name="esc10", command=imported)]
    for recipe, by_fold in runs.items():
        for fold, run in by_fold.items():
            plan += corpus.prepared(
                manifest,
                folder,
                split_values=corpus.split_values_of(fold),
                suffix=f"-fold{fold}",
                num_videos=_NUM_CLIPS,
            )
            plan += [corpus.measured_bands(run.features)] if recipe in _NORMALISED else []
            plan += run.steps(
                recipe_steps=REPORTED[PAPER_RECIPE].steps,
                subset=None,
                evaluation_patches=_NUM_CLIPS // len(FOLDS) * _PATCHES_PER_CLIP,
            )
    return plan


def _accuracy(by_fold: Mapping[int, Run]) -> RecipeAccuracy:
    folds = {str(fold): run.results() for fold, run in by_fold.items()}
    num_clips = sum(fold.num_videos for fold in folds.values())
    correct = round(sum(fold.accuracy * fold.num_videos for fold in folds.values()))
    interval = scipy.stats.binomtest(correct, num_clips).proportion_ci(method="wilson")
    return RecipeAccuracy(
        accuracy=statistics.mean(fold.accuracy for fold in folds.values()),
        interval=(float(interval.low), float(interval.high)),
        num_clips=num_clips,
        folds=folds,
    )


def render(results: ClipResults) -> str:
    """Markdown: a row for each recipe, and for each published result."""
    lines = [
        "| | mean accuracy [95 %] | by fold | patches a fold | time a fold |",
        "|---|---|---|---|---|",
    ]
    for name, recipe in results.recipes.items():
        folds = list(recipe.folds.values())
        low, high = recipe.interval
        by_fold = ", ".join(f"{100 * fold.accuracy:.1f}" for fold in folds)
        minutes = statistics.mean(fold.seconds or 0 for fold in folds) / 60
        lines.append(
            f"| {name} | **{100 * recipe.accuracy:.1f} %** [{100 * low:.1f}, {100 * high:.1f}] | "
            f"{by_fold} | {folds[0].patches:,} | {minutes:.1f} min |"
        )
    lines += [
        f"| {name} (published) | {100 * accuracy:.1f} % | | | |"
        for name, accuracy in PUBLISHED.items()
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_command(main)
