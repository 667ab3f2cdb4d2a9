"""Our networks in PyTorch, for comparison: each layer of tf-keras becomes the same of PyTorch.

PyTorch is no dependency; whoever imports this module needs it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tf_keras
import torch
from tf_keras import layers
from torch import nn
from torch.nn import functional

Apply = Callable[..., torch.Tensor]


class Network(nn.Module):
    """A network of tf-keras without its output, with channels last in memory.

    Attributes:
      logits: the output layer, which is float32 as in tf-keras, and so not part of `forward`.
    """

    def __init__(self, model: tf_keras.Model):
        """Translate `model`, with its weights.

        Args:
          model: from patches [batch, frames, bands] to `embedding` and `logits`.

        Raises:
          NotImplementedError: it has a layer that no network of ours has.
        """
        super().__init__()
        self._inputs = {layer.name: _parents(layer) for layer in model.layers}
        self._calls = {layer.name: self._translated(layer) for layer in model.layers}
        self.logits = _linear(model.get_layer("logits"))
        del self._calls["logits"]
        self.to(memory_format=torch.channels_last)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """[batch, frames, bands] to the embedding [batch, units]."""
        values: dict[str, torch.Tensor] = {}
        for name, call in self._calls.items():
            inputs = [values[parent] for parent in self._inputs[name]]
            values[name] = call(*(inputs or [patches]))
        return values["embedding"]

    def _translated(self, layer: Any) -> Apply:
        """The same layer, whose weights are parameters of this module."""
        apply = _translate(layer)
        if isinstance(apply, nn.Module):
            self.add_module(layer.name, apply)
        return apply


def _parents(layer: Any) -> list[str]:
    (node,) = layer.inbound_nodes
    found = node.inbound_layers
    return [parent.name for parent in (found if isinstance(found, Sequence) else [found])]


def _translate(layer: Any) -> Apply:
    match layer:
        case layers.InputLayer():
            return lambda patches: patches
        case layers.Reshape():
            return lambda patches: patches[:, None].to(memory_format=torch.channels_last)
        case layers.Conv2D():
            return _Convolution(layer)
        case layers.BatchNormalization():
            return nn.BatchNorm2d(layer.input_shape[-1], eps=layer.epsilon)
        case layers.ReLU():
            return nn.ReLU(inplace=True)
        case layers.Add():
            return torch.add
        case layers.Concatenate():
            return lambda *maps: torch.cat(maps, 1)
        case layers.MaxPooling2D():
            return _MaxPool(layer)
        case layers.AveragePooling2D():
            return _average_pool(layer)
        case layers.GlobalAveragePooling2D():
            return lambda maps: maps.mean((2, 3))
        case layers.Flatten():
            return _flatten
        case layers.Dense():
            linear = _linear(layer)
            return (
                nn.Sequential(linear, nn.ReLU()) if layer.activation.__name__ == "relu" else linear
            )
        case layers.Activation():
            return lambda embedding: embedding.float()
    raise NotImplementedError(type(layer).__name__)


class _Convolution(nn.Module):
    """A convolution without bias."""

    def __init__(self, layer: Any):
        super().__init__()
        assert not layer.use_bias
        # [rows, columns, inputs, outputs] to [outputs, inputs, rows, columns].
        kernel = torch.from_numpy(layer.get_weights()[0]).permute(3, 2, 0, 1)
        self.weight = nn.Parameter(kernel.contiguous(memory_format=torch.channels_last))
        self._strides = layer.strides
        self._padding = _padding(layer, layer.kernel_size)
        self._symmetric = _symmetric(self._padding)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        if self._symmetric is None:
            maps = functional.pad(maps, self._padding)
        return functional.conv2d(maps, self.weight, None, self._strides, self._symmetric or 0)


class _MaxPool(nn.Module):
    def __init__(self, layer: Any):
        super().__init__()
        self._size, self._strides = layer.pool_size, layer.strides
        self._padding = _padding(layer, layer.pool_size)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        if any(self._padding):
            maps = functional.pad(maps, self._padding)  # with 0, the least of a ReLU
        return functional.max_pool2d(maps, self._size, self._strides)


def _average_pool(layer: Any) -> nn.Module:
    symmetric = _symmetric(_padding(layer, layer.pool_size))
    assert symmetric is not None
    return nn.AvgPool2d(layer.pool_size, layer.strides, symmetric, count_include_pad=False)


def _padding(layer: Any, size: Sequence[int]) -> tuple[int, int, int, int]:
    """The padding of TensorFlow: left, right, above, below."""
    if layer.padding == "valid":
        return (0, 0, 0, 0)
    pads: list[int] = []
    # The order of torch.nn.functional.pad: the last axis first.
    for axis in (1, 0):
        length, stride = layer.input_shape[1 + axis], layer.strides[axis]
        total = max(0, (-(-length // stride) - 1) * stride + size[axis] - length)
        pads += [total // 2, total - total // 2]
    left, right, above, below = pads
    return (left, right, above, below)


def _symmetric(padding: tuple[int, int, int, int]) -> tuple[int, int] | None:
    """The padding as layers of PyTorch take it; None where it differs between the ends."""
    left, right, above, below = padding
    return (above, left) if (above, left) == (below, right) else None


def _flatten(values: torch.Tensor) -> torch.Tensor:
    if values.ndim == 4:
        values = values.permute(0, 2, 3, 1)  # the order of weights in tf-keras
    return values.flatten(1)


def _linear(layer: Any) -> nn.Linear:
    kernel, bias = (torch.from_numpy(weights) for weights in layer.get_weights())
    linear = nn.Linear(*kernel.shape)
    with torch.no_grad():
        linear.weight.copy_(kernel.T)
        linear.bias.copy_(bias)
    return linear
