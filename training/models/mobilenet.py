"""MobileNet for patches of 96 x 64: the architecture of YAMNet (Howard et al. 2017, table 1)."""

import tensorflow as tf

from training.config import MobileNet
from training.models.layers import (
    as_image,
    conv_batch_norm,
    depthwise_batch_norm,
    pooled,
    scaled,
)

_FIRST_FILTERS = 32
# Stride of the 3 x 3 convolution of each channel, and filters of the 1 x 1 convolution that mixes
# the channels, of each block.
_BLOCKS = (
    *((1, 64), (2, 128), (1, 128), (2, 256), (1, 256)),
    *((2, 512), (1, 512), (1, 512), (1, 512), (1, 512), (1, 512)),
    *((2, 1024), (1, 1024)),
)


def mobilenet(config: MobileNet, patches: tf.Tensor) -> tf.Tensor:
    """All layers but the output.

    Args:
      config: width, pooling and batch normalization.
      patches: log-mel [batch, frames, bands].

    Returns:
      [batch, 1024 x width].
    """
    momentum = config.batch_norm_momentum
    x = as_image(patches)  # [batch, 96, 64, 1]
    x = conv_batch_norm(
        x, scaled(_FIRST_FILTERS, config.width), 3, strides=2, momentum=momentum
    )  # [batch, 48, 32, 32]
    for strides, filters in _BLOCKS:
        x = depthwise_batch_norm(x, strides=strides, momentum=momentum)
        x = conv_batch_norm(x, scaled(filters, config.width), 1, momentum=momentum)
    return pooled(x, config.pooling)  # of [batch, 3, 2, 1024]
