"""Media files read through PyAV's FFmpeg: container, audio stream, decoded frames.

A manifest is not trusted input. Only containers that consist of one file are opened, never
playlists, which would make FFmpeg read other files or URLs.
"""

import contextlib
import errno
import itertools
from collections.abc import Iterator
from typing import IO, Any

import av
import av.error
import av.logging
import numpy as np
from av.audio.plane import AudioPlane
from av.stream import Discard, Disposition

from features.errors import StoreRefusalError
from features.sound.outcome import AudioError, Outcome
from features.storage import files

# Python 3.11 has PyAV 18, whose work-arounds below the versions for later Pythons do not need.
_PYAV_18 = av.__version__.startswith("18.")
# Titles in other encodings than UTF-8 are common. Later versions accept them without being asked.
_OPEN_OPTIONS: dict[str, Any] = {"metadata_errors": "replace"} if _PYAV_18 else {}

# FFmpeg's names of the demuxers that read one file and nothing else.
_CONTAINERS = (
    "3gp,aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,eac3,flac,flv,iff,m4a,matroska,mov,mp3,mp4,mpc,"
    "mpc8,mpeg,mpegts,ogg,tak,tta,w64,wav,webm,wv"
)
# First bytes of formats that FFmpeg's probe does not name: it recognises a playlist by its file
# name, which it is not given here, and has no demuxer for ADIF.
_SIGNATURES = {b"#EXTM3U": "hls", b"ADIF": "adif"}
_HEADER_BYTES = 8
# A file with a larger share of undecodable packets is corrupt. A share of fewer packets says
# nothing: 20 are half a second of MP3.
_MAX_BAD_SHARE, _MIN_PACKETS = 0.1, 20
# Containers whose length FFmpeg only estimates, from the size of the file.
_WITHOUT_LENGTH = {"mp3", "aac", "ac3", "eac3", "amr", "mpeg", "mpegts"}
# PyAV raises these, beside FFmpeg's errors, if streams appear in mid-file or text is not UTF-8.
# They are caught only around calls of PyAV: in our code they are bugs.
_PYAV_ERRORS = (IndexError, ValueError)


