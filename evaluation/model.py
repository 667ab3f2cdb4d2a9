"""An exported network, loaded once per process: log-mel patches in, scores out."""

# ruff: noqa: E402 - TensorFlow is imported quietly first
from features.quiet import import_tensorflow

import_tensorflow()

import functools
import json
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from features import storage
from features.front_end import FrontEnd

# Patches given to the network at a time; a constant, so that TensorFlow compiles one shape.
_BATCH_SIZE = 128


class ExportedModel:
    """A SavedModel of `training.train`: its labels and its front end travel with it."""

    def __init__(self, export: str):
        self._model = tf.saved_model.load(export)
        self._patches = self._model.signatures["patches"]
        assets = storage.join(export, "assets")
        front_end = json.loads(storage.read_bytes(storage.join(assets, "front_end.json")))
        self.front_end = FrontEnd.from_json(front_end)
        self.num_labels = self._patches.structured_outputs["scores"].shape[-1]

    def score_batches(self, stored: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Score patches of any number of soundtracks, as they are stored.

        Args:
          stored: [patches, patch frames, mel bands] of the front end's storage.

        Yields:
          Which patches, and their scores, float32 [patches, labels] in [0, 1].
        """
        for start in range(0, len(stored), _BATCH_SIZE):
            batch = self.front_end.storage.decode(stored[start : start + _BATCH_SIZE])
            padding = ((0, _BATCH_SIZE - len(batch)), (0, 0), (0, 0))
            scores = self._patches(tf.constant(np.pad(batch, padding)))["scores"]
            yield slice(start, start + len(batch)), scores.numpy()[: len(batch)]


@functools.lru_cache(maxsize=1)
def load_model(export: str) -> ExportedModel:
    """The model of an export folder; the same object for every call in this process."""
    return ExportedModel(export)
