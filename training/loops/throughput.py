"""The speed at which this machine trains a network, without the input pipeline."""

import time

import numpy as np
import tensorflow as tf

from features.front_end.front_end import FrontEnd
from training.config import Recipe
from training.input.augmentation import draw
from training.input.batches import Batch
from training.loops.optimizer import adam
from training.loops.step import replica_step
from training.models.build import build_model

_LEAST_STEPS, _LEAST_SECONDS = 2, 3.0


def patches_per_second(recipe: Recipe, *, num_labels: int, patch_shape: tuple[int, ...]) -> float:
    """Measure the training steps of a recipe on one batch that stays in memory.

    The first step, which builds the graph, does not count.

    Args:
      recipe: its network, batch size, precision and optimizer.
      num_labels: outputs.
      patch_shape: of the input.
    """
    model = build_model(
        recipe.model, num_labels=num_labels, patch_shape=patch_shape, precision=recipe.precision
    )
    optimizer = adam(recipe, model.trainable_variables)
    rng = np.random.default_rng(recipe.seed)
    batch = Batch(
        tf.constant(rng.integers(0, 256, (recipe.batch_size, *patch_shape)).astype(np.uint8)),
        tf.constant(rng.integers(0, num_labels, (recipe.batch_size, 1)), tf.int32),
        tf.constant(["video"] * recipe.batch_size),
        tf.stack(
            [draw(recipe.options, [recipe.seed, place]) for place in range(recipe.batch_size)]
        ),
    )
    step = tf.function(replica_step(model, optimizer, FrontEnd(resampler="none"), recipe.options))
    step(batch).numpy()
    start, num_steps = time.perf_counter(), 0
    while num_steps < _LEAST_STEPS or time.perf_counter() - start < _LEAST_SECONDS:
        step(batch).numpy()  # waits for the device
        num_steps += 1
    return num_steps * recipe.batch_size / (time.perf_counter() - start)