@contextlib.contextmanager
def open_medium(uri: str) -> Iterator[tuple[av.container.InputContainer, int]]:
    """Open a media file; errors of libraries become an `AudioError`.

    Yields:
      The container, and the size of the file in bytes that its header declares (0: none declared).

    Raises:
      AudioError: the file cannot be opened, or the `with` block met an error of FFmpeg.
      StoreRefusalError: a store refuses this process, whatever the file.
    """
    try:
        with files.open_read(uri) as file:
            header = file.read(_HEADER_BYTES)
            if not header:
                raise AudioError(Outcome.EMPTY_FILE, "the file has no bytes")
            for signature, name in _SIGNATURES.items():
                if header.startswith(signature):
                    raise AudioError(Outcome.UNSUPPORTED_CONTAINER, name)
            with _container(file) as container:
                yield container, _declared_bytes(header)
    except (AudioError, StoreRefusalError):
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
    """A file that answers an impossible seek with FFmpeg's error code instead of an exception.

    FFmpeg follows a damaged index to any position, which is no error of the filesystem.
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
        return _open(file)
    except av.error.ArgumentError:
        # FFmpeg's error for a format that is not whitelisted, among others.
        if name := _refused_container(file):
            raise AudioError(Outcome.UNSUPPORTED_CONTAINER, name) from None
        raise
    except av.error.FFmpegError:
        raise  # some of its classes are ValueErrors too
    except _PYAV_ERRORS as error:
        raise AudioError(Outcome.CORRUPT, str(error)) from error


def _open(file: IO[bytes]) -> av.container.InputContainer:
    file.seek(0)
    return av.open(
        _ForFFmpeg(file),
        "r",
        options={"format_whitelist": _CONTAINERS},
        **_OPEN_OPTIONS,
    )


def _refused_container(file: IO[bytes]) -> str | None:
    """FFmpeg's name of a container that is not whitelisted; None if FFmpeg only guesses it.

    FFmpeg gives the name in its log alone, so the file is opened again with the log switched on.
    The whitelist still holds: FFmpeg checks it after the probe, which reads the given bytes, and
    before it starts the demuxer, which could open other files.
    """
    level, skip_repeated = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.WARNING)
    av.logging.set_skip_repeated(False)
    try:
        with (
            av.logging.Capture() as messages,
            contextlib.suppress(av.error.FFmpegError, *_PYAV_ERRORS),
        ):
            _open(file).close()
    finally:
        av.logging.set_skip_repeated(skip_repeated)
        av.logging.set_level(level)
    if any("misdetection possible" in text for _, _, text in messages):
        return None
    return next((name for _, name, text in messages if "not on whitelist" in text), None)


def _declared_bytes(header: bytes) -> int:
    """The size of a RIFF file (WAV, AVI) by its first bytes.

    FFmpeg silently corrects a size that exceeds the file.
    """
    size = int.from_bytes(header[4:8], "little")
    # Writers that do not know the size yet write all ones or zero.
    return size + 8 if header[:4] == b"RIFF" and size != 0xFFFFFFFF else 0


def choose_audio_stream(container: av.container.InputContainer) -> av.AudioStream:
    """Choose the stream that a player would: the first one marked as default, or else the first.

    Raises:
      AudioError: there is no audio stream, or no decoder for it.
    """
    streams = container.streams.audio
    if not streams:
        raise AudioError(Outcome.NO_AUDIO_STREAM, f"{len(container.streams)} streams, no audio")
    stream = next((s for s in streams if s.disposition & Disposition.default), streams[0])
    for other in container.streams:
        if other is not stream:
            other.discard = Discard.all
    if stream.codec_context is None:
        raise AudioError(Outcome.UNSUPPORTED_CODEC, "no decoder for the audio stream")
    stream.codec_context.thread_count = 1  # the job runs one process per core
    if _PYAV_18:
        _drop_custom_layout(stream.codec_context)
    return stream


def _drop_custom_layout(context: av.AudioCodecContext) -> None:
    """Replace a custom order of channels by the number of channels.

    PyAV 18 frees the list of a custom order with every frame, and the second free crashes the
    process. The mean of the channels does not depend on their order.
    """
    layout = context.layout
    if layout.nb_channels == 0:
        return  # not known before the first frame
    # From here on `layout` alone owns the list, also if an error follows.
    context.layout = f"{layout.nb_channels} channels"
    if context.name.startswith("pcm_"):
        return
    # Other decoders set the order themselves; FFmpeg describes a custom one by its channels.
    if " channels (" in layout.name or layout.name.startswith("ambisonic"):
        raise AudioError(Outcome.UNSUPPORTED_CODEC, f"{context.name} with {layout.name}")
    context.layout = layout.name


def declared_seconds(
    container: av.container.InputContainer, stream: av.AudioStream
) -> float | None:
    """The length of the audio stream by the header; None if the header declares no length.

    A length that FFmpeg estimates from the size of the file (MP3, raw streams) does not count.
    """
    if container.format.name in _WITHOUT_LENGTH:
        return None
    whole = None if container.duration is None else container.duration / av.time_base
    if stream.duration is not None and stream.time_base is not None:
        own = float(stream.duration * stream.time_base)
        # An edit list may show less than the track holds.
        return own if whole is None else min(own, whole)
    # Matroska declares the length of the file, and another stream may be longer than the sound.
    return whole if len(container.streams) == 1 else None


def demux_packets(
    container: av.container.InputContainer, stream: av.AudioStream
) -> Iterator[av.Packet]:
    """Read the packets of a stream one by one, without decoding them.

    Raises:
      AudioError: the container is damaged.
    """
    packets = container.demux(stream)
    while batch := list(take_packets(packets, 1)):
        yield from batch


def take_packets(packets: Iterator[av.Packet], count: int) -> Iterator[av.Packet]:
    """Take the next packets of `container.demux`; fewer than `count` at the end.

    Raises:
      AudioError: the container is damaged.
    """
    try:
        for packet in itertools.islice(packets, count):
            if packet.size:  # the last packet is empty and flushes the decoder
                yield packet
    except av.error.FFmpegError:
        raise  # some of its classes are ValueErrors too
    except _PYAV_ERRORS as error:
        raise AudioError(Outcome.CORRUPT, str(error)) from error


def decode_packet(context: av.AudioCodecContext, packet: av.Packet) -> list[av.AudioFrame]:
    """Decode one packet.

    Raises:
      AudioError: the packet is bad.
    """
    try:
        return context.decode(packet)
    except (av.error.FFmpegError, *_PYAV_ERRORS) as error:
        raise AudioError(Outcome.CORRUPT, str(error)) from error


def decode_frames(
    container: av.container.InputContainer,
    stream: av.AudioStream,
    least_frames: int,
    least_samples: int,
) -> Iterator[list[av.AudioFrame]]:
    """Decode packet by packet, so that a bad packet costs only its own samples.

    Yields:
      At least `least_frames` frames or `least_samples` samples at a time, fewer at the end or
        before an error. A packet of PCM may have any length.

    Raises:
      AudioError: too many packets are bad. Of fewer than 20 packets any may be bad but not all;
        the length of what they gave is checked by the caller.
    """
    num_packets, num_frames, num_samples = 0, 0, 0
    errors: list[str] = []
    frames: list[av.AudioFrame] = []
    failure: Exception | None = None
    try:
        for packet in container.demux(stream):
            num_packets += packet.size > 0  # the last packet is empty and flushes the decoder
            try:
                decoded = packet.decode()
            except av.error.EOFError:
                break  # the decoder has been flushed
            except (av.error.DecoderNotFoundError, av.error.PatchWelcomeError):
                raise  # the codec is at fault, not the packet
            except av.error.FFmpegError as error:
                # Not InvalidDataError alone: decoders have their own error codes.
                errors.append(str(error))
                continue
            frames += decoded
            for frame in decoded:
                num_samples += frame.samples
            if len(frames) >= least_frames or num_samples >= least_samples:
                num_frames += len(frames)
                yield frames
                frames, num_samples = [], 0
    except av.error.FFmpegError as error:
        failure = error  # some of its classes are ValueErrors too
    except _PYAV_ERRORS as error:
        failure = AudioError(Outcome.CORRUPT, str(error))
    if frames:
        yield frames
    if failure is not None:
        raise failure
    judged = num_packets >= _MIN_PACKETS and len(errors) > _MAX_BAD_SHARE * num_packets
    if judged or (errors and not num_frames and not frames):
        raise AudioError(
            Outcome.CORRUPT, f"{len(errors)} of {num_packets} packets are bad: {errors[0]}"
        )


def average_channels(frame: av.AudioFrame | None) -> tuple[int, np.ndarray]:
    """Average the channels of a frame: (sample rate, float32 [samples])."""
    assert frame is not None
    num_channels = frame.layout.nb_channels
    dtype, full_scale, offset = _SAMPLE_FORMATS[frame.format.name.removesuffix("p")]
    if frame.format.is_planar:
        # Not `frame.planes`: with 8 channels PyAV looks for a ninth plane.
        channels = [
            np.frombuffer(memoryview(AudioPlane(frame, index)), dtype, frame.samples)
            for index in range(num_channels)
        ]
    else:
        plane = memoryview(AudioPlane(frame, 0))
        interleaved = np.frombuffer(plane, dtype, frame.samples * num_channels)
        channels = list(interleaved.reshape(-1, num_channels).T)
    with np.errstate(over="ignore", invalid="ignore"):  # the product below detects both
        if dtype is np.float32 and num_channels > 1:
            mono = channels.pop(0) + channels.pop(0)  # without a copy of the first
        else:
            mono = channels.pop(0).astype(np.float32)
        for channel in channels:
            mono += channel
        if offset:
            mono -= offset * num_channels
        mono *= np.float32(1 / (num_channels * full_scale))
        # One product detects every NaN, infinity and magnitude beyond 1e19.
        energy = np.dot(mono, mono)
    if not np.isfinite(energy):
        raise AudioError(Outcome.NONFINITE_SAMPLES, "NaN, infinity or samples beyond 1e19")
    return frame.sample_rate, mono


# FFmpeg's sample formats: dtype, full scale, value of silence.
_SAMPLE_FORMATS: dict[str, tuple[Any, float, float]] = {
    "u8": (np.uint8, 2.0**7, 2.0**7),
    "s16": (np.int16, 2.0**15, 0.0),
    "s32": (np.int32, 2.0**31, 0.0),
    "s64": (np.int64, 2.0**63, 0.0),
    "flt": (np.float32, 1.0, 0.0),
    "dbl": (np.float64, 1.0, 0.0),
}
