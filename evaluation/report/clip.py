"""Compress a soundtrack with Opus, small enough for a data URI in a page."""

import base64
import dataclasses
import io
from collections.abc import Iterable

import av
import numpy as np
from av.codec.context import Flags

# Above twice the highest frequency of the mel bands (7.5 kHz), and a native rate of Opus.
SAMPLE_RATE_HZ = 24_000
# At the highest rate, mono music is hard to tell from its source; below the lowest, speech suffers.
# Between the two, the rate is chosen such that a soundtrack has at most this many bytes.
_MAX_BIT_RATE, _MIN_BIT_RATE = 48_000, 12_000
_MAX_BYTES = 8e6
_FORMAT, _CODEC, _MIME_TYPE = "webm", "libopus", "audio/webm"


@dataclasses.dataclass(frozen=True)
class Clip:
    """A compressed soundtrack.

    Attributes:
      content: the file, WebM with one mono Opus stream.
      seconds: length of the sound.
    """

    content: bytes
    seconds: float

    @property
    def data_uri(self) -> str:
        """The file as a data URI."""
        return f"data:{_MIME_TYPE};base64,{base64.b64encode(self.content).decode('ascii')}"


def encode_clip(blocks: Iterable[np.ndarray], *, expected_seconds: float) -> Clip:
    """Compress a soundtrack; equal samples give equal bytes.

    Args:
      blocks: float32 [samples] each, mono in [-1, 1) at `SAMPLE_RATE_HZ`.
      expected_seconds: approximate total length; a long soundtrack gets a lower bit rate.
    """
    affordable = 8 * _MAX_BYTES / max(expected_seconds, 1.0)
    buffer = io.BytesIO()
    # Without the flag, the file contains the version of the muxer and a random identifier.
    with av.open(buffer, "w", format=_FORMAT, options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(_CODEC, rate=SAMPLE_RATE_HZ)
        assert isinstance(stream, av.AudioStream)
        stream.codec_context.flags |= Flags.bitexact
        stream.codec_context.layout = "mono"
        stream.codec_context.bit_rate = int(np.clip(affordable, _MIN_BIT_RATE, _MAX_BIT_RATE))
        num_samples = 0
        for block in blocks:
            frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), "flt", "mono")
            frame.sample_rate = SAMPLE_RATE_HZ
            frame.pts = num_samples
            container.mux(stream.encode(frame))
            num_samples += len(block)
        container.mux(stream.encode(None))
    return Clip(buffer.getvalue(), num_samples / SAMPLE_RATE_HZ)
