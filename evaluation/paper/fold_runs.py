"""The runs of a classification of clips in four folds, with every choice inside the training folds.

Each fold is tested once, by networks that were trained on the other three. What is chosen, such as
the learning rate, is chosen for each tested fold by itself, by networks that were trained on two of
its three training folds and validated on the third. The folds are in pairs: what was trained on
folds 3 and 4 is validated on fold 2 for the test on fold 1, and on fold 1 for the test on fold 2,
so that a candidate takes two trainings and not four.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import pyarrow.parquet as pq

from evaluation.paper import steps
from evaluation.paper.clip_scores import ClipScores, read_scores
from evaluation.paper.corpus import FOLDS
from evaluation.paper.experiment import Experiment
from evaluation.paper.fold_results import CandidateRun, FoldResults, MethodResults
from evaluation.paper.runs import Run
from evaluation.paper.scales import TINY, Settings
from evaluation.paper.steps import Step
from features.contracts.export import find_export, fingerprint_weights
from features.errors import JobFailedError
from features.storage import files

# The fold that validates the choices for a tested fold.
_VALIDATED_ON = {1: 2, 2: 1, 3: 4, 4: 3}
# No run that is tested has the seed of those that a choice is made by.
_SEED_OF_CHOICES = 1_000
_WINDOWS_PER_CLIP = 10  # of YAMNet


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """A way to classify clips.

    Attributes:
      name: in results.json.
      label: in the table.
      recipe: of training.train.
      settings: of every run.
      candidates: settings that one is chosen of, for each fold by itself.
      num_seeds: runs that are tested, for each fold.
      input: `features` of log-mel, `short` patches of 20 frames of it, or `embeddings` of a
        published network.
      by_default: whether the method is run without --methods.
    """

    name: str
    label: str
    recipe: str
    settings: Settings
    candidates: tuple[Settings, ...]
    num_seeds: int = 1
    input: Literal["features", "short", "embeddings"] = "features"
    by_default: bool = True

    @property
    def on_embeddings(self) -> bool:
        """Whether the input is embeddings."""
        return self.input == "embeddings"

    def at(self, scale: str) -> "Method":
        """The method at a scale: at the tiny one, a few steps of two candidates."""
        if scale != TINY.name:
            return self
        settings = {**self.settings, "batch_size": "16", "steps": "6"}
        if self.input == "features":
            settings |= {"width": "0.1", "crop_seconds": "0.96"}
        rates = ({"learning_rate": "1e-3"}, {"learning_rate": "3e-3"})
        return dataclasses.replace(self, settings=settings, candidates=rates, num_seeds=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipSet:
    """The clips of an experiment.

    Attributes:
      name: of the command, and in results.json.
      title: of the data set.
      source: value of the column `source` of clips.csv.
      labels: those of the set; None for all of the source.
      num_clips: about as many, for the expected cost.
      published: name of a published result -> accuracy.
    """

    name: str
    title: str
    source: str
    labels: tuple[str, ...] | None
    num_clips: int
    published: Mapping[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoldRuns:
    """The runs of a method.

    Attributes:
      clips: what is classified.
      method: how.
      setup: what the flags say.
    """

    clips: ClipSet
    method: Method
    setup: Experiment

    def parts_of_choice(self, fold: int) -> dict[str, list[int]]:
        """The part of the clips that the choice for a tested fold is made on, if there is one.

        Returns:
          Name -> folds for training.
        """
        if len(self.method.candidates) == 1:
            return {}
        pair = [other for other in FOLDS if other not in (fold, _VALIDATED_ON[fold])]
        return {"choice" + "".join(map(str, pair)): pair}

    def parts(self, fold: int) -> dict[str, list[int]]:
        """All parts of the clips for a tested fold: name -> folds for training."""
        others = [other for other in FOLDS if other != fold]
        return {**self.parts_of_choice(fold), f"fold{fold}": others}

    def candidate_runs(self, fold: int) -> list[Run]:
        """A run of each candidate, on two of the training folds of a tested fold."""
        return [
            self._run(
                f"{self.clips.name}-{self.method.name}-{part}-{number}",
                self.input_of(part),
                {**candidate, "seed": str(_SEED_OF_CHOICES)},
            )
            for part in self.parts_of_choice(fold)
            for number, candidate in enumerate(self.method.candidates)
        ]

    def validation_accuracies(self, fold: int) -> tuple[float | None, ...]:
        """Accuracy of each candidate on the fold that validates, None for one that diverged.

        () if not known yet.
        """
        runs = self.candidate_runs(fold)
        if not all(run.has_diverged or run.is_finished(f"scores/{run.name}") for run in runs):
            return ()
        folds = _read_folds(self.manifest)
        validated = _VALIDATED_ON[fold]
        return tuple(
            None
            if run.has_diverged
            else read_scores(run.scores).where(lambda clip: folds[clip] == validated).accuracy
            for run in runs
        )

    def choice(self, fold: int) -> Settings | None:
        """The candidate of the tested runs; None if not known yet.

        It is the best on the fold that validates, the first of those that are equally good, or the
        next one if a tested run of a better one diverged.

        Raises:
          JobFailedError: all candidates diverged.
        """
        ranked = self._ranked(fold)
        return self.method.candidates[ranked[self.num_diverged(fold)]] if ranked else None

    def num_diverged(self, fold: int) -> int:
        """Better candidates than the choice, of each of which a tested run diverged.

        Raises:
          JobFailedError: all candidates diverged.
        """
        ranked = self._ranked(fold)
        if not ranked:
            return 0
        for place, number in enumerate(ranked):
            if not any(run.has_diverged for run in self._tested_with(fold, number, place)):
                return place
        raise self._all_diverged(fold)

    def _ranked(self, fold: int) -> list[int]:
        """The numbers of the candidates that did not diverge, the best first; [] if not known."""
        if len(self.method.candidates) == 1:
            return [0]
        accuracies = self.validation_accuracies(fold)
        measured = {n: found for n, found in enumerate(accuracies) if found is not None}
        if accuracies and not measured:
            raise self._all_diverged(fold)
        return sorted(measured, key=lambda number: -measured[number])

    def _all_diverged(self, fold: int) -> JobFailedError:
        return JobFailedError(
            f"{self.clips.name}, {self.method.name}: all candidates for fold {fold} diverged; set "
            "a lower rate in its candidates, in another --output"
        )

    def tested_runs(self, fold: int) -> list[Run]:
        """The runs on all training folds, one a seed; open until the choice is known.

        Until then they have the first candidate, whose cost is expected.
        """
        ranked = self._ranked(fold)
        place = self.num_diverged(fold)
        runs = self._tested_with(fold, ranked[place] if ranked else 0, place)
        return [dataclasses.replace(run, is_open=not ranked) for run in runs]

    def _tested_with(self, fold: int, number: int, place: int) -> list[Run]:
        """The tested runs of a candidate; those of a later choice have its number in their name."""
        suffix = f"-candidate{number}" if place else ""
        return [
            self._run(
                f"{self.clips.name}-{self.method.name}-fold{fold}-seed{seed}{suffix}",
                self.input_of(f"fold{fold}"),
                {**self.method.candidates[number], "seed": str(seed)},
            )
            for seed in range(self.method.num_seeds)
        ]

    def steps(self, tested: Sequence[int]) -> list[Step]:
        """The trainings and scorings, those that choices are made by first."""
        num_tested = self.clips.num_clips // len(FOLDS) * _WINDOWS_PER_CLIP
        plan = []
        for fold in tested:
            for run in self.candidate_runs(fold):
                scoring = run.scoring(subset=None, evaluation_patches=2 * num_tested)
                plan += [run.training(0), *([] if run.has_diverged else scoring[:1])]
        for fold in tested:
            for run in self.tested_runs(fold):
                plan += run.steps(recipe_steps=0, subset=None, evaluation_patches=num_tested)
        return plan

    def results(self, tested: Sequence[int]) -> MethodResults:
        """Read the results of finished runs."""
        by_fold = {
            fold: FoldResults(
                choice=dict(self.choice(fold) or {}),
                validation_accuracies=self.validation_accuracies(fold)
                if len(self.method.candidates) > 1
                else (),
                runs=tuple(run.results() for run in self.tested_runs(fold)),
                candidates=tuple(
                    CandidateRun(
                        steps.command_of(f"runs/{run.name}", run.folder),
                        fingerprint_weights(find_export(run.output)),
                    )
                    for run in self.candidate_runs(fold)
                    if not run.has_diverged
                ),
                num_diverged=self.num_diverged(fold),
            )
            for fold in tested
        }
        scores = [
            ClipScores.join([read_scores(self.tested_runs(fold)[seed].scores) for fold in tested])
            for seed in range(self.method.num_seeds)
        ]
        return MethodResults.of(self.method.label, self.method.candidates, by_fold, scores)

    @property
    def manifest(self) -> str:
        """The manifest of the clips."""
        return files.join(self.setup.folder, f"clips-{self.clips.name}", "manifest.parquet")

    def input_of(self, part: str) -> str:
        """The folder that runs on a part of the clips are trained and tested on."""
        return files.join(self.setup.folder, f"{self.method.input}-{self.clips.name}-{part}")

    def _run(self, name: str, features: str, settings: Settings) -> Run:
        scale = self.setup.scale
        return Run(
            name=name,
            recipe=self.method.recipe,
            settings={**self.method.settings, **settings, **scale.overrides},
            features=features,
            folder=self.setup.folder,
        )


def _read_folds(manifest: str) -> dict[str, int]:
    """Id of each clip -> its fold."""
    with files.open_read(manifest) as file:
        table = pq.read_table(file, columns=["id", "published_split"])
    folds = map(int, table["published_split"].to_pylist())
    return dict(zip(table["id"].to_pylist(), folds, strict=True))
