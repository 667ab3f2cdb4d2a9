"""Manifests: labelled videos from CSV, JSON lines or Parquet, as Arrow batches of one schema.

A row that cannot be used becomes a reject with a reason; a manifest that cannot be used is refused
before the job starts.

A hundred million rows are parsed by columns. Rows that need a second look, because of a type or of
what they hold, are looked at one by one; both ways give the same videos.
"""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from features import storage
from features.errors import InputError
from pipelines.rejects import Reject
from pipelines.sharding import SPLITS

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
REJECTED = "rejected"
# The manifest's own columns by name: Arrow arrays, or lists where the types of a column are mixed.
Columns = Mapping[str, pa.Array | list[Any]]
_ROWS_PER_BATCH = 100_000
# A cell must fit into a block.
_CSV_BLOCK_BYTES = 16 << 20
# What one worker reads of a file that can be divided.
_ROWS_PER_PIECE, _BYTES_PER_PIECE = 500_000, 64 << 20
_SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".json": "jsonl", ".ndjson": "jsonl"}
_SUFFIXES |= {".parquet": "parquet"}


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


def find_manifests(pattern: str, layout: ManifestFormat, *, need_split: bool = False) -> list[str]:
    """The files of a manifest, checked: each is readable and has the columns, one has rows.

    Args:
      pattern: a path or a glob pattern.
      layout: which column is what.
      need_split: whether there must be a column of splits.

    Raises:
      InputError: names the file, the column or the pattern, and what to do.
    """
    if need_split and layout.split is None:
        layout = dataclasses.replace(layout, split="split")
    paths = storage.find_files(pattern)
    if not paths:
        raise InputError(f"--manifest {pattern}: no such file; give a path or a glob pattern")
    if all(_check_columns(path, layout) == 0 for path in paths):
        raise InputError(f"--manifest {pattern}: has no rows; expected one row a video")
    return paths


def _check_columns(path: str, layout: ManifestFormat) -> int:
    """Check the columns of one file; returns the rows of its first batch."""
    try:
        piece = next(divide(path))
        batch = next(_batches(piece, layout, malformed=[]), None)
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as {_kind(path)}: {error}") from error
    if batch is None:
        return 0
    for field, column in layout.required.items():
        if column not in batch:
            raise InputError(
                f"{path}: no column {column!r} for the {field}; it has "
                f"{', '.join(map(repr, _column_names(piece, batch)))}; name the right one with "
                f"--{field}-column"
            )
    return len(batch[layout.id])


