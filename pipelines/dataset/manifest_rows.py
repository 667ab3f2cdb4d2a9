"""Rows of a manifest to videos and rejects.

A hundred million rows are parsed by columns. Rows that need a second look, because of a type or a
value, are parsed one by one; both ways give the same videos.
"""

import decimal
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from features.storage import files
from pipelines.dataset.manifest_format import SCHEMA, Columns, ManifestFormat
from pipelines.runtime.rejects import Reject


def parse_rows(
    batch: Columns, layout: ManifestFormat, folder: str
) -> tuple[pa.RecordBatch, list[Reject]]:
    """Parse rows of a manifest into videos of `SCHEMA` and rejects.

    Args:
      batch: columns of the manifest.
      layout: the columns' meaning.
      folder: base of relative URIs.
    """
    fields = {field: batch[name] for field, name in layout.columns.items() if name in batch}
    num_rows = len(next(iter(batch.values()), ()))
    try:
        clean, is_clean = _parse_columns(fields, num_rows, layout, folder)
    except _MixedTypesError:
        clean, is_clean = pa.RecordBatch.from_pylist([], SCHEMA), np.zeros(num_rows, bool)
    if is_clean.all():
        return clean, []
    others = np.flatnonzero(~is_clean)
    values = {
        field: column.take(pa.array(others)).to_pylist() if isinstance(column, pa.Array) else column
        for field, column in fields.items()
    }
    second_look, rejects = _parse_one_by_one(values, len(others), layout, folder)
    return pa.concat_batches([clean, second_look]), rejects


class _MixedTypesError(Exception):
    """A column whose values are not all of one usable type."""


def _parse_columns(
    fields: Columns, num_rows: int, layout: ManifestFormat, folder: str
) -> tuple[pa.RecordBatch, np.ndarray]:
    """The videos of rows that need no second look, and bool [rows]: which rows these are."""
    absent = pa.nulls(num_rows, pa.string())
    texts = {
        field: _texts(fields.get(field, absent))
        for field in ("id", "uri", "split")
        # Columns of labels and of groups are of texts or of lists.
    }
    clean = _is_text(texts["id"]) & _is_text(texts["uri"])
    labels, has_texts = _text_lists(fields.get("labels", absent), num_rows, layout)
    clean &= has_texts & (_numpy(pc.list_value_length(labels)) > 0)
    blank = _numpy(pc.equal(pc.fill_null(texts["split"], ""), ""))
    words = pa.array(list(layout.split_values), pa.string())
    place = pc.index_in(texts["split"], value_set=words)
    split = pa.array(list(layout.split_values.values()), pa.string()).take(place)
    clean &= _numpy(place.is_valid()) | (blank if layout.split is None else False)
    origins, has_texts = _text_lists(fields.get("group", absent), num_rows, layout)
    clean &= has_texts
    start, start_clean = _seconds(fields.get("start", absent))
    end, end_clean = _seconds(fields.get("end", absent))
    first, last = _numpy(start.fill_null(0.0)), _numpy(end.fill_null(math.inf))
    clean &= start_clean & end_clean & (first >= 0) & (first < last)
    clean &= np.isfinite(first) & (np.isfinite(last) | _numpy(end.is_null()))
    batch = pa.RecordBatch.from_arrays(
        [texts["id"], _resolve(texts["uri"], folder), start, end, labels, split, origins],
        schema=SCHEMA,
    )
    return (batch if clean.all() else batch.filter(pa.array(clean))), clean


def _texts(column: pa.Array | list[Any]) -> pa.Array:
    """Convert a column of texts or integers to trimmed texts.

    Raises:
      _MixedTypesError: the column has other values.
    """
    if not isinstance(column, pa.Array):
        raise _MixedTypesError
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    textual = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)
    if not (textual or pa.types.is_integer(kind)):
        raise _MixedTypesError
    return pc.utf8_trim_whitespace(column.cast(pa.string()))


def _is_text(texts: pa.Array) -> np.ndarray:
    """Bool [rows]: the text is not null, not empty, and has no NUL."""
    some = pc.greater(pc.binary_length(texts), 0)
    return _numpy(pc.and_not(some, pc.match_substring(texts, "\0")).fill_null(False))


def _text_lists(
    column: pa.Array | list[Any], num_rows: int, layout: ManifestFormat
) -> tuple[pa.Array, np.ndarray]:
    """list<string> [rows], distinct and sorted; and bool [rows]: whether no text has a NUL."""
    if isinstance(column, pa.Array) and (
        pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    ):
        lists = column
    else:
        lists = pc.split_pattern(_texts(column), layout.label_separator)
    rows = _numpy(pc.list_parent_indices(lists))
    values = _texts(pc.list_flatten(lists)).fill_null("")
    usable = np.ones(num_rows, bool)
    usable[rows[_numpy(pc.match_substring(values, "\0"))]] = False
    encoded = values.dictionary_encode()
    order = pc.sort_indices(encoded.dictionary)
    rank = np.empty(len(order), np.int64)
    rank[_numpy(order)] = np.arange(len(order))
    keys = rows * max(1, len(order)) + rank[_numpy(encoded.indices)]
    keys = np.sort(keys[_numpy(pc.not_equal(values, ""))])
    keys = keys[np.diff(keys, prepend=-1) > 0]
    rows, ranks = np.divmod(keys, max(1, len(order)))
    offsets = np.zeros(num_rows + 1, np.int32)
    np.cumsum(np.bincount(rows, minlength=num_rows), out=offsets[1:])
    values = encoded.dictionary.take(order).take(pa.array(ranks))
    return pa.ListArray.from_arrays(offsets, values), usable


