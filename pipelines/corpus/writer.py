"""Writes planned soundtracks as media files, with a manifest of weak labels and the true times.

    FOLDER/media/...        the soundtracks
    FOLDER/events.parquet   id, label, start, end (seconds), labelled, source of each event
    FOLDER/manifest.csv     id, uri, labels of the whole soundtrack, split, group: its origins

The same soundtracks give the same bytes with any number of processes.
"""

import csv
import hashlib
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from features import terminal
from features.errors import InputError
from pipelines.corpus.encoding import write_media
from pipelines.corpus.mixing import Soundtrack, mix

MANIFEST, EVENTS = "manifest.csv", "events.parquet"
# Of an unfinished corpus: the checksum of the plans of its soundtracks.
_PLANS = "plans.sha256"
MANIFEST_COLUMNS = ("id", "uri", "labels", "split", "group")
LABEL_SEPARATOR = ";"  # of origins too
# A row per event and label. If `labelled` is false, the event is audible but does not count for the
# labels of the soundtrack.
_EVENT_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("label", pa.string()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("labelled", pa.bool_()),
        ("source", pa.string()),
    ]
)


def process_pool(num_workers: int | None) -> ProcessPoolExecutor:
    """Start processes that render soundtracks; None for a process per core."""
    return ProcessPoolExecutor(num_workers, mp_context=get_context("spawn"))


def write_corpus(soundtracks: Sequence[Soundtrack], folder: Path, executor: Executor) -> None:
    """Render soundtracks in parallel and write the files of a corpus.

    Soundtracks that an interrupted command has written are kept, if it had the same plans.

    Raises:
      InputError: the folder cannot be created.
      features.sound.outcome.AudioError: a clip can no longer be read.
    """
    try:
        (folder / "media").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot create the folder --output {folder} ({error.strerror}); give a folder in a "
            "place you may write to"
        ) from error
    # A manifest marks a complete corpus: an old one is removed first, and the new one written last.
    (folder / MANIFEST).unlink(missing_ok=True)
    _discard_others(soundtracks, folder)
    status = terminal.StatusLine()
    written = executor.map(partial(write_soundtrack, folder=folder), soundtracks)
    for index, _ in enumerate(written, 1):
        if status.due:
            status.show(f"{index} of {len(soundtracks)} soundtracks")
    status.close()
    pq.write_table(event_table(soundtracks), folder / EVENTS)
    write_manifest(folder / MANIFEST, soundtracks)
    (folder / _PLANS).unlink()


def _discard_others(soundtracks: Sequence[Soundtrack], folder: Path) -> None:
    """Remove the media of other plans, and note whose media are written from now on."""
    digest = hashlib.sha256()
    for soundtrack in soundtracks:
        digest.update(repr(soundtrack).encode())
    note = folder / _PLANS
    if not note.exists() or note.read_text() != digest.hexdigest():
        note.unlink(missing_ok=True)
        for soundtrack in soundtracks:
            (folder / soundtrack.uri).unlink(missing_ok=True)
        note.write_text(digest.hexdigest())


def write_soundtrack(soundtrack: Soundtrack, folder: Path) -> None:
    """Render a soundtrack and encode it below `folder`, unless its file is there."""
    path = folder / soundtrack.uri
    if path.exists():
        return
    kind = soundtrack.media_format
    unfinished = path.with_name(f"unfinished-{path.name}")
    write_media(
        unfinished,
        mix(soundtrack),
        sample_rate=kind.sample_rate,
        codec=kind.codec,
        video=kind.video,
    )
    unfinished.replace(path)


def event_table(soundtracks: Sequence[Soundtrack]) -> pa.Table:
    """Tabulate the events: a row for each label of each event, in the order of the soundtracks."""
    rows = [
        {
            "id": soundtrack.key,
            "label": label,
            "start": event.start,
            "end": event.end,
            "labelled": event.labelled,
            "source": event.source,
        }
        for soundtrack in soundtracks
        for event in soundtrack.events
        for label in event.labels
    ]
    return pa.Table.from_pylist(rows, _EVENT_SCHEMA)


def write_manifest(path: Path, soundtracks: Sequence[Soundtrack]) -> None:
    """Write a CSV file with a row per soundtrack and the header `MANIFEST_COLUMNS`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(MANIFEST_COLUMNS)
        for soundtrack in soundtracks:
            labels = LABEL_SEPARATOR.join(sorted(soundtrack.labels))
            origins = LABEL_SEPARATOR.join(soundtrack.origins)
            writer.writerow((soundtrack.key, soundtrack.uri, labels, soundtrack.split, origins))


def describe(soundtracks: Sequence[Soundtrack], folder: Path) -> str:
    """Summarise what was written, in a line."""
    minutes = sum(soundtrack.seconds for soundtrack in soundtracks) / 60
    labels = frozenset[str]().union(*(soundtrack.labels for soundtrack in soundtracks))
    return (
        f"wrote {len(soundtracks)} soundtracks, {minutes:.0f} minutes, {len(labels)} labels "
        f"to {folder}"
    )
