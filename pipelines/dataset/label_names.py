"""Display names of labels, from a side file: "/m/04rlf" is called "Music"."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from features.errors import InputError
from features.storage import files

# By falling preference; AudioSet's class_labels_indices.csv has index, mid and display_name.
_ID_COLUMNS, _NAME_COLUMNS = ("id", "mid"), ("name", "display_name")


def read_label_names(path: str) -> dict[str, str]:
    """Label -> name, from a CSV or Parquet file; labels with an empty name are left out.

    Raises:
      InputError: the file cannot be read, lacks a column, or gives a label two names.
    """
    try:
        with files.open_read(path) as file:
            table = pq.read_table(file) if path.endswith(".parquet") else _read_csv(file)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"--label-names {path}: cannot be read: {error}") from error
    ids, names = (_column(table, candidates, path) for candidates in (_ID_COLUMNS, _NAME_COLUMNS))
    name_of: dict[str, str] = {}
    for label, name in zip(ids, names, strict=True):
        if label and name and name_of.setdefault(label, name) != name:
            raise InputError(
                f"--label-names {path}: {label!r} is called {name_of[label]!r} and {name!r}; "
                "remove one of the rows"
            )
    return name_of


def describe_names(name_of: Mapping[str, str], labels: Sequence[str]) -> dict[str, int]:
    """Count labels without a name and names without a label."""
    return {
        "num_unnamed_labels": len(set(labels) - name_of.keys()),
        "num_unused_names": len(name_of.keys() - set(labels)),
    }


def _read_csv(file: Any) -> pa.Table:
    header = file.readline().decode("utf-8-sig")
    file.seek(0)
    names = pyarrow.csv.read_csv(pa.BufferReader(header.encode())).column_names
    return pyarrow.csv.read_csv(
        file,
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        ),
    )


def _column(table: pa.Table, candidates: Sequence[str], path: str) -> list[str]:
    found = [name for name in candidates if name in table.column_names]
    if not found:
        raise InputError(
            f"--label-names {path}: no column {' or '.join(map(repr, candidates))}; it has "
            f"{', '.join(map(repr, table.column_names))}"
        )
    return [str(value or "").strip() for value in table[found[0]].to_pylist()]
