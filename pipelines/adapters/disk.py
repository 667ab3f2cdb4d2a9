"""The media of a published data set that are really there.

What is published and what is on a disk differ: videos were withdrawn, a download stopped half-way.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

from features.errors import InputError
from features.sound.medium import choose_audio_stream, declared_seconds, open_medium
from features.sound.outcome import AudioError
from features.storage import files
from pipelines.adapters.listing import Clip

# Downloads leave pictures, subtitles and JSON of the same name beside the media.
_AUDIO = {".aac", ".aif", ".aiff", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".wma"}
_VIDEO = {".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm"}
_PROBED_MEDIA = 3
# A download may be cut at the next key frame.
_CUT_TOLERANCE = 1.5


def list_media(folder: str) -> list[str]:
    """The media files in a folder and those below it, sorted."""
    paths = files.list_files(folder, "**")
    return [path for path in paths if PurePath(path).suffix.lower() in _AUDIO | _VIDEO]


def index_media(folder: str) -> dict[str, str]:
    """File name without suffix -> path, of the media below a folder; the first of equals."""
    index: dict[str, str] = {}
    for path in list_media(folder):
        index.setdefault(PurePath(path).stem, path)
    return index


def locate(clip: Clip, media: Mapping[str, str]) -> tuple[str, bool] | None:
    """Where the medium of a clip is and whether it holds the clip alone; None if it is missing."""
    if clip.uri is not None:
        return clip.uri, False
    return next(_found(clip, media), None)


def _found(clip: Clip, media: Mapping[str, str]) -> Iterator[tuple[str, bool]]:
    for ending in ("", *clip.cut_endings):
        for name in clip.file_names:
            if name + ending in media:
                yield media[name + ending], ending in clip.cut_endings


def check_lengths(clips: Iterable[Clip], rows: Iterable[Mapping[str, Any]]) -> None:
    """Open a few media, to see whether they hold whole recordings or their clips alone.

    Args:
      clips: as listed; those with a start and an end matter.
      rows: of the manifest: without a start where the medium is taken to hold the clip alone.

    Raises:
      InputError: a medium ends before its clip starts, or is much longer than the clip that it is
        taken to be.
    """
    late = {clip.id: clip for clip in clips if clip.start and clip.end}
    probed = [row for row in rows if row["id"] in late][:_PROBED_MEDIA]
    for row in probed:
        start, end = late[row["id"]].start or 0.0, late[row["id"]].end or math.inf
        try:
            with open_medium(row["uri"]) as (container, _):
                seconds = declared_seconds(container, choose_audio_stream(container))
        except AudioError:
            continue  # extraction will say what it has
        if seconds is None:
            continue
        found = f"{row['uri']} lasts {seconds:.1f} s, and its clip is from {start:g} to {end:g} s"
        if row["end"] is not None and seconds <= start:
            raise InputError(f"{found}; give --cut if the media hold their clips alone")
        if row["end"] is None and seconds > _CUT_TOLERANCE * (end - start):
            raise InputError(f"{found}; leave out --cut if the media are whole recordings")
