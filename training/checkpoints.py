"""Checkpoints of a run, and the record of what they are checkpoints of."""

import json
from typing import Any

import tensorflow as tf
import tf_keras

from features import contract, storage
from training.config import Recipe
from training.data import FeatureSet

FOLDER = "checkpoints"
_RECORD = "recipe.json"
_KEPT = 3


class Checkpoints:
    """Saves and restores a model and its optimizer, whose `iterations` are the steps done."""

    def __init__(
        self, output: str, model: tf_keras.Model, optimizer: tf_keras.optimizers.Optimizer
    ):
        self._optimizer = optimizer
        self._state = tf.train.Checkpoint(model=model, optimizer=optimizer)
        self._manager = tf.train.CheckpointManager(
            self._state, storage.join(output, FOLDER), max_to_keep=_KEPT
        )

    def restore(self) -> int:
        """Restore the last checkpoint, where there is one; returns the steps done."""
        if self._manager.latest_checkpoint:
            self._state.restore(self._manager.latest_checkpoint).assert_existing_objects_matched()
        return int(self._optimizer.iterations)

    def save(self) -> int:
        """Save; returns the steps done."""
        step = int(self._optimizer.iterations)
        self._manager.save(checkpoint_number=step)
        return step


def claim(output: str, recipe: Recipe, features: FeatureSet) -> None:
    """Record what is trained in the folder `output`, or check that it is the same as before.

    Raises:
      ContractError: the folder holds a run of another recipe, or on other features; the message
        names the field and both values.
    """
    wanted = _flat(
        {
            "recipe": recipe.learning,
            "features_fingerprint": features.fingerprint,
            "vocabulary_fingerprint": features.vocabulary.fingerprint,
        }
    )
    path = storage.join(output, FOLDER, _RECORD)
    try:
        recorded = json.loads(storage.read_bytes(path))
    except FileNotFoundError:
        storage.write_bytes(path, json.dumps(wanted, indent=2).encode())
        return
    for field in sorted({*wanted, *recorded}):
        contract.require_equal(
            field,
            expected=recorded.get(field),
            received=wanted.get(field),
            where=f"{output} holds another run",
            cure="train into another folder with --output",
        )


def _flat(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields as `outer.inner`, with values as JSON gives them back."""
    fields: dict[str, Any] = {}
    for key, value in json.loads(json.dumps(document)).items():
        if isinstance(value, dict):
            fields |= _flat(value, f"{prefix}{key}.")
        else:
            fields[prefix + key] = value
    return fields
