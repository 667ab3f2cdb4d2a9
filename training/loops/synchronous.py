"""Synchronous training, from top to bottom: data, model, optimizer, restore, steps.

On one device, or on several that share every mini-batch, of this process or of many.
"""

import dataclasses
import time
from collections.abc import Callable

import tensorflow as tf

from features.errors import INTERRUPTED, JobFailedError
from training.config import Recipe
from training.distributed.strategies import agreement, require_equal_parts
from training.distributed.watchdog import Watchdog
from training.input.batches import (
    Batch,
    FeatureSet,
    training_batches,
    validation_batches,
)
from training.loops.averaging import averaging
from training.loops.checkpoints import BestCheckpoint, Checkpoints, last_validation
from training.loops.optimizer import adam
from training.loops.progress import Curves, ProgressLine
from training.loops.step import average_model, fresh_model, replica_step
from training.loops.validation import ValidationMetrics, inference, validate


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """What training says of itself; what it learned is in its last checkpoint."""

    steps: int  # done, those of earlier commands included
    loss: float | None  # of the last steps; None where there was nothing left to train
    validation: ValidationMetrics | None  # of the last step; None where nobody has validated it
    patches_per_second: float


class InterruptedRunError(JobFailedError):
    """A person or a scheduler stopped the run, and what it learned is saved."""

    exit_code = INTERRUPTED

    @classmethod
    def at(cls, step: int, steps: int) -> "InterruptedRunError":
        """After so many of the steps of a run."""
        return cls(
            f"stopped at step {step} of {steps}, which is saved; "
            "run the same command again to go on"
        )


def train(
    recipe: Recipe,
    features: FeatureSet,
    output: str,
    *,
    strategy: tf.distribute.Strategy,
    worker: int,
    num_workers: int,
    stop_requested: Callable[[], bool],
    watchdog: Watchdog,
) -> TrainedRun:
    """Train, or go on training, in the folder `output`.

    Args:
      recipe: what to train.
      features: what to train it on.
      output: folder of the run.
      strategy: the devices that share every mini-batch.
      worker: the index of this process; the first one writes the run.
      num_workers: processes that train together. Where there are several they do not validate:
        an evaluator does, from the checkpoints.
      stop_requested: asked in every step.
      watchdog: ends the process where the others leave it waiting.

    Raises:
      InterruptedRunError: a person stopped the run.
      tf.errors.OpError: see `training.loops.step.failure_of`; of a damaged shard DataLossError.
    """
    require_equal_parts(recipe, strategy)
    with strategy.scope():
        model = fresh_model(recipe, features)
        optimizer = adam(recipe, model.trainable_variables)
    is_chief = worker == 0
    average = average_model(recipe, features)
    checkpoints = Checkpoints(output, model, optimizer, average, is_chief=is_chief)
    saved_step = checkpoints.restore()

    batches = strategy.distribute_datasets_from_function(
        lambda _: training_batches(
            features,
            recipe,
            step=saved_step,
            part=(worker, num_workers),
            parts_a_batch=strategy.num_replicas_in_sync,
        ),
        # Video ids cannot go to a GPU; patches are copied by the step that needs them.
        tf.distribute.InputOptions(experimental_fetch_to_device=False),
    )
    take_up = averaging(average, model, recipe.options.average_decay) if average else None
    replica = replica_step(model, optimizer, features.front_end, recipe.options)

    @tf.function(input_signature=[batches.element_spec])
    def train_step(batch: Batch) -> tf.Tensor:
        losses = strategy.run(replica, args=(batch,))
        return strategy.reduce("mean", losses, axis=None)

    agreed = agreement(strategy)
    alone = num_workers == 1
    validation_set = validation_batches(features, recipe) if alone else None
    logits_of = inference(average or model, features.front_end.storage)
    best = BestCheckpoint(output, average or model)
    curves = Curves(output, kept=is_chief)
    progress = ProgressLine(recipe.steps, recipe.batch_size)
    loss, validation = None, None
    save_at = time.monotonic() + 60 * recipe.checkpoint_minutes
    iterator = iter(batches)
    try:
        for step in range(saved_step + 1, recipe.steps + 1):
            with watchdog.waiting_for(f"step {step}, for which all the workers are needed,"):
                start = time.monotonic()
                batch = next(iterator)
                input_seconds = time.monotonic() - start
                last_loss = train_step(batch)
                if take_up:
                    take_up(step)
                step_seconds = time.monotonic() - start
                is_last = step == recipe.steps
                saves, stops = agreed([is_last or time.monotonic() >= save_at, stop_requested()])
            curves.add_step(loss=last_loss, input_seconds=input_seconds, step_seconds=step_seconds)
            progress.step_done()
            if stops:
                raise KeyboardInterrupt
            if step % recipe.report_steps == 0 or is_last:
                loss = curves.write_steps(
                    step,
                    learning_rate=optimizer.learning_rate(step),
                    patches_per_second=progress.patches_per_second,
                )["loss"]
            if validation_set and (step % recipe.validation_steps == 0 or is_last):
                validation = validate(logits_of, validation_set)
                curves.write_validation(step, validation)
                best.offer(step, validation)
                progress.pause()
            if saves:
                checkpoints.save()
                save_at = time.monotonic() + 60 * recipe.checkpoint_minutes
                progress.pause()
            if is_chief and (progress.due or is_last):
                progress.show(step, float(last_loss), last_validation(output))
    except KeyboardInterrupt:
        raise InterruptedRunError.at(checkpoints.save(), recipe.steps) from None
    except tf.errors.DataLossError:
        if alone:  # saving takes all the workers
            checkpoints.save()
        raise
    finally:
        progress.close()
        curves.close()
    return TrainedRun(
        int(optimizer.iterations.numpy()), loss, validation, progress.patches_per_second
    )
