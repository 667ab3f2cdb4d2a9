"""Media to the embeddings of a network: a decoder that gives embeddings in place of patches."""

import contextlib
from collections.abc import Iterator

import numpy as np

from features.errors import JobFailedError
from features.front_end.front_end import FrontEnd
from features.sound.outcome import AudioError
from features.sound.soundtrack import PatchSample
from pipelines.runtime.decoder import DecoderProcess, decoder_process
from pipelines.runtime.model import Patches
from pipelines.runtime.network import CardNetwork, NetworkPlace, load_network
from pipelines.runtime.spool import PatchSpool

_WINDOWS_AT_ONCE = 256


class NetworkDecoder:
    """Decodes a soundtrack to a spool of its own, and gives the network what lies there.

    The windows of a soundtrack wait on local disk until it is decoded, because the time limit is of
    decoding, and its end shows whether it can be used.
    """

    def __init__(self, decoder: DecoderProcess, network: CardNetwork, windows: PatchSpool):
        self._decoder = decoder
        self._network = network
        self._windows = windows

    @property
    def cpu_seconds(self) -> float:
        """CPU time of the decoder process; that of the network is the worker's."""
        return self._decoder.cpu_seconds

    @property
    def drawn_from(self) -> int | None:
        """Patches of the last file, if a sample of them was drawn."""
        return self._decoder.drawn_from

    def decode(
        self,
        uri: str,
        front_end: FrontEnd,
        spool: PatchSpool,
        *,
        start_seconds: float = 0.0,
        end_seconds: float | None = None,
        sample: PatchSample | None = None,
        timeout_seconds: float,
    ) -> Iterator[np.ndarray]:
        """As `DecoderProcess.decode`, with embeddings in the place of patches.

        Args:
          uri: of the medium.
          front_end: of the embeddings.
          spool: takes the embeddings.
          start_seconds: start of the part to decode.
          end_seconds: end of the part; None for the end of the soundtrack.
          sample: the windows to draw; None for all.
          timeout_seconds: time limit of decoding.

        Raises:
          JobFailedError: the network gives embeddings that cannot be stored.
        """
        self._windows.truncate(0)
        indices: list[np.ndarray] = []
        error = None
        try:
            indices += self._decoder.decode(
                uri,
                self._network.front_end,
                self._windows,
                start_seconds=start_seconds,
                end_seconds=end_seconds,
                sample=sample,
                timeout_seconds=timeout_seconds,
            )
        except AudioError as found:  # windows before the damage are good
            error = found
        if len(self._windows):
            found_indices = np.concatenate(indices)[: len(self._windows)]
            largest = np.finfo(front_end.storage.dtype).max
            for _, outputs in self._network.score(self._chunks(found_indices)):
                if not np.abs(outputs.embedding).max() <= largest:
                    raise JobFailedError(
                        f"the network gives embeddings beyond {largest:g}, which "
                        f"{front_end.storage.dtype} cannot hold"
                    )
                spool.append(front_end.storage.encode(outputs.embedding))
            yield found_indices
        if error is not None:
            raise error

    def _chunks(self, indices: np.ndarray) -> Iterator[Patches]:
        front_end = self._network.front_end
        starts = (indices * front_end.patch_hop_seconds).astype(np.float32)
        for first in range(0, len(indices), _WINDOWS_AT_ONCE):
            places = range(first, min(first + _WINDOWS_AT_ONCE, len(indices)))
            stored = np.frombuffer(
                b"".join(map(self._windows.read, places)), front_end.storage.dtype
            )
            yield Patches(
                video=np.zeros(len(places), np.int64),
                start_seconds=starts[first : first + len(places)],
                stored=stored.reshape(-1, *front_end.patch_shape),
            )


@contextlib.contextmanager
def open_decoder(place: NetworkPlace | None) -> Iterator[DecoderProcess | NetworkDecoder]:
    """Borrow a decoder of log-mel patches, or of the embeddings of a network."""
    with contextlib.ExitStack() as stack:
        decoder = stack.enter_context(decoder_process())
        if place is None:
            yield decoder
            return
        network = load_network(place)
        windows = stack.enter_context(PatchSpool(network.front_end.patch_bytes))
        yield NetworkDecoder(decoder, network, windows)
