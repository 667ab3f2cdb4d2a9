"""Validation of the network that a run serves: between steps, or in a process of its own."""

import time

import tensorflow as tf
import tf_keras

from features.contracts import folders
from features.contracts.documents import Run
from features.storage import files
from training.config import Recipe
from training.distributed.watchdog import LostPeerError
from training.input.batches import FeatureSet, validation_batches
from training.loops.checkpoints import FOLDER, BestCheckpoint, restore_weights, served_part, step_of
from training.loops.progress import Curves
from training.loops.step import fresh_model
from training.loops.validation import ValidationMetrics, inference, validate

_POLL_SECONDS = 10.0


class Validator:
    """Validates a network, draws the curves of its metrics, and keeps the best weights."""

    def __init__(
        self,
        model: tf_keras.Model,
        recipe: Recipe,
        features: FeatureSet,
        output: str,
        curves: Curves,
    ):
        self._softmax = recipe.options.softmax
        self._logits_of = inference(model, features.front_end.storage, softmax=self._softmax)
        self._best = BestCheckpoint(output, model)
        self._curves = curves

    def validate(self, step: int, validation_set: tf.data.Dataset) -> ValidationMetrics:
        """Validate the present weights, those of a step."""
        metrics = validate(self._logits_of, validation_set, softmax=self._softmax)
        self._curves.write_validation(step, metrics)
        self._best.offer(step, metrics)
        return metrics


def validate_checkpoints(
    recipe: Recipe, features: FeatureSet, output: str, *, wait_seconds: float
) -> None:
    """Validate every new checkpoint of other processes until their run is finished.

    Raises:
      LostPeerError: no checkpoint came in the time between two of them and `wait_seconds` more.
    """
    validation_set = validation_batches(features, recipe)
    if validation_set is None:
        return
    model = fresh_model(recipe, features)
    validator = Validator(model, recipe, features, output, Curves(output))
    seconds = 60 * recipe.checkpoint_minutes + wait_seconds
    seen_at = time.monotonic()

    def is_over() -> bool:
        finished = folders.find_document(output, Run) is not None
        return finished or time.monotonic() > seen_at + seconds

    folder = files.join(output, FOLDER)
    for path in tf.train.checkpoints_iterator(folder, timeout=_POLL_SECONDS, timeout_fn=is_over):
        seen_at = time.monotonic()
        try:
            restore_weights(path, model, served_part(recipe))
        except tf.errors.NotFoundError:  # replaced by newer checkpoints meanwhile
            continue
        validator.validate(step_of(path), validation_set)
    if folders.find_document(output, Run) is None:
        raise LostPeerError(
            f"the evaluator has seen no new checkpoint in {output} for {seconds:.0f} s; "
            "start the chief, then run the same command again"
        )
