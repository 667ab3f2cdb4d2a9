"""The files of a manifest, CSV, JSON lines or Parquet, read in batches of columns."""

import json
from collections.abc import Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from features.errors import InputError
from features.storage import files
from pipelines.dataset import nested_columns
from pipelines.dataset.manifest_format import Columns, ManifestFormat, Piece

_ROWS_PER_BATCH = 100_000
# A cell must fit into a block.
_CSV_BLOCK_BYTES = 16 << 20
_SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".json": "jsonl", ".ndjson": "jsonl"}
_SUFFIXES |= {".parquet": "parquet"}


def file_kind(path: str) -> str:
    """The format of a manifest by its suffix: csv, jsonl or parquet.

    Raises:
      InputError: it is none of these.
    """
    for suffix, kind in _SUFFIXES.items():
        if path.lower().endswith(suffix):
            return kind
    raise InputError(f"{path}: a manifest ends in one of {', '.join(_SUFFIXES)}")


def list_manifest_files(pattern: str) -> list[str]:
    """The files of a manifest: one file, those that match a glob pattern, or those of a folder."""
    paths = files.find_files(pattern)
    is_folder = paths in ([], [pattern]) and not pattern.lower().endswith(tuple(_SUFFIXES))
    if is_folder:
        inside = files.list_files(pattern.rstrip("/"), "*")
        # Such as _SUCCESS, which jobs of Hadoop leave.
        paths = [path for path in inside if path.rsplit("/", 1)[1][0] not in "._"] or paths
    return paths


def read_batches(piece: Piece, layout: ManifestFormat, malformed: list[str]) -> Iterator[Columns]:
    """The rows of a piece by columns; rows that cannot be parsed go to `malformed` instead."""
    wanted = frozenset(layout.columns.values())
    with files.open_read(piece.path) as file:
        kind = file_kind(piece.path)
        if kind == "csv":
            yield from _csv_batches(file, malformed)
            return
        batches = (
            _json_batches(file, piece, malformed)
            if kind == "jsonl"
            else _parquet_batches(file, piece, wanted)
        )
        for batch in batches:
            yield nested_columns.add_nested(batch, wanted)


def column_names(piece: Piece, batch: Columns) -> list[str]:
    """All columns of a file, also those that are not wanted."""
    if file_kind(piece.path) != "parquet":
        return list(batch)
    with files.open_read(piece.path) as file:
        schema = pq.ParquetFile(file).schema_arrow
    return [
        ".".join([column.name, *path])
        for column in schema
        for path in [[name] for name in nested_columns.list_fields(column.type)] or [[]]
    ]


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
    columns = nested_columns.top_level(wanted, parquet.schema_arrow.names)
    for batch in parquet.iter_batches(_ROWS_PER_BATCH, row_groups=list(groups), columns=columns):
        yield {name: batch.column(name) for name in batch.schema.names}
