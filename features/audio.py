"""Any media file to blocks of mono samples, through the FFmpeg of PyAV and the soxr resampler.

Channels are averaged before resampling (FFmpeg's own down-mix has a gain of 1.41). Only the audio
stream is read; the video stream is discarded by the demuxer. Frames are collected into large blocks
first: resampling frame by frame costs three times as much.

A manifest is not trusted input: only container formats of one file are opened, never playlists,
which would make FFmpeg read other files or addresses.
"""

import contextlib
import enum
import errno
import math
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import av
import av.error
import numpy as np
import soxr
from av.stream import Discard, Disposition

from features import storage

_QUALITY = "HQ"
# Part of the front end's fingerprint: LQ and QQ shift log-mel by 2.9, other libraries by 0.3.
RESAMPLER = f"soxr {soxr.__libsoxr_version__.split('-')[0]} {_QUALITY}"

# Demuxers that read one file and nothing else.
_CONTAINERS = (
    "aac,ac3,aiff,amr,asf,au,avi,caf,eac3,flac,flv,m4a,matroska,mov,mp3,mp4,mpeg,mpegts,ogg,wav,"
    "webm,w64,3gp"
)
# Samples per channel decoded before they are averaged and resampled: 2.7 s at 48 kHz, 1 MB.
_BLOCK_SAMPLES = 131_072
# Beyond this share of undecodable packets, what is left is not the soundtrack any more.
_MAX_BAD_PACKETS = 0.1
# Containers round their timestamps (Matroska to 1 ms) and decoders drop their delay (up to 50 ms);
# from here on a difference between clock and samples is a gap. Beyond the other limit the clock was
# set anew.
_CLOCK_TOLERANCE_SECONDS, _MAX_GAP_SECONDS = 0.1, 600.0
# What is decoded may be so much shorter than the header declares.
_LENGTH_TOLERANCE, _LENGTH_TOLERANCE_SECONDS = 0.01, 0.5
# By FFmpeg's names: containers that store timestamps, and those that store no length. In the others
# FFmpeg counts or estimates, and a change of the sample rate leads it astray.
_WITH_CLOCK = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "ogg", "flv", "asf", "avi", "mpegts"}
# Those whose timestamps are exact enough after a seek; Ogg's and MP3's are not.
_SEEKABLE = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "wav", "flac"}
_WITHOUT_LENGTH = {"mp3", "aac", "ac3", "eac3", "amr", "mpeg", "mpegts"}
# Before an excerpt: what a decoder needs to be in step (Opus 80 ms, MP3 up to 240 ms), and what the
# resampler's filter reaches over.
_PREROLL_SECONDS, _MARGIN_SECONDS = 0.25, 0.05
# A damaged header may name any rate; at 1 Hz, one block would become 8 GB of samples.
_MIN_RATE_HZ, _MAX_RATE_HZ = 1_000, 768_000


# What PyAV says, beside FFmpeg's errors, of streams that come and go in a damaged file and of text
# that is none. Caught only around its own calls: in our code they are bugs.
_PYAV_ERRORS = (IndexError, ValueError)


class Outcome(enum.StrEnum):
    """What became of one soundtrack. Every soundtrack of a job has exactly one."""

    OK = "ok"
    OK_PARTIAL = "ok_partial"  # truncated, and the part before the cut was wanted
    NOT_FOUND = "not_found"  # no such file or object
    PERMISSION_DENIED = "permission_denied"
    UNREADABLE = "unreadable"  # the filesystem says no in another way: a folder, a broken disk
    EMPTY_FILE = "empty_file"  # zero bytes
    TRUNCATED = "truncated"  # ends before the length that its header declares
    CORRUPT = "corrupt"  # no container that we open, or too many undecodable packets
    UNSUPPORTED_CODEC = "unsupported_codec"  # FFmpeg has no decoder for the audio stream
    NO_AUDIO_STREAM = "no_audio_stream"
    NONFINITE_SAMPLES = "nonfinite_samples"  # NaN, infinity, or samples beyond any full scale
    TOO_SHORT = "too_short"  # decoded well, and shorter than one patch
    TIMEOUT = "timeout"  # not decoded within the time limit
    DECODER_CRASHED = "decoder_crashed"  # the process that decoded it was killed by a signal


