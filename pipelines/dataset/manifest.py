"""Manifests: labelled videos from CSV, JSON lines or Parquet, as Arrow batches of one schema.

A row that cannot be used becomes a reject with a reason; a manifest that cannot be used is refused
before the job starts.

A hundred million rows are parsed by columns. Rows that need a second look, because of a type or of
what they hold, are looked at one by one; both ways give the same videos.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from features.errors import InputError
from features.storage import files
from pipelines.dataset.manifest_files import _batches, _column_names, _kind
from pipelines.dataset.manifest_format import SCHEMA, ManifestFormat, Piece
from pipelines.dataset.manifest_rows import parse_rows
from pipelines.runtime.rejects import Reject

REJECTED = "rejected"
# What one worker reads of a file that can be divided.
_ROWS_PER_PIECE, _BYTES_PER_PIECE = 500_000, 64 << 20


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
    paths = files.find_files(pattern)
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
    kind, size = _kind(path), files.size_of(path)
    if kind == "parquet":
        with files.open_read(path) as file:
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
        folder = files.parent(piece.path)
        try:
            for batch in _batches(piece, self._layout, malformed):
                yield parse_rows(batch, self._layout, folder)
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            # Past the part that was checked before the job: what follows cannot be told apart.
            message = f"{piece.path}: cannot be read to its end as {_kind(piece.path)}: {error}"
            raise InputError(message) from error


def read_manifest(pattern: str) -> tuple[pa.Table, list[Reject]]:
    """The videos of a manifest with our column names, of `manifest.SCHEMA`, and its rejects.

    Raises:
      InputError: it cannot be read, or has not the columns.
    """
    layout = ManifestFormat()
    batches: list[pa.RecordBatch] = []
    rejects: list[Reject] = []
    for path in find_manifests(pattern, layout):
        for piece in divide(path):
            for found in ReadManifest(layout).process(piece):
                if isinstance(found, pa.RecordBatch):
                    batches.append(found)
                else:
                    rejects.append(found.value)
    return pa.Table.from_batches(batches, SCHEMA), rejects
