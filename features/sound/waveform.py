"""Media files to blocks of mono samples, through PyAV's FFmpeg and the soxr resampler.

Channels are averaged before resampling (FFmpeg's own down-mix has a gain of 1.41). The demuxer
discards all streams but the audio stream. Frames are collected into pieces, which are averaged,
and pieces into blocks, which are resampled: resampling frame by frame takes three times as long.
"""

from collections.abc import Iterable, Iterator

import av
import numpy as np
import soxr

from features.sound.clock import TOLERANCE_SECONDS, MediumClock
from features.sound.medium import (
    average_channels,
    choose_audio_stream,
    declared_seconds,
    decode_frames,
    open_medium,
)
from features.sound.outcome import AudioError, Outcome

QUALITY = "HQ"
# Part of the front end's fingerprint: LQ and QQ shift log-mel by 2.9, other libraries by 0.3.
RESAMPLER = f"soxr {soxr.__libsoxr_version__.split('-')[0]} {QUALITY}"

# Frames that are checked together, unless they are long: 128 KB of AAC, which are still in the
# second-level cache.
_FRAMES_PER_CHECK = 16
# Samples per channel decoded before they are averaged: 0.7 s at 48 kHz. Of stereo they take 256 KB,
# which are still in the second-level cache when they are read again.
_PIECE_SAMPLES = 32_768
# Samples resampled and transformed at a time: 44 s at 48 kHz, 8 MB. Each change between decoding
# and transforming refills the caches.
_BLOCK_SAMPLES = 1 << 21
# How much shorter than its declared length a complete soundtrack may be: the larger of both.
_LENGTH_TOLERANCE, LENGTH_TOLERANCE_SECONDS = 0.01, 0.5
# A damaged header may name any rate; at 1 Hz, one block would become 8 GB of samples. The highest
# real rate is 2.8 MHz: FFmpeg decodes DSD512 to an eighth of its rate.
_MIN_RATE_HZ, _MAX_RATE_HZ = 1_000, 3_000_000


def read_waveform(
    uri: str, *, sample_rate_hz: int, start_seconds: float = 0.0, end_seconds: float | None = None
) -> Iterator[np.ndarray]:
    """Decode the soundtrack of a media file, or the part of it from start to end.

    Args:
      uri: a path or URI on any filesystem of Beam.
      sample_rate_hz: the rate to resample to.
      start_seconds: start of the part.
      end_seconds: end of the part; None for the end of the soundtrack.

    Yields:
      Blocks of float32 [samples], mono in [-1, 1), of varying length.

    Raises:
      AudioError: the soundtrack cannot be used, or not to its end. Exceptions of libraries are
        never raised.
    """
    with open_medium(uri) as (container, declared_bytes):
        pieces = _mono_pieces(container, declared_bytes)
        pieces = _cut(pieces, start_seconds, end_seconds)
        yield from _resample(_join(pieces), sample_rate_hz)


