"""Finds the media files of a published data set.

Published lists and folders differ: videos were withdrawn, or a download stopped half-way.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import PurePath

from features.errors import InputError
from features.sound.medium import choose_audio_stream, declared_seconds, open_medium
from features.sound.outcome import AudioError
from features.storage import files
from pipelines.adapters.listing import ManifestRow, PublishedClip

# Downloads also contain pictures, subtitles and JSON files named like the media.
_AUDIO = {".aac", ".aif", ".aiff", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".wma"}
_VIDEO = {".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm"}
_PROBED_MEDIA = 3
# A file of a segment may be longer than the segment, because videos are cut at key frames.
_CUT_TOLERANCE = 1.5


def list_media(folder: str) -> list[str]:
    """List the media files in a folder and below it, sorted."""
    paths = files.list_files(folder, "**")
    return [path for path in paths if PurePath(path).suffix.lower() in _AUDIO | _VIDEO]


def index_media(folder: str) -> dict[str, str]:
    """Map file names without suffix to paths of media below a folder; the first of equal names."""
    index: dict[str, str] = {}
    for path in list_media(folder):
        index.setdefault(PurePath(path).stem, path)
    return index


def find_medium(clip: PublishedClip, media: Mapping[str, str]) -> tuple[str, bool] | None:
    """Find the medium of a clip: its path, and whether it holds only the clip; None if missing."""
    if clip.uri is not None:
        return clip.uri, False
    for ending in ("", *clip.cut_endings):
        for name in clip.file_names:
            if name + ending in media:
                return media[name + ending], ending in clip.cut_endings
    return None


def check_lengths(clips: Iterable[PublishedClip], rows: Iterable[ManifestRow]) -> None:
    """Open a few media to check that they hold whole recordings, or only their clips, as assumed.

    Args:
      clips: as listed; only clips with a start after 0 can tell.
      rows: of the manifest; a row has no start if its medium is assumed to hold only the clip.

    Raises:
      InputError: a medium ends before its clip starts, or is assumed to hold only the clip and is
        much longer.
    """
    late = {clip.id: clip for clip in clips if clip.start and clip.end}
    probed = [row for row in rows if row.id in late][:_PROBED_MEDIA]
    for row in probed:
        start, end = late[row.id].start or 0.0, late[row.id].end or math.inf
        try:
            with open_medium(row.uri) as (container, _):
                seconds = declared_seconds(container, choose_audio_stream(container))
        except AudioError:
            continue  # extraction will report the file
        if seconds is None:
            continue
        found = f"{row.uri} lasts {seconds:.1f} s, and its clip is from {start:g} to {end:g} s"
        if row.end is not None and seconds <= start:
            raise InputError(f"{found}; give --cut if each media file holds only its clip")
        if row.end is None and seconds > _CUT_TOLERANCE * (end - start):
            raise InputError(f"{found}; leave out --cut if the media are whole recordings")
