"""Reports and checkpoints of a run while it trains, the same for both loops."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import tensorflow as tf

from features.errors import INTERRUPTED, JobFailedError
from training.config import Recipe
from training.input.shards import names_damage
from training.loops.checkpoints import Checkpoints, last_validation
from training.loops.progress import Curves, ProgressLine
from training.loops.validation import ValidationMetrics


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """The end of training; what was learned is in the last checkpoint.

    Attributes:
      steps: of the last checkpoint, those of earlier commands included.
      loss: mean since the last but one point of the curve; None if nothing was left to train.
      validation: of the last step; None if this process has not validated it.
      patches_per_second: mean rate of training.
      staleness: of asynchronous training: mean over the steps of this command; None of another.
    """

    steps: int
    loss: float | None
    validation: ValidationMetrics | None
    patches_per_second: float
    staleness: float | None = None


class InterruptedRunError(JobFailedError):
    """A person or a scheduler stopped the run; what it learned is saved."""

    exit_code = INTERRUPTED


class Recorder:
    """Writes the curves, the progress line and the checkpoints of a run.

    A context manager around the steps: an interrupt saves the run and becomes an
    `InterruptedRunError`.

    Args:
      recipe: of the run.
      output: folder of the run.
      checkpoints: of the run, restored.
      learning_rate: step -> learning rate.
      is_chief: whether this process writes the run.
      before_save: called before each checkpoint, except that of a damaged shard.
      saves_on_damage: whether a damaged shard leads to a checkpoint; it cannot where saving takes
        other workers.
    """

    def __init__(
        self,
        recipe: Recipe,
        output: str,
        checkpoints: Checkpoints,
        *,
        learning_rate: Callable[[int], float],
        is_chief: bool = True,
        before_save: Callable[[], None] = lambda: None,
        saves_on_damage: bool = True,
    ):
        self._recipe, self._output, self._is_chief = recipe, output, is_chief
        self._checkpoints, self._before_save = checkpoints, before_save
        self._learning_rate, self._saves_on_damage = learning_rate, saves_on_damage
        self._progress = ProgressLine(recipe.steps, recipe.batch_size)
        self._last_loss: float | tf.Tensor = float("nan")
        self._mean_loss: float | None = None
        self._stalenesses: list[float] = []
        self._schedule_save()
        self.curves = Curves(output, kept=is_chief)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if isinstance(error, KeyboardInterrupt):
                step = self.save()
                raise InterruptedRunError(
                    f"stopped at step {step} of {self._recipe.steps}, which is saved; "
                    "run the same command again to resume"
                ) from None
            if names_damage(error) and self._saves_on_damage:
                self._checkpoints.save()
        finally:
            self._progress.close()
            self.curves.close()

    @property
    def save_is_due(self) -> bool:
        """Whether the last checkpoint is old enough for another."""
        return time.monotonic() >= self._save_at

    def add_step(self, step: int, **metrics: float | tf.Tensor) -> None:
        """Count a step, whose metrics may be unknown; write a point of the curves if it is time."""
        if metrics:
            self._last_loss = metrics["loss"]
            self.curves.add_step(**metrics)
            if "staleness" in metrics:
                self._stalenesses.append(float(metrics["staleness"]))
        self._progress.step_done()
        if step % self._recipe.report_steps == 0 or step == self._recipe.steps:
            means = self.curves.write_steps(
                step,
                learning_rate=self._learning_rate(step),
                patches_per_second=self._progress.patches_per_second,
            )
            self._mean_loss = means.get("loss", float(self._last_loss))

    def save(self) -> int:
        """Write a checkpoint; returns its steps."""
        self._before_save()
        step = self._checkpoints.save()
        self._schedule_save()
        self.pause()
        return step

    def pause(self) -> None:
        """Do not count the time until the next step as time of training."""
        self._progress.pause()

    def show(self, step: int) -> None:
        """Show a step on the progress line if it is time."""
        if self._is_chief and (self._progress.due or step == self._recipe.steps):
            self._progress.show(step, float(self._last_loss), last_validation(self._output))

    def trained_run(self, validation: ValidationMetrics | None = None) -> TrainedRun:
        """The end of training, with the validation of the last step."""
        return TrainedRun(
            steps=self._checkpoints.saved_step,
            loss=self._mean_loss,
            validation=validation,
            patches_per_second=self._progress.patches_per_second,
            staleness=statistics.mean(self._stalenesses) if self._stalenesses else None,
        )

    def _schedule_save(self) -> None:
        self._save_at = time.monotonic() + 60 * self._recipe.checkpoint_minutes
