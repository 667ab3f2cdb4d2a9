"""Validation beside a run of several processes: it reads their checkpoints, and nothing else."""

import time

import tensorflow as tf

from features.contracts import folders
from features.contracts.documents import Run
from features.storage import files
from training.config import Recipe
from training.distributed.watchdog import LostPeerError, Watchdog
from training.input.batches import FeatureSet, validation_batches
from training.loops.checkpoints import (
    FOLDER,
    BestCheckpoint,
    restore_weights,
    served_part,
    step_of,
)
from training.loops.progress import Curves
from training.loops.step import fresh_model
from training.loops.validation import inference, validate

_POLL_SECONDS = 10.0


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
    seen_at = time.monotonic()

    def is_over() -> bool:
        finished = folders.find_document(output, Run) is not None
        return finished or time.monotonic() > seen_at + seconds

    folder = files.join(output, FOLDER)
    for path in tf.train.checkpoints_iterator(folder, timeout=_POLL_SECONDS, timeout_fn=is_over):
        seen_at = time.monotonic()
        try:
            restore_weights(path, model, served_part(recipe))
        except tf.errors.NotFoundError:  # replaced by newer ones meanwhile
            continue
        metrics = validate(logits_of, validation_set)
        curves.write_validation(step_of(path), metrics)
        best.offer(step_of(path), metrics)
    if folders.find_document(output, Run) is None:
        raise LostPeerError(
            f"the evaluator has seen no new checkpoint in {output} for {seconds:.0f} s; "
            "start the chief, then run the same command again"
        )
