"""Manifests: labelled videos from CSV, JSON lines or Parquet, as Arrow batches of one schema.

A row that cannot be used becomes a reject with a reason; a manifest that cannot be used is refused
before the job starts.
"""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from typing import IO, Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from features import storage
from features.errors import InputError
from pipelines.rejects import Reject
from pipelines.sharding import SPLITS

# One row a usable video. Labels are distinct and sorted; `split` is null where the hash decides.
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("uri", pa.string()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("labels", pa.list_(pa.string())),
        ("split", pa.string()),
    ]
)
REJECTED = "rejected"
Columns = dict[str, list[Any]]
_ROWS_PER_BATCH = 10_000
_CSV_BLOCK_BYTES = 16 << 20
_SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".json": "jsonl", ".ndjson": "jsonl"}
_SUFFIXES |= {".parquet": "parquet"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ManifestFormat:
    """Where a manifest keeps what.

    Attributes:
      id, uri, labels: columns that must be there.
      split, start, end: columns that may be; None takes the column of that name if there is one.
      label_separator: between the labels of one cell, where a cell is a string.
      split_values: the manifest's word for a split -> our name of it.
    """

    id: str = "id"
    uri: str = "uri"
    labels: str = "labels"
    split: str | None = None
    start: str | None = None
    end: str | None = None
    label_separator: str = ";"
    split_values: Mapping[str, str] = dataclasses.field(
        default_factory=lambda: {split: split for split in SPLITS}
    )

    @property
    def required(self) -> dict[str, str]:
        """Field -> column that a manifest must have."""
        optional = {"split": self.split, "start": self.start, "end": self.end}
        named = {field: column for field, column in optional.items() if column is not None}
        return {"id": self.id, "uri": self.uri, "labels": self.labels, **named}

    @property
    def columns(self) -> dict[str, str]:
        """Field -> column, the optional ones by their default names."""
        return {"split": "split", "start": "start", "end": "end", **self.required}


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
        batch = next(_batches(path, malformed=[]), None)
    except InputError:
        raise
    except (pa.ArrowInvalid, OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as {_kind(path)}: {error}") from error
    if batch is None:
        return 0
    for field, column in layout.required.items():
        if column not in batch:
            raise InputError(
                f"{path}: no column {column!r} for the {field}; it has "
                f"{', '.join(map(repr, batch))}; name the right one with --{field}-column"
            )
    return len(batch[layout.id])


class ReadManifest(beam.DoFn):
    """Manifest path -> Arrow batches of `SCHEMA`; tagged `REJECTED`: `Reject`s."""

    def __init__(self, layout: ManifestFormat):
        self._layout = layout

    def process(self, path: str) -> Iterator[Any]:
        """Read one file in batches."""
        malformed: list[str] = []
        folder = storage.parent(path)
        for batch in self._batches(path, malformed):
            videos, rejects = parse_rows(batch, self._layout, folder)
            yield pa.RecordBatch.from_pylist(videos, SCHEMA)
            for reject in rejects:
                yield beam.pvalue.TaggedOutput(REJECTED, reject)
        for text in malformed:
            reject = Reject("", "", "malformed_row", f"{path}: {text}")
            yield beam.pvalue.TaggedOutput(REJECTED, reject)

    def _batches(self, path: str, malformed: list[str]) -> Iterator[Columns]:
        try:
            yield from _batches(path, malformed)
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            # Past the part that was checked before the job: what follows cannot be told apart.
            message = f"{path}: cannot be read to its end as {_kind(path)}: {error}"
            raise InputError(message) from error


def parse_rows(
    batch: Columns, layout: ManifestFormat, folder: str
) -> tuple[list[dict[str, Any]], list[Reject]]:
    """Rows of a manifest to videos of `SCHEMA` and rejects.

    Args:
      batch: the manifest's own columns, each a list of one value a row.
      layout: which column is what.
      folder: relative URIs are resolved against it.
    """
    columns = {field: batch.get(column) for field, column in layout.columns.items()}
    videos, rejects = [], []
    for row in range(len(next(iter(batch.values()), ()))):
        raw = {field: None if values is None else values[row] for field, values in columns.items()}
        video_id, uri = str(raw["id"] or ""), str(raw["uri"] or "")
        try:
            video_id, uri = _text(raw["id"]), _text(raw["uri"])
            videos.append(
                {
                    "id": _required("missing_id", "id", video_id),
                    "uri": storage.resolve(_required("missing_uri", "uri", uri), folder),
                    "labels": _labels(raw["labels"], layout.label_separator),
                    "split": _split(raw["split"], layout),
                    **_times(raw["start"], raw["end"]),
                }
            )
        except _RejectedRowError as reject:
            rejects.append(Reject(video_id, uri, reject.reason, reject.detail))
    return videos, rejects


class _RejectedRowError(Exception):
    def __init__(self, reason: str, detail: str):
        super().__init__(reason)
        self.reason, self.detail = reason, detail


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
    return text


def _required(reason: str, field: str, value: str) -> str:
    if not value:
        raise _RejectedRowError(reason, f"the {field} is empty")
    if "\0" in value:
        raise _RejectedRowError(reason, f"the {field} holds a NUL character: {value!r}")
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
    if not 0 <= first < (math.inf if last is None else last) or not math.isfinite(first):
        message = f"start {start!r} and end {end!r}: expected 0 <= start < end, in seconds"
        raise _RejectedRowError("bad_times", message)
    return times


def _kind(path: str) -> str:
    for suffix, kind in _SUFFIXES.items():
        if path.lower().endswith(suffix):
            return kind
    raise InputError(f"{path}: a manifest ends in one of {', '.join(_SUFFIXES)}")


def _batches(path: str, malformed: list[str]) -> Iterator[Columns]:
    """The rows of a file by columns; rows that cannot be parsed go to `malformed` instead."""
    with storage.open_read(path) as file:
        readers = {"csv": _csv_batches, "jsonl": _json_batches, "parquet": _parquet_batches}
        yield from readers[_kind(path)](file, malformed)


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
        # A cell must fit into a block.
        read_options=pyarrow.csv.ReadOptions(block_size=_CSV_BLOCK_BYTES),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
        # Never guess types: an id of 007 stays 007.
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        ),
    )
    for batch in reader:
        yield batch.to_pydict()


def _json_batches(file: IO[bytes], malformed: list[str]) -> Iterator[Columns]:
    rows: list[dict[str, Any]] = []
    for line in file:
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


def _columns(rows: list[dict[str, Any]]) -> Columns:
    """Objects to columns; a key that is missing in a row is None there."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _parquet_batches(file: IO[bytes], malformed: list[str]) -> Iterator[Columns]:
    del malformed  # every row of a Parquet file has its schema
    for batch in pq.ParquetFile(file).iter_batches(_ROWS_PER_BATCH):
        yield batch.to_pydict()
