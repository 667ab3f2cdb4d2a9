"""What a publisher's files say of a data set, before anybody looks for its media.

Every adapter has `read`, which gives a `Listing`; `add_arguments` and `from_arguments` are its
flags on a command line.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import IO

from features import storage
from features.errors import InputError
from pipelines.rejects import Reject


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording, or a part of one, with its labels.

    Attributes:
      id: the publisher's.
      labels: ids of labels.
      file_names: what its medium may be called on disk, in any folder and with any suffix; the
        likelier first.
      uri: where it is, if the publisher says so.
      published_split: the publisher's word for the split or fold it is in.
      recording: the original recording that it was cut from, or who uploaded that; clips of one
        recording belong into one split.
      start, end: the part of the medium that the labels are of, in seconds.
      cut_file_names: as `file_names`, of media that hold that part alone.
    """

    id: str
    labels: tuple[str, ...]
    file_names: tuple[str, ...] = ()
    uri: str | None = None
    published_split: str | None = None
    recording: str | None = None
    start: float | None = None
    end: float | None = None
    cut_file_names: tuple[str, ...] = ()


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


def read_rows(
    path: str, columns: Sequence[str], *, header: bool = True, rejects: list[Reject] | None = None
) -> Iterator[dict[str, str]]:
    """The rows of a publisher's CSV file, by column.

    Args:
      path: of the file. Lines that start with # are comments, spaces after a comma mean nothing.
      columns: those that are needed; or all in their order, where there is no header.
      header: whether the first line names the columns.
      rejects: takes rows of another number of cells; None where such a row makes the file useless.

    Raises:
      InputError: no such file, not text, no such columns, or a row that must not be missed.
    """
    with io.TextIOWrapper(_open(path), encoding="utf-8-sig", newline="") as text:
        lines = csv.reader((line for line in text if line[0] != "#"), skipinitialspace=True)
        try:
            names = next(lines, []) if header else list(columns)
            missing = [column for column in columns if column not in names]
            if missing:
                raise InputError(
                    f"{path}: no column {', '.join(map(repr, missing))}; it has "
                    f"{', '.join(map(repr, names)) or 'no header'}; give the publisher's own file"
                )
            for cells in lines:
                if len(cells) == len(names):
                    yield dict(zip(names, cells, strict=True))
                elif cells:
                    problem = f"{path}: {len(cells)} cells for {len(names)}: {cells!r}"
                    if rejects is None:
                        raise InputError(f"{problem}; give the publisher's own file")
                    rejects.append(Reject(cells[0], "", "malformed_row", problem))
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{path}: cannot be read as CSV: {error}") from error


def _open(path: str) -> IO[bytes]:
    try:
        return storage.open_read(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; --source is the publisher's folder") from error


def label_name(label: str) -> str:
    """A label that stands for blanks by underscores, as a person writes it."""
    return label.replace("_", " ")
