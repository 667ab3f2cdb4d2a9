"""The fully connected baseline (section 3.3.1)."""

import tensorflow as tf
from tf_keras import layers

from training.config import FullyConnected
from training.models.layers import scaled


def fully_connected(config: FullyConnected, patches: tf.Tensor) -> tf.Tensor:
    """The hidden layers.

    Args:
      config: their number and units.
      patches: log-mel [batch, frames, bands].

    Returns:
      [batch, units]. There is no batch normalization: it follows convolutions (section 3.1).
    """
    x = layers.Flatten()(patches)
    for _ in range(config.num_layers):
        x = layers.Dense(
            scaled(config.units, config.width), activation="relu", kernel_initializer="he_normal"
        )(x)
    return x
