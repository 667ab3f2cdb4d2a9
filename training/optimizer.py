"""Adam (section 3.1), with cuts of the learning rate after given steps (section 4.1)."""

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


def adam(recipe: Recipe) -> tf_keras.optimizers.Optimizer:
    """The optimizer; its `iterations` count the steps done.

    The paper is silent on Adam's other parameters: they are those of its publication (epsilon:
    Keras's). Keras's `legacy` optimizer updates a variable in one fused operation, which the newer
    one does in a dozen; on the fully connected network that is a quarter of the time of a step.
    """
    return tf_keras.optimizers.legacy.Adam(LearningRate(recipe))
