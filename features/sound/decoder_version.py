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


# Of shards that older code wrote, which does not say it.
UNKNOWN_DECODER = DecoderVersion(pyav="unknown", ffmpeg="unknown")


def installed_decoder() -> DecoderVersion:
    """The decoder of this installation."""
    import av  # here, because readers of documents need no decoder

    return DecoderVersion(pyav=av.__version__, ffmpeg=av.ffmpeg_version_info)


def describe_mixture(decoders: Collection[DecoderVersion]) -> str:
    """A note about a folder that several versions decoded; empty where it was one."""
    if len(decoders) < 2:
        return ""
    names = " and ".join(map(str, sorted(decoders)))
    return (
        f"note: decoded by {names}: the same sound may differ in its last bits; to decode all "
        "of it by one version, extract again with --force"
    )