def divide(path: str) -> Iterator[Piece]:
    """The pieces of a file, each a worker's share.

    Raises:
      pyarrow.ArrowInvalid, OSError: the file cannot be read.
    """
    kind, size = _kind(path), storage.size_of(path)
    if kind == "parquet":
        with storage.open_read(path) as file:
            metadata = pq.ParquetFile(file).metadata
            num_groups = metadata.num_row_groups
        # Of equal numbers of row groups, whose sizes writers keep equal.
        step = max(1, _ROWS_PER_PIECE * num_groups // max(1, metadata.num_rows))
        size = max(1, num_groups)
    else:
        step = _BYTES_PER_PIECE if kind == "jsonl" else max(1, size)
    for first in range(0, max(1, size), step):
        yield Piece(path, first, min(first + step, size))


class ReadManifest(beam.DoFn):
    """`Piece` -> Arrow batches of `SCHEMA`; tagged `REJECTED`: `Reject`s."""

    def __init__(self, layout: ManifestFormat):
        self._layout = layout

    def process(self, piece: Piece) -> Iterator[Any]:
        """Read one piece in batches."""
        malformed: list[str] = []
        for videos, rejects in self._parsed(piece, malformed):
            if videos.num_rows:
                yield videos
            for reject in rejects:
                yield beam.pvalue.TaggedOutput(REJECTED, reject)
        for text in malformed:
            reject = Reject("", "", "malformed_row", f"{piece.path}: {text}")
            yield beam.pvalue.TaggedOutput(REJECTED, reject)

    def _parsed(
        self, piece: Piece, malformed: list[str]
    ) -> Iterator[tuple[pa.RecordBatch, list[Reject]]]:
        folder = storage.parent(piece.path)
        try:
            for batch in _batches(piece, self._layout, malformed):
                yield parse_rows(batch, self._layout, folder)
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            # Past the part that was checked before the job: what follows cannot be told apart.
            message = f"{piece.path}: cannot be read to its end as {_kind(piece.path)}: {error}"
            raise InputError(message) from error


def parse_rows(
    batch: Columns, layout: ManifestFormat, folder: str
) -> tuple[pa.RecordBatch, list[Reject]]:
    """Rows of a manifest to videos of `SCHEMA` and rejects.

    Args:
      batch: the manifest's own columns, one value a row.
      layout: which column is what.
      folder: relative URIs are resolved against it.
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
    """A column that is not of one type that can be taken as it is."""


def _parse_columns(
    fields: Columns, num_rows: int, layout: ManifestFormat, folder: str
) -> tuple[pa.RecordBatch, np.ndarray]:
    """The videos of the rows that need no second look, and bool [rows]: which they are."""
    absent = pa.nulls(num_rows, pa.string())
    texts = {
        field: _texts(fields.get(field, absent))
        for field in ("id", "uri", "split", "group")
        # A column of labels is of texts or of lists.
    }
    clean = _is_text(texts["id"]) & _is_text(texts["uri"])
    labels, has_labels = _label_lists(fields.get("labels", absent), num_rows, layout)
    clean &= has_labels
    blank = _numpy(pc.equal(pc.fill_null(texts["split"], ""), ""))
    words = pa.array(list(layout.split_values), pa.string())
    place = pc.index_in(texts["split"], value_set=words)
    split = pa.array(list(layout.split_values.values()), pa.string()).take(place)
    clean &= _numpy(place.is_valid()) | (blank if layout.split is None else False)
    origin = pc.if_else(pc.equal(texts["group"], ""), None, texts["group"])
    clean &= _is_text(origin) | _numpy(origin.is_null())
    start, start_clean = _seconds(fields.get("start", absent))
    end, end_clean = _seconds(fields.get("end", absent))
    first, last = _numpy(start.fill_null(0.0)), _numpy(end.fill_null(math.inf))
    clean &= start_clean & end_clean & (first >= 0) & (first < last)
    clean &= np.isfinite(first) & (np.isfinite(last) | _numpy(end.is_null()))
    batch = pa.RecordBatch.from_arrays(
        [texts["id"], _resolve(texts["uri"], folder), start, end, labels, split, origin],
        schema=SCHEMA,
    )
    return (batch if clean.all() else batch.filter(pa.array(clean))), clean


def _texts(column: pa.Array | list[Any]) -> pa.Array:
    """A column of texts or integers as trimmed texts.

    Raises:
      _MixedTypesError: it is something else.
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
    """Bool [rows]: neither null nor empty, without NUL."""
    some = pc.greater(pc.binary_length(texts), 0)
    return _numpy(pc.and_not(some, pc.match_substring(texts, "\0")).fill_null(False))


def _label_lists(
    column: pa.Array | list[Any], num_rows: int, layout: ManifestFormat
) -> tuple[pa.Array, np.ndarray]:
    """list<string> [rows], distinct and sorted; and bool [rows]: whether they can be used."""
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
    return pa.ListArray.from_arrays(offsets, values), usable & (np.diff(offsets) > 0)


def _seconds(column: pa.Array | list[Any]) -> tuple[pa.Array, np.ndarray]:
    """float64 [rows], null where there is none; and bool [rows]: whether it is a plain number."""
    if isinstance(column, pa.Array) and pa.types.is_floating(column.type):
        return column.cast(pa.float64()), np.ones(len(column), bool)
    texts = _texts(column)
    texts = pc.if_else(pc.equal(texts, ""), None, texts)
    plain = pc.match_substring_regex(texts, r"^[0-9]+(\.[0-9]*)?$")
    return pc.if_else(plain, texts, None).cast(pa.float64()), _numpy(plain.fill_null(True))


def _resolve(uris: pa.Array, folder: str) -> pa.Array:
    """`storage.resolve` of a column."""
    absolute = pc.match_substring_regex(uris, storage.ABSOLUTE)
    uris = pc.replace_substring_regex(uris, "^file://", "")
    inside = storage.join(folder, "-").removesuffix("-")
    return pc.if_else(absolute, uris, pc.binary_join_element_wise(inside, uris, ""))


def _numpy(array: pa.Array) -> np.ndarray:
    return array.to_numpy(zero_copy_only=False)


def _parse_one_by_one(
    fields: Mapping[str, Sequence[Any]], num_rows: int, layout: ManifestFormat, folder: str
) -> tuple[pa.RecordBatch, list[Reject]]:
    """`parse_rows` by the values of each row, which says what is wrong with one."""
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
                    "uri": storage.resolve(_required("missing_uri", "uri", uri), folder),
                    "labels": _labels(raw["labels"], layout.label_separator),
                    "split": _split(raw["split"], layout),
                    "origin": _text(raw["group"]) or None,
                    **_times(raw["start"], raw["end"]),
                }
            )
        except _RejectedRowError as reject:
            rejects.append(Reject(_printable(video_id), _printable(uri), *reject.args))
    return pa.RecordBatch.from_pylist(videos, SCHEMA), rejects


