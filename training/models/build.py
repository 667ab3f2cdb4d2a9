"""A network from its configuration."""

import contextlib
from collections.abc import Iterator

import tf_keras
from tf_keras import mixed_precision

from training.config import FullyConnected, ModelConfig, Precision, ResNet50
from training.models.fully_connected import fully_connected
from training.models.layers import embedding_and_logits
from training.models.resnet import resnet50


def build_model(
    config: ModelConfig,
    *,
    num_labels: int,
    patch_shape: tuple[int, int],
    precision: Precision,
) -> tf_keras.Model:
    """Build a network with fresh weights.

    Args:
      config: which network.
      num_labels: outputs.
      patch_shape: frames and mel bands.
      precision: of the activations; weights and outputs are float32.

    Returns:
      A model from float32 log-mel [batch, frames, bands] to float32 `logits` [batch, labels] and
      `embedding` [batch, units], the layer before.
    """
    with _computing_in(precision):
        patches = tf_keras.Input(patch_shape, name="patches")
        match config:
            case FullyConnected():
                embedding = fully_connected(config, patches)
            case ResNet50():
                embedding = resnet50(config, patches)
        outputs = embedding_and_logits(embedding, num_labels)
    return tf_keras.Model(patches, outputs, name=config.network)


@contextlib.contextmanager
def _computing_in(precision: Precision) -> Iterator[None]:
    """Layers made in the block compute in `precision` and keep float32 weights."""
    previous = mixed_precision.global_policy()
    mixed_precision.set_global_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    try:
        yield
    finally:
        mixed_precision.set_global_policy(previous)
