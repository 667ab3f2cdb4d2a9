"""Adam (section 3.1)."""

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras

from training.config import Recipe
from training.loops.schedule import LearningRate


class _Adam(tf_keras.optimizers.legacy.Adam):
    """With decoupled weight decay (Loshchilov and Hutter 2019) of kernels.

    Biases and batch normalization are left alone. The decay is not in the gradient, so Adam does
    not divide it by how much the gradient varies.
    """

    def __init__(self, learning_rate: LearningRate, weight_decay: float):
        super().__init__(learning_rate)
        self._weight_decay = weight_decay

    def _resource_apply_dense(
        self, grad: tf.Tensor, var: tf.Variable, apply_state: Mapping
    ) -> tf.Operation:
        if not self._weight_decay or var.shape.rank < 2:
            return super()._resource_apply_dense(grad, var, apply_state)
        rate = apply_state[var.device, var.dtype.base_dtype]["lr_t"]
        decay = var.assign_sub(rate * self._weight_decay * var, use_locking=self._use_locking)
        with tf.control_dependencies([decay]):
            return super()._resource_apply_dense(grad, var, apply_state)


def adam(recipe: Recipe, weights: Sequence[tf.Variable]) -> tf_keras.optimizers.Optimizer:
    """The optimizer of some weights; its `iterations` count the steps done.

    The paper is silent on Adam's other parameters: they are those of its publication (epsilon:
    Keras's). Keras's `legacy` optimizer updates a variable in one fused operation, which the newer
    one does in a dozen; on the fully connected network that is a quarter of the time of a step. On
    parameter servers the operation runs where the variable and its moments are, under its lock.
    """
    optimizer = _Adam(LearningRate(recipe), recipe.options.weight_decay)
    # Not in the first step: a graph that runs on a worker cannot make variables on a server.
    optimizer._create_all_weights(weights)
    return optimizer
