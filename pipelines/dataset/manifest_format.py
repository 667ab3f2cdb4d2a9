"""TODO docstring."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv

from features.contracts.sharding import SPLITS
from features.errors import InputError

# One row a usable video. Labels are distinct and sorted; `split` is null where the hash decides,
# `origin` where it is not known what the video was taken from.
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("uri", pa.string()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("labels", pa.list_(pa.string())),
        ("split", pa.string()),
        ("origin", pa.string()),
    ]
)
# The manifest's own columns by name: Arrow arrays, or lists where the types of a column are mixed.
Columns = Mapping[str, pa.Array | list[Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ManifestFormat:
    """Where a manifest keeps what.

    Attributes:
      id, uri, labels: columns that must be there.
      split, start, end, group: columns that may be; None takes the column of that name if there is
        one.
      label_separator: between the labels of one cell, where a cell is a string.
      split_values: the manifest's word for a split -> our name of it.
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
        """Field -> column that a manifest must have."""
        optional = {field: getattr(self, field) for field in ("split", "start", "end", "group")}
        named = {field: column for field, column in optional.items() if column is not None}
        return {"id": self.id, "uri": self.uri, "labels": self.labels, **named}

    @property
    def columns(self) -> dict[str, str]:
        """Field -> column, the optional ones by their default names."""
        return {"split": "split", "start": "start", "end": "end", "group": "group", **self.required}


@dataclasses.dataclass(frozen=True)
class Piece:
    """What one worker reads of a file: row groups of Parquet, bytes of the others, [first, end).

    A line of JSON is in the piece in which it starts. CSV has line breaks in its cells, so that
    nothing but reading it from its start tells where a row begins: a file is one piece.
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
