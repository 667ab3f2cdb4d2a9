"""Checkpoints of a run, and the record of the recipe and the features that they belong to."""

import dataclasses
import json
import math
import tempfile
from typing import Any

import tensorflow as tf
import tf_keras

from features.contracts import folders
from features.storage import files
from features.typed_json import convert
from training.config import Recipe
from training.input.batches import FeatureSet
from training.loops.step import require_fit
from training.loops.validation import ValidationMetrics

FOLDER = "checkpoints"
BEST_FOLDER = "best"
_RECORD = "recipe.json"
_VALIDATION = "validation.json"
_SKIPPED = "skipped_shards.json"
_KEPT = 3
# Parts of a checkpoint.
_MODEL, _AVERAGE = "model", "average"


class Checkpoints:
    """Saves and restores a model, its optimizer and the average of its weights, if there is one.

    The optimizer's `iterations` are the steps done.

    Attributes:
      saved_step: steps done in the last checkpoint.
    """

    saved_step = 0

    def __init__(
        self,
        output: str,
        model: tf_keras.Model,
        optimizer: tf_keras.optimizers.Optimizer,
        average: tf_keras.Model | None,
        *,
        is_chief: bool,
    ):
        self._optimizer = optimizer
        parts = {_AVERAGE: average} if average else {}
        self._state = tf.train.Checkpoint(model=model, optimizer=optimizer, **parts)
        self._folder = files.join(output, FOLDER)
        # All processes that share the variables take part in saving; the copy of the chief is kept.
        folder = self._folder if is_chief else tempfile.mkdtemp()
        self._manager = tf.train.CheckpointManager(self._state, folder, max_to_keep=_KEPT)

    def restore(self) -> int:
        """Restore the last checkpoint, if there is one; returns the steps done."""
        latest = tf.train.latest_checkpoint(self._folder)
        if latest:
            self._state.restore(latest).assert_existing_objects_matched()
        self.saved_step = int(self._optimizer.iterations.numpy())
        return self.saved_step

    def save(self) -> int:
        """Save; returns the steps done."""
        self.saved_step = int(self._optimizer.iterations.numpy())
        self._manager.save(checkpoint_number=self.saved_step)
        return self.saved_step


def last_step(output: str) -> int:
    """The steps done in the last checkpoint of a run; 0 if there is none."""
    latest = tf.train.latest_checkpoint(files.join(output, FOLDER))
    return step_of(latest) if latest else 0


def step_of(path: str) -> int:
    """The steps done in the checkpoint at this path."""
    return int(path.rsplit("-", 1)[1])


def served_part(recipe: Recipe) -> str:
    """The part of a checkpoint that is validated and exported."""
    return _AVERAGE if recipe.options.average_decay else _MODEL


def restore_weights(path: str, model: tf_keras.Model, part: str = _MODEL) -> None:
    """Restore the weights of a model on one device, whatever devices they were trained on."""
    state = tf.train.Checkpoint(**{part: model})
    state.restore(path).assert_existing_objects_matched().expect_partial()


def restore_last_weights(output: str, model: tf_keras.Model, recipe: Recipe) -> None:
    """Restore the part of the last checkpoint of a run that is exported."""
    path = tf.train.latest_checkpoint(files.join(output, FOLDER))
    restore_weights(path, model, served_part(recipe))


class BestCheckpoint:
    """The weights with the highest validation mAP of a run, and the metrics of its validations.

    The weights are the part `model` of the checkpoint, even if they are an average.
    """

    def __init__(self, output: str, model: tf_keras.Model):
        self._output = output
        folder = files.join(output, FOLDER, BEST_FOLDER)
        self._manager = tf.train.CheckpointManager(
            tf.train.Checkpoint(model=model), folder, max_to_keep=1
        )
        found = _read_json(output, BEST_FOLDER, _VALIDATION) if self._manager.checkpoints else None
        self._best = found["mean_average_precision"] if found else -math.inf

    def offer(self, step: int, metrics: ValidationMetrics) -> None:
        """Record the metrics of a step, and keep the weights if they are the best so far."""
        document = {"step": step, **dataclasses.asdict(metrics)}
        _write_json(document, self._output, _VALIDATION)
        if metrics.mean_average_precision > self._best:  # false for NaN
            self._best = metrics.mean_average_precision
            self._manager.save(checkpoint_number=step)
            _write_json(document, self._output, BEST_FOLDER, _VALIDATION)


def last_validation(output: str) -> ValidationMetrics | None:
    """The metrics of the last validation of a run, by any process."""
    found = _read_json(output, _VALIDATION)
    if found is None:
        return None
    where = files.join(output, FOLDER, _VALIDATION)
    return convert(found, ValidationMetrics, where=where, cure=f"delete {where}")


def skipped_shards(output: str) -> list[str]:
    """The damaged shards that the run leaves out."""
    return _read_json(output, _SKIPPED) or []


def skip_shard(output: str, path: str) -> None:
    """Record a damaged shard that the run leaves out."""
    _write_json([*skipped_shards(output), path], output, _SKIPPED)


def claim(output: str, recipe: Recipe, features: FeatureSet) -> None:
    """Record the recipe and the features of a run, or check that they are those recorded before.

    Raises:
      ContractError: the folder `output` holds a run of another recipe, or on other features; the
        message names the field and both values.
      InputError: see `require_fit`.
    """
    wanted = _flat(
        {
            "front_end_fingerprint": features.front_end.fingerprint,
            "vocabulary_fingerprint": features.vocabulary.fingerprint,
            "recipe": recipe.learning,
            "features_fingerprint": features.fingerprint,
        }
    )
    recorded = _read_json(output, _RECORD)
    if recorded is None:
        require_fit(recipe, features)
        _write_json(wanted, output, _RECORD)
        return
    for field in {**wanted, **recorded}:  # the most telling field first
        if field not in recorded and wanted[field] is False:
            continue  # a switch that is off, as it was before there was such a switch
        folders.require_equal(
            field,
            expected=recorded.get(field),
            received=wanted.get(field),
            where=f"{output} holds another run",
            cure="train into another folder with --output",
        )


def _read_json(output: str, *names: str) -> Any:
    """Read a JSON file in the folder of checkpoints; None if it does not exist."""
    try:
        return json.loads(files.read_bytes(files.join(output, FOLDER, *names)))
    except FileNotFoundError:
        return None


def _write_json(document: Any, output: str, *names: str) -> None:
    content = json.dumps(document, indent=2).encode()
    files.write_bytes(files.join(output, FOLDER, *names), content)


def _flat(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested fields to `outer.inner`, with values as JSON returns them."""
    fields: dict[str, Any] = {}
    for key, value in json.loads(json.dumps(document)).items():
        if isinstance(value, dict):
            fields |= _flat(value, f"{prefix}{key}.")
        else:
            fields[prefix + key] = value
    return fields
