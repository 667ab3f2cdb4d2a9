"""AlexNet for patches of 96 x 64 (section 3.3.2)."""

import tensorflow as tf
from tf_keras import layers

from training.config import AlexNet
from training.models.layers import as_image, conv_batch_norm, dense_relu, scaled

# Filters and kernel size of the convolutions after the first.
_FIRST_FILTERS, _SECOND, _OTHERS = 96, (256, 5), ((384, 3), (384, 3), (256, 3))
_UNITS = (4096, 4096)


def alexnet(config: AlexNet, patches: tf.Tensor) -> tf.Tensor:
    """All but the output layer; batch normalization in place of the published LRN, no groups.

    Args:
      config: width and batch normalization.
      patches: log-mel [batch, frames, bands].

    Returns:
      [batch, 4096 x width].
    """
    momentum, width = config.batch_norm_momentum, config.width
    x = as_image(patches)  # [batch, 96, 64, 1]
    # Published with a stride of 4; 2 x 1 keeps "the number of activations similar".
    x = conv_batch_norm(
        x, scaled(_FIRST_FILTERS, width), 11, strides=(2, 1), padding="valid", momentum=momentum
    )
    x = layers.MaxPooling2D(3, 2)(x)  # [batch, 21, 26, 96]
    filters, kernel_size = _SECOND
    x = conv_batch_norm(x, scaled(filters, width), kernel_size, momentum=momentum)
    x = layers.MaxPooling2D(3, 2)(x)  # [batch, 10, 12, 256]
    for filters, kernel_size in _OTHERS:
        x = conv_batch_norm(x, scaled(filters, width), kernel_size, momentum=momentum)
    x = layers.MaxPooling2D(3, 2)(x)  # [batch, 4, 5, 256]
    # The paper does not mention this pool. Without it there are 54M weights; with it, 37.3M weights
    # and 767M multiplies, both as the paper has them.
    x = layers.MaxPooling2D(2, 2)(x)  # [batch, 2, 2, 256]
    x = layers.Flatten()(x)
    for units in _UNITS:
        x = dense_relu(x, scaled(units, width))
    return x
