"""Adam (section 3.1)."""

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras

from training.config import Recipe
from training.loops.schedule import LearningRate


class _Adam(tf_keras.optimizers.legacy.Adam):
    """Adam with decoupled weight decay of kernels (Loshchilov and Hutter 2019).

    Biases and batch normalization do not decay. The decay is not part of the gradient, so Adam does
    not divide it by the variation of the gradient.
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
    """The optimizer of these weights; its `iterations` count the steps done.

    The paper does not give the other parameters of Adam: ours are those of its publication, with
    the epsilon of Keras. The `legacy` optimizer of Keras updates a variable in one fused operation;
    the newer one takes a dozen, which on the fully connected network cost a quarter of a step. On
    parameter servers the operation runs beside the variable and its moments, under its lock.
    """
    optimizer = _Adam(LearningRate(recipe), recipe.options.weight_decay)
    # Before the first step: a graph on a worker cannot create variables on a server.
    optimizer._create_all_weights(weights)
    return optimizer