class AudioError(Exception):
    """A soundtrack that cannot be used: the outcome, and the words of the library."""

    def __init__(self, outcome: Outcome, detail: str):
        super().__init__(outcome, detail)
        self.outcome = outcome
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.outcome}: {self.detail}"


def read_waveform(
    uri: str, *, sample_rate_hz: int, start_seconds: float = 0.0, end_seconds: float | None = None
) -> Iterator[np.ndarray]:
    """The soundtrack of a media file, or the part of it from start to end.

    Args:
      uri: a path or URI on any filesystem of Beam.
      sample_rate_hz: the rate to resample to.
      start_seconds: where the part starts.
      end_seconds: where it ends; None for the end of the soundtrack.

    Yields:
      float32 [samples], mono in [-1, 1), of varying length.

    Raises:
      AudioError: with the outcome and what the library said; never an exception of a library.
    """
    with _open(uri) as (container, declared_bytes):
        blocks = _mono_blocks(container, declared_bytes)
        blocks = _between(blocks, start_seconds, end_seconds)
        yield from _resampled(blocks, sample_rate_hz)


class CannotSeekError(Exception):
    """Excerpts of this file are not to be had without decoding all of it."""


def read_excerpts(
    uri: str,
    *,
    sample_rate_hz: int,
    num_samples: int,
    choose: Callable[[int], Sequence[int]],
) -> Iterator[np.ndarray]:
    """Excerpts of a soundtrack, reached by seeking instead of decoding everything before them.

    They are those of `read_waveform`, up to rounding, where the container's timestamps are exact
    (mp4, wav, flac); Matroska rounds its own to 1 ms.

    Args:
      uri: a path or URI on any filesystem of Beam.
      sample_rate_hz: the rate to resample to.
      num_samples: of each excerpt.
      choose: from the samples that the soundtrack has by its header, to where excerpts start;
        rising.

    Yields:
      float32 [num_samples], mono in [-1, 1), for each start.

    Raises:
      AudioError: with the outcome and what the library said.
      CannotSeekError: the container has no exact timestamps, or does not declare its length.
    """
    with _open(uri) as (container, _):
        stream = _audio_stream(container)
        seconds = _declared_seconds(container, stream)
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
    """Samples from `start` at the new rate; silence where the medium has none."""
    assert stream.time_base is not None
    origin = (container.start_time or 0) / av.time_base
    sought = start / sample_rate_hz - _MARGIN_SECONDS - _PREROLL_SECONDS + origin
    # Before the start for the first excerpts: AAC has a packet there that its second one needs.
    container.seek(int(sought / stream.time_base), stream=stream)
    source, first, rate = np.empty(0, np.float32), 0, 0
    end_seconds = (start + num_samples) / sample_rate_hz + _MARGIN_SECONDS
    reached = -1.0
    for frame in _frames(container, stream):
        if frame.time is None:
            raise CannotSeekError("frames without timestamps")
        if not rate:
            rate = frame.sample_rate
            # From a sample that both rates have, so that the resampler is in the phase in which
            # it goes through the whole soundtrack.
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
        _, mono = _averaged(frame)
        begin, end = max(at, 0), min(at + len(mono), len(source))
        if begin < end:
            source[begin:end] = mono[begin - at : end - at]
        reached = frame.time - origin + frame.samples / rate
    if reached < (start + num_samples) / sample_rate_hz - _LENGTH_TOLERANCE_SECONDS:
        raise AudioError(
            Outcome.TRUNCATED, f"nothing after {max(reached, 0.0):.1f} s, or no way to get there"
        )
    resampled = (
        source
        if rate == sample_rate_hz
        else soxr.resample(source, rate, sample_rate_hz, quality=_QUALITY)
    )
    return resampled[start - aligned :][:num_samples]


