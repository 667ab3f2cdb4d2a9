"""Manifests: labelled videos from CSV, JSON lines or Parquet, as Arrow batches of one schema.

A row that cannot be used becomes a reject with a reason; a manifest that cannot be used is refused
before the job starts.
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
from pipelines.dataset.manifest_files import (
    column_names,
    file_kind,
    list_manifest_files,
    read_batches,
)
from pipelines.dataset.manifest_format import SCHEMA, ManifestFormat, Piece
from pipelines.dataset.manifest_rows import parse_rows
from pipelines.dataset.nested_columns import list_fields
from pipelines.runtime.rejects import Reject

REJECTED = "rejected"
# Size of the part of a file that one worker reads.
_ROWS_PER_PIECE, _BYTES_PER_PIECE = 500_000, 64 << 20


def find_manifests(pattern: str, layout: ManifestFormat, *, need_split: bool = False) -> list[str]:
    """Find the files of a manifest, and check that they are readable and have the columns.

    Args:
      pattern: a path, a glob pattern or a folder.
      layout: the columns.
      need_split: whether a column of splits is required.

    Raises:
      InputError: a file or column is missing, or no file has a row.
    """
    if need_split and layout.split is None:
        layout = dataclasses.replace(layout, split="split")
    paths = list_manifest_files(pattern)
    if not paths:
        raise InputError(
            f"--manifest {pattern}: no such file; give a path, a glob pattern or a folder"
        )
    if all(_check_columns(path, layout) == 0 for path in paths):
        raise InputError(f"--manifest {pattern}: has no rows; expected one row a video")
    return paths


def _check_columns(path: str, layout: ManifestFormat) -> int:
    """Check the columns of one file; returns the rows of its first batch."""
    try:
        piece = next(divide(path))
        batch = next(read_batches(piece, layout, malformed=[]), None)
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as {file_kind(path)}: {error}") from error
    if batch is None:
        return 0
    for field, column in layout.required.items():
        if column not in batch:
            raise InputError(
                f"{path}: no column {column!r} for the {field}; it has "
                f"{', '.join(map(repr, column_names(piece, batch)))}; name the right one with "
                f"--{field}-column"
            )
    for field, column in layout.columns.items():
        found = batch.get(column)
        fields = list_fields(found.type) if isinstance(found, pa.Array) else []
        if fields:
            choices = ", ".join(repr(f"{column}.{name}") for name in fields)
            raise InputError(
                f"{path}: column {column!r} for the {field} is of objects; name the field of "
                f"theirs with --{field}-column: {choices}"
            )
    return len(batch[layout.id])


def divide(path: str) -> Iterator[Piece]:
    """Divide a file into pieces, each for one worker.

    Raises:
      pyarrow.ArrowInvalid, OSError: the file cannot be read.
    """
    kind, size = file_kind(path), files.size_of(path)
    if kind == "parquet":
        with files.open_read(path) as file:
            metadata = pq.ParquetFile(file).metadata
            num_groups = metadata.num_row_groups
        # Writers keep the sizes of row groups equal.
        step = max(1, _ROWS_PER_PIECE * num_groups // max(1, metadata.num_rows))
        size = max(1, num_groups)
    else:
        step = _BYTES_PER_PIECE if kind == "jsonl" else max(1, size)
    for first in range(0, max(1, size), step):
        yield Piece(path, first, min(first + step, size))


@dataclasses.dataclass(eq=False)
class ReadManifest(beam.DoFn):
    """`Piece` -> Arrow batches of `SCHEMA`; tagged `REJECTED`: `Reject`s."""

    layout: ManifestFormat

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
            for batch in read_batches(piece, self.layout, malformed):
                yield parse_rows(batch, self.layout, folder)
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            # Only the first batch was checked before the job; the rest cannot be divided into rows.
            message = f"{piece.path}: cannot be read to its end as {file_kind(piece.path)}: {error}"
            raise InputError(message) from error


def read_manifest(pattern: str) -> tuple[pa.Table, list[Reject]]:
    """Read a whole manifest with our column names in this process, without a Beam job.

    Returns:
      Videos of `SCHEMA`, and rejects.

    Raises:
      InputError: the manifest cannot be read, or lacks a column.
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
