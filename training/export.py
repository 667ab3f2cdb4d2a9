"""Export of a trained model as a SavedModel that needs none of our code.

    model = tf.saved_model.load("run/export")
    model.signatures["patches"](patches=log_mel)        scores, logits, embedding
    model.signatures["waveform"](waveform=samples)      scores, start_seconds

A network on embeddings has no signature `waveform`. The assets describe the outputs and the inputs:
labels.parquet (a row for each output), front_end.json (with its fingerprint) and recipe.json.
"""

import dataclasses
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras

from features.contracts import labels
from features.contracts.export import (
    FOLDER,
    FRONT_END,
    LOGITS,
    PATCHES,
    RECIPE,
    SCORES,
    START_SECONDS,
    WAVEFORM,
)
from features.front_end.front_end import FrontEnd
from features.front_end.logmel import hann_window, mel_weights
from features.front_end.params import LogMelParams
from features.storage import files
from training.config import Recipe
from training.input.batches import FeatureSet
from training.loops.step import fresh_model

# Patches of a waveform in one batch: an hour of sound in one batch would take 6 GB.
_PATCHES_AT_ONCE = 64


def export(trained: tf_keras.Model, recipe: Recipe, features: FeatureSet, output: str) -> str:
    """Write `output`/export; returns its path.

    The exported network computes in float32, whatever the precision of training.
    """
    model = fresh_model(dataclasses.replace(recipe, precision="float32"), features)
    model.set_weights(trained.get_weights())
    assets = {
        labels.FILE_NAME: features.vocabulary.to_bytes(),
        FRONT_END: _json(
            {"fingerprint": features.front_end.fingerprint, **features.front_end.to_json()}
        ),
        RECIPE: _json(recipe.to_json()),
    }
    path = files.join(output, FOLDER)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in assets.items():
            Path(folder, name).write_bytes(content)
        module = ExportedModel(
            model,
            features.front_end,
            [Path(folder, name) for name in assets],
            softmax=recipe.options.softmax,
        )
        signatures = {name: getattr(module, name) for name in signatures_of(features.front_end)}
        tf.saved_model.save(
            module, path, signatures={"serving_default": module.patches, **signatures}
        )
    return path


def signatures_of(front_end: FrontEnd) -> tuple[str, ...]:
    """The signatures of an export, without its default."""
    return (PATCHES, WAVEFORM) if front_end.embedding is None else (PATCHES,)


class ExportedModel(tf.Module):
    """The functions of a SavedModel, with their variables and assets."""

    def __init__(
        self,
        model: tf_keras.Model,
        front_end: FrontEnd,
        assets: list[Path],
        *,
        softmax: bool = False,
    ):
        params = front_end.log_mel
        super().__init__()
        # The variables and not the model, whose description by Keras would need Keras to load.
        self.weights = model.weights
        self.assets = [tf.saved_model.Asset(str(path)) for path in assets]

        scores_of = tf.nn.softmax if softmax else tf.sigmoid

        def apply(patches: tf.Tensor) -> dict[str, tf.Tensor]:
            outputs = model(patches, training=False)
            return {**outputs, SCORES: scores_of(outputs[LOGITS])}

        def apply_to_waveform(waveform: tf.Tensor) -> dict[str, tf.Tensor]:
            patches = log_mel_patches(waveform, params)
            # The function and not `apply`, whose graph would then be traced and stored twice.
            num_labels = model.output[LOGITS].shape[-1]
            scores = _in_pieces(lambda piece: self.patches(piece)[SCORES], patches, num_labels)
            index = tf.range(tf.shape(patches)[0])
            hop_seconds = params.patch_hop_frames * params.hop_seconds
            return {SCORES: scores, START_SECONDS: tf.cast(index, tf.float32) * hop_seconds}

        shape = [None, *front_end.patch_shape]
        self.patches = tf.function(
            apply, input_signature=[tf.TensorSpec(shape, tf.float32, PATCHES)], autograph=False
        )
        if front_end.embedding is None:
            self.waveform = tf.function(
                apply_to_waveform,
                input_signature=[tf.TensorSpec([None], tf.float32, WAVEFORM)],
                autograph=False,
            )


def log_mel_patches(waveform: tf.Tensor, params: LogMelParams) -> tf.Tensor:
    """`features.front_end.logmel.log_mel_patches` in a graph, with equal results within 1e-4.

    Args:
      waveform: float32 [samples], mono in [-1, 1) at `params.sample_rate_hz`.
      params: the front end.

    Returns:
      float32 [patches, patch frames, mel bands]; no patches for less sound than a patch.
    """
    frames = tf.signal.frame(waveform, params.window_samples, params.hop_samples)
    windowed = frames * hann_window(params).astype(np.float32)
    magnitude = tf.abs(tf.signal.rfft(windowed, [params.fft_length]))  # [frames, bins]
    mel = tf.matmul(magnitude, mel_weights(params).astype(np.float32))
    log_mel = tf.math.log(mel + params.log_offset)  # [frames, bands]
    return tf.signal.frame(log_mel, params.patch_frames, params.patch_hop_frames, axis=0)


def _in_pieces(
    apply: Callable[[tf.Tensor], tf.Tensor], patches: tf.Tensor, num_labels: int
) -> tf.Tensor:
    """Apply a function of a batch to any number of patches, a piece at a time.

    In a loop that appends outputs, and not in `tf.map_fn`: TFLite and ONNX support the loop, and
    the last piece needs no padding.
    """

    def add_piece(start: tf.Tensor, outputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        piece = patches[start : start + _PATCHES_AT_ONCE]
        return start + _PATCHES_AT_ONCE, tf.concat([outputs, apply(piece)], axis=0)

    _, outputs = tf.while_loop(
        lambda start, _: start < tf.shape(patches)[0],
        add_piece,
        (0, tf.zeros([0, num_labels])),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, num_labels])),
        parallel_iterations=1,
    )
    return outputs  # [patches, labels]


def _json(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, indent=2).encode()
