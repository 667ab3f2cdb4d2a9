"""Inception V3 for patches of 96 x 64 (section 3.3.4)."""

from typing import NamedTuple

import tensorflow as tf
from tf_keras import layers

from training.config import InceptionV3
from training.models.layers import as_image, conv_batch_norm, pooled, scaled


class _Conv(NamedTuple):
    filters: int
    kernel_size: tuple[int, int]
    strides: int = 1


class _Fork(NamedTuple):
    """Two convolutions of the same input, whose outputs are concatenated."""

    first: _Conv
    second: _Conv


class _AveragePool(NamedTuple):
    """3 x 3, stride 1."""


class _MaxPool(NamedTuple):
    """3 x 3, stride 2."""


# A module is the concatenation of its branches, a branch a chain of steps.
_Branch = tuple[_Conv | _Fork | _AveragePool | _MaxPool, ...]
_Module = tuple[_Branch, ...]


def _module_a(pool_filters: int) -> _Module:
    return (
        (_Conv(64, (1, 1)),),
        (_Conv(48, (1, 1)), _Conv(64, (5, 5))),
        (_Conv(64, (1, 1)), _Conv(96, (3, 3)), _Conv(96, (3, 3))),
        (_AveragePool(), _Conv(pool_filters, (1, 1))),
    )


def _module_b(filters: int) -> _Module:
    """7 x 7 convolutions as 1 x 7 and 7 x 1."""
    return (
        (_Conv(192, (1, 1)),),
        (_Conv(filters, (1, 1)), _Conv(filters, (1, 7)), _Conv(192, (7, 1))),
        (
            _Conv(filters, (1, 1)),
            _Conv(filters, (7, 1)),
            _Conv(filters, (1, 7)),
            _Conv(filters, (7, 1)),
            _Conv(192, (1, 7)),
        ),
        (_AveragePool(), _Conv(192, (1, 1))),
    )


# Filters and padding of the 3 x 3 convolutions at the start of the published stem.
_FIRST_CONVOLUTIONS = ((32, "valid"), (32, "valid"), (64, "same"))
_FORK = _Fork(_Conv(384, (1, 3)), _Conv(384, (3, 1)))
_MODULE_C: _Module = (
    (_Conv(320, (1, 1)),),
    (_Conv(384, (1, 1)), _FORK),
    (_Conv(448, (1, 1)), _Conv(384, (3, 3)), _FORK),
    (_AveragePool(), _Conv(192, (1, 1))),
)
_REDUCTION_A: _Module = (
    (_Conv(384, (3, 3), strides=2),),
    (_Conv(64, (1, 1)), _Conv(96, (3, 3)), _Conv(96, (3, 3), strides=2)),
    (_MaxPool(),),
)
_REDUCTION_B: _Module = (
    (_Conv(192, (1, 1)), _Conv(320, (3, 3), strides=2)),
    (_Conv(192, (1, 1)), _Conv(192, (1, 7)), _Conv(192, (7, 1)), _Conv(192, (3, 3), strides=2)),
    (_MaxPool(),),
)
_MODULES = (
    *(_module_a(32), _module_a(64), _module_a(64)),  # [batch, 46, 30, 288] at the end
    _REDUCTION_A,
    *(_module_b(128), _module_b(160), _module_b(160), _module_b(192)),  # [batch, 22, 14, 768]
    _REDUCTION_B,
    *(_MODULE_C, _MODULE_C),  # [batch, 10, 6, 2048]
)


def inception_v3(config: InceptionV3, patches: tf.Tensor) -> tf.Tensor:
    """All layers but the output, without the auxiliary network.

    Args:
      config: stem, width and batch normalization.
      patches: log-mel [batch, frames, bands].

    Returns:
      [batch, 2048 x width].
    """
    momentum, width = config.batch_norm_momentum, config.width
    x = as_image(patches)  # [batch, 96, 64, 1]
    # The paper removed the first three convolutions of the stem and its max pool. It also tried to
    # keep the convolutions, without the first stride of 2: then x is [batch, 92, 60, 64].
    if config.whole_stem:
        for filters, padding in _FIRST_CONVOLUTIONS:
            x = conv_batch_norm(x, scaled(filters, width), 3, padding=padding, momentum=momentum)
    if not config.lean_stem:
        x = conv_batch_norm(x, scaled(80, width), 1, momentum=momentum)
    x = conv_batch_norm(x, scaled(192, width), 3, padding="valid", momentum=momentum)
    x = layers.MaxPooling2D(3, 2)(x)  # [batch, 46, 30, 192], or [batch, 44, 28, 192]
    for module in _MODULES:
        branches = [_branch(x, branch, config) for branch in module]
        x = layers.Concatenate()(branches)
    # The average pool of 10 x 6 in the paper covers the whole map, with the whole stem too.
    return pooled(x, config.pooling)


def _branch(x: tf.Tensor, branch: _Branch, config: InceptionV3) -> tf.Tensor:
    def convolved(conv: _Conv) -> tf.Tensor:
        return conv_batch_norm(
            x,
            scaled(conv.filters, config.width),
            conv.kernel_size,
            strides=conv.strides,
            padding="same" if conv.strides == 1 else "valid",
            momentum=config.batch_norm_momentum,
        )

    for step in branch:
        match step:
            case _Conv():
                x = convolved(step)
            case _Fork():
                x = layers.Concatenate()([convolved(step.first), convolved(step.second)])
            case _AveragePool():
                x = layers.AveragePooling2D(3, 1, padding="same")(x)
            case _MaxPool():
                x = layers.MaxPooling2D(3, 2)(x)
    return x