def _seconds(column: pa.Array | list[Any]) -> tuple[pa.Array, np.ndarray]:
    """float64 [rows], null if absent; and bool [rows]: whether the value is a plain number."""
    if isinstance(column, pa.Array) and (
        pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)
    ):
        return column.cast(pa.float64()), np.ones(len(column), bool)
    texts = _texts(column)
    texts = pc.if_else(pc.equal(texts, ""), None, texts)
    plain = pc.match_substring_regex(texts, r"^[0-9]+(\.[0-9]*)?$")
    return pc.if_else(plain, texts, None).cast(pa.float64()), _numpy(plain.fill_null(True))


def _resolve(uris: pa.Array, folder: str) -> pa.Array:
    """Apply `files.resolve` to a column."""
    absolute = pc.match_substring_regex(uris, files.ABSOLUTE)
    uris = pc.replace_substring_regex(uris, "^file://", "")
    inside = files.join(folder, "-").removesuffix("-")
    return pc.if_else(absolute, uris, pc.binary_join_element_wise(inside, uris, ""))


def _numpy(array: pa.Array) -> np.ndarray:
    return array.to_numpy(zero_copy_only=False)


def _parse_one_by_one(
    fields: Mapping[str, Sequence[Any]], num_rows: int, layout: ManifestFormat, folder: str
) -> tuple[pa.RecordBatch, list[Reject]]:
    """`parse_rows` row by row, with the reason of each reject."""
    videos, rejects = [], []
    names = layout.columns
    for row in range(num_rows):
        raw = {field: fields[field][row] if field in fields else None for field in names}
        video_id, uri = str(raw["id"] or ""), str(raw["uri"] or "")
        try:
            video_id, uri = _text(raw["id"]), _text(raw["uri"])
            videos.append(
                {
                    "id": _required("missing_id", "id", video_id),
                    "uri": files.resolve(_required("missing_uri", "uri", uri), folder),
                    "labels": _labels(raw["labels"], layout.label_separator),
                    "split": _split(raw["split"], layout),
                    "origins": _texts_of(raw["group"], layout.label_separator),
                    **_times(raw["start"], raw["end"]),
                }
            )
        except _RejectedRowError as reject:
            rejects.append(Reject(_printable(video_id), _printable(uri), *reject.args))
    return pa.RecordBatch.from_pylist(videos, SCHEMA), rejects


class _RejectedRowError(Exception):
    """(reason, detail) of a row that cannot be used."""


def _text(value: Any) -> str:
    """Convert a cell of text or a number to the text that a person would see in it."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # an integer column with gaps
    if isinstance(value, decimal.Decimal):  # NUMERIC of BigQuery
        value = int(value) if value % 1 == 0 else float(value)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _RejectedRowError("bad_type", f"{value!r} is neither text nor a number")
    text = str(value).strip()
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _RejectedRowError("bad_text", f"{text!r}: {error}") from error
    if "\0" in text:
        raise _RejectedRowError("bad_text", f"{text!r} holds a NUL character")
    return text


def _printable(text: str) -> str:
    """Replace what cannot be encoded."""
    return text.encode(errors="replace").decode()


def _required(reason: str, field: str, value: str) -> str:
    if not value:
        raise _RejectedRowError(reason, f"the {field} is empty")
    return value


def _texts_of(value: Any, separator: str) -> list[str]:
    """The texts of a list, or of a text with separators; distinct and sorted, none empty."""
    parts = value if isinstance(value, list) else _text(value).split(separator)
    return sorted({text for part in parts if (text := _text(part))})


def _labels(value: Any, separator: str) -> list[str]:
    labels = _texts_of(value, separator)
    if not labels:
        raise _RejectedRowError("no_labels", f"labels are {value!r}")
    return labels


def _split(value: Any, layout: ManifestFormat) -> str | None:
    text = _text(value)
    if not text and layout.split is None:
        return None
    if text not in layout.split_values:
        raise _RejectedRowError(
            "other_split", f"split is {text!r}, not one of {sorted(layout.split_values)}"
        )
    return layout.split_values[text]


def _times(start: Any, end: Any) -> dict[str, float | None]:
    try:
        times = {
            field: float(value) if _text(value) else None
            for field, value in (("start", start), ("end", end))
        }
    except ValueError as error:
        raise _RejectedRowError("bad_times", str(error)) from error
    first, last = times["start"] or 0.0, times["end"]
    finite = math.isfinite(first) and (last is None or math.isfinite(last))
    if not finite or not 0 <= first < (math.inf if last is None else last):
        message = f"start {start!r} and end {end!r}: expected 0 <= start < end, in seconds"
        raise _RejectedRowError("bad_times", message)
    return times
