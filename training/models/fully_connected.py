"""The fully connected baseline (section 3.3.1)."""

import tensorflow as tf
from tf_keras import layers

from training.config import FullyConnected
from training.models.layers import dense_relu, scaled


def fully_connected(config: FullyConnected, patches: tf.Tensor) -> tf.Tensor:
    """The hidden layers.

    Args:
      config: their number and units.
      patches: log-mel [batch, frames, bands], or embeddings [batch, units].

    Returns:
      [batch, units].
    """
    x = layers.Flatten()(patches)
    for _ in range(config.num_layers):
        x = dense_relu(x, scaled(config.units, config.width))
    return x
