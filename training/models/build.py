"""A network from its configuration."""

import contextlib
from collections.abc import Iterator

import tf_keras
from tf_keras import mixed_precision

from features.contracts.documents import BandStatistics
from features.contracts.export import PATCHES
from training.config import (
    AlexNet,
    FullyConnected,
    InceptionV3,
    MobileNet,
    ModelConfig,
    Precision,
    ResNet50,
    Vgg,
)
from training.input.normalisation import normalised
from training.models.alexnet import alexnet
from training.models.fully_connected import fully_connected
from training.models.inception_v3 import inception_v3
from training.models.layers import dense_relu, embedding_and_logits
from training.models.mobilenet import mobilenet
from training.models.resnet import resnet50
from training.models.vgg import vgg


def build_model(
    config: ModelConfig,
    *,
    num_labels: int,
    patch_shape: tuple[int | None, ...],
    precision: Precision,
    band_statistics: BandStatistics | None = None,
) -> tf_keras.Model:
    """Build a network with initial weights.

    Args:
      config: which network.
      num_labels: outputs.
      patch_shape: frames and mel bands; or units, for a fully connected network on embeddings. A
        network that pools over time also takes any number of frames, None.
      precision: of the activations; weights and outputs are float32.
      band_statistics: for normalised input; None for input as it is.

    Returns:
      A model from float32 patches [batch, *patch_shape] to float32 `logits` [batch, labels] and
      `embedding` [batch, units], the input of the output layer: the bottleneck, or else the last
      pool or fully connected layer.
    """
    with _computing_in(precision):
        patches = x = tf_keras.Input(patch_shape, name=PATCHES)
        if band_statistics is not None:
            x = normalised(x, band_statistics)
        match config:
            case FullyConnected():
                embedding = fully_connected(config, x)
            case AlexNet():
                embedding = alexnet(config, x)
            case Vgg():
                embedding = vgg(config, x)
            case InceptionV3():
                embedding = inception_v3(config, x)
            case ResNet50():
                embedding = resnet50(config, x)
            case MobileNet():
                embedding = mobilenet(config, x)
        if config.bottleneck_units is not None:
            embedding = dense_relu(embedding, config.bottleneck_units)
        outputs = embedding_and_logits(embedding, num_labels)
    return tf_keras.Model(patches, outputs, name=config.network)


@contextlib.contextmanager
def _computing_in(precision: Precision) -> Iterator[None]:
    """Create layers that compute in `precision` and keep float32 weights."""
    previous = mixed_precision.global_policy()
    mixed_precision.set_global_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    try:
        yield
    finally:
        mixed_precision.set_global_policy(previous)
