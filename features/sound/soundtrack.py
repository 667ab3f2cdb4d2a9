"""One soundtrack to stored patches: decode, log-mel, quantise, in flat memory."""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from features.front_end.front_end import FrontEnd
from features.front_end.logmel import log_mel_patches, stream_patches
from features.sound.waveform import CannotSeekError, read_excerpts, read_waveform

# An excerpt takes half as long again as its patch, for what the decoder needs before it; where this
# share of the patches is wanted, decoding everything is as cheap.
_DENSE_SHARE = 0.5


@dataclasses.dataclass(frozen=True)
class PatchSample:
    """Some patches of a soundtrack, drawn at random; all, where it has no more.

    The paper's 5M mini-batches of 128 see 9 patches of a video, of the 288 that it has on average.
    """

    count: int
    seed: int

    def draw(self, num_patches: int) -> np.ndarray:
        """The indices of the patches, rising, of a soundtrack that has so many."""
        order = np.argsort(np.random.PCG64(self.seed).random_raw(num_patches), kind="stable")
        return np.sort(order[: self.count])


def soundtrack_patches(
    uri: str,
    front_end: FrontEnd,
    *,
    start_seconds: float = 0.0,
    end_seconds: float | None = None,
    sample: PatchSample | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The patches of a media file, or of the part of it from start to end.

    Args:
      uri: a path or URI on any filesystem of Beam.
      front_end: the whole way from samples to stored values.
      start_seconds: where the part starts, on the clock of the medium.
      end_seconds: where it ends; None for the end of the soundtrack.
      sample: which patches; None for all. They are reached by seeking where the container allows
        it, and are those of the whole soundtrack up to the precision of its timestamps.

    Yields:
      Indices of patches, int64 [patches], and the patches, [patches, patch frames, mel bands] of
      the front end's storage; a few at a time.

    Raises:
      features.sound.outcome.AudioError: the soundtrack cannot be used, or not to its end; the
        patches before the error are good.
    """
    if sample is None:
        yield from _all_patches(uri, front_end, start_seconds, end_seconds)
        return
    try:
        # All before the first is given away: that seeking does not work may show late.
        yield from list(_sought_patches(uri, front_end, start_seconds, end_seconds, sample))
    except CannotSeekError:
        chunks = list(_all_patches(uri, front_end, start_seconds, end_seconds))
        if chunks:
            patches = np.concatenate([chunk for _, chunk in chunks])
            indices = sample.draw(len(patches))
            yield indices, patches[indices]


def _all_patches(
    uri: str, front_end: FrontEnd, start_seconds: float, end_seconds: float | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    waveform = read_waveform(
        uri,
        sample_rate_hz=front_end.log_mel.sample_rate_hz,
        start_seconds=start_seconds,
        end_seconds=end_seconds,
    )
    first = 0
    for patches in stream_patches(waveform, front_end.log_mel):
        yield np.arange(first, first + len(patches)), front_end.storage.encode(patches)
        first += len(patches)


def _sought_patches(
    uri: str,
    front_end: FrontEnd,
    start_seconds: float,
    end_seconds: float | None,
    sample: PatchSample,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    params = front_end.log_mel
    hop_samples = params.patch_hop_frames * params.hop_samples
    offset = round(start_seconds * params.sample_rate_hz)
    indices = np.empty(0, np.int64)

    def choose(num_samples: int) -> list[int]:
        nonlocal indices
        if end_seconds is not None:
            num_samples = min(num_samples, round(end_seconds * params.sample_rate_hz))
        num_patches = params.num_patches(max(0, num_samples - offset))
        if sample.count > _DENSE_SHARE * num_patches:
            raise CannotSeekError("most patches are wanted")
        indices = sample.draw(num_patches)
        return [offset + int(index) * hop_samples for index in indices]

    excerpts = read_excerpts(
        uri,
        sample_rate_hz=params.sample_rate_hz,
        num_samples=params.patch_samples,
        choose=choose,
    )
    for number, excerpt in zip(itertools.count(), excerpts, strict=False):
        patches = log_mel_patches(excerpt, params)
        yield indices[number : number + 1], front_end.storage.encode(patches)
