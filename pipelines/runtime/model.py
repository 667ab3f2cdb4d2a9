"""An exported network, loaded once per process: stored patches in, scores and embeddings out."""

import dataclasses
import functools
import threading
from collections.abc import Iterable, Iterator

import numpy as np

from features.contracts.export import (
    EMBEDDING,
    PATCHES,
    SCORES,
    read_exported_vocabulary,
    read_front_end,
)
from features.quiet import import_tensorflow

# Patches per call of the network; a constant, so that TensorFlow compiles one shape.
_BATCH_SIZE = 128
_loading = threading.Lock()


@dataclasses.dataclass(frozen=True, eq=False)
class Patches:
    """Patches of one or several soundtracks, in any order.

    Attributes:
      video: int64 [patches], number of the soundtrack of each patch.
      start_seconds: float32 [patches], start of each patch in its soundtrack.
      stored: [patches, *patch shape] of the front end's storage.
    """

    video: np.ndarray
    start_seconds: np.ndarray
    stored: np.ndarray

    def __len__(self) -> int:
        return len(self.video)

    def __getitem__(self, rows: slice) -> "Patches":
        return Patches(self.video[rows], self.start_seconds[rows], self.stored[rows])

    def __add__(self, other: "Patches") -> "Patches":
        return Patches(
            np.concatenate([self.video, other.video]),
            np.concatenate([self.start_seconds, other.start_seconds]),
            np.concatenate([self.stored, other.stored]),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Outputs:
    """Output of the network for patches.

    Attributes:
      scores: float32 [patches, labels] in [0, 1].
      embedding: float32 [patches, units] of the layer before the last.
    """

    scores: np.ndarray
    embedding: np.ndarray


class ExportedModel:
    """A SavedModel of `training.train`, which includes its labels and its front end."""

    def __init__(self, export: str):
        # Imported here, since commands that only build a graph of stages do without its 5 s.
        import_tensorflow()
        import tensorflow as tf

        self._to_tensor = tf.constant
        self._model = tf.saved_model.load(export)
        self._patches = self._model.signatures[PATCHES]
        self.front_end = read_front_end(export)
        self.vocabulary = read_exported_vocabulary(export)
        outputs = self._patches.structured_outputs
        self.num_labels: int = outputs[SCORES].shape[-1]
        self.num_units: int = outputs[EMBEDDING].shape[-1]

    def score(self, chunks: Iterable[Patches]) -> Iterator[tuple[Patches, Outputs]]:
        """Score patches; a batch may have patches of several soundtracks.

        Args:
          chunks: of any sizes.

        Yields:
          Batches of patches in their order, and their outputs.
        """
        for batch in _batches(chunks):
            patches = np.zeros((_BATCH_SIZE, *self.front_end.patch_shape), np.float32)
            patches[: len(batch)] = self.front_end.storage.decode(batch.stored)
            outputs = self._patches(self._to_tensor(patches))
            yield (
                batch,
                Outputs(
                    scores=outputs[SCORES].numpy()[: len(batch)],
                    embedding=outputs[EMBEDDING].numpy()[: len(batch)],
                ),
            )


def _batches(chunks: Iterable[Patches]) -> Iterator[Patches]:
    """Regroup chunks into batches of `_BATCH_SIZE`; only the last batch may be smaller."""
    waiting: Patches | None = None  # fewer than a batch
    for chunk in chunks:
        waiting = chunk if waiting is None else waiting + chunk
        while len(waiting) >= _BATCH_SIZE:
            yield waiting[:_BATCH_SIZE]
            waiting = waiting[_BATCH_SIZE:]
    if waiting is not None and len(waiting):
        yield waiting


def load_model(export: str) -> ExportedModel:
    """Load the model of an export folder; every call in a process returns the same object."""
    with _loading:  # a runner's threads call at the same moment
        return _load(export)


@functools.lru_cache(maxsize=1)
def _load(export: str) -> ExportedModel:
    return ExportedModel(export)
