"""Validation beside a run of several processes: it reads their checkpoints, and nothing else."""

import tensorflow as tf

from features import contract, storage
from training.checkpoints import FOLDER, BestCheckpoint, restore_weights, step_of
from training.config import Recipe
from training.data import FeatureSet, validation_batches
from training.progress import Curves
from training.step import fresh_model
from training.validation import inference, validate
from training.watchdog import LostPeerError, Watchdog


def validate_checkpoints(
    recipe: Recipe, features: FeatureSet, output: str, *, watchdog: Watchdog
) -> None:
    """Validate every checkpoint that comes, until the run is finished.

    Raises:
      LostPeerError: none comes for longer than the chief takes from one to the next.
    """
    validation_set = validation_batches(features, recipe)
    if validation_set is None:
        return
    model = fresh_model(recipe, features)
    logits_of = inference(model, features.front_end.storage)
    best = BestCheckpoint(output, model)
    curves = Curves(output)
    seconds = 60 * recipe.checkpoint_minutes + watchdog.seconds
    for path in tf.train.checkpoints_iterator(storage.join(output, FOLDER), timeout=seconds):
        try:
            restore_weights(path, model)
        except tf.errors.NotFoundError:  # replaced by newer ones meanwhile
            continue
        metrics = validate(logits_of, validation_set)
        curves.write_validation(step_of(path), metrics)
        best.offer(step_of(path), metrics)
        if contract.find_root(output, contract.RUN):
            return
    raise LostPeerError(
        f"the evaluator has seen no new checkpoint in {output} for {seconds:.0f} s; "
        "start the chief, then run the same command again"
    )
