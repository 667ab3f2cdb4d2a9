"""A network with a card, loaded once per process: patches or windows in, scores and embeddings out.

It stands in for `ExportedModel`. A network that frames the waveform itself is given as many windows
as follow each other in one piece, so that its results are those of the whole waveform.
"""

import dataclasses
import functools
import itertools
import re
import threading
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import scipy.special

from features.contracts.documents import InferenceRuntime
from features.contracts.network_card import SHIPPED_CARDS, NetworkFolder
from features.errors import InputError, JobFailedError
from features.front_end.front_end import FrontEnd
from features.storage import files
from pipelines.runtime import accelerator, inference
from pipelines.runtime.model import Outputs, Patches, batches_of
from pipelines.runtime.prefetch import prefetch
from pipelines.runtime.row_limit import RowLimit

# Sound in one call, as long as 128 patches of 0.96 s.
_SECONDS_PER_BATCH = 123.0
# What float32 may exceed 1 by.
_ROUNDING = 1e-5
_NUM_TRIED = 3
_POSITION = re.compile(r"output_(\d+)")
_loading = threading.Lock()


@dataclasses.dataclass(frozen=True)
class NetworkPlace:
    """Where a network is, and what it runs on.

    Attributes:
      folder: of its files.
      card: name or absolute path of its card; None for the card in the folder.
      fingerprint: of the network when `choose_network` loaded it.
      runtime: what it runs on.
    """

    folder: str
    card: str | None
    fingerprint: str
    runtime: InferenceRuntime


