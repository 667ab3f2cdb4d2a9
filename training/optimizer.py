"""Adam (section 3.1), with cuts of the learning rate after given steps (section 4.1)."""

from collections.abc import Sequence

import tensorflow as tf
import tf_keras

from training.config import Recipe


class LearningRate(tf_keras.optimizers.schedules.LearningRateSchedule):
    """A constant rate, multiplied by a factor after each of some steps."""

    def __init__(self, recipe: Recipe):
        self._initial, self._cuts = recipe.learning_rate, recipe.learning_rate_cuts

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """The rate after `step` steps, float32."""
        rate = tf.constant(self._initial, tf.float32)
        for cut, factor in self._cuts:
            rate *= tf.where(step >= cut, factor, 1.0)
        return rate


def adam(recipe: Recipe, weights: Sequence[tf.Variable]) -> tf_keras.optimizers.Optimizer:
    """The optimizer of some weights; its `iterations` count the steps done.

    The paper is silent on Adam's other parameters: they are those of its publication (epsilon:
    Keras's). Keras's `legacy` optimizer updates a variable in one fused operation, which the newer
    one does in a dozen; on the fully connected network that is a quarter of the time of a step. On
    parameter servers the operation runs where the variable and its moments are, under its lock.
    """
    optimizer = tf_keras.optimizers.legacy.Adam(LearningRate(recipe))
    # Not in the first step: a graph that runs on a worker cannot make variables on a server.
    optimizer._create_all_weights(weights)
    return optimizer
