"""A choice between settings of a network, by the validation mAP of one run with each of them."""

import dataclasses
import math
from collections.abc import Mapping

from evaluation.paper.runs import Run
from evaluation.paper.scales import Settings
from evaluation.paper.steps import Step
from features.contracts import folders
from features.contracts.documents import VALIDATION_MAP
from features.contracts.documents import Run as RunDocument
from features.errors import JobFailedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """The runs of the options.

    Attributes:
      run: with all other settings, and a seed that no evaluated run has.
      options: name -> settings.
    """

    run: Run
    options: Mapping[str, Settings]

    @property
    def runs(self) -> dict[str, Run]:
        """The run of each option."""
        return {
            name: dataclasses.replace(
                self.run,
                name=f"{self.run.name}_{name}",
                settings={**self.run.settings, **settings},
            )
            for name, settings in self.options.items()
        }

    def trainings(self, recipe_steps: int) -> list[Step]:
        """Train the network with each option; the evaluation split is not read."""
        return [run.training(recipe_steps) for run in self.runs.values()]

    def validation_map(self) -> dict[str, float | None] | None:
        """Option -> mAP of the validation split, None for one that diverged.

        None before the last run is finished.
        """
        runs = self.runs
        if not all(run.is_finished(f"runs/{run.name}") for run in runs.values()):
            return None
        return {
            name: None
            if run.has_diverged
            else folders.read_document(run.output, RunDocument).metrics.get(VALIDATION_MAP)
            for name, run in runs.items()
        }

    @property
    def best(self) -> str | None:
        """The first option of the highest validation mAP; None before the last run is finished.

        Raises:
          JobFailedError: no run has a validation mAP.
        """
        found = self.validation_map()
        if found is None:
            return None
        values = {name: -math.inf if value is None else value for name, value in found.items()}
        best = max(values, key=lambda name: values[name])
        if values[best] == -math.inf:
            raise JobFailedError(
                f"no option of {self.run.name} has a validation mAP: training diverged, or no "
                "class of the validation split can be measured; give lower --learning-rates, or "
                "features with more validation videos, in another --output"
            )
        return best