class CardNetwork:
    """A network that was loaded as its card says.

    Attributes:
      folder: its files and its card.
      front_end: from a soundtrack to its input.
      vocabulary: labels of the scores; empty for a network without scores.
      runtime: what it runs on.
      num_labels, num_units: values of the scores and of an embedding of a patch; 0 for an output
        that the network does not have.
    """

    def __init__(self, folder: NetworkFolder, runtime: InferenceRuntime):
        """Load a network, and compare it with its card on a little noise.

        Raises:
          InputError: it takes or gives something else than its card says.
        """
        self.folder = folder
        self.front_end: FrontEnd = folder.card.front_end
        self.vocabulary = folder.vocabulary
        self.runtime = runtime
        waveform = folder.card.waveform
        self._frames_itself = waveform is not None and waveform.frames_itself
        # Batches have the sizes that are given here: few windows would be filled up with silence.
        self._network = inference.load(
            folder.path, folder.kind, runtime, signature=folder.signature, batched=False
        )
        self._limit = RowLimit(max(1, int(_SECONDS_PER_BATCH / self.front_end.patch_hop_seconds)))
        tried = self._try()
        self.num_labels, self.num_units = tried.scores.shape[1], tried.embedding.shape[1]
        if self.num_labels != len(self.vocabulary):
            raise InputError(
                f"--network {folder.path} gives {self.num_labels} scores, and the labels file of "
                f"its card has {len(self.vocabulary)} labels; give the labels of this network"
            )

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the files of the network, and of the card."""
        return self.folder.fingerprint

    def score(self, chunks: Iterable[Patches]) -> Iterator[tuple[Patches, Outputs]]:
        """Score patches; a batch may have patches of several soundtracks.

        Args:
          chunks: of any sizes; made by another thread, a batch ahead.

        Yields:
          Batches of patches in their order, and their outputs, which may be NaN.

        Raises:
          JobFailedError: the network gave something else than when it was loaded, such as scores
            above 1; or the memory of the GPU has no room for a single window.
        """
        for batch in prefetch(batches_of(chunks, self._limit.rows)):
            try:
                outputs = self._limit.call(functools.partial(self._apply_in_pieces, batch))
            except _WrongOutputError as error:
                raise JobFailedError(f"{self.folder.path}: {error}") from error
            yield batch, outputs

    def _apply_in_pieces(self, batch: Patches, rows: int) -> Outputs:
        starts = range(0, len(batch), rows)
        return _concatenate([self._apply(batch[start : start + rows]) for start in starts])

    def _apply(self, batch: Patches) -> Outputs:
        values = self.front_end.storage.decode(batch.stored)
        waveform = self.folder.card.waveform
        if waveform is not None:
            values = scale(values, waveform.full_scale, waveform.peak)
        if not self._frames_itself:
            return self._choose(self._network(values), len(values))
        return _concatenate(
            [
                self._choose(self._network(join(values[run], self.front_end)), run.stop - run.start)
                for run in find_runs(batch, self.front_end.patch_hop_seconds)
            ]
        )

    def _choose(self, found: Mapping[str, np.ndarray], num_patches: int) -> Outputs:
        """The outputs that the card names, for the first patches of a batch.

        Raises:
          _WrongOutputError: an output is missing, or is impossible.
        """
        named = self.folder.card.outputs
        scores = embedding = np.zeros((num_patches, 0), np.float32)
        if named.scores is not None:
            scores = _read(found, "scores", named.scores, num_patches)
            # Comparisons with NaN are false.
            if (scores < -_ROUNDING).any() or (scores > 1 + _ROUNDING).any():
                raise _WrongOutputError(
                    f"outputs.scores: {named.scores!r} has values from {np.nanmin(scores):g} to "
                    f"{np.nanmax(scores):g}, not from 0 to 1; name it under outputs.logits"
                )
            scores = scores.clip(0.0, 1.0)
        if named.logits is not None:
            logits = _read(found, "logits", named.logits, num_patches)
            if named.activation == "softmax":
                scores = scipy.special.softmax(logits, axis=1)
            else:
                scores = scipy.special.expit(logits)
        if named.embedding is not None:
            embedding = _read(found, "embedding", named.embedding, num_patches)
        return Outputs(scores=scores, embedding=embedding)

    def _try(self) -> Outputs:
        """Apply the network to a little noise and to silence, as if they were soundtracks.

        Raises:
          InputError: it refuses them, or what it gives is impossible.
        """
        shape = (min(_NUM_TRIED, self._limit.rows), *self.front_end.patch_shape)
        noise = np.random.default_rng(0).normal(0.0, 0.01, shape).astype(np.float32)
        is_log_mel = self.front_end.windows is None
        silence = np.full_like(noise, self.front_end.log_mel.min_log_mel if is_log_mel else 0.0)
        tried = self._try_on(noise, "noise")
        self._try_on(silence, "silence")
        return tried

    def _try_on(self, values: np.ndarray, kind: str) -> Outputs:
        starts = np.arange(len(values)) * self.front_end.patch_hop_seconds
        batch = Patches(
            video=np.zeros(len(values), np.int64),
            start_seconds=starts.astype(np.float32),
            stored=self.front_end.storage.encode(values),
        )
        try:
            outputs = self._apply(batch)
        except _WrongOutputError as error:
            raise InputError(f"--network {self.folder.path}: {error}") from error
        except Exception as error:  # each runtime has its own
            raise InputError(
                f"--network {self.folder.path}: {self.runtime} does not take what its card says, "
                f"{list(values.shape)} values of float32: {error}; correct waveform or patches of "
                "the card, or convert the network with operations of its runtime"
            ) from error
        if not outputs.are_finite().all():
            raise InputError(
                f"--network {self.folder.path}: its outputs for {kind} are not finite; compare "
                "waveform.full_scale of the card with what the network takes, or convert the "
                "network so that it does not divide by the level of the sound"
            )
        return outputs


class _WrongOutputError(ValueError):
    """A network gives something else than its card says."""


def _concatenate(pieces: list[Outputs]) -> Outputs:
    if len(pieces) == 1:
        return pieces[0]
    return Outputs(
        scores=np.concatenate([piece.scores for piece in pieces]),
        embedding=np.concatenate([piece.embedding for piece in pieces]),
    )


def _read(found: Mapping[str, np.ndarray], role: str, name: str, num_patches: int) -> np.ndarray:
    """An output by its name, [patches, values]; NaN in place of infinite values."""
    position = _POSITION.fullmatch(name)
    if name not in found and position and int(position[1]) < len(found):
        name = list(found)[int(position[1])]
    if name not in found:
        raise _WrongOutputError(
            f"outputs.{role}: there is no output {name!r}, only {', '.join(found)}"
        )
    array = found[name]
    if array.ndim != 2 or len(array) != num_patches:
        raise _WrongOutputError(
            f"outputs.{role}: {name!r} has the shape {list(array.shape)} for {num_patches} windows "
            "or patches; name an output of [windows, values], and compare the card's window and hop"
        )
    # An infinite value is as wrong as NaN, but would become a score by `clip` or an activation.
    return np.where(np.isfinite(array), array, np.nan).astype(np.float32, copy=False)


def scale(windows: np.ndarray, full_scale: float, peak: float | None) -> np.ndarray:
    """Scale samples to what a network takes.

    Args:
      windows: float32 [windows, samples] in [-1, 1).
      full_scale: value of a sample of 1.
      peak: largest value of each window after its mean is removed; None to leave the level.
    """
    if peak is not None:
        windows = windows - windows.mean(axis=1, keepdims=True)
        largest = np.abs(windows).max(axis=1, keepdims=True)
        windows = windows * (peak / np.where(largest > 0, largest, 1.0))
    return windows if full_scale == 1.0 else windows * np.float32(full_scale)


def join(windows: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """Join windows that follow each other to the waveform that they were cut from.

    Args:
      windows: [windows, window samples].
      front_end: that they are of.

    Returns:
      [samples].
    """
    assert front_end.windows is not None
    hop = front_end.windows.hop_samples
    return np.concatenate([windows[:-1, :hop].ravel(), windows[-1]])


def find_runs(batch: Patches, hop_seconds: float) -> list[slice]:
    """Find the patches of a batch that follow each other in one soundtrack."""
    is_next = (np.diff(batch.video) == 0) & (
        np.abs(np.diff(batch.start_seconds) - hop_seconds) < hop_seconds / 2
    )
    edges = [0, *(np.flatnonzero(~is_next) + 1).tolist(), len(batch)]
    return [slice(first, last) for first, last in itertools.pairwise(edges)]


def choose_network(
    folder: str,
    card: str | None,
    present: InferenceRuntime | None = None,
    *,
    gpu: bool | None = None,
) -> tuple[CardNetwork, NetworkPlace]:
    """Load the network of a folder on the first runtime that runs it.

    Args:
      folder: of the network.
      card: as in `NetworkPlace`; a relative path is made absolute.
      present: what the shards that are in the output folder were made with; it comes first.
      gpu: whether the machines that apply it have a GPU; None for this machine.

    Returns:
      The network, loaded on this machine, and where workers find it.

    Raises:
      InputError: see `NetworkFolder.open` and `CardNetwork`.
    """
    if card is not None and card not in SHIPPED_CARDS:
        card = files.absolute(card)  # workers have another working directory
    opened = NetworkFolder.open(folder, card)
    has_gpu = accelerator.has_gpu()
    runtimes = inference.candidates(opened.kind, "float32", gpu=has_gpu if gpu is None else gpu)
    if gpu and not has_gpu and all(each.device == "cpu" for each in runtimes):
        raise InputError(
            f"--network {folder}: {opened.kind} runs on processors, and the GPUs of the workers "
            "would compute nothing; ask for workers without GPUs"
        )
    if opened.kind == "saved_model":
        # OpenVINO reads one signature, and not the operations of StableHLO in published networks.
        runtimes = tuple(each for each in runtimes if each.name == "tensorflow")
    # Also where a better one has been installed since; the caller refuses any other.
    runtimes = tuple(sorted(runtimes, key=lambda runtime: runtime != present))
    for runtime in runtimes:
        place = NetworkPlace(folder, card, opened.fingerprint, runtime)
        device = runtime.device if has_gpu else "cpu"
        here = dataclasses.replace(runtime, device=device)
        try:
            return load_network(dataclasses.replace(place, runtime=here)), place
        except InputError:
            if runtime == runtimes[-1]:
                raise
    raise InputError(f"--network {folder}: no runtime for {opened.kind}; pip install tensorflow")


def load_network(place: NetworkPlace) -> CardNetwork:
    """Load a network; every call in a process returns the same object.

    Raises:
      InputError: see `NetworkFolder.open` and `CardNetwork`.
    """
    with _loading:  # a runner's threads call at the same moment
        return _load(place)


@functools.lru_cache(maxsize=1)
def _load(place: NetworkPlace) -> CardNetwork:
    opened = NetworkFolder.open(place.folder, place.card)
    if opened.fingerprint != place.fingerprint:
        raise InputError(
            f"--network {place.folder} has changed since the job began; start it again"
        )
    return CardNetwork(opened, place.runtime)
