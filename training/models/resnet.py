"""ResNet-50 for patches of 96 x 64 (section 3.3.5)."""

import tensorflow as tf
from tf_keras import layers

from training.config import ResNet50
from training.models.layers import as_image, conv_batch_norm, pooled, scaled

# Filters of the 3 x 3 convolution and number of blocks, of each stage of ResNet-50.
_STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
_EXPANSION = 4  # a block's output has four times the filters of its 3 x 3


def resnet50(config: ResNet50, patches: tf.Tensor) -> tf.Tensor:
    """All layers but the output.

    Args:
      config: width and batch normalization.
      patches: log-mel [batch, frames, bands].

    Returns:
      [batch, 2048 x width].
    """
    momentum = config.batch_norm_momentum
    x = as_image(patches)  # [batch, 96, 64, 1]
    # Published with a stride of 2; the paper removed it "so that the number of activations was
    # not too different" on a smaller input.
    x = conv_batch_norm(x, scaled(64, config.width), 7, momentum=momentum)
    x = layers.MaxPooling2D(3, 2, padding="same")(x)  # [batch, 48, 32, 64]
    for stage, (filters, num_blocks) in enumerate(_STAGES):
        for block in range(num_blocks):
            strides = 2 if block == 0 and stage > 0 else 1
            x = _block(x, scaled(filters, config.width), strides=strides, momentum=momentum)
    # [batch, 6, 4, 2048]; the average pool of 6 x 4 in the paper covers the whole map.
    return pooled(x, config.pooling)


def _block(inputs: tf.Tensor, filters: int, *, strides: int, momentum: float) -> tf.Tensor:
    """A bottleneck block: 1 x 1, 3 x 3, 1 x 1, and a shortcut around them.

    The stride is in the first 1 x 1, as first published, which gives the 1.9B multiplies.
    """
    outputs = _EXPANSION * filters
    x = conv_batch_norm(inputs, filters, 1, strides=strides, momentum=momentum)
    x = conv_batch_norm(x, filters, 3, momentum=momentum)
    x = conv_batch_norm(x, outputs, 1, momentum=momentum, relu=False)
    shortcut = inputs
    if strides != 1 or inputs.shape[-1] != outputs:
        shortcut = conv_batch_norm(
            inputs, outputs, 1, strides=strides, momentum=momentum, relu=False
        )
    return layers.ReLU()(layers.Add()([x, shortcut]))
