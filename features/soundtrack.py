"""One soundtrack to stored patches: decode, log-mel, quantise, in flat memory."""

from collections.abc import Iterator

import numpy as np

from features.audio import read_waveform
from features.front_end import FrontEnd
from features.logmel import stream_patches


def soundtrack_patches(
    uri: str,
    front_end: FrontEnd,
    *,
    start_seconds: float = 0.0,
    end_seconds: float | None = None,
) -> Iterator[np.ndarray]:
    """The patches of a media file, or of the part of it from start to end.

    Args:
      uri: a path or URI on any filesystem of Beam.
      front_end: the whole way from samples to stored values.
      start_seconds: where the part starts, on the clock of the medium.
      end_seconds: where it ends; None for the end of the soundtrack.

    Yields:
      [patches, patch frames, mel bands] of the front end's storage, a few patches at a time.

    Raises:
      features.audio.AudioError: the soundtrack cannot be used, or not to its end; the patches
        before the error are good.
    """
    waveform = read_waveform(
        uri,
        sample_rate_hz=front_end.log_mel.sample_rate_hz,
        start_seconds=start_seconds,
        end_seconds=end_seconds,
    )
    for patches in stream_patches(waveform, front_end.log_mel):
        yield front_end.storage.encode(patches)
