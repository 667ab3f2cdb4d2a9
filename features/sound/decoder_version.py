"""The versions of the decoder: two versions may give samples that differ in their last bits."""

import dataclasses
from collections.abc import Collection


@dataclasses.dataclass(frozen=True, order=True, kw_only=True)
class DecoderVersion:
    """What soundtracks were decoded with.

    Attributes:
      pyav: version of PyAV.
      ffmpeg: version of the FFmpeg in it.
    """

    pyav: str
    ffmpeg: str

    def __str__(self) -> str:
        return f"PyAV {self.pyav} with FFmpeg {self.ffmpeg}"


def installed_decoder() -> DecoderVersion:
    """The decoder of this installation."""
    import av  # here, because readers of documents need no decoder

    return DecoderVersion(pyav=av.__version__, ffmpeg=av.ffmpeg_version_info)


def describe_decoders(decoders: Collection[DecoderVersion]) -> str:
    """Text such as "PyAV 18.1.0 with FFmpeg 8.1.2 and PyAV 19.0.2 with FFmpeg 9.0.2"."""
    return " and ".join(map(str, sorted(decoders)))
