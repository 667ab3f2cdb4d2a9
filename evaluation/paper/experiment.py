"""What runs of recipes cost, how they are trained and scored, and what their figures are."""

import argparse
import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import Any

from evaluation.paper import steps
from evaluation.paper.scales import SCALES, Scale, Settings
from evaluation.paper.steps import START_SECONDS, Step
from features import terminal
from features.contracts import folders
from features.errors import InputError
from features.fingerprint import fingerprint
from features.storage import files

RESULTS = "results.json"
# A network infers about three times as fast as it trains.
_INFERENCE_OVER_TRAINING = 3
# To build the graphs of a network, export it and load it again.
_SECONDS_AROUND_TRAINING = 30.0
# Settings that change the speed.
_OF_SPEED = ("num_labels", "batch_size", "precision", "width", "bottleneck_units", "pooling")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A recipe that is trained on features, scored and evaluated.

    Attributes:
      name: of its folders, `runs/NAME`, `scores/NAME` and `reports/NAME`.
      recipe: of training.train.
      network: a recipe with the same network.
      settings: of the recipe.
      features: folder.
      folder: of the experiment.
    """

    name: str
    recipe: str
    network: str
    settings: Settings
    features: str
    folder: str

    @property
    def output(self) -> str:
        """The RUN folder."""
        return files.join(self.folder, "runs", self.name)

    @property
    def scores(self) -> str:
        """The SCORES folder."""
        return files.join(self.folder, "scores", self.name)

    def measurement(self) -> Step:
        """Measures how fast the network trains on this machine."""
        command = ["training.describe", self.network, "--speed", "--json"]
        settings = {field: self.settings[field] for field in _OF_SPEED if field in self.settings}
        command += _assignments(settings)
        return _measuring(command, self.folder)

    @property
    def patches_per_second(self) -> float:
        """What the measurement found."""
        return printed(self.measurement())[self.network]["patches_per_second"]

    def seconds_to_infer(self, num_patches: int) -> float:
        """For so many, about; with the start of the command that does it."""
        return START_SECONDS + num_patches / self.patches_per_second / _INFERENCE_OVER_TRAINING

    def num_steps(self, of_recipe: int) -> int:
        """Mini-batches: those of the recipe, unless a setting changes them."""
        return int(self.settings.get("steps", of_recipe))

    def steps(
        self, *, recipe_steps: int, subset: str | None, evaluation_patches: int
    ) -> list[Step]:
        """Train, score and evaluate; the speed has been measured.

        Args:
          recipe_steps: mini-batches of the recipe.
          subset: of the evaluation split; None for all of it.
          evaluation_patches: that are scored, about.
        """
        rate = self.patches_per_second
        num_patches = self.num_steps(recipe_steps) * int(self.settings.get("batch_size", 128))
        train = ["training.train", self.recipe, "--features", self.features]
        train += ["--output", self.output, *_assignments(self.settings)]
        score = ["evaluation.score_videos", "--features", self.features, "--run", self.output]
        score += ["--output", self.scores]
        score += ["--subset", subset] if subset is not None else []
        return [
            Step(
                name=f"runs/{self.name}",
                command=tuple(train),
                seconds=START_SECONDS + _SECONDS_AROUND_TRAINING + num_patches / rate,
            ),
            Step(
                name=f"scores/{self.name}",
                command=tuple(score),
                seconds=self.seconds_to_infer(evaluation_patches),
            ),
            self.evaluation(),
        ]

    def evaluation(self, suffix: str = "", flags: Sequence[str] = ()) -> Step:
        """Evaluate the scores, all of them or as the flags of evaluation.evaluate say."""
        name = f"reports{suffix}/{self.name}"
        command = ["evaluation.evaluate", "--scores", self.scores, "--examples", "0"]
        command += ["--output", files.join(self.folder, name), *flags]
        return Step(name=name, command=tuple(command))

    def figures(self, suffix: str = "") -> dict[str, Any]:
        """Of a finished run, as results.json has them."""
        run = folders.read_root(self.output, folders.RUN)
        report = files.join(self.folder, f"reports{suffix}/{self.name}")
        metrics = folders.read_root(report, folders.METRICS)
        rate = run["metrics"]["patches_per_second"]
        patches = run["steps"] * run["recipe"]["batch_size"]
        return {
            "auc": metrics["mean_auc"],
            "d_prime": metrics["d_prime"],
            "map": metrics["mean_ap"],
            "accuracy": metrics["accuracy_1best"],
            "prior_map": metrics["prior_mean_ap"],
            "intervals": {
                "auc": metrics["intervals"]["mean_auc"],
                "d_prime": metrics["intervals"]["d_prime"],
                "map": metrics["intervals"]["mean_ap"],
            },
            "num_videos": metrics["num_videos"],
            "num_labels": metrics["num_labels"],
            "labels_trained": run["vocabulary"]["num_labels"],
            "videos_trained": self._num_videos(run["recipe"]["training_subset"]),
            "steps": run["steps"],
            "patches": patches,
            "patches_per_second": rate,
            "seconds": patches / rate if rate else None,
            "width": run["recipe"]["model"]["width"],
            "run": metrics["fingerprints"]["model"],
            "command": steps.command_of(f"runs/{self.name}", self.folder),
        }

    def _num_videos(self, subset: str | None) -> int:
        """Of the training split, or of a subset, which is called by its number."""
        if subset is not None:
            return int(subset)
        return folders.read_root(self.features, folders.FEATURES)["splits"]["train"]["num_videos"]


def parser(module: str, description: str) -> argparse.ArgumentParser:
    """The flags that all experiments have."""
    made = argparse.ArgumentParser(
        prog=f"python -m {module}",
        usage=terminal.usage("--scale SCALE --output FOLDER"),
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("--scale", choices=list(SCALES), required=True, help="paper, or what one machine can do")
    add("--output", required=True, metavar="FOLDER", help="of all experiments of one scale")
    add("--estimate", action="store_true", help="say what it would cost, and end")
    add(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD=VALUE",
        help="a field of every recipe, as in training.train",
    )
    return made


def scale_of(args: argparse.Namespace) -> Scale:
    """The scale of a command line, with what --set changes.

    Raises:
      InputError: --set has something else than FIELD=VALUE.
    """
    pairs = [assignment.partition("=") for assignment in args.set]
    for field, equals, _ in pairs:
        if not equals:
            raise InputError(f"--set takes FIELD=VALUE; received {field!r}")
    return SCALES[args.scale].with_settings({field: value for field, _, value in pairs})


def _assignments(settings: Settings) -> list[str]:
    """The arguments of training.train and training.describe."""
    assignments = [f"{field}={value}" for field, value in settings.items()]
    return ["--set", *assignments] if assignments else []


def measure(runs: Iterable[Run], folder: str) -> None:
    """Measure the networks of runs, unless they have been measured before."""
    steps.execute([run.measurement() for run in runs], folder)


def networks(recipes: Sequence[str], folder: str) -> Step:
    """Counts the weights and multiplies of recipes as the paper has them."""
    command = ("training.describe", *recipes, "--json")
    return _measuring(command, folder)


def _measuring(command: Sequence[str], folder: str) -> Step:
    """One for all runs that differ in what they are trained on alone."""
    name = "networks/" + fingerprint(list(command))
    path = files.join(folder, name + ".json")
    return Step(name=name, command=tuple(command), seconds=20.0, printed_to=path)


def printed(step: Step) -> dict[str, Any]:
    """What a finished `networks` or `Run.measurement` found, by recipe."""
    assert step.printed_to is not None
    return json.loads(files.read_bytes(step.printed_to))


def comparison(better: Run, worse: Run, suffix: str = "", flags: Sequence[str] = ()) -> Step:
    """The difference between two runs, paired by video."""
    name = f"comparisons{suffix}/{better.name}-{worse.name}"
    command = ["evaluation.compare", better.scores, worse.scores]
    command += ["--output", files.join(better.folder, name), *flags]
    return Step(name=name, command=tuple(command))


def keep_results(folder: str, name: str, document: Any, text: str) -> None:
    """Put the results of one experiment beside those of others, and its table into a file."""
    results = read_results(folder) | {name: document}
    content = json.dumps(results, indent=2, ensure_ascii=False) + "\n"
    files.write_bytes(files.join(folder, RESULTS), content.encode())
    files.write_bytes(files.join(folder, f"{name}.md"), text.encode())


def read_results(folder: str) -> dict[str, Any]:
    """All that is known so far, by experiment."""
    try:
        return json.loads(files.read_bytes(files.join(folder, RESULTS)))
    except FileNotFoundError:
        return {}
