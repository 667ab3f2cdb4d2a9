"""Layers that several networks share.

Only layers that tf-keras and Keras 3 have in common and call in the same way, so that the networks
run on both.
"""

import tensorflow as tf
from tf_keras import layers
from tf_keras.initializers import Constant

from features.contracts.export import EMBEDDING, LOGITS
from training.config import Pooling


def scaled(channels: int, width: float) -> int:
    """Channels of a wider or narrower network: multiples of eight, which vector units prefer."""
    if width == 1.0:
        return channels
    return max(8, 8 * round(channels * width / 8))


def as_image(patches: tf.Tensor) -> tf.Tensor:
    """Reshape patches [batch, frames, bands] to images of one channel [batch, frames, bands, 1]."""
    return layers.Reshape((*patches.shape[1:], 1))(patches)


def conv_batch_norm(
    inputs: tf.Tensor,
    filters: int,
    kernel_size: int | tuple[int, int],
    *,
    strides: int | tuple[int, int] = 1,
    padding: str = "same",
    momentum: float,
    relu: bool = True,
) -> tf.Tensor:
    """A convolution and batch normalization, "after all convolutional layers" (section 3.1).

    Args:
      inputs: [batch, frames, bands, channels].
      filters: output channels.
      kernel_size: in both directions, or over frames and over bands.
      strides: likewise.
      padding: "same" or "valid".
      momentum: share of the old moving statistics that a step keeps.
      relu: whether a ReLU follows.

    Returns:
      [batch, frames, bands, filters], with fewer frames and bands by strides and padding.
    """
    x = layers.Conv2D(
        filters,
        kernel_size,
        strides,
        padding=padding,
        use_bias=False,  # the normalization subtracts any bias
        kernel_initializer="he_normal",
    )(inputs)
    x = layers.BatchNormalization(momentum=momentum)(x)
    return layers.ReLU()(x) if relu else x


def pooled(inputs: tf.Tensor, pooling: Pooling) -> tf.Tensor:
    """Pool the last maps to one vector.

    Args:
      inputs: [batch, frames, bands, channels], non-negative.
      pooling: the average, as in the paper; the generalised mean, between average and maximum with
        a learned power; or attention, an average with learned weights of the places.

    Returns:
      [batch, channels].
    """
    match pooling:
        case "average":
            return layers.GlobalAveragePooling2D()(inputs)
        case "generalised_mean":
            return GeneralisedMean(dtype="float32")(inputs)
        case "attention":
            places = layers.Reshape((-1, inputs.shape[-1]))(inputs)
            # Initially 0: the average.
            scores = layers.Dense(1, kernel_initializer="zeros", dtype="float32")(places)
            weights = layers.Softmax(axis=1, dtype="float32")(scores)  # [batch, places, 1]
            weighted = layers.Dot(axes=1, dtype="float32")([weights, places])
            return layers.Flatten()(weighted)


class GeneralisedMean(layers.Layer):
    """(mean of x^p)^(1/p) over frames and bands (Radenovic et al. 2018); p is learned, initially 3.

    Values are divided by the greatest value of their map, so that no power overflows.
    """

    _SMALLEST = 1e-6  # of a divided value, as the gradient at 0 is infinite

    def build(self, input_shape: tf.TensorShape) -> None:
        """Create p, the same for all channels."""
        self.power = self.add_weight("power", shape=[], initializer=Constant(3.0))
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """[batch, frames, bands, channels] to [batch, channels]."""
        greatest = tf.reduce_max(inputs, axis=[1, 2], keepdims=True)
        greatest = tf.maximum(tf.stop_gradient(greatest), self._SMALLEST)
        powers = tf.maximum(inputs / greatest, self._SMALLEST) ** self.power
        mean = tf.reduce_mean(powers, axis=[1, 2]) ** (1 / self.power)
        return greatest[:, 0, 0] * mean


def dense_relu(inputs: tf.Tensor, units: int) -> tf.Tensor:
    """A fully connected layer of ReLUs, [batch, inputs] to [batch, units].

    Without batch normalization, which follows convolutions only (section 3.1).
    """
    return layers.Dense(units, activation="relu", kernel_initializer="he_normal")(inputs)


def embedding_and_logits(embedding: tf.Tensor, num_labels: int) -> dict[str, tf.Tensor]:
    """The two outputs of every network.

    The sigmoid (section 3.1) is part of the loss, where it is numerically stable, and of the
    export. Both outputs are float32, whatever the precision of the layers below.

    Args:
      embedding: [batch, units], the last hidden layer.
      num_labels: outputs.

    Returns:
      `embedding` [batch, units] and `logits` [batch, labels].
    """
    embedding = layers.Activation("linear", dtype="float32", name=EMBEDDING)(embedding)
    logits = layers.Dense(num_labels, dtype="float32", name=LOGITS)(embedding)
    return {EMBEDDING: embedding, LOGITS: logits}
