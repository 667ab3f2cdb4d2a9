"""An exported network, loaded once per process: stored patches in, scores and embeddings out."""

import argparse
import dataclasses
import functools
import threading
import typing
from collections.abc import Iterable, Iterator

import numpy as np

from features.contracts import folders
from features.contracts.documents import InferenceRuntime, Precision, Quantisation
from features.contracts.export import (
    EMBEDDING,
    PATCHES,
    QUANTISED,
    QUANTISED_GRAPH,
    SCORES,
    fingerprint_weights,
    read_exported_vocabulary,
    read_front_end,
)
from features.errors import InputError
from features.storage import files
from pipelines.runtime import accelerator, inference
from pipelines.runtime.prefetch import prefetch

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

    def are_finite(self) -> np.ndarray:
        """Bool [patches], whether no value of a patch is NaN or infinite."""
        return np.isfinite(self.scores).all(axis=1) & np.isfinite(self.embedding).all(axis=1)


class ExportedModel:
    """A SavedModel of `training.train`, which includes its labels and its front end."""

    def __init__(self, export: str, runtime: InferenceRuntime):
        if runtime.precision == "int8":
            path = files.join(export, QUANTISED, QUANTISED_GRAPH)
            self._network = inference.load(path, "openvino", runtime)
        else:
            self._network = inference.load(export, "saved_model", runtime, signature=PATCHES)
        self._export = export
        self.runtime = runtime
        self.front_end = read_front_end(export)
        self.vocabulary = read_exported_vocabulary(export)
        self.num_labels = _length(self._network, SCORES)
        self.num_units = _length(self._network, EMBEDDING)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the weights."""
        return fingerprint_weights(self._export)

    def score(self, chunks: Iterable[Patches]) -> Iterator[tuple[Patches, Outputs]]:
        """Score patches; a batch may have patches of several soundtracks.

        Args:
          chunks: of any sizes; made by another thread, a batch ahead.

        Yields:
          Batches of patches in their order, and their outputs, which may be NaN or infinite.
        """
        for batch, patches in prefetch(self._decode(chunks)):
            outputs = self._network(patches)
            yield batch, Outputs(scores=outputs[SCORES], embedding=outputs[EMBEDDING])

    def _decode(self, chunks: Iterable[Patches]) -> Iterator[tuple[Patches, np.ndarray]]:
        """Batches, and the input of the network for them."""
        assert self._network.batch_size is not None
        for batch in batches_of(chunks, self._network.batch_size):
            yield batch, self.front_end.storage.decode(batch.stored)


def _length(network: inference.Network, output: str) -> int:
    length = network.outputs[output][-1]
    assert length is not None  # our exports have outputs of a fixed length
    return length


def batches_of(chunks: Iterable[Patches], size: int) -> Iterator[Patches]:
    """Regroup chunks into batches of a size; only the last batch may be smaller."""
    waiting: Patches | None = None  # fewer than a batch
    for chunk in chunks:
        waiting = chunk if waiting is None else waiting + chunk
        while len(waiting) >= size:
            yield waiting[:size]
            waiting = waiting[size:]
    if waiting is not None and len(waiting):
        yield waiting


def add_precision_flag(parser: argparse.ArgumentParser) -> None:
    """Add `--precision` to a command."""
    parser.add_argument(
        "--precision",
        choices=typing.get_args(Precision),
        default="float32",
        help="of the layers of the network; bfloat16 and int8 need OpenVINO (pip install "
        "openvino), and convolutions in them are 2 to 4 times as fast as in TensorFlow's float32, "
        "on processors with instructions for them; default: float32",
    )


def choose_runtime(
    export: str,
    precision: Precision,
    present: InferenceRuntime | None = None,
    *,
    output: str = "",
    here: bool = True,
    gpu: bool | None = None,
) -> InferenceRuntime:
    """Choose what applies an exported network.

    Args:
      export: the SavedModel.
      precision: of `--precision`.
      present: what the shards that are in the output folder were made with; it is kept.
      output: the folder, for the message.
      here: whether this machine applies the network.
      gpu: whether the machines that apply it have a GPU; None for this machine.

    Raises:
      InputError: the folder has shards of another precision or device, or of a version that is not
        installed; this machine is to do the work and cannot; GPUs of Dataflow would compute
        nothing; the export has no int8 network; or as for `inference.candidates`.
    """
    if gpu and not here and precision != "float32":
        raise InputError(
            f"--precision {precision}: runs on processors, and the GPUs of the workers would "
            "compute nothing; ask for workers without GPUs, or leave out --precision"
        )
    if gpu is None:
        gpu = accelerator.has_gpu()
    weights = _quantised_weights(export) if precision == "int8" else None
    found = [
        dataclasses.replace(runtime, weights=weights)
        for runtime in inference.candidates("saved_model", precision, gpu=gpu)
    ]
    if here:
        inference.require_instructions(precision)
        device = accelerator.this_machine()
        if found[0].device == "gpu" and device.cure:
            raise InputError(f"{device.found}; {device.cure}")
    if present is None:
        return found[0]
    if present not in found:
        cure = ""
        if present.device != found[0].device:
            cure = "run it on the same device, or "
        elif present.precision == precision:
            cure = f"install it (pip install {present.name}=={present.version}), or "
        raise InputError(
            f"--output {output} has shards by {present}, and this command would use {found[0]}; "
            f"{cure}name another folder: outputs of two are not equal"
        )
    return present


def _quantised_weights(export: str) -> str:
    """Fingerprint of the int8 network of an export."""
    folder = files.join(export, QUANTISED)
    document = folders.find_document(folder, Quantisation)
    if document is None or document.model_fingerprint != fingerprint_weights(export):
        problem = "has no int8 network" if document is None else "has one of other weights"
        raise InputError(
            f"--precision int8: {export} {problem}; run `{Quantisation.MAKER} --run RUN "
            "--features FEATURES` with the features that the network was trained on"
        )
    return files.digest(files.list_files(folder, "network.*"))


def load_model(export: str, runtime: InferenceRuntime) -> ExportedModel:
    """Load the model of an export folder; every call in a process returns the same object."""
    with _loading:  # a runner's threads call at the same moment
        return _load(export, runtime)


@functools.lru_cache(maxsize=1)
def _load(export: str, runtime: InferenceRuntime) -> ExportedModel:
    return ExportedModel(export, runtime)
