"""Claim: with fused batch normalization ResNet-50 and Inception V3 train 1.7 times faster.

The peer is Keras 3 on TensorFlow, whose batch normalization is a dozen operations. It builds the
networks from the very same code, with `keras` in the place of `tf_keras`, in a process of its own.
Both start from the same weights and must give the same logits, and the same loss after the steps.
Where PyTorch is installed (it is no dependency), the same ResNet-50 trains in it too, on the same
weights, with channels last.

Training steps at the paper's 3,087 labels: forward, backward and Adam, on one core.

    python -m tests.benchmarks.batch_norm --quick
"""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.benchmarks.measurement import Lane, is_quick, markdown, median_of, report

NETWORKS = ("resnet50", "inception_v3")
NUM_LABELS, LABELS_PER_PATCH = 3_087, 5
PATCH_SHAPE = (96, 64)
LEARNING_RATE, EPSILON = 1e-4, 1e-7
# Relative differences of the logits of the first step, and of the loss after the last.
TOLERANCES = {"float32": (1e-3, 1e-3), "bfloat16": (0.1, 0.02)}

_steps: dict[tuple[str, str], Callable[[], float]] = {}


def batch(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-mel float32 [size, 96, 64] and label ids int64 [size, 5]."""
    rng = np.random.default_rng(0)
    ids = [rng.choice(NUM_LABELS, LABELS_PER_PATCH, replace=False) for _ in range(size)]
    return rng.normal(-2, 1, (size, *PATCH_SHAPE)).astype(np.float32), np.sort(ids)


def kernels(shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """The same weights for every framework: float32 of TensorFlow's shapes (inputs before outputs)."""
    rng = np.random.default_rng(1)
    return [
        rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape).astype(np.float32)
        for shape in shapes
    ]


def use_keras_3() -> None:
    """Let the code of the networks find Keras 3 where it looks for tf-keras."""
    import keras
    import tf_keras

    keras.optimizers.legacy = tf_keras.optimizers.legacy
    sys.modules["tf_keras"] = keras


def build_in_tensorflow(network: str, precision: str, size: int) -> np.ndarray:
    """Make the step of a network; returns the logits of the batch in training."""
    import tensorflow as tf
    import tf_keras

    from training.loss import sigmoid_cross_entropy
    from training.models.build import build_model
    from training.recipes import find_recipe

    if not _steps:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    model = build_model(
        find_recipe(network).model,
        num_labels=NUM_LABELS,
        patch_shape=PATCH_SHAPE,
        precision=precision,
    )
    layers = [layer for layer in model.layers if hasattr(layer, "kernel")]
    # In the order of their making; Keras's own order of layers differs between its versions.
    layers.sort(key=lambda layer: (layer.name == "logits", len(layer.name), layer.name))
    for layer, kernel in zip(layers, kernels([tuple(l.kernel.shape) for l in layers]), strict=True):
        layer.kernel.assign(kernel)
    optimizer = tf_keras.optimizers.legacy.Adam(LEARNING_RATE, epsilon=EPSILON)
    # Keras 3 wraps the variables of TensorFlow.
    variables = [getattr(variable, "value", variable) for variable in model.trainable_variables]
    variables = [v() if callable(v) else v for v in variables]
    patches, label_ids = (tf.constant(array) for array in batch(size))

    @tf.function
    def train_step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = model(patches, training=True)["logits"]
            loss = sigmoid_cross_entropy(logits, label_ids)
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss, logits

    _, logits = train_step()
    _steps[network, precision] = lambda: float(train_step()[0])
    return logits.numpy()


def train(network: str, precision: str, num_steps: int) -> float:
    """Train some steps; returns the loss of the last."""
    for _ in range(num_steps):
        loss = _steps[network, precision]()
    return loss


def build_in_pytorch(network: str, precision: str, size: int) -> np.ndarray:
    """ResNet-50 as `training.models.resnet` has it, in PyTorch; as `build_in_tensorflow`."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.set_num_threads(1)
    convolutions: list[nn.Conv2d] = []

    class ConvBatchNorm(nn.Module):
        def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1):
            super().__init__()
            self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
            self.norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.1)
            convolutions.append(self.conv)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.conv(x))

    class Block(nn.Module):
        def __init__(self, inputs: int, filters: int, stride: int):
            super().__init__()
            self.first = ConvBatchNorm(inputs, filters, 1, stride)
            self.second = ConvBatchNorm(filters, filters, 3)
            self.third = ConvBatchNorm(filters, 4 * filters, 1)
            self.shortcut = (
                ConvBatchNorm(inputs, 4 * filters, 1, stride)
                if stride != 1 or inputs != 4 * filters
                else nn.Identity()
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = functional.relu(self.second(functional.relu(self.first(x))))
            return functional.relu(self.third(y) + self.shortcut(x))

    class ResNet50(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = ConvBatchNorm(1, 64, 7)
            blocks, inputs = [], 64
            for stage, (filters, num_blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
                for index in range(num_blocks):
                    blocks.append(Block(inputs, filters, 2 if index == 0 and stage > 0 else 1))
                    inputs = 4 * filters
            self.blocks = nn.Sequential(*blocks)
            self.logits = nn.Linear(inputs, NUM_LABELS)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = functional.relu(self.stem(x))
            # TensorFlow's "same" pads an even length at its end only.
            x = functional.max_pool2d(functional.pad(x, (0, 1, 0, 1)), 3, 2)
            return self.blocks(x).mean((2, 3))

    assert network == "resnet50"
    model = ResNet50().to(memory_format=torch.channels_last)
    *of_convolutions, of_logits = kernels(
        [
            *((*c.kernel_size, c.in_channels, c.out_channels) for c in convolutions),
            (model.logits.in_features, NUM_LABELS),
        ]
    )
    with torch.no_grad():
        for convolution, kernel in zip(convolutions, of_convolutions, strict=True):
            convolution.weight.copy_(torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()))
        model.logits.weight.copy_(torch.from_numpy(of_logits.T.copy()))
        model.logits.bias.zero_()
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE, eps=EPSILON, fused=True)
    patches, label_ids = (torch.from_numpy(array) for array in batch(size))
    images = patches[:, None].to(memory_format=torch.channels_last)

    def train_step() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            pooled = model(images)
        logits = model.logits(pooled.float())
        total = functional.softplus(logits).sum() - logits.gather(1, label_ids).sum()
        loss = total / logits.numel()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss, logits

    _, logits = train_step()
    _steps[network, precision] = lambda: float(train_step()[0])
    return logits.detach().numpy()
