"""The layout of a manifest: which column is which field, and how splits are spelled."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv

from features.contracts.sharding import SPLITS
from features.errors import InputError

# One row per usable video. Labels and origins are distinct and sorted; `split` is null if the hash
# decides it.
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("uri", pa.string()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("labels", pa.list_(pa.string())),
        ("split", pa.string()),
        ("origins", pa.list_(pa.string())),
    ]
)
# The manifest's own columns by name: Arrow arrays, or lists where the types of a column are mixed.
Columns = Mapping[str, pa.Array | list[Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ManifestFormat:
    """The columns of a manifest.

    Attributes:
      id, uri, labels: required columns.
      split, start, end, group: optional columns; None uses the column of that name if it exists.
      label_separator: between the labels, and between the groups, of a cell that is a string.
      split_values: value of the split column -> split.
    """

    id: str = "id"
    uri: str = "uri"
    labels: str = "labels"
    split: str | None = None
    start: str | None = None
    end: str | None = None
    group: str | None = None
    label_separator: str = ";"
    split_values: Mapping[str, str] = dataclasses.field(
        default_factory=lambda: {split: split for split in SPLITS}
    )

    @property
    def required(self) -> dict[str, str]:
        """Field -> required column."""
        optional = {field: getattr(self, field) for field in ("split", "start", "end", "group")}
        named = {field: column for field, column in optional.items() if column is not None}
        return {"id": self.id, "uri": self.uri, "labels": self.labels, **named}

    @property
    def columns(self) -> dict[str, str]:
        """Field -> column; optional columns have their default names."""
        return {"split": "split", "start": "start", "end": "end", "group": "group", **self.required}


@dataclasses.dataclass(frozen=True)
class Piece:
    """The part of a file that one worker reads: [first, end) in row groups of Parquet or in bytes.

    A line of JSON belongs to the piece in which it starts. A CSV file is one piece, because cells
    may contain line breaks: where a row begins is known only by reading from the start.
    """

    path: str
    first: int
    end: int


def parse(texts: Sequence[str]) -> dict[str, str]:
    """["train=1,2", "evaluation=4"] -> {"1": "train", "2": "train", "4": "evaluation"}.

    Raises:
      InputError: another form, another split, or a value that is given to two splits.
    """
    values: dict[str, str] = {}
    for text in texts:
        split, equals, listed = text.partition("=")
        twice = sorted(values.keys() & set(listed.split(",")))
        if twice:
            raise InputError(f"--split-values: {', '.join(twice)} is given to two splits")
        if not equals or split not in SPLITS or not listed:
            raise InputError(
                f"--split-values: received {text!r}; expected SPLIT=VALUE[,VALUE...] with SPLIT "
                f"one of {', '.join(SPLITS)}"
            )
        values |= dict.fromkeys(listed.split(","), split)
    return values