def _mono_pieces(
    container: av.container.InputContainer, declared_bytes: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Decode the audio stream; yields (sample rate, mono float32 [samples]).

    The samples follow the clock of the medium: a late start and gaps are filled with silence, so
    that `start_seconds` of a patch is its position in the medium.
    """
    stream = choose_audio_stream(container)
    fifo, layout = av.AudioFifo(), None
    clock = MediumClock(container)
    for frames in decode_frames(container, stream, _FRAMES_PER_CHECK, _PIECE_SAMPLES):
        # Nearly all frames continue those before them. They are checked together, because the
        # checks of a frame of AAC take as long as a tenth of its decoding.
        layouts = {(f.format.name, f.sample_rate, f.layout.nb_channels) for f in frames}
        if layouts == {layout} and clock.advance(frames):
            _write(fifo, frames)
        else:
            for frame in frames:
                changed = _layout(frame) != layout
                if changed:
                    check_rate(frame.sample_rate)  # before its silence
                late = clock.lateness(frame.time)
                if changed or abs(late) > TOLERANCE_SECONDS:
                    if fifo.samples:
                        yield average_channels(fifo.read())
                    if silence := clock.catch_up(late):
                        yield from _silence(frame.sample_rate, silence)
                if changed:
                    fifo, layout = av.AudioFifo(), _layout(frame)
                clock.seconds += frame.samples / frame.sample_rate
                _write(fifo, [frame])
        while fifo.samples >= _PIECE_SAMPLES:
            yield average_channels(fifo.read(_PIECE_SAMPLES))
    if fifo.samples:
        yield average_channels(fifo.read())
    require_whole(container, stream, clock.seconds, declared_bytes)


def _layout(frame: av.AudioFrame) -> tuple[str, int, int]:
    return frame.format.name, frame.sample_rate, frame.layout.nb_channels


def _silence(rate: int, seconds: float) -> Iterator[tuple[int, np.ndarray]]:
    """Silence in blocks: ten minutes of it at the highest rate would be 7 GB."""
    num_samples = round(seconds * rate)
    for first in range(0, num_samples, _BLOCK_SAMPLES):
        yield rate, np.zeros(min(_BLOCK_SAMPLES, num_samples - first), np.float32)


def check_rate(rate: int) -> None:
    """Refuse a sample rate that no recording has.

    Raises:
      AudioError: with `Outcome.CORRUPT`.
    """
    if not _MIN_RATE_HZ <= rate <= _MAX_RATE_HZ:
        raise AudioError(Outcome.CORRUPT, f"a sample rate of {rate} Hz")


def _write(fifo: av.AudioFifo, frames: Iterable[av.AudioFrame]) -> None:
    for frame in frames:
        frame.pts = None  # the FIFO refuses timestamps with gaps
        fifo.write(frame)


def require_whole(
    container: av.container.InputContainer,
    stream: av.AudioStream,
    seconds: float,
    declared_bytes: int,
) -> None:
    """Compare the sizes of the file and of its sound with those that the headers declare.

    Raises:
      AudioError: with `Outcome.TRUNCATED`, if the file or its sound is shorter.
    """
    size: int | None = container.size  # None in PyAV 19 where it is unknown
    if size is not None and declared_bytes > size * (1 + _LENGTH_TOLERANCE):
        raise AudioError(Outcome.TRUNCATED, f"the file ends at byte {size} of {declared_bytes}")
    declared = declared_seconds(container, stream)
    if declared is None:
        return
    tolerance = max(LENGTH_TOLERANCE_SECONDS, _LENGTH_TOLERANCE * declared)
    if seconds < declared - tolerance:
        raise AudioError(Outcome.TRUNCATED, f"ends at {seconds:.1f} s of {declared:.1f} s")
    # A WAV header may also declare less than the file holds, and FFmpeg then ignores the rest.
    if container.format.name == "wav" and size and stream.codec_context.bit_rate:
        seconds_in_file = size * 8 / stream.codec_context.bit_rate
        if seconds_in_file > 1.5 * declared + tolerance:
            raise AudioError(
                Outcome.TRUNCATED,
                f"the header declares {declared:.1f} s, the file holds {seconds_in_file:.1f} s",
            )


def _cut(
    pieces: Iterator[tuple[int, np.ndarray]], start_seconds: float, end_seconds: float | None
) -> Iterator[tuple[int, np.ndarray]]:
    """Cut the samples from start to end, and stop decoding there."""
    seconds = 0.0
    for rate, piece in pieces:
        first = max(0, round((start_seconds - seconds) * rate))
        last = len(piece)
        if end_seconds is not None:
            last = min(last, round((end_seconds - seconds) * rate))
        if first < last:
            yield rate, piece[first:last]
        seconds += len(piece) / rate
        if end_seconds is not None and seconds >= end_seconds:
            return


def _join(pieces: Iterator[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
    """Join pieces of the same sample rate to blocks.

    Raises:
      AudioError: that of `pieces`, after the samples before it.
    """
    block = np.empty(_BLOCK_SAMPLES, np.float32)
    num_samples, current_rate, error = 0, 0, None
    try:
        for rate, piece in pieces:
            while len(piece):
                if num_samples and (rate != current_rate or num_samples == len(block)):
                    yield current_rate, block[:num_samples]
                    block, num_samples = np.empty_like(block), 0
                current_rate = rate
                taken = piece[: len(block) - num_samples]
                block[num_samples : num_samples + len(taken)] = taken
                num_samples += len(taken)
                piece = piece[len(taken) :]
    except AudioError as found:
        error = found
    if num_samples:
        yield current_rate, block[:num_samples]
    if error is not None:
        raise error


def _resample(
    blocks: Iterator[tuple[int, np.ndarray]], sample_rate_hz: int
) -> Iterator[np.ndarray]:
    """Resample a stream; where its rate changes, a new resampler starts."""
    resampler, current_rate = None, sample_rate_hz
    for rate, block in blocks:
        if rate != current_rate and resampler is not None:
            yield resampler.resample_chunk(np.empty(0, np.float32), last=True)
        if rate != current_rate:
            current_rate, resampler = rate, None
            if rate != sample_rate_hz:
                resampler = soxr.ResampleStream(
                    rate, sample_rate_hz, 1, dtype="float32", quality=QUALITY
                )
        yield block if resampler is None else resampler.resample_chunk(block)
    if resampler is not None:
        yield resampler.resample_chunk(np.empty(0, np.float32), last=True)
