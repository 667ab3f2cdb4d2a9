"""Weights and multiplies of a built network, for comparison with section 3.3."""

import dataclasses
import math

import tf_keras
from tf_keras import layers


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of convolutions and dense layers; biases and normalization are not worth counting."""

    weights: int
    multiplies: int  # for one patch


def cost_of(model: tf_keras.Model) -> Cost:
    """Count the kernels' weights, and how often each is used: once for every output position."""
    weights = multiplies = 0
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D | layers.Dense):
            positions = math.prod(layer.output_shape[1:-1])
            weights += math.prod(layer.kernel.shape)
            multiplies += math.prod(layer.kernel.shape) * positions
    return Cost(weights, multiplies)