class _ForFFmpeg:
    """A file that answers an impossible seek with FFmpeg's error code, not with an exception.

    A damaged index sends FFmpeg anywhere; that is the file's fault and not the filesystem's.
    """

    def __init__(self, file: IO[bytes]):
        self.read, self.tell = file.read, file.tell
        self._seek = file.seek

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._seek(offset, whence)
        except (OSError, ValueError):
            return -errno.EINVAL


@contextlib.contextmanager
def _open(uri: str) -> Iterator[tuple[av.container.InputContainer, int]]:
    """Open a container from the bytes of `uri`; library errors become an AudioError.

    Yields the bytes that the file's header declares beside it, 0 where it does not.
    """
    try:
        with storage.open_read(uri) as file:
            header = file.read(8)
            if not header:
                raise AudioError(Outcome.EMPTY_FILE, "the file has no bytes")
            file.seek(0)
            with _container(file) as container:
                yield container, _declared_bytes(header)
    except AudioError:
        raise
    except (av.error.DecoderNotFoundError, av.error.PatchWelcomeError) as error:
        raise AudioError(Outcome.UNSUPPORTED_CODEC, str(error)) from error
    except av.error.FFmpegError as error:
        # Before OSError: some of its classes are both.
        raise AudioError(Outcome.CORRUPT, str(error)) from error
    except FileNotFoundError as error:
        raise AudioError(Outcome.NOT_FOUND, str(error)) from error
    except PermissionError as error:
        raise AudioError(Outcome.PERMISSION_DENIED, str(error)) from error
    except OSError as error:
        raise AudioError(Outcome.UNREADABLE, str(error)) from error


def _declared_bytes(header: bytes) -> int:
    """The size of a RIFF file (WAV, AVI) by its first bytes.

    FFmpeg corrects a length that the file does not have, and says nothing.
    """
    size = int.from_bytes(header[4:8], "little")
    # All ones and zero are written by those who do not know yet.
    return size + 8 if header[:4] == b"RIFF" and size != 0xFFFFFFFF else 0


def _container(file: IO[bytes]) -> av.container.InputContainer:
    try:
        return av.open(
            _ForFFmpeg(file),
            "r",
            options={"format_whitelist": _CONTAINERS},
            # Titles in another encoding than UTF-8 are common, and none of our business.
            metadata_errors="replace",
        )
    except av.error.FFmpegError:
        raise  # some of its classes are ValueErrors too
    except _PYAV_ERRORS as error:
        raise AudioError(Outcome.CORRUPT, str(error)) from error


