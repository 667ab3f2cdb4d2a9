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
      config: strides, width and batch normalization.
      patches: log-mel [batch, frames, bands].

    Returns:
      [batch, 4096 x width].
    """
    x = as_image(patches)  # [batch, 96, 64, 1]
    for stage, (filters, num_convolutions) in enumerate(_STAGES):
        for _ in range(num_convolutions):
            x = conv_batch_norm(
                x, scaled(filters, config.width), 3, momentum=config.batch_norm_momentum
            )
        # All strides of VGG are those of its pools. 2 x 1 is what the paper gave the first layer of
        # AlexNet; padding keeps the 64 bands.
        if stage == 0 and config.reduced_strides:
            x = layers.MaxPooling2D(2, (2, 1), padding="same")(x)
        else:
            x = layers.MaxPooling2D(2, 2)(x)
    x = layers.Flatten()(x)  # of [batch, 3, 2, 512], or [batch, 3, 4, 512] with reduced strides
    for units in _UNITS:
        x = dense_relu(x, scaled(units, config.width))
    return x
