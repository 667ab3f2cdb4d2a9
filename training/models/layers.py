"""Layers that several networks share.

Only layers that tf-keras and Keras 3 have in common and call in the same way, so that the networks
run on both; `BatchNormalization` is fused in tf-keras alone.
"""

import functools

import tensorflow as tf
import tf_keras
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
    frames, bands = patches.shape[1:]
    return layers.Reshape((-1 if frames is None else frames, bands, 1))(patches)


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
    x = BatchNormalization(momentum=momentum)(x)
    return layers.ReLU()(x) if relu else x


def depthwise_batch_norm(inputs: tf.Tensor, *, strides: int = 1, momentum: float) -> tf.Tensor:
    """A 3 x 3 convolution of each channel by itself, batch normalization and a ReLU.

    Args:
      inputs: [batch, frames, bands, channels].
      strides: in both directions.
      momentum: share of the old moving statistics that a step keeps.

    Returns:
      [batch, frames, bands, channels], with fewer frames and bands by strides.
    """
    x = layers.DepthwiseConv2D(
        3, strides, padding="same", use_bias=False, depthwise_initializer="he_normal"
    )(inputs)
    return layers.ReLU()(BatchNormalization(momentum=momentum)(x))


class BatchNormalization(layers.BatchNormalization):
    """Batch normalization of images that leaves its moving statistics to `move_statistics`.

    That of Keras overwrites them by what they were at the start of the step, moved by the batch:
    asynchronous workers lose the moves of all others in between, and a step that fails because
    something is not finite has already spoilt the statistics.

    Attributes:
      batch_statistics: mean and variance of the last batch in training, [channels] each.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Normalise [batch, frames, bands, channels]."""
        if not training:
            return super().call(inputs, training=training)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, self.gamma, self.beta, epsilon=self.epsilon
        )
        count = tf.cast(tf.size(inputs) / inputs.shape[-1], variance.dtype)
        # The operation divides by count - 1, inference by moving statistics takes the plain mean.
        self.batch_statistics = (mean, variance * ((count - 1) / count))
        return outputs


def move_statistics(model: tf_keras.Model, num_moves: tf.Tensor) -> None:
    """Move the statistics of batch normalization by the last batch, to be called in a graph.

    A move takes a share of 1 - momentum, or of 1 / (moves + 1) while that is more: the statistics
    are the mean of all batches at first, and never keep anything of their initial values. The
    device that holds a statistic moves it from its value at that moment, so that the moves of
    asynchronous workers add up as if one worker made them. A share of a difference that was read a
    step ago would instead be late by a step of every other worker: unstable beyond 15 workers at a
    momentum of 0.9.

    Args:
      model: called with `training=True` before.
      num_moves: moves so far; with asynchronous workers, those known to this one.
    """

    @functools.cache  # one number to send to parameter servers, and not one a layer
    def share(momentum: float) -> tf.Tensor:
        return tf.maximum(1.0 - momentum, 1.0 / (tf.cast(num_moves, tf.float32) + 1.0))

    for layer in model.layers:
        if not isinstance(layer, BatchNormalization):
            continue
        moving = (layer.moving_mean, layer.moving_variance)
        for statistic, of_batch in zip(moving, layer.batch_statistics, strict=True):
            step = share(layer.momentum)
            with tf.device(statistic.device), tf.control_dependencies([of_batch, step]):
                statistic.assign_sub(step * (statistic.read_value() - of_batch))


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

    The sigmoid (section 3.1), or the softmax, is part of the loss, where it is numerically stable,
    and of the export. Both outputs are float32, whatever the precision of the layers below.

    Args:
      embedding: [batch, units], the last hidden layer.
      num_labels: outputs.

    Returns:
      `embedding` [batch, units] and `logits` [batch, labels].
    """
    embedding = layers.Activation("linear", dtype="float32", name=EMBEDDING)(embedding)
    logits = layers.Dense(num_labels, dtype="float32", name=LOGITS)(embedding)
    return {EMBEDDING: embedding, LOGITS: logits}
