"""An exported network, loaded once per process: stored patches in, scores and embeddings out."""

# ruff: noqa: E402 - TensorFlow is imported quietly first
from features.quiet import import_tensorflow

import_tensorflow()

import dataclasses
import functools
import threading
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf

from features.contracts.export import (
    EMBEDDING,
    PATCHES,
    SCORES,
    export_vocabulary,
    read_front_end,
)

# Patches given to the network at a time; a constant, so that TensorFlow compiles one shape.
_BATCH_SIZE = 128
_loading = threading.Lock()


@dataclasses.dataclass(frozen=True, eq=False)
class Patches:
    """Patches of one or several soundtracks, in any order.

    Attributes:
      video: int64 [patches], the numbers of the soundtracks that they are of.
      start_seconds: float32 [patches], where they start in their soundtracks.
      stored: [patches, *patch shape] of the front end's storage.
    """

    video: np.ndarray
    start_seconds: np.ndarray
    stored: np.ndarray

    def __len__(self) -> int:
        return len(self.video)


@dataclasses.dataclass(frozen=True, eq=False)
class Outputs:
    """What the network gives for patches.

    Attributes:
      scores: float32 [patches, labels] in [0, 1].
      embedding: float32 [patches, units] of the layer before the last.
    """

    scores: np.ndarray
    embedding: np.ndarray


class ExportedModel:
    """A SavedModel of `training.train`: its labels and its front end travel with it."""

    def __init__(self, export: str):
        self._model = tf.saved_model.load(export)
        self._patches = self._model.signatures[PATCHES]
        self.front_end = read_front_end(export)
        self.vocabulary = export_vocabulary(export)
        outputs = self._patches.structured_outputs
        self.num_labels: int = outputs[SCORES].shape[-1]
        self.num_units: int = outputs[EMBEDDING].shape[-1]

    def score(self, chunks: Iterable[Patches]) -> Iterator[tuple[Patches, Outputs]]:
        """Score patches, of several soundtracks at once where these are short.

        Args:
          chunks: of any sizes.

        Yields:
          All patches in their order, in batches of one size but the last, and the outputs.
        """
        for batch in _batches(chunks):
            patches = np.zeros((_BATCH_SIZE, *self.front_end.patch_shape), np.float32)
            patches[: len(batch)] = self.front_end.storage.decode(batch.stored)
            outputs = self._patches(tf.constant(patches))
            yield (
                batch,
                Outputs(
                    scores=outputs[SCORES].numpy()[: len(batch)],
                    embedding=outputs[EMBEDDING].numpy()[: len(batch)],
                ),
            )


def _batches(chunks: Iterable[Patches]) -> Iterator[Patches]:
    held: list[Patches] = []
    for chunk in chunks:
        held.append(chunk)
        if sum(len(one) for one in held) < _BATCH_SIZE:
            continue
        whole = _joined(held)
        end = len(whole) - len(whole) % _BATCH_SIZE
        for start in range(0, end, _BATCH_SIZE):
            yield _part(whole, slice(start, start + _BATCH_SIZE))
        held = [_part(whole, slice(end, None))] if end < len(whole) else []
    if held:
        yield _joined(held)


def _joined(parts: list[Patches]) -> Patches:
    return Patches(
        *(
            np.concatenate([getattr(part, field.name) for part in parts])
            for field in dataclasses.fields(Patches)
        )
    )


def _part(patches: Patches, rows: slice) -> Patches:
    return Patches(patches.video[rows], patches.start_seconds[rows], patches.stored[rows])


def load_model(export: str) -> ExportedModel:
    """The model of an export folder; the same object for every call in this process."""
    with _loading:  # a runner's threads ask at the same moment
        return _load(export)


@functools.lru_cache(maxsize=1)
def _load(export: str) -> ExportedModel:
    return ExportedModel(export)
