"""Weights and multiplies of a network, for comparison with section 3.3."""

import dataclasses
import math

import tf_keras
from tf_keras import layers


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of convolutions and dense layers, without biases and normalization.

    Attributes:
      weights: of the network.
      multiplies: of one patch.
    """

    weights: int
    multiplies: int


def cost_of(model: tf_keras.Model) -> Cost:
    """Count the weights of the kernels, and a multiply of each for every output position."""
    weights = multiplies = 0
    for layer in model.layers:
        match layer:
            case layers.DepthwiseConv2D():
                kernel = layer.depthwise_kernel
            case layers.Conv2D() | layers.Dense():
                kernel = layer.kernel
            case _:
                continue
        num_weights = math.prod(kernel.shape)
        weights += num_weights
        multiplies += num_weights * math.prod(layer.output_shape[1:-1])
    return Cost(weights, multiplies)
