"""Excerpts of a soundtrack, for which little else is decoded.

They are reached by seeking where a container can be sought exactly. In all others the packets are
demuxed, and only those of the excerpts are decoded. The samples equal those of `read_waveform` up
to rounding.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import av
import numpy as np
import soxr

from features.sound.clock import TOLERANCE_SECONDS
from features.sound.medium import (
    average_channels,
    choose_audio_stream,
    declared_seconds,
    decode_frames,
    decode_packet,
    demux_packets,
    open_medium,
)
from features.sound.outcome import AudioError, Outcome
from features.sound.packets import (
    DecodeWholeError,
    PacketIndex,
    Parts,
    UnexpectedLengthError,
    decode_run,
    read_packets,
)
from features.sound.waveform import LENGTH_TOLERANCE_SECONDS, QUALITY, check_rate, require_whole

# Containers whose timestamps are exact after a seek, and which declare their length.
_SEEKABLE = {"mov,mp4,m4a,3gp,3g2,mj2", "wav", "flac"}
# Decoded before an excerpt that is sought: what a decoder needs to converge.
_PREROLL_SECONDS = 0.25
# On both sides of an excerpt: more than the reach of the resampler's filter, 12 ms at 8 kHz.
_MARGIN_SECONDS = 0.025
# Excerpts that are resampled in one call, each of which designs a filter in 2 ms.
_NUM_RESAMPLED = 16


@dataclasses.dataclass(frozen=True)
class _Window:
    """An excerpt and its margins.

    Attributes:
      first, last: samples of the part, at the rate of the medium.
      skip: samples at the new rate from `first` to the excerpt.
    """

    first: int
    last: int
    skip: int


class Choice(NamedTuple):
    """The excerpts that are asked for if the part has some length.

    Attributes:
      starts: first samples at the new rate, in ascending order.
      following: first sample of the first excerpt that may be asked for in a longer part.
      is_most: whether they are so much of the part that it may as well be decoded whole.
    """

    starts: Sequence[int]
    following: int
    is_most: bool


@dataclasses.dataclass(frozen=True)
class ExcerptRequest:
    """Excerpts of the part of a soundtrack from start to end.

    Attributes:
      sample_rate_hz: the rate to resample to.
      num_samples: length of each excerpt.
      choose: maps the length of the part, in samples at the new rate, to the excerpts. One that is
        not asked for is not asked for in a longer part either.
      start_seconds: start of the part.
      end_seconds: end of the part; None for the end of the soundtrack.
    """

    sample_rate_hz: int
    num_samples: int
    choose: Callable[[int], Choice]
    start_seconds: float = 0.0
    end_seconds: float | None = None

    def plan(self, rate: int, whole: int) -> "_Plan":
        """The windows of the excerpts in a soundtrack of `whole` samples at a rate.

        Raises:
          AudioError: no recording has this rate.
        """
        check_rate(rate)
        first = round(self.start_seconds * rate)
        end = None if self.end_seconds is None else round(self.end_seconds * rate)
        length = max(0, (whole if end is None else min(whole, end)) - first)
        new_rate = self.sample_rate_hz
        # The length that the resampler gives.
        choice = self.choose((2 * length * new_rate + rate) // (2 * rate))
        *windows, following = (
            _window(start, self.num_samples, rate, new_rate)
            for start in (*choice.starts, choice.following)
        )
        return _Plan(
            rate=rate,
            first=first,
            length=length,
            windows=windows,
            following=None if end is not None and whole >= end else following,
            is_most=choice.is_most,
        )


@dataclasses.dataclass(frozen=True)
class _Plan:
    """The windows of excerpts.

    Attributes:
      rate: of the medium, in hertz.
      first, length: of the part, in samples at this rate.
      windows: of the excerpts.
      following: first window that may be asked for if the soundtrack is longer; None if none is.
      is_most: as in `Choice`.
    """

    rate: int
    first: int
    length: int
    windows: Sequence[_Window]
    following: _Window | None
    is_most: bool

    def find_parts(self) -> Parts:
        """Parts of a soundtrack that may be longer."""
        if self.following is None:
            return Parts(self.parts, None)
        # The end of the last margins may be still to come.
        ready = [window for window in self.windows if window.last <= self.length]
        following = [*self.windows, self.following][len(ready)]
        return Parts(
            [(self.first + window.first, self.first + window.last) for window in ready],
            (self.first + following.first, self.first + following.last),
        )

    @property
    def parts(self) -> list[tuple[int, int]]:
        """First sample and end of each window in the soundtrack, as far as the part reaches."""
        return [
            (self.first + window.first, self.first + min(window.last, self.length))
            for window in self.windows
        ]


def read_excerpts(uri: str, request: ExcerptRequest) -> Iterator[np.ndarray]:
    """Decode excerpts of the soundtrack of a media file.

    Args:
      uri: a path or URI on any filesystem of Beam.
      request: the excerpts.

    Yields:
      Each excerpt, float32 [samples], mono in [-1, 1).

    Raises:
      AudioError: the soundtrack cannot be used.
      DecodeWholeError: excerpts cannot be decoded alone; `read_waveform` may succeed.
    """
    try:
        # A part may end before the length that is expected.
        yield from _read_excerpts(uri, request, expects=request.end_seconds is None)
    except UnexpectedLengthError:  # before the first excerpt
        yield from _read_excerpts(uri, request, expects=False)


def _read_excerpts(uri: str, request: ExcerptRequest, *, expects: bool) -> Iterator[np.ndarray]:
    with open_medium(uri) as (container, declared_bytes):
        stream = choose_audio_stream(container)
        seconds = _seekable_seconds(container, stream)
        pieces: Iterator[np.ndarray]
        if seconds is not None:
            require_whole(container, stream, seconds, declared_bytes)  # the size of the file
            rate = _probe_rate(container, stream)
            plan = request.plan(rate, int(seconds * rate))
            # An encoder may have padded more than the header declares.
            end = None if request.end_seconds is None else plan.first + plan.length
            pieces = (_seek(container, stream, plan, end, window) for window in plan.windows)
        else:

            def find_parts(rate: int, whole: int) -> Parts:
                return request.plan(rate, whole).find_parts()

            index = read_packets(container, stream, find_parts, expects=expects)
            if index.seconds is not None:
                require_whole(container, stream, index.seconds, declared_bytes)
            plan = request.plan(index.sample_rate, index.num_samples)
            pieces = _cut(index, plan, stream.codec_context)
        if plan.is_most:
            raise DecodeWholeError("most of the soundtrack is asked for")
        yield from _resample(pieces, plan, request)


def _window(start: int, num_samples: int, rate: int, new_rate: int) -> _Window:
    """The window of the excerpt from `start` on, which counts at the new rate."""
    if rate == new_rate:
        return _Window(start, start + num_samples, 0)
    # From and to a sample that both rates share: so the resampler has the same phase as in the
    # whole soundtrack, also if windows follow each other.
    divisor = math.gcd(rate, new_rate)
    unit, new_unit = rate // divisor, new_rate // divisor
    margin = round(_MARGIN_SECONDS * new_rate)
    first = max(0, (start - margin) // new_unit)
    last = -(-(start + num_samples + margin) // new_unit)
    return _Window(first * unit, last * unit, start - first * new_unit)


def _resample(
    pieces: Iterable[np.ndarray], plan: _Plan, request: ExcerptRequest
) -> Iterator[np.ndarray]:
    """Resample the samples of windows, and cut the excerpts out of them."""
    rate, new_rate = plan.rate, request.sample_rate_hz
    if rate == new_rate:
        yield from pieces
        return
    paired = zip(plan.windows, pieces, strict=True)
    while batch := list(itertools.islice(paired, _NUM_RESAMPLED)):
        joined = np.concatenate([piece for _, piece in batch])
        resampled = soxr.resample(joined, rate, new_rate, quality=QUALITY)
        begin = 0
        for window, piece in batch:
            yield resampled[begin + window.skip :][: request.num_samples]
            begin += len(piece) * new_rate // rate


def _cut(index: PacketIndex, plan: _Plan, context: av.AudioCodecContext) -> Iterator[np.ndarray]:
    """Decode the packets of windows; what is beyond the part is silence."""
    runs = index.find_runs(plan.parts)
    run, samples = None, np.empty(0, np.float32)
    for window, (first, last) in zip(plan.windows, plan.parts, strict=True):
        while run is None or last > run.last:
            run = next(runs)
            samples = decode_run(run, index, context)
        piece = np.zeros(window.last - window.first, np.float32)
        piece[: last - first] = samples[first - run.first : last - run.first]
        yield piece


def _seekable_seconds(
    container: av.container.InputContainer, stream: av.AudioStream
) -> float | None:
    """The length of a soundtrack that can be sought; None for all others."""
    seconds = declared_seconds(container, stream)
    if container.format.name not in _SEEKABLE or seconds is None or stream.time_base is None:
        return None
    origin = (container.start_time or 0) / av.time_base
    late = float((stream.start_time or 0) * stream.time_base) - origin
    return None if abs(late) > TOLERANCE_SECONDS else seconds


def _probe_rate(container: av.container.InputContainer, stream: av.AudioStream) -> int:
    """The sample rate that the decoder gives."""
    frames = next(decode_frames(container, stream, 1, 1), None)
    if frames is None:
        raise DecodeWholeError("no sound")
    return frames[0].sample_rate


def _seek(
    container: av.container.InputContainer,
    stream: av.AudioStream,
    plan: _Plan,
    end: int | None,
    window: _Window,
) -> np.ndarray:
    """Seek to a window, and decode it.

    Args:
      container: of the stream.
      stream: the soundtrack.
      plan: with the window.
      end: of the part, in samples of the soundtrack; None for the end of the soundtrack.
      window: where to seek.

    Returns:
      float32 [samples of the window]; zeros where the medium has no sound, and beyond the part.
    """
    assert stream.time_base is not None
    origin = (container.start_time or 0) / av.time_base
    rate = plan.rate
    first, last = plan.first + window.first, plan.first + window.last
    if end is not None:
        last = min(last, end)
    # Negative for the first excerpts: AAC's first packet lies before the start, and the second
    # packet needs it.
    sought = first / rate - _PREROLL_SECONDS + origin
    container.seek(int(sought / stream.time_base), stream=stream)
    samples = np.zeros(window.last - window.first, np.float32)
    reached = -1.0
    packets = demux_packets(container, stream)
    context = stream.codec_context
    for frame in (frame for packet in packets for frame in decode_packet(context, packet)):
        if frame.time is None or frame.sample_rate != rate:
            raise DecodeWholeError("frames without timestamps, or of another sample rate")
        at = round((frame.time - origin) * rate) - first
        if at >= last - first:
            break
        if at + frame.samples > 0:
            _, mono = average_channels(frame)
            begin, stop = max(at, 0), min(at + len(mono), last - first)
            samples[begin:stop] = mono[begin - at : stop - at]
        reached = frame.time - origin + frame.samples / rate
    if reached < last / rate - _MARGIN_SECONDS - LENGTH_TOLERANCE_SECONDS:
        raise AudioError(
            Outcome.TRUNCATED, f"no sound after {max(reached, 0.0):.1f} s, or a failed seek"
        )
    return samples
