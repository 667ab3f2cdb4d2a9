"""Fields of nested and repeated columns, by names with dots: `labels.id` of ARRAY<STRUCT<id ...>>.

BigQuery exports such columns to Parquet and to JSON lines.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.dataset.manifest_format import Columns

_DOT = "."


def top_level(wanted: Collection[str], names: Collection[str]) -> list[str]:
    """The columns of a file that hold the wanted ones, in the order of the file."""
    roots = {name if name in names else name.split(_DOT)[0] for name in wanted}
    return [name for name in names if name in roots]


def add_nested(columns: Columns, wanted: Collection[str]) -> Columns:
    """Add the wanted columns that are fields of others, each as a column of its own."""
    found = dict(columns)
    for name in wanted:
        root, *path = name.split(_DOT)
        column = columns.get(root) if name not in columns else None
        for field in path:
            column = None if column is None else _take_field(column, field)
        if column is not None:
            found[name] = column
    return found


def list_fields(kind: pa.DataType) -> list[str]:
    """The paths to all fields of a type that are not nested themselves; none for a plain type."""
    while _is_list(kind):
        kind = kind.value_type
    if not pa.types.is_struct(kind):
        return []
    return [_DOT.join([field.name, *path]) for field in kind for path in _paths(field.type)]


def _paths(kind: pa.DataType) -> Iterator[list[str]]:
    fields = list_fields(kind)
    yield from ([path] for path in fields) if fields else [[]]


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _take_field(column: pa.Array | list[Any], name: str) -> pa.Array | list[Any] | None:
    """A field of each struct, also of those in lists; None if the type has no such field."""
    if not isinstance(column, pa.Array):
        return [_take_field_of_value(value, name) for value in column]
    if _is_list(column.type):
        values = _take_field(column.flatten(), name)
        if values is None:
            return None
        lengths = pc.fill_null(pc.list_value_length(column), 0).cast(pa.int32())
        offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths)])
        return pa.ListArray.from_arrays(offsets, values)
    if pa.types.is_struct(column.type) and column.type.get_field_index(name) >= 0:
        return pc.struct_field(column, name)
    return column if pa.types.is_null(column.type) else None


def _take_field_of_value(value: Any, name: str) -> Any:
    if isinstance(value, list):
        return [_take_field_of_value(item, name) for item in value]
    if isinstance(value, Mapping):
        return value.get(name)
    # Neither text nor a number, so that the row is rejected and not only this value.
    return None if value is None else {name: value}
