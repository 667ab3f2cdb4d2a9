"""The embeddings of a soundtrack: a network with a card, and the windows that it is given."""

from collections.abc import Iterator, Sequence

import numpy as np

from features.front_end.front_end import FrontEnd
from features.sound.outcome import AudioError, Outcome
from pipelines.runtime.model import Patches
from pipelines.runtime.network import CardNetwork

_WINDOWS_AT_ONCE = 256


def embed_windows(
    windows: np.ndarray, indices: Sequence[int], network: CardNetwork, front_end: FrontEnd
) -> Iterator[np.ndarray]:
    """Apply a network to windows of one soundtrack, whatever other soundtracks the shard has.

    Args:
      windows: [windows, *patch shape] in the stored form of the network's front end, on disk.
      indices: [windows], their places in the soundtrack, rising.
      network: to apply.
      front_end: of the embeddings.

    Yields:
      Embeddings in their stored form, [windows, units], of all windows in order.

    Raises:
      AudioError: the network gives embeddings that cannot be stored.
    """
    largest = np.finfo(front_end.storage.dtype).max
    starts = (np.array(indices) * network.front_end.patch_hop_seconds).astype(np.float32)
    patches = Patches(np.zeros(len(starts), np.int64), starts, windows)
    chunks = (
        patches[first : first + _WINDOWS_AT_ONCE]
        for first in range(0, len(patches), _WINDOWS_AT_ONCE)
    )
    for _, outputs in network.score(chunks):
        if not np.abs(outputs.embedding).max() <= largest:  # also true of NaN
            raise AudioError(
                Outcome.NONFINITE_OUTPUTS,
                f"the network gives embeddings of NaN or beyond {largest:g}, which "
                f"{front_end.storage.dtype} cannot hold",
            )
        yield front_end.storage.encode(outputs.embedding)
