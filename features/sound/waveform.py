"""Media files to blocks of mono samples, through PyAV's FFmpeg and the soxr resampler.

Channels are averaged before resampling (FFmpeg's own down-mix has a gain of 1.41). The demuxer
discards all streams but the audio stream. Frames are collected into large blocks before they are
resampled: resampling frame by frame takes three times as long.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import av
import numpy as np
import soxr

from features.sound.medium import (
    average_channels,
    choose_audio_stream,
    declared_seconds,
    decode_frames,
    open_medium,
)
from features.sound.outcome import AudioError, Outcome

_QUALITY = "HQ"
# Part of the front end's fingerprint: LQ and QQ shift log-mel by 2.9, other libraries by 0.3.
RESAMPLER = f"soxr {soxr.__libsoxr_version__.split('-')[0]} {_QUALITY}"

# Samples per channel decoded before they are averaged and resampled: 2.7 s at 48 kHz, 1 MB.
_BLOCK_SAMPLES = 131_072
# A larger difference between the clock and the samples is a gap: containers round timestamps
# (Matroska to 1 ms) and decoders drop their delay (up to 50 ms). A difference beyond the second
# limit is a clock that was reset.
_CLOCK_TOLERANCE_SECONDS, _MAX_GAP_SECONDS = 0.1, 600.0
# How much shorter than its declared length a complete soundtrack may be: the larger of both.
_LENGTH_TOLERANCE, _LENGTH_TOLERANCE_SECONDS = 0.01, 0.5
# FFmpeg's names of containers that store timestamps. For other containers FFmpeg counts samples,
# and miscounts if the sample rate changes.
_WITH_CLOCK = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "ogg", "flv", "asf", "avi", "mpegts"}
# Containers whose timestamps are exact enough after a seek; those of Ogg and MP3 are not.
_SEEKABLE = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "wav", "flac"}
# Decoded before an excerpt: what a decoder needs to converge (Opus 80 ms, MP3 up to 240 ms), and
# the reach of the resampler's filter.
_PREROLL_SECONDS, _MARGIN_SECONDS = 0.25, 0.05
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
        blocks = _mono_blocks(container, declared_bytes)
        blocks = _cut(blocks, start_seconds, end_seconds)
        yield from _resample(blocks, sample_rate_hz)


class CannotSeekError(Exception):
    """Excerpts of this file cannot be reached by seeking; decode the whole file instead."""


def read_excerpts(
    uri: str,
    *,
    sample_rate_hz: int,
    num_samples: int,
    choose: Callable[[int], Sequence[int]],
) -> Iterator[np.ndarray]:
    """Decode excerpts of a soundtrack, reached by seeking.

    The samples equal those of `read_waveform` up to rounding if the container's timestamps are
    exact (MP4, WAV, FLAC); Matroska rounds timestamps to 1 ms.

    Args:
      uri: a path or URI on any filesystem of Beam.
      sample_rate_hz: the rate to resample to.
      num_samples: length of each excerpt.
      choose: maps the length that the header declares, in samples at the new rate, to the first
        samples of the excerpts, in ascending order.

    Yields:
      One excerpt, float32 [num_samples], mono in [-1, 1), for each start.

    Raises:
      AudioError: the soundtrack cannot be used.
      CannotSeekError: the container has no exact timestamps, or does not declare its length.
    """
    with open_medium(uri) as (container, _):
        stream = choose_audio_stream(container)
        seconds = declared_seconds(container, stream)
        if container.format.name not in _SEEKABLE or seconds is None:
            raise CannotSeekError(container.format.name)
        for start in choose(int(seconds * sample_rate_hz)):
            yield _excerpt(container, stream, start, num_samples, sample_rate_hz)


def _excerpt(
    container: av.container.InputContainer,
    stream: av.AudioStream,
    start: int,
    num_samples: int,
    sample_rate_hz: int,
) -> np.ndarray:
    """Decode samples from `start` at the new rate; where the medium has no sound, zeros."""
    assert stream.time_base is not None
    origin = (container.start_time or 0) / av.time_base
    sought = start / sample_rate_hz - _MARGIN_SECONDS - _PREROLL_SECONDS + origin
    # Negative for the first excerpts: AAC's first packet lies before the start, and the second
    # packet needs it.
    container.seek(int(sought / stream.time_base), stream=stream)
    source, first, rate = np.empty(0, np.float32), 0, 0
    end_seconds = (start + num_samples) / sample_rate_hz + _MARGIN_SECONDS
    reached = -1.0
    for frame in decode_frames(container, stream):
        if frame.time is None:
            raise CannotSeekError("frames without timestamps")
        if not rate:
            rate = frame.sample_rate
            # Start at a sample that both rates share, so that the resampler has the same phase
            # as in the whole soundtrack.
            unit = sample_rate_hz // math.gcd(rate, sample_rate_hz)
            margin = round(_MARGIN_SECONDS * sample_rate_hz)
            aligned = max(0, (start - margin) // unit * unit)
            first = aligned * rate // sample_rate_hz
            source = np.zeros(math.ceil(end_seconds * rate) - first, np.float32)
        at = round((frame.time - origin) * rate) - first
        if at >= len(source):
            break
        if frame.sample_rate != rate:
            raise CannotSeekError("the sample rate changes")
        _, mono = average_channels(frame)
        begin, end = max(at, 0), min(at + len(mono), len(source))
        if begin < end:
            source[begin:end] = mono[begin - at : end - at]
        reached = frame.time - origin + frame.samples / rate
    if reached < (start + num_samples) / sample_rate_hz - _LENGTH_TOLERANCE_SECONDS:
        raise AudioError(
            Outcome.TRUNCATED,
            f"no sound after {max(reached, 0.0):.1f} s, or a failed seek",
        )
    resampled = (
        source
        if rate == sample_rate_hz
        else soxr.resample(source, rate, sample_rate_hz, quality=_QUALITY)
    )
    return resampled[start - aligned :][:num_samples]


def _mono_blocks(
    container: av.container.InputContainer, declared_bytes: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Decode the audio stream; yields (sample rate, mono float32 [samples]).

    The samples follow the clock of the medium: a late start and gaps are filled with silence, so
    that `start_seconds` of a patch is its position in the medium.
    """
    stream = choose_audio_stream(container)
    fifo, layout = av.AudioFifo(), None
    has_clock = container.format.name in _WITH_CLOCK
    origin = (container.start_time or 0) / av.time_base
    seconds = 0.0  # length of the sound and silence before the next frame
    for frame in decode_frames(container, stream):
        own_layout = (frame.format.name, frame.sample_rate, frame.layout.nb_channels)
        changed = own_layout != layout
        late = frame.time - origin - seconds if has_clock and frame.time is not None else 0.0
        if (changed or abs(late) > _CLOCK_TOLERANCE_SECONDS) and fifo.samples:
            yield average_channels(fifo.read())
        if abs(late) > _MAX_GAP_SECONDS or late < -_CLOCK_TOLERANCE_SECONDS:
            origin += late  # the clock was reset, as in joined recordings
        elif late > _CLOCK_TOLERANCE_SECONDS:
            yield frame.sample_rate, np.zeros(round(late * frame.sample_rate), np.float32)
            seconds += late
        if changed:
            if not _MIN_RATE_HZ <= frame.sample_rate <= _MAX_RATE_HZ:
                raise AudioError(Outcome.CORRUPT, f"a sample rate of {frame.sample_rate} Hz")
            fifo, layout = av.AudioFifo(), own_layout
        seconds += frame.samples / frame.sample_rate
        frame.pts = None  # the FIFO refuses timestamps with gaps
        fifo.write(frame)
        while fifo.samples >= _BLOCK_SAMPLES:
            yield average_channels(fifo.read(_BLOCK_SAMPLES))
    if fifo.samples:
        yield average_channels(fifo.read())
    _require_whole(container, stream, seconds, declared_bytes)


