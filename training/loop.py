"""The training loop, from top to bottom: data, model, optimizer, restore, steps."""

import dataclasses
import math
import time
from collections.abc import Callable

import tensorflow as tf
import tf_keras

from features import storage
from features.errors import JobFailedError
from training.checkpoints import Checkpoints
from training.config import Recipe
from training.data import FeatureSet, training_batches, validation_batches
from training.loss import sigmoid_cross_entropy
from training.models.build import build_model
from training.optimizer import adam
from training.progress import ProgressLine
from training.validation import ValidationMetrics, validate

EVENTS_FOLDER = "events"


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """What training leaves in memory."""

    model: tf_keras.Model
    steps: int  # done, those of earlier commands included
    loss: float | None  # of the last steps; None where there was nothing left to train
    validation: ValidationMetrics | None  # None without validation features
    patches_per_second: float


def train(recipe: Recipe, features: FeatureSet, output: str) -> TrainedModel:
    """Train, or go on training, in the folder `output`.

    Raises:
      JobFailedError: the loss is not finite any more, or a person stopped the run.
    """
    tf_keras.utils.set_random_seed(recipe.seed)  # of the weights
    model = build_model(
        recipe.model,
        num_labels=len(features.vocabulary),
        patch_shape=features.front_end.log_mel.patch_shape,
        precision=recipe.precision,
    )
    optimizer = adam(recipe)
    checkpoints = Checkpoints(output, model, optimizer)
    saved_step = checkpoints.restore()

    batches = training_batches(features, recipe, step=saved_step)
    mean_loss = tf_keras.metrics.Mean()
    train_step = _train_step(model, optimizer, mean_loss, batches.element_spec)
    logits_of = _logits_of(model)
    validation_set = validation_batches(features, recipe)
    events = tf.summary.create_file_writer(storage.join(output, EVENTS_FOLDER))
    progress = ProgressLine(recipe.steps, recipe.batch_size)
    loss, validation = None, None
    save_at = time.monotonic() + 60 * recipe.checkpoint_minutes
    try:
        for step, batch in zip(range(saved_step + 1, recipe.steps + 1), batches, strict=False):
            last_loss = train_step(*batch)
            progress.step_done()
            is_last = step == recipe.steps
            validates = step % recipe.validation_steps == 0 or is_last
            saves = is_last or time.monotonic() >= save_at
            # Fetching a number from the device makes it wait, so it is done now and then. Always
            # before saving: a checkpoint of numbers that are not finite would be of no use.
            if step % recipe.report_steps == 0 or validates or saves:
                loss = float(mean_loss.result())
                mean_loss.reset_state()
                _require_finite(loss, step, recipe, saved_step)
                with events.as_default(step):
                    tf.summary.scalar("loss", loss)
                    tf.summary.scalar("learning_rate", optimizer.learning_rate(step))
                    tf.summary.scalar("patches_per_second", progress.patches_per_second)
            if validates and validation_set is not None:
                validation = validate(logits_of, validation_set)
                with events.as_default(step):
                    tf.summary.scalar("validation/accuracy", validation.accuracy)
                    tf.summary.scalar("validation/mAP", validation.mean_average_precision)
                progress.pause()
            if saves:
                saved_step = checkpoints.save()
                save_at = time.monotonic() + 60 * recipe.checkpoint_minutes
                progress.pause()
            if progress.due or is_last:
                progress.show(
                    step,
                    float(last_loss),
                    validation.mean_average_precision if validation else None,
                )
    except KeyboardInterrupt:
        _require_finite(float(mean_loss.result()), int(optimizer.iterations), recipe, saved_step)
        step = checkpoints.save()
        raise JobFailedError(
            f"stopped at step {step} of {recipe.steps}, which is saved; "
            "run the same command again to go on"
        ) from None
    finally:
        progress.close()
        events.close()
    if validation is None and validation_set is not None:  # there was no step left to do
        validation = validate(logits_of, validation_set)
    return TrainedModel(
        model, int(optimizer.iterations), loss, validation, progress.patches_per_second
    )


def _train_step(
    model: tf_keras.Model,
    optimizer: tf_keras.optimizers.Optimizer,
    mean_loss: tf_keras.metrics.Mean,
    batch: tuple[tf.TensorSpec, tf.TensorSpec],
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """One step as a graph: (patches, label ids) -> loss, also added to `mean_loss`."""

    @tf.function(input_signature=batch)
    def train_step(patches: tf.Tensor, label_ids: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = model(patches, training=True)["logits"]
            loss = sigmoid_cross_entropy(logits, label_ids)
        # bfloat16 has the exponents of float32: gradients do not vanish, and need no loss scale.
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        mean_loss.update_state(loss)
        return loss

    return train_step


def _logits_of(model: tf_keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """Inference as a graph: patches -> logits."""

    @tf.function(reduce_retracing=True)
    def logits_of(patches: tf.Tensor) -> tf.Tensor:
        return model(patches, training=False)["logits"]

    return logits_of


def _require_finite(loss: float, step: int, recipe: Recipe, saved_step: int) -> None:
    if not math.isfinite(loss):
        first = max(saved_step, step - recipe.report_steps) + 1
        raise JobFailedError(
            f"the loss is {loss} in steps {first} to {step}; the last checkpoint is of step "
            f"{saved_step}; train into another folder with a --learning-rate below "
            f"{recipe.learning_rate}"
        )
