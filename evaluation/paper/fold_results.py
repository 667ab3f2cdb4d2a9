"""The results of methods over folds: what results.json has of them, and the Markdown."""

import collections
import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.metrics.jackknife import Interval
from evaluation.paper.clip_scores import ClipScores, accuracy_interval
from evaluation.paper.experiment import CURE, RESULTS
from evaluation.paper.runs import RunResults
from evaluation.paper.scales import Settings
from evaluation.paper.steps import Making
from evaluation.paper.table_results import describe_making
from features.typed_json import convert, to_plain


@dataclasses.dataclass(frozen=True)
class CandidateRun:
    """What results.json has of a training that a choice was made by."""

    command: str
    run: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoldResults:
    """What results.json has of a tested fold.

    Attributes:
      choice: the chosen candidate.
      validation_accuracies: of the candidates, on a fold for training, None for one that
        diverged; () without a choice.
      candidates: command and fingerprint of the network that was validated, in the order of the
        candidates, without those that diverged; () without a choice, and in results of versions
        without.
      num_diverged: better candidates of which a tested run diverged.
      runs: tested, one a seed.
    """

    choice: Settings
    validation_accuracies: tuple[float | None, ...]
    runs: tuple[RunResults, ...]
    candidates: tuple[CandidateRun, ...] = ()
    num_diverged: int = 0

    @property
    def accuracy(self) -> float:
        """Mean over the seeds."""
        return statistics.mean(run.accuracy for run in self.runs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodResults:
    """What results.json has of a method.

    Attributes:
      label: in the table.
      accuracy: share of the clips, each tested once; mean over the seeds.
      interval: 95 %, over recordings and seeds; None where it cannot be told.
      num_clips: that were tested.
      num_recordings: that they were cut from.
      candidates: what was chosen of, for each fold by itself.
      folds: by number of the tested fold.
      making: of the results; None in results of versions without.
    """

    label: str
    accuracy: float
    interval: Interval | None
    num_clips: int
    num_recordings: int
    candidates: tuple[Settings, ...]
    folds: Mapping[str, FoldResults]
    making: Making | None = None

    @classmethod
    def of(
        cls,
        label: str,
        candidates: Sequence[Settings],
        folds: Mapping[int, FoldResults],
        scores: Sequence[ClipScores],
    ) -> "MethodResults":
        """The results of a method.

        Args:
          label: in the table.
          candidates: what was chosen of.
          folds: by number of the tested fold.
          scores: of all tested clips, one for each seed.
        """
        return cls(
            label=label,
            accuracy=statistics.mean(of_seed.accuracy for of_seed in scores),
            interval=accuracy_interval(scores),
            num_clips=len(scores[0].ids),
            num_recordings=len(set(scores[0].origins)),
            candidates=tuple(candidates),
            folds={str(fold): found for fold, found in folds.items()},
        )

    @property
    def num_seeds(self) -> int:
        """Runs of each fold."""
        return min(len(fold.runs) for fold in self.folds.values())

    def render(self) -> str:
        """A row of the table; AUC and mAP are means over the folds and seeds."""
        folds = list(self.folds.values())
        runs = [run for fold in folds for run in fold.runs]
        ends = "" if self.interval is None else f" [{', '.join(map(_percent, self.interval))}]"
        minutes = statistics.mean(run.seconds or 0 for run in runs) / 60
        cells = [
            self.label,
            f"**{_percent(self.accuracy)} %**{ends}",
            ", ".join(_percent(fold.accuracy) for fold in folds),
            f"{statistics.mean(run.auc for run in runs):.3f}",
            f"{statistics.mean(run.map for run in runs):.3f}",
            f"{len(folds[0].runs)}",
            f"{runs[0].patches:,}",
            f"{minutes:.1f} min",
        ]
        return f"| {' | '.join(cells)} |"

    def render_choices(self) -> list[str]:
        """A table of the validation accuracies of each candidate, by tested fold; [] without."""
        folds = {number: fold for number, fold in self.folds.items() if fold.validation_accuracies}
        if not folds:
            return []
        usual = _usual(self.candidates)
        but_for = f"; else {_settings(usual)}" if usual else ""
        lines = [
            f"| validated, %{but_for} | {' | '.join(f'for fold {number}' for number in folds)} |",
            f"|---|{'---|' * len(folds)}",
        ]
        for index, candidate in enumerate(self.candidates):
            unusual = {k: v for k, v in candidate.items() if usual.get(k) != v}
            cells = [
                _bold(_validated(fold.validation_accuracies[index]), candidate == fold.choice)
                for fold in folds.values()
            ]
            lines.append(f"| {' | '.join([_settings(unusual), *cells])} |")
        lines += [
            f"\nFor fold {number} the best {fold.num_diverged} diverged on three folds."
            for number, fold in folds.items()
            if fold.num_diverged
        ]
        return lines


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassificationResults:
    """What results.json has of the experiment, with the methods by name."""

    scale: str
    methods: Mapping[str, MethodResults]

    @classmethod
    def from_plain(cls, document: Mapping[str, Any]) -> "ClassificationResults":
        """The inverse of `to_plain`."""
        methods = {
            name: convert(value, MethodResults, where=f"{RESULTS}: {name}", cure=CURE)
            for name, value in document.items()
            if isinstance(value, dict)
        }
        return cls(scale=document["scale"], methods=methods)

    def to_plain(self) -> dict[str, Any]:
        """The results as in results.json, where the methods lie beside the scale."""
        return {"scale": self.scale, **to_plain(self.methods)}

    def render(self, published: Mapping[str, float]) -> str:
        """Markdown: a row for each method and each published result, then the choices.

        Args:
          published: name -> accuracy.
        """
        lines = [
            "| | accuracy [95 %] | by fold | AUC | mAP | seeds | patches a run | time a run |",
            "|---|---|---|---|---|---|---|---|",
            *(method.render() for method in self.methods.values()),
            *(
                f"| {name} (published) | {_percent(found)} % | | | | | | |"
                for name, found in published.items()
            ),
        ]
        for method in self.methods.values():
            lines += [
                "",
                f"{method.label}: {method.num_clips:,} clips of {method.num_recordings:,} "
                f"recordings.{describe_making(method.making)}"
                + " The interval does not hold the choice of the seed."
                * (method.num_seeds == 1),
                *(["", *choices] if (choices := method.render_choices()) else []),
            ]
        return "\n".join(lines) + "\n"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _validated(share: float | None) -> str:
    return "diverged" if share is None else _percent(share)


def _usual(candidates: Sequence[Settings]) -> dict[str, str]:
    """The settings that more than half of the candidates have."""
    count = collections.Counter(item for candidate in candidates for item in candidate.items())
    return dict(item for item, number in count.items() if 2 * number > len(candidates))


def _settings(settings: Settings) -> str:
    return " ".join(f"`{field}={value}`" for field, value in settings.items())


def _bold(text: str, is_bold: bool) -> str:
    return f"**{text}**" if is_bold else text
