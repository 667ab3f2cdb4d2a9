"""What all experiments share: their flags, how they are run, and the file of their results."""

import argparse
import dataclasses
import itertools
import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

from evaluation.paper import steps
from evaluation.paper.runs import Run, measure
from evaluation.paper.scales import SCALES, Scale
from evaluation.paper.steps import Step
from features import terminal
from features.errors import ContractError, InputError
from features.storage import files

RESULTS = "results.json"
# For messages about an invalid results.json.
CURE = "delete the file and run the experiments again"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """What the flags of all experiments say.

    Attributes:
      scale: of the runs, with the fields of --set.
      folder: of all experiments of a scale.
      estimate_only: stop after printing the cost.
    """

    scale: Scale
    folder: str
    estimate_only: bool

    @classmethod
    def of(cls, args: argparse.Namespace) -> "Experiment":
        """Read the flags of `parser`.

        Raises:
          InputError: an argument of --set is not FIELD=VALUE.
        """
        settings = {}
        for assignment in args.set:
            field, equals, value = assignment.partition("=")
            if not equals:
                raise InputError(f"--set takes FIELD=VALUE; received {field!r}")
            settings[field.rpartition(".")[2]] = value  # model.width is width
        return cls(
            scale=dataclasses.replace(SCALES[args.scale], overrides=settings),
            folder=files.absolute(args.output),
            estimate_only=args.estimate,
        )

    def run_of(self, recipe: str, features: str) -> Run:
        """A run of a recipe at this scale."""
        return Run(
            name=recipe,
            recipe=recipe,
            settings=self.scale.settings_of(recipe),
            features=features,
            folder=self.folder,
        )

    def run(self, title: str, runs: Iterable[Run], plan: Callable[[], list[Step]]) -> bool:
        """Measure the speed of the runs, print the cost of the plan, and execute the plan.

        Args:
          title: of the experiment.
          runs: all runs of the plan.
          plan: makes the steps, once the speed is known; called again when open steps may be known.

        Returns:
          False with --estimate, which executes nothing.
        """
        measure(runs, self.folder)
        planned = plan()
        left = steps.unfinished(planned, self.folder)
        for version in steps.other_versions(planned, self.folder):
            print(f"{self.folder} has finished steps of other code: {version}", file=sys.stderr)
        print(f"{title}, scale {self.scale.name}: {steps.cost(left)}", flush=True)
        if self.estimate_only:
            return False
        while left:
            known = list(itertools.takewhile(lambda step: not step.is_open, left))
            assert known  # each command is known once those before it are finished
            steps.execute(known, self.folder)
            left = steps.unfinished(plan(), self.folder)
        return True

    def keep_results(self, name: str, results: Any, table: str) -> None:
        """Write and print the results of an experiment, and leave those of others as they are.

        Args:
          name: of the experiment.
          results: as in results.json.
          table: the results as Markdown.
        """
        with steps.hold(self.folder):
            document = {**read_results(self.folder), name: results}
            content = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
            files.write_bytes(files.join(self.folder, RESULTS), content.encode())
            files.write_bytes(files.join(self.folder, f"{name}.md"), table.encode())
        print(f"\n{table}\nwrote {files.join(self.folder, RESULTS)}")


def read_results(folder: str) -> dict[str, Any]:
    """Read results.json: experiment -> its results, which only the experiment itself interprets.

    Raises:
      ContractError: the file is not a JSON object.
    """
    path = files.join(folder, RESULTS)
    try:
        results = json.loads(files.read_bytes(path))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ContractError(f"{path} is not JSON ({error}); {CURE}") from error
    if not isinstance(results, dict):
        raise ContractError(f"{path} is not a JSON object; {CURE}")
    return results


def parser(module: str, description: str) -> argparse.ArgumentParser:
    """A parser with the flags of all experiments."""
    made = argparse.ArgumentParser(
        prog=f"python -m {module}",
        usage=terminal.usage("--scale SCALE --output FOLDER"),
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("--scale", choices=list(SCALES), required=True, help="size of corpus, networks and runs")
    add("--output", required=True, metavar="FOLDER", help="of all experiments of the same scale")
    add("--estimate", action="store_true", help="print the expected cost and exit")
    add(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD=VALUE",
        help="a field of every recipe, as in training.train",
    )
    return made
