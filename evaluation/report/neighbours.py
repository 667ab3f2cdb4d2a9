"""Read the sounds of the page of a search: the query, and where each video is like it."""

import dataclasses
from collections.abc import Mapping, Sequence

from evaluation.neighbours import Neighbour
from evaluation.report.clip import Clip
from evaluation.report.soundtrack import Medium, read_sound

# Heard before and after the sound that was compared.
_CONTEXT_SECONDS = 3.0


@dataclasses.dataclass(frozen=True)
class Excerpt:
    """A row of the page.

    Attributes:
      neighbour: the video, and what is compared.
      clip: the sound around it; None if there is none.
      clip_start_seconds: start of the clip in the video.
    """

    neighbour: Neighbour
    clip: Clip | None
    clip_start_seconds: float


def read_excerpts(
    neighbours: Sequence[Neighbour], media: Mapping[str, Medium], patch_seconds: float
) -> list[Excerpt]:
    """Encode the sound around each neighbour.

    Args:
      neighbours: of the query.
      media: video id -> medium.
      patch_seconds: length of the sound of a vector.
    """
    return [_read(each, media.get(each.video_id), patch_seconds) for each in neighbours]


def _read(neighbour: Neighbour, medium: Medium | None, patch_seconds: float) -> Excerpt:
    first = max(0.0, neighbour.start_seconds - _CONTEXT_SECONDS)
    last = neighbour.start_seconds + patch_seconds + _CONTEXT_SECONDS
    if medium is not None:
        offset = medium.start or 0.0
        end = offset + last if medium.end is None else min(offset + last, medium.end)
        medium = Medium(medium.uri, offset + first, end)
    clip = read_sound(medium, title=neighbour.video_id, expected_seconds=last - first)
    return Excerpt(neighbour, clip, first)
