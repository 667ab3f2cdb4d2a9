"""Reads and writes small CSV files: files of a publisher, label names, counts, left-out clips."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

from features.errors import InputError
from features.storage import files
from pipelines.runtime.rejects import Reject


def read_rows(
    path: str, columns: Sequence[str], *, header: bool = True, rejects: list[Reject] | None = None
) -> Iterator[dict[str, str]]:
    """Read the rows of a small CSV file as dicts, column -> cell.

    Args:
      path: of the file. Lines that start with # are comments; spaces after a comma are ignored.
      columns: the required columns, or all columns in order if there is no header.
      header: whether the first line names the columns.
      rejects: receives rows with a wrong number of cells; if None, such a row is an error.

    Raises:
      InputError: the file is missing, is not text, lacks a column, or has a malformed row.
    """
    with io.TextIOWrapper(_open(path), encoding="utf-8-sig", newline="") as text:
        lines = csv.reader((line for line in text if line[0] != "#"), skipinitialspace=True)
        try:
            names = next(lines, []) if header else list(columns)
            missing = [column for column in columns if column not in names]
            if missing:
                raise InputError(
                    f"{path}: no column {', '.join(map(repr, missing))}; it has "
                    f"{', '.join(map(repr, names)) or 'no header'}"
                )
            for cells in lines:
                if len(cells) == len(names):
                    yield dict(zip(names, cells, strict=True))
                elif cells:
                    problem = f"{path}: {len(cells)} cells for {len(names)}: {cells!r}"
                    if rejects is None:
                        raise InputError(problem)
                    rejects.append(Reject(cells[0], "", "malformed_row", problem))
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{path}: cannot be read as CSV: {error}") from error


def _open(path: str) -> IO[bytes]:
    try:
        return files.open_read(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error


def write_rows(path: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    files.write_bytes(path, text.getvalue().encode())
