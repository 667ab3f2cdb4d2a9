"""A media file, opened and read through the FFmpeg of PyAV: container, audio stream, frames.

A manifest is not trusted input: only container formats of one file are opened, never playlists,
which would make FFmpeg read other files or addresses.
"""

import contextlib
import errno
from collections.abc import Iterator
from typing import IO, Any

import av
import av.error
import numpy as np
from av.stream import Discard, Disposition

from features.sound.outcome import AudioError, Outcome
from features.storage import files

# Demuxers that read one file and nothing else.
_CONTAINERS = (
    "aac,ac3,aiff,amr,asf,au,avi,caf,eac3,flac,flv,m4a,matroska,mov,mp3,mp4,mpeg,mpegts,ogg,wav,"
    "webm,w64,3gp"
)
# Beyond this share of undecodable packets, what is left is not the soundtrack any more.
_MAX_BAD_PACKETS = 0.1
# Those of which FFmpeg only estimates the length, from the size of the file.
_WITHOUT_LENGTH = {"mp3", "aac", "ac3", "eac3", "amr", "mpeg", "mpegts"}
# What PyAV says, beside FFmpeg's errors, of streams that come and go in a damaged file and of text
# that is none. Caught only around its own calls: in our code they are bugs.
_PYAV_ERRORS = (IndexError, ValueError)


@contextlib.contextmanager
def open_medium(uri: str) -> Iterator[tuple[av.container.InputContainer, int]]:
    """Open a container from the bytes of `uri`; library errors become an AudioError.

    Yields the bytes that the file's header declares beside it, 0 where it does not.
    """
    try:
        with files.open_read(uri) as file:
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


def _declared_bytes(header: bytes) -> int:
    """The size of a RIFF file (WAV, AVI) by its first bytes.

    FFmpeg corrects a length that the file does not have, and says nothing.
    """
    size = int.from_bytes(header[4:8], "little")
    # All ones and zero are written by those who do not know yet.
    return size + 8 if header[:4] == b"RIFF" and size != 0xFFFFFFFF else 0


def audio_stream(container: av.container.InputContainer) -> av.AudioStream:
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


def declared_seconds(
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


def frames(
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


def averaged(frame: av.AudioFrame | None) -> tuple[int, np.ndarray]:
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
