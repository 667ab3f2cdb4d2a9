"""A soundtrack to stored patches: decode, log-mel, quantise, in constant memory.

For a network that takes samples, a patch is a window of the waveform.
"""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from features.front_end.front_end import FrontEnd
from features.front_end.logmel import log_mel_patches, stream_patches
from features.front_end.windows import stream_windows
from features.sound.excerpts import Choice, ExcerptRequest, read_excerpts
from features.sound.outcome import AudioError, Outcome
from features.sound.packets import DecodeWholeError
from features.sound.waveform import read_waveform

# If more than this share of the patches is drawn, everything is decoded, which is then as fast: an
# excerpt takes half as long again as its patch, for what the decoder needs before it.
_DENSE_SHARE = 0.5


@dataclasses.dataclass(frozen=True)
class PatchSample:
    """Patches of a soundtrack, drawn at random; all of them if there are no more than `count`.

    Each patch has a random key, and those of the lowest keys are drawn. The paper's 5M mini-batches
    of 128 show 9 of a video's 288 patches on average.
    """

    count: int
    seed: int

    def draw(self, num_patches: int) -> np.ndarray:
        """Draw indices of patches, in ascending order, of a soundtrack of `num_patches`."""
        order = np.argsort(self.keys().random_raw(num_patches), kind="stable")
        return np.sort(order[: self.count])

    def next_candidate(self, num_patches: int) -> int:
        """The first patch from `num_patches` on that may be drawn of a longer soundtrack.

        It has a lower key than the last of the patches that are drawn of `num_patches`.
        """
        if num_patches < self.count:
            return num_patches
        # As many more patches are enough more often than not; else the last of them may be asked
        # for too, and more keys are drawn then.
        keys = self.keys().random_raw(2 * num_patches)
        highest = np.partition(keys[:num_patches], self.count - 1)[self.count - 1]
        lower = np.flatnonzero(keys[num_patches:] < highest)
        return num_patches + int(lower[0] if lower.size else num_patches)

    def keys(self) -> np.random.PCG64:
        """The source of the keys of the patches, in order of time."""
        return np.random.PCG64(self.seed)


class PatchChunk(NamedTuple):
    """Some patches of a soundtrack.

    Attributes:
      indices: int64 [patches].
      patches: [patches, *patch shape], in the dtype of the front end's storage.
      drawn_from: how many patches the soundtrack has, if these were drawn; else None.
    """

    indices: np.ndarray
    patches: np.ndarray
    drawn_from: int | None = None


def soundtrack_patches(
    uri: str,
    front_end: FrontEnd,
    *,
    start_seconds: float = 0.0,
    end_seconds: float | None = None,
    sample: PatchSample | None = None,
) -> Iterator[PatchChunk]:
    """Extract the patches of a media file, or of the part of it from start to end.

    Args:
      uri: a path or URI on any filesystem of Beam.
      front_end: from samples to stored values.
      start_seconds: start of the part, on the clock of the medium.
      end_seconds: end of the part; None for the end of the soundtrack.
      sample: the patches to extract; None for all. Little else is decoded, and the patches equal
        those of the whole soundtrack up to rounding.

    Yields:
      A few patches at a time; a sample at once.

    Raises:
      features.sound.outcome.AudioError: the soundtrack cannot be used, or not to its end; the
        patches yielded before are valid.
    """
    if sample is None or front_end.windows is not None:
        chunks = _all_patches(uri, front_end, start_seconds, end_seconds)
        # Of windows all are decoded: the network that they are for costs far more than a decoder.
        yield from chunks if sample is None else _draw(chunks, sample)
        return
    try:
        yield _excerpted_patches(uri, front_end, start_seconds, end_seconds, sample)
    except DecodeWholeError:
        pass
    except AudioError as error:
        # How much is lost, and how much can be used, shows only if everything is decoded.
        if error.outcome not in (Outcome.CORRUPT, Outcome.TRUNCATED):
            raise
    else:
        return
    yield from _draw(_all_patches(uri, front_end, start_seconds, end_seconds), sample)


def _all_patches(
    uri: str, front_end: FrontEnd, start_seconds: float, end_seconds: float | None
) -> Iterator[PatchChunk]:
    waveform = read_waveform(
        uri,
        sample_rate_hz=front_end.sample_rate_hz,
        start_seconds=start_seconds,
        end_seconds=end_seconds,
    )
    if front_end.windows is None:
        chunks = stream_patches(waveform, front_end.log_mel)
    else:
        chunks = stream_windows(waveform, front_end.windows)
    first = 0
    for patches in chunks:
        indices = np.arange(first, first + len(patches))
        yield PatchChunk(indices, front_end.storage.encode(patches))
        first += len(patches)


def _draw(chunks: Iterator[PatchChunk], sample: PatchSample) -> Iterator[PatchChunk]:
    """Draw patches of a soundtrack of unknown length, in memory that does not grow with it.

    Raises:
      AudioError: that of `chunks`, after the sample of the patches before it.
    """
    source, num_patches = sample.keys(), 0
    lowest: list[tuple[int, int, np.ndarray]] = []  # key, index, patch
    error = None
    try:
        for chunk in chunks:
            keys = source.random_raw(len(chunk.indices)).tolist()
            lowest += zip(keys, chunk.indices.tolist(), chunk.patches, strict=True)
            lowest = sorted(lowest, key=lambda patch: patch[:2])[: sample.count]
            num_patches += len(chunk.indices)
    except AudioError as found:
        error = found
    if lowest:
        _, indices, patches = zip(*sorted(lowest, key=lambda patch: patch[1]), strict=True)
        yield PatchChunk(np.array(indices), np.stack(patches), num_patches)
    if error is not None:
        raise error


def _excerpted_patches(
    uri: str,
    front_end: FrontEnd,
    start_seconds: float,
    end_seconds: float | None,
    sample: PatchSample,
) -> PatchChunk:
    """Draw patches, and decode little else than these."""
    params = front_end.log_mel
    hop_samples = params.patch_hop_frames * params.hop_samples
    indices, num_patches = np.empty(0, np.int64), 0

    def choose(num_samples: int) -> Choice:
        nonlocal indices, num_patches
        num_patches = params.num_patches(num_samples)
        indices = sample.draw(num_patches)
        is_most = sample.count > _DENSE_SHARE * num_patches
        following = sample.next_candidate(num_patches) * hop_samples
        return Choice((indices * hop_samples).tolist(), following, is_most)

    request = ExcerptRequest(
        sample_rate_hz=params.sample_rate_hz,
        num_samples=params.patch_samples,
        choose=choose,
        start_seconds=start_seconds,
        end_seconds=end_seconds,
    )
    excerpts = read_excerpts(uri, request)
    patches = [front_end.storage.encode(log_mel_patches(excerpt, params)) for excerpt in excerpts]
    return PatchChunk(indices, np.concatenate(patches), num_patches)
