"""Encodes arrays of samples as media files, for the demo corpus, composed corpora and tests."""

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.codec.context import Flags

VIDEO_FRAMES_PER_SECOND = 10
VIDEO_WIDTH, VIDEO_HEIGHT = 64, 48

# Container -> video codec. Unlike x264, neither codec writes the number of CPUs into the file, so
# the bytes are the same on every machine.
VIDEO_CODECS = {".mp4": "mpeg4", ".webm": "libvpx"}

# Encoders ignore the options that they do not know.
ENCODER_OPTIONS = {
    # FFmpeg's own Vorbis encoder is marked experimental. Unlike libvorbis it is in every build; it
    # encodes stereo only.
    "strict": "experimental",
    # Speed before quality: the first option for AAC, the second for MP3 and Opus.
    "aac_coder": "fast",
    "compression_level": "7",
}


@dataclass(frozen=True)
class MediaFormat:
    """A kind of media file.

    Attributes:
      suffix: file name suffix with its dot; it selects the container.
      codec: FFmpeg's name of the audio encoder.
      sample_rate: hertz.
      num_channels: 1 or 2.
      video: whether the file also has a small video stream.
    """

    suffix: str
    codec: str
    sample_rate: int
    num_channels: int
    video: bool = False


FORMATS = (
    MediaFormat(".mp4", "aac", 44_100, 2, video=True),
    MediaFormat(".webm", "libopus", 48_000, 2, video=True),
    MediaFormat(".ogg", "vorbis", 44_100, 2),
    MediaFormat(".mp3", "libmp3lame", 44_100, 2),
    MediaFormat(".flac", "flac", 48_000, 2),
    MediaFormat(".wav", "pcm_s16le", 22_050, 1),
    MediaFormat(".m4a", "aac", 32_000, 1),
)


def write_media(
    path: Path, samples: np.ndarray, *, sample_rate: int, codec: str, video: bool = False
) -> None:
    """Encode samples as a media file; the same input gives the same bytes.

    Args:
      path: the file to write or overwrite; its suffix selects the container.
      samples: float32 [num_samples, num_channels] in [-1, 1), with 1 or 2 channels.
      sample_rate: hertz; the codec must support it.
      codec: FFmpeg's name of an audio encoder, such as "aac" or "pcm_s16le".
      video: whether to add a small video stream (.mp4 and .webm only).

    Raises:
      ValueError: the samples have another shape, or the container has no video codec here.
      av.error.FFmpegError: FFmpeg refuses the codec, the container or the sample rate.
    """
    if samples.ndim != 2 or samples.shape[1] not in (1, 2) or len(samples) == 0:
        raise ValueError(
            f"samples must be [num_samples > 0, 1 or 2 channels], got {samples.shape}; "
            "give mono as [num_samples, 1]"
        )
    if video and path.suffix not in VIDEO_CODECS:
        raise ValueError(
            f"no video codec is chosen for {path.suffix!r}; use one of {sorted(VIDEO_CODECS)}"
        )
    # Without the flag, Ogg files get a random serial number, Matroska files a random identifier,
    # and all files the version of the muxer.
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        audio_stream = container.add_stream(codec, rate=sample_rate)
        assert isinstance(audio_stream, av.AudioStream)
        audio_stream.codec_context.flags |= Flags.bitexact
        layout = "mono" if samples.shape[1] == 1 else "stereo"
        audio_stream.codec_context.layout = layout
        audio_stream.codec_context.options = ENCODER_OPTIONS
        video_stream = _add_video_stream(container, path.suffix) if video else None

        # A block of sound per picture lets the muxer interleave the streams.
        block_samples = sample_rate // VIDEO_FRAMES_PER_SECOND
        for index, start in enumerate(range(0, len(samples), block_samples)):
            block = samples[start : start + block_samples].astype(np.float32, copy=False)
            frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), "flt", layout)
            frame.sample_rate = sample_rate
            frame.pts = start
            container.mux(audio_stream.encode(frame))
            if video_stream is not None:
                container.mux(video_stream.encode(_picture(index)))
        container.mux(audio_stream.encode(None))
        if video_stream is not None:
            container.mux(video_stream.encode(None))


def _add_video_stream(container: av.container.OutputContainer, suffix: str) -> av.VideoStream:
    """Add a video stream for the frames of `_picture`."""
    stream = container.add_stream(VIDEO_CODECS[suffix], rate=VIDEO_FRAMES_PER_SECOND)
    assert isinstance(stream, av.VideoStream)
    stream.codec_context.flags |= Flags.bitexact
    stream.width, stream.height = VIDEO_WIDTH, VIDEO_HEIGHT
    stream.pix_fmt = "yuv420p"
    return stream


def _picture(index: int) -> av.VideoFrame:
    """Draw frame `index` of a video in which a bright bar crosses a gradient."""
    column = np.arange(VIDEO_WIDTH)
    row = np.arange(VIDEO_HEIGHT)[:, np.newaxis]
    gray = 2 * row + (np.abs(column - 3 * index % VIDEO_WIDTH) < 4) * 128  # [height, width]
    rgb = np.repeat(gray[:, :, np.newaxis], 3, axis=2).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(rgb, "rgb24")
    frame.pts = index
    return frame
