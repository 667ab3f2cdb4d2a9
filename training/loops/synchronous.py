"""Synchronous training, from top to bottom: model, optimizer, data, steps.

On one device, or on several that share every mini-batch, of this process or of many.
"""

import time
from collections.abc import Callable

import tensorflow as tf

from training.config import Recipe
from training.distributed.cluster import Cluster
from training.distributed.strategies import any_worker, require_equal_parts
from training.distributed.watchdog import Watchdog
from training.input.batches import Batch, FeatureSet, training_batches, validation_batches
from training.loops.averaging import averaging
from training.loops.checkpoints import Checkpoints
from training.loops.evaluator import Validator
from training.loops.optimizer import adam
from training.loops.recorder import Recorder, TrainedRun
from training.loops.step import average_model, fresh_model, replica_step


def train(
    recipe: Recipe,
    features: FeatureSet,
    output: str,
    *,
    strategy: tf.distribute.Strategy,
    cluster: Cluster | None,
    stop_requested: Callable[[], bool],
    watchdog: Watchdog,
) -> TrainedRun:
    """Train a run, or resume it, in the folder `output`.

    Args:
      recipe: what to train.
      features: what to train on.
      output: folder of the run.
      strategy: the devices that share every mini-batch.
      cluster: workers that train together; None for this process alone. Several workers do not
        validate: the evaluator does, from their checkpoints.
      stop_requested: called in every step.
      watchdog: ends the process if the other workers are gone.

    Raises:
      InterruptedRunError: a person stopped the run.
      tf.errors.OpError: see `training.loops.step.failure_of`; for a damaged shard DataLossError.
    """
    require_equal_parts(recipe, strategy)
    worker, num_workers = (cluster.index, cluster.num_workers) if cluster else (0, 1)
    with strategy.scope():
        model = fresh_model(recipe, features)
        optimizer = adam(recipe, model.trainable_variables)
    average = average_model(recipe, features)
    update_average = averaging(average, model, recipe.options.average_decay) if average else None
    checkpoints = Checkpoints(output, model, optimizer, average, is_chief=worker == 0)
    first_step = checkpoints.restore() + 1

    batches = _distribute(recipe, features, strategy, first_step - 1, part=(worker, num_workers))
    replica = replica_step(model, optimizer, features.front_end, recipe.options)
    take_step = _measured_step(strategy, replica, batches, update_average)
    recorder = Recorder(
        recipe,
        output,
        checkpoints,
        learning_rate=optimizer.learning_rate,
        is_chief=worker == 0,
        saves_on_damage=num_workers == 1,
    )
    validation_set = validation_batches(features, recipe) if num_workers == 1 else None
    validator = Validator(average or model, recipe, features, output, recorder.curves)
    validation = None
    on_any_worker = any_worker(strategy)
    with recorder:
        for step in range(first_step, recipe.steps + 1):
            is_last = step == recipe.steps
            with watchdog.waiting_for(f"step {step}, which needs all workers,"):
                metrics = take_step(step)
                saves, stops = on_any_worker([is_last or recorder.save_is_due, stop_requested()])
            recorder.add_step(step, **metrics)
            if stops:
                raise KeyboardInterrupt
            if validation_set and (step % recipe.validation_steps == 0 or is_last):
                validation = validator.validate(step, validation_set)
                recorder.pause()
            if saves:
                recorder.save()
            recorder.show(step)
    return recorder.trained_run(validation)


def _distribute(
    recipe: Recipe,
    features: FeatureSet,
    strategy: tf.distribute.Strategy,
    step: int,
    *,
    part: tuple[int, int],
) -> tf.distribute.DistributedDataset:
    """The batches from a step on; `part` as in `training_batches`."""
    return strategy.distribute_datasets_from_function(
        lambda _: training_batches(
            features, recipe, step=step, part=part, parts_a_batch=strategy.num_replicas_in_sync
        ),
        # Video ids cannot go to a GPU; the step copies the patches that it needs.
        tf.distribute.InputOptions(experimental_fetch_to_device=False),
    )


def _measured_step(
    strategy: tf.distribute.Strategy,
    replica: Callable[[Batch], tf.Tensor],
    batches: tf.distribute.DistributedDataset,
    update_average: Callable[[int], None] | None,
) -> Callable[[int], dict[str, float | tf.Tensor]]:
    """A function that trains on the next batch; it takes the step and returns its metrics."""
    iterator = iter(batches)

    @tf.function(input_signature=[batches.element_spec], autograph=False)
    def train_step(batch: Batch) -> tf.Tensor:
        losses = strategy.run(replica, args=(batch,))
        return strategy.reduce("mean", losses, axis=None)

    def take_step(step: int) -> dict[str, float | tf.Tensor]:
        start = time.monotonic()
        batch = next(iterator)
        received = time.monotonic()
        loss = train_step(batch)
        if update_average:
            update_average(step)
        end = time.monotonic()
        return {"loss": loss, "input_seconds": received - start, "step_seconds": end - start}

    return take_step
