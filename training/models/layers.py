"""What several networks are made of."""

import tensorflow as tf
from tf_keras import layers


def scaled(channels: int, width: float) -> int:
    """Channels of a wider or narrower network, in eights, as vector units like them."""
    return max(8, 8 * round(channels * width / 8))


def conv_batch_norm(
    inputs: tf.Tensor,
    filters: int,
    kernel_size: int,
    *,
    strides: int = 1,
    momentum: float,
) -> tf.Tensor:
    """Convolution, then batch normalization, as "after all convolutional layers" (section 3.1).

    Args:
      inputs: [batch, frames, bands, channels].
      filters: output channels.
      kernel_size: of the square kernel.
      strides: in both directions.
      momentum: share of the old moving statistics that a step keeps.

    Returns:
      [batch, frames / strides, bands / strides, filters].
    """
    outputs = layers.Conv2D(
        filters,
        kernel_size,
        strides,
        padding="same",
        use_bias=False,  # the normalization subtracts any bias
        kernel_initializer="he_normal",
    )(inputs)
    return layers.BatchNormalization(momentum=momentum)(outputs)


def embedding_and_logits(embedding: tf.Tensor, num_labels: int) -> dict[str, tf.Tensor]:
    """The two outputs of every network.

    The sigmoid (section 3.1) is in the loss and in the export, where it can be computed safely.
    Both outputs are float32 whatever the precision of the layers below.

    Args:
      embedding: [batch, units], the last hidden layer.
      num_labels: outputs.

    Returns:
      `embedding` [batch, units] and `logits` [batch, labels].
    """
    embedding = layers.Activation("linear", dtype="float32", name="embedding")(embedding)
    logits = layers.Dense(num_labels, dtype="float32", name="logits")(embedding)
    return {"embedding": embedding, "logits": logits}
