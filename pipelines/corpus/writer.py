"""Writes planned soundtracks as media files, with a manifest of weak labels and the true times.

    FOLDER/media/...        the soundtracks
    FOLDER/events.parquet   what is heard when: id, label, start, end (seconds), labelled, source
    FOLDER/manifest.csv     id, uri, labels of the whole soundtrack, split

The same soundtracks give the same bytes, however many processes write them.
"""

import csv
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
MANIFEST_COLUMNS = ("id", "uri", "labels", "split")
LABEL_SEPARATOR = ";"
# One row an event and label. Where `labelled` is false the event is heard, and the soundtrack does
# not bear its labels for it.
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
    """Processes to render in; None for one a core."""
    return ProcessPoolExecutor(num_workers, mp_context=get_context("spawn"))


def write_corpus(soundtracks: Sequence[Soundtrack], folder: Path, executor: Executor) -> None:
    """Renders soundtracks in parallel and writes the files of a corpus.

    Raises:
        InputError: the folder cannot be made.
        features.sound.outcome.AudioError: a clip that was readable is so no more.
    """
    try:
        (folder / "media").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make a folder at --output {folder} ({error.strerror}); name one in a place "
            "you may write to"
        ) from error
    # The manifest goes first and comes last: it stands for a corpus that is complete.
    (folder / MANIFEST).unlink(missing_ok=True)
    status = terminal.StatusLine()
    written = executor.map(partial(write_soundtrack, folder=folder), soundtracks)
    for index, _ in enumerate(written, 1):
        if status.due:
            status.show(f"{index} of {len(soundtracks)} soundtracks")
    status.close()
    pq.write_table(event_table(soundtracks), folder / EVENTS)
    write_manifest(folder / MANIFEST, soundtracks)


def write_soundtrack(soundtrack: Soundtrack, folder: Path) -> None:
    """Renders a soundtrack and encodes it below `folder`."""
    write_media(
        folder / soundtrack.uri,
        mix(soundtrack),
        sample_rate=soundtrack.media_format.sample_rate,
        codec=soundtrack.media_format.codec,
        video=soundtrack.media_format.video,
    )


def event_table(soundtracks: Sequence[Soundtrack]) -> pa.Table:
    """The true times: a row for each label of each event, soundtrack by soundtrack."""
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
    """Writes one row per soundtrack, under the header `MANIFEST_COLUMNS`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(MANIFEST_COLUMNS)
        for soundtrack in soundtracks:
            labels = LABEL_SEPARATOR.join(sorted(soundtrack.labels))
            writer.writerow((soundtrack.key, soundtrack.uri, labels, soundtrack.split))


def describe(soundtracks: Sequence[Soundtrack], folder: Path) -> str:
    """What was written, in one line."""
    minutes = sum(soundtrack.seconds for soundtrack in soundtracks) / 60
    labels = frozenset[str]().union(*(soundtrack.labels for soundtrack in soundtracks))
    return (
        f"wrote {len(soundtracks)} soundtracks, {minutes:.0f} minutes, {len(labels)} labels "
        f"to {folder}"
    )
