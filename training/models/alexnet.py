"""AlexNet for patches of 96 x 64 (section 3.3.2)."""

import tensorflow as tf
from tf_keras import layers

from training.config import AlexNet
from training.models.layers import as_image, conv_batch_norm, dense_relu, scaled

# Filters, kernel size, strides, padding, and whether a 3 x 3 max pool of stride 2 follows.
_CONVOLUTIONS = (
    # Published with a stride of 4; 2 x 1 keeps "the number of activations similar".
    (96, 11, (2, 1), "valid", True),
    (256, 5, 1, "same", True),
    (384, 3, 1, "same", False),
    (384, 3, 1, "same", False),
    (256, 3, 1, "same", True),
)
_UNITS = (4096, 4096)


def alexnet(config: AlexNet, patches: tf.Tensor) -> tf.Tensor:
    """All layers but the output; batch normalization replaces the published LRN; no groups.

    Args:
      config: width and batch normalization.
      patches: log-mel [batch, frames, bands].

    Returns:
      [batch, 4096 x width].
    """
    x = as_image(patches)  # [batch, 96, 64, 1]
    for filters, kernel_size, strides, padding, pools in _CONVOLUTIONS:
        x = conv_batch_norm(
            x,
            scaled(filters, config.width),
            kernel_size,
            strides=strides,
            padding=padding,
            momentum=config.batch_norm_momentum,
        )  # [batch, 43, 54, 96] first, [batch, 10, 12, 256] last
        if pools:
            x = layers.MaxPooling2D(3, 2)(x)  # [batch, 4, 5, 256] last
    # The paper does not mention this pool. Without it the network has 54M weights; with it, the
    # 37.3M weights and 767M multiplies of the paper.
    x = layers.MaxPooling2D(2, 2)(x)  # [batch, 2, 2, 256]
    x = layers.Flatten()(x)
    for units in _UNITS:
        x = dense_relu(x, scaled(units, config.width))
    return x
