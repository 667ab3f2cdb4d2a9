"""A soundtrack to stored patches: decode, log-mel, quantise, in constant memory."""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from features.front_end.front_end import FrontEnd
from features.front_end.logmel import log_mel_patches, stream_patches
from features.sound.waveform import CannotSeekError, read_excerpts, read_waveform

# If more than this share of the patches is drawn, everything is decoded, which is then as fast: an
# excerpt takes half as long again as its patch, for what the decoder needs before it.
_DENSE_SHARE = 0.5


@dataclasses.dataclass(frozen=True)
class PatchSample:
    """Patches of a soundtrack, drawn at random; all of them if there are no more than `count`.

    The paper's 5M mini-batches of 128 show 9 of a video's 288 patches on average.
    """

    count: int
    seed: int

    def draw(self, num_patches: int) -> np.ndarray:
        """Draw indices of patches, in ascending order, of a soundtrack of `num_patches`."""
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
    """Extract the patches of a media file, or of the part of it from start to end.

    Args:
      uri: a path or URI on any filesystem of Beam.
      front_end: from samples to stored values.
      start_seconds: start of the part, on the clock of the medium.
      end_seconds: end of the part; None for the end of the soundtrack.
      sample: the patches to extract; None for all. They are reached by seeking if the container
        allows it, and equal those of the whole soundtrack up to the precision of its timestamps.

    Yields:
      A few patches at a time: their indices, int64 [patches], and the patches,
      [patches, patch frames, mel bands], in the dtype of the front end's storage.

    Raises:
      features.sound.outcome.AudioError: the soundtrack cannot be used, or not to its end; the
        patches yielded before are valid.
    """
    if sample is None:
        yield from _all_patches(uri, front_end, start_seconds, end_seconds)
        return
    try:
        # All patches before the first is yielded: seeking may fail late.
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
            raise CannotSeekError("most patches are drawn")
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
