"""What a publisher's files say of a data set, before anybody looks for its media."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from pipelines.runtime.rejects import Reject


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording, or a part of one, with its labels.

    Attributes:
      id: the publisher's.
      labels: ids of labels.
      file_names: what its medium may be called on disk, in any folder and without the suffix; the
        likelier first.
      uri: where it is, if the publisher says so.
      published_split: the publisher's word for the split or fold it is in.
      recording: the original recording that it was cut from, or who uploaded that; clips of one
        recording belong into one split.
      start, end: the part of the medium that the labels are of, in seconds.
      cut_endings: what follows a file name where the medium holds that part alone; nothing, where
        all media do.
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
      label_names: label id -> what a person calls it, for every label of the vocabulary.
      split_values: the publisher's word for a split -> ours, by the publisher's protocol.
      rejects: rows that cannot be used.
    """

    clips: list[Clip]
    label_names: Mapping[str, str]
    split_values: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    rejects: list[Reject] = field(default_factory=list)


def label_name(label: str) -> str:
    """A label that stands for blanks by underscores, as a person writes it."""
    return label.replace("_", " ")