def _require_whole(
    container: av.container.InputContainer,
    stream: av.AudioStream,
    seconds: float,
    declared_bytes: int,
) -> None:
    """Compare the sizes of the file and of its sound with those that the headers declare.

    Raises:
      AudioError: with `Outcome.TRUNCATED`, if the file or its sound is shorter.
    """
    if declared_bytes > container.size * (1 + _LENGTH_TOLERANCE):
        raise AudioError(
            Outcome.TRUNCATED, f"the file ends at byte {container.size} of {declared_bytes}"
        )
    declared = declared_seconds(container, stream)
    if declared is None:
        return
    tolerance = max(_LENGTH_TOLERANCE_SECONDS, _LENGTH_TOLERANCE * declared)
    if seconds < declared - tolerance:
        raise AudioError(Outcome.TRUNCATED, f"ends at {seconds:.1f} s of {declared:.1f} s")
    # A WAV header may also declare less than the file holds, and FFmpeg then ignores the rest.
    if container.format.name == "wav" and stream.codec_context.bit_rate:
        seconds_in_file = container.size * 8 / stream.codec_context.bit_rate
        if seconds_in_file > 1.5 * declared + tolerance:
            raise AudioError(
                Outcome.TRUNCATED,
                f"the header declares {declared:.1f} s, the file holds {seconds_in_file:.1f} s",
            )


def _cut(
    blocks: Iterator[tuple[int, np.ndarray]], start_seconds: float, end_seconds: float | None
) -> Iterator[tuple[int, np.ndarray]]:
    """Cut the samples from start to end, and stop decoding there."""
    seconds = 0.0
    for rate, block in blocks:
        first = max(0, round((start_seconds - seconds) * rate))
        last = len(block)
        if end_seconds is not None:
            last = min(last, round((end_seconds - seconds) * rate))
        if first < last:
            yield rate, block[first:last]
        seconds += len(block) / rate
        if end_seconds is not None and seconds >= end_seconds:
            return


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
                    rate, sample_rate_hz, 1, dtype="float32", quality=_QUALITY
                )
        yield block if resampler is None else resampler.resample_chunk(block)
    if resampler is not None:
        yield resampler.resample_chunk(np.empty(0, np.float32), last=True)
