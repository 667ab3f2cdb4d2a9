"""VGG, configuration E, for patches of 96 x 64 (section 3.3.3)."""

import tensorflow as tf
from tf_keras import layers

from training.config import Vgg
from training.models.layers import as_image, conv_batch_norm, dense_relu, scaled

# Filters and number of 3 x 3 convolutions, of each stage of configuration E.
_STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
_UNITS = (4096, 4096)


def vgg(config: Vgg, patches: tf.Tensor) -> tf.Tensor:
    """All layers but the output.

    Args:
      config: width and batch normalization.
      patches: log-mel [batch, frames, bands].

    Returns:
      [batch, 4096 x width].
    """
    x = as_image(patches)  # [batch, 96, 64, 1]
    for filters, num_convolutions in _STAGES:
        for _ in range(num_convolutions):
            x = conv_batch_norm(
                x, scaled(filters, config.width), 3, momentum=config.batch_norm_momentum
            )
        x = layers.MaxPooling2D(2, 2)(x)
    x = layers.Flatten()(x)  # of [batch, 3, 2, 512]
    for units in _UNITS:
        x = dense_relu(x, scaled(units, config.width))
    return x