class _RejectedRowError(Exception):
    """(reason, detail) of a row that cannot be used."""


def _text(value: Any) -> str:
    """A cell as text: what a person would see in it, for text and numbers alone."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # an integer column with gaps
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
    """What can be written of a text that is no text."""
    return text.encode(errors="replace").decode()


def _required(reason: str, field: str, value: str) -> str:
    if not value:
        raise _RejectedRowError(reason, f"the {field} is empty")
    return value


def _labels(value: Any, separator: str) -> list[str]:
    parts = value if isinstance(value, list) else _text(value).split(separator)
    labels = sorted({label for part in parts if (label := _text(part))})
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


def _kind(path: str) -> str:
    for suffix, kind in _SUFFIXES.items():
        if path.lower().endswith(suffix):
            return kind
    raise InputError(f"{path}: a manifest ends in one of {', '.join(_SUFFIXES)}")


def _batches(piece: Piece, layout: ManifestFormat, malformed: list[str]) -> Iterator[Columns]:
    """The rows of a piece by columns; rows that cannot be parsed go to `malformed` instead."""
    with storage.open_read(piece.path) as file:
        kind = _kind(piece.path)
        if kind == "csv":
            yield from _csv_batches(file, malformed)
        elif kind == "jsonl":
            yield from _json_batches(file, piece, malformed)
        else:
            yield from _parquet_batches(file, piece, frozenset(layout.columns.values()))


def _column_names(piece: Piece, batch: Columns) -> list[str]:
    """All columns of a file, also those that are not wanted."""
    if _kind(piece.path) != "parquet":
        return list(batch)
    with storage.open_read(piece.path) as file:
        return pq.ParquetFile(file).schema_arrow.names


def _csv_batches(file: IO[bytes], malformed: list[str]) -> Iterator[Columns]:
    def skip(row: pyarrow.csv.InvalidRow) -> str:
        malformed.append(f"{row.actual_columns} cells for {row.expected_columns}: {row.text!r}")
        return "skip"

    header = file.readline().decode("utf-8-sig")
    file.seek(0)
    if not header.strip():
        return
    names = pyarrow.csv.read_csv(pa.BufferReader(header.encode())).column_names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"the header has {', '.join(map(repr, twice))} twice; rename one")
    reader = pyarrow.csv.open_csv(
        file,
        read_options=pyarrow.csv.ReadOptions(block_size=_CSV_BLOCK_BYTES),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
        # Never guess types: an id of 007 stays 007.
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        ),
    )
    for batch in reader:
        yield {name: batch.column(name) for name in batch.schema.names}


def _json_batches(file: IO[bytes], piece: Piece, malformed: list[str]) -> Iterator[Columns]:
    rows: list[dict[str, Any]] = []
    for line in _lines(file, piece):
        try:
            row = json.loads(line) if line.strip() else None
        except ValueError as error:
            malformed.append(f"{error}: {line[:200]!r}")
            continue
        if isinstance(row, dict):
            rows.append(row)
        elif row is not None:
            malformed.append(f"not an object: {line[:200]!r}")
        if len(rows) == _ROWS_PER_BATCH:
            yield _columns(rows)
            rows = []
    if rows:
        yield _columns(rows)


def _lines(file: IO[bytes], piece: Piece) -> Iterator[bytes]:
    """The lines that start in a piece."""
    if piece.first:
        # Where a line starts at the very first byte, this reads the end of the one before.
        file.seek(piece.first - 1)
        file.readline()
    while file.tell() < piece.end:
        yield file.readline()


def _columns(rows: list[dict[str, Any]]) -> Columns:
    """Objects to columns; a key that is missing in a row is None there."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _array([row.get(name) for row in rows]) for name in names}


def _array(values: list[Any]) -> pa.Array | list[Any]:
    """Values as an array of one type, or as they are."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
        return values


def _parquet_batches(file: IO[bytes], piece: Piece, wanted: frozenset[str]) -> Iterator[Columns]:
    parquet = pq.ParquetFile(file)
    groups = range(min(piece.first, parquet.num_row_groups), min(piece.end, parquet.num_row_groups))
    columns = [name for name in parquet.schema_arrow.names if name in wanted]
    for batch in parquet.iter_batches(_ROWS_PER_BATCH, row_groups=list(groups), columns=columns):
        yield {name: batch.column(name) for name in batch.schema.names}
