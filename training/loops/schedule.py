"""The learning rate of every step."""

import math

import tensorflow as tf
import tf_keras

from training.config import Recipe


class LearningRate(tf_keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of a recipe, cut by a factor after given steps (section 4.1).

    Optionally the rate rises from 0 in the first steps (warm-up: Goyal et al. 2017, section 2.2)
    and then falls to 0 along half a cosine (Loshchilov and Hutter 2017, without restarts). The
    paper does neither.
    """

    def __init__(self, recipe: Recipe):
        self._initial, self._cuts = recipe.learning_rate, recipe.learning_rate_cuts
        self._steps, self._cosine = recipe.steps, recipe.options.cosine
        self._warm_up_steps = recipe.options.warm_up * recipe.steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """The rate after `step` steps, float32."""
        rate = tf.constant(self._initial, tf.float32)
        for cut, factor in self._cuts:
            rate *= tf.where(step >= cut, factor, 1.0)
        done = tf.cast(step, tf.float32)
        if self._warm_up_steps:
            # + 1: the first step learns, too.
            rate *= tf.minimum(1.0, (done + 1) / self._warm_up_steps)
        if self._cosine:
            falling = (done - self._warm_up_steps) / (self._steps - self._warm_up_steps)
            rate *= 0.5 + 0.5 * tf.cos(math.pi * tf.clip_by_value(falling, 0.0, 1.0))
        return rate
