"""The contents of a published data set as its files list them, and the rows of a manifest."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from pipelines.runtime.rejects import Reject


@dataclass(frozen=True, slots=True)
class PublishedClip:
    """A labelled recording or part of a recording.

    Attributes:
      id: of the clip, as published.
      labels: label ids.
      file_names: possible names of the media file, without folder and suffix; the likeliest first.
      uri: path of the media file, if the listing says it.
      published_split: the publisher's name of the split or fold.
      recording: the recording that the clip was cut from, or its uploader. Clips of a recording
        belong in the same split.
      start, end: the labelled part of the medium, in seconds.
      cut_endings: endings of the name of a file that holds only the labelled part; "" if every file
        does.
    """

    id: str
    labels: tuple[str, ...]
    file_names: tuple[str, ...] = ()
    uri: str | None = None
    published_split: str | None = None
    recording: str | None = None
    start: float | None = None
    end: float | None = None
    cut_endings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Listing:
    """A data set as published.

    Attributes:
      clips: in the order of the publisher's files.
      label_names: label id -> display name, for every label of the vocabulary.
      split_values: the publisher's name of a split -> ours, by the publisher's protocol.
      rejects: rows that cannot be used.
    """

    clips: list[PublishedClip]
    label_names: Mapping[str, str]
    split_values: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    rejects: list[Reject] = field(default_factory=list)


@dataclass(frozen=True)
class ManifestRow:
    """A row of the manifest that an import writes; the fields are its columns.

    Attributes:
      group: the recording of the clip, or its uploader. A group must not be in two splits.
      start, end: None if the medium holds only the clip.
    """

    id: str
    uri: str
    labels: tuple[str, ...]
    split: str
    start: float | None
    end: float | None
    group: str | None
    published_split: str | None


def display_name(label: str) -> str:
    """Replace the underscores of a label by spaces."""
    return label.replace("_", " ")


def display_names(clips: Iterable[PublishedClip]) -> dict[str, str]:
    """Map the labels of clips, sorted, to their display names."""
    return {label: display_name(label) for label in sorted({clip.labels[0] for clip in clips})}