def _mono_blocks(
    container: av.container.InputContainer, declared_bytes: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Decode one audio stream; yields (sample rate, mono float32 [samples]).

    The samples are on the clock of the medium: a late start and gaps are filled with silence, so
    that a patch is heard where its `start_seconds` says.
    """
    stream = _audio_stream(container)
    fifo, layout = av.AudioFifo(), None
    has_clock = container.format.name in _WITH_CLOCK
    origin = (container.start_time or 0) / av.time_base
    seconds = 0.0  # of sound and silence before the next frame
    for frame in _frames(container, stream):
        changed = (frame.format.name, frame.sample_rate, frame.layout.nb_channels) != layout
        late = frame.time - origin - seconds if has_clock and frame.time is not None else 0.0
        if (changed or abs(late) > _CLOCK_TOLERANCE_SECONDS) and fifo.samples:
            yield _averaged(fifo.read())
        if abs(late) > _MAX_GAP_SECONDS or late < -_CLOCK_TOLERANCE_SECONDS:
            origin += late  # the clock was set anew, as where recordings were joined
        elif late > _CLOCK_TOLERANCE_SECONDS:
            yield frame.sample_rate, np.zeros(round(late * frame.sample_rate), np.float32)
            seconds += late
        if changed:
            if not _MIN_RATE_HZ <= frame.sample_rate <= _MAX_RATE_HZ:
                raise AudioError(Outcome.CORRUPT, f"a sample rate of {frame.sample_rate} Hz")
            fifo = av.AudioFifo()
            layout = (frame.format.name, frame.sample_rate, frame.layout.nb_channels)
        seconds += frame.samples / frame.sample_rate
        frame.pts = None  # the FIFO refuses timestamps with gaps
        fifo.write(frame)
        while fifo.samples >= _BLOCK_SAMPLES:
            yield _averaged(fifo.read(_BLOCK_SAMPLES))
    if fifo.samples:
        yield _averaged(fifo.read())
    if declared_bytes > container.size * (1 + _LENGTH_TOLERANCE):
        raise AudioError(
            Outcome.TRUNCATED, f"the file ends at byte {container.size} of {declared_bytes}"
        )
    _require_whole(container, stream, seconds)


def _audio_stream(container: av.container.InputContainer) -> av.AudioStream:
    """The stream that a player would choose: the first that is marked as default, or the first."""
    streams = container.streams.audio
    if not streams:
        raise AudioError(Outcome.NO_AUDIO_STREAM, f"{len(container.streams)} streams, no audio")
    stream = next((one for one in streams if one.disposition & Disposition.default), streams[0])
    for other in container.streams:
        if other is not stream:
            other.discard = Discard.all
    if stream.codec_context is None:
        raise AudioError(Outcome.UNSUPPORTED_CODEC, "no decoder for the audio stream")
    stream.codec_context.thread_count = 1  # the job runs one process per core
    _drop_custom_layout(stream.codec_context)
    return stream


def _require_whole(
    container: av.container.InputContainer, stream: av.AudioStream, seconds: float
) -> None:
    """Compare what was decoded with the length that the container declares.

    Raises:
      AudioError: of `Outcome.TRUNCATED`.
    """
    declared = _declared_seconds(container, stream)
    if declared is None:
        return
    tolerance = max(_LENGTH_TOLERANCE_SECONDS, _LENGTH_TOLERANCE * declared)
    if seconds < declared - tolerance:
        raise AudioError(Outcome.TRUNCATED, f"ends at {seconds:.1f} s of {declared:.1f} s")
    # A WAV header may also declare less than there is, and the rest is then passed over in silence.
    if container.format.name == "wav" and stream.codec_context.bit_rate:
        held = container.size * 8 / stream.codec_context.bit_rate
        if held > 1.5 * declared + tolerance:
            raise AudioError(
                Outcome.TRUNCATED,
                f"the header declares {declared:.1f} s, the file holds {held:.1f} s",
            )


def _declared_seconds(
    container: av.container.InputContainer, stream: av.AudioStream
) -> float | None:
    """The length of the audio stream by the header; None where the container does not say.

    What FFmpeg estimates from the size of the file (mp3, raw streams) is no declaration.
    """
    if container.format.name in _WITHOUT_LENGTH:
        return None
    whole = None if container.duration is None else container.duration / av.time_base
    if stream.duration is not None and stream.time_base is not None:
        own = float(stream.duration * stream.time_base)
        # An edit list may show less than the track holds.
        return own if whole is None else min(own, whole)
    # Matroska declares the length of the file; another stream may be the longer one.
    return whole if len(container.streams) == 1 else None


def _drop_custom_layout(context: av.AudioCodecContext) -> None:
    """Replace a channel order of the file's own by a mere number of channels.

    PyAV frees the list of such an order with every frame, and a second free ends the process.
    The mean of the channels does not depend on their order.
    """
    layout = context.layout
    if layout.nb_channels == 0:
        return  # not known before the first frame
    # From here on `layout` alone owns the list, whatever happens.
    context.layout = f"{layout.nb_channels} channels"
    if context.name.startswith("pcm_"):
        return
    # Other decoders set the order themselves; a list is described by its channels.
    if " channels (" in layout.name or layout.name.startswith("ambisonic"):
        raise AudioError(Outcome.UNSUPPORTED_CODEC, f"{context.name} with {layout.name}")
    context.layout = layout.name


def _frames(
    container: av.container.InputContainer, stream: av.AudioStream
) -> Iterator[av.AudioFrame]:
    """Decode packet by packet: one bad packet costs its own samples, not the rest of the file."""
    num_packets, errors = 0, []
    try:
        for packet in container.demux(stream):
            num_packets += 1
            try:
                yield from packet.decode()
            except av.error.EOFError:
                break  # a flushed decoder says so after the last packet
            except (av.error.DecoderNotFoundError, av.error.PatchWelcomeError):
                raise  # of the codec, not of the packet
            except av.error.FFmpegError as error:
                # Not InvalidDataError alone: decoders have numbers of their own.
                errors.append(str(error))
    except av.error.FFmpegError:
        raise  # some of its classes are ValueErrors too
    except _PYAV_ERRORS as error:
        raise AudioError(Outcome.CORRUPT, str(error)) from error
    if len(errors) > _MAX_BAD_PACKETS * num_packets:
        raise AudioError(
            Outcome.CORRUPT, f"{len(errors)} of {num_packets} packets are bad: {errors[0]}"
        )


def _averaged(frame: av.AudioFrame | None) -> tuple[int, np.ndarray]:
    """The mean of a frame's channels as (sample rate, float32 [samples])."""
    assert frame is not None
    num_channels = frame.layout.nb_channels
    dtype, full_scale, offset = _SAMPLE_FORMATS[frame.format.name.removesuffix("p")]
    planes = frame.planes
    if frame.format.is_planar:
        # By index: with 8 channels `planes` reports a ninth that points nowhere.
        channels = [
            np.frombuffer(memoryview(planes[index]), dtype, frame.samples)
            for index in range(num_channels)
        ]
    else:
        interleaved = np.frombuffer(memoryview(planes[0]), dtype, frame.samples * num_channels)
        channels = list(interleaved.reshape(-1, num_channels).T)
    with np.errstate(over="ignore", invalid="ignore"):  # seen by the product below
        mono = channels[0].astype(np.float32)
        for channel in channels[1:]:
            mono += channel
        if offset:
            mono -= offset * num_channels
        mono *= np.float32(1 / (num_channels * full_scale))
        # One product sees every NaN, infinity and absurd magnitude (beyond 1e19) at once.
        energy = np.dot(mono, mono)
    if not np.isfinite(energy):
        raise AudioError(Outcome.NONFINITE_SAMPLES, "NaN, infinity or samples beyond 1e19")
    return frame.sample_rate, mono


# FFmpeg's sample formats: type, full scale, value of silence.
_SAMPLE_FORMATS: dict[str, tuple[Any, float, float]] = {
    "u8": (np.uint8, 2.0**7, 2.0**7),
    "s16": (np.int16, 2.0**15, 0.0),
    "s32": (np.int32, 2.0**31, 0.0),
    "s64": (np.int64, 2.0**63, 0.0),
    "flt": (np.float32, 1.0, 0.0),
    "dbl": (np.float64, 1.0, 0.0),
}


def _between(
    blocks: Iterator[tuple[int, np.ndarray]], start_seconds: float, end_seconds: float | None
) -> Iterator[tuple[int, np.ndarray]]:
    """The samples from start to end; stops decoding at the end."""
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


def _resampled(
    blocks: Iterator[tuple[int, np.ndarray]], sample_rate_hz: int
) -> Iterator[np.ndarray]:
    """Resample a stream; a change of rate in mid-stream starts the resampler anew."""
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
