"""A small corpus is written twice and read back."""

import csv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import pyarrow.parquet as pq
import pytest

from features.errors import InputError
from pipelines import demo_corpus
from pipelines.corpus import writer
from pipelines.corpus.encoding import FORMATS
from pipelines.corpus.synthetic_sounds import SOUND_CLASSES
from pipelines.corpus.writer import process_pool  # not that of `_no_processes`

NUM_SOUNDTRACKS = 8  # every format, and the first again
GENERIC_LABELS = {sound_class.name: sound_class.generic_labels for sound_class in SOUND_CLASSES}


@pytest.fixture(scope="module", autouse=True)
def _no_processes() -> Iterator[None]:
    """Renders in this process, since each of a pool imports SciPy and more for seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "process_pool", lambda _: ThreadPoolExecutor(1))
        yield


def write_corpus(directory: Path) -> Path:
    arguments = ["--output", str(directory), "--soundtracks", str(NUM_SOUNDTRACKS), "--seed", "3"]
    assert demo_corpus.main(arguments) == 0
    return directory


def read_bytes(directory: Path) -> dict[str, bytes]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def rows(corpus) -> list[dict[str, str]]:
    with (corpus / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_manifest_names_every_soundtrack_once(corpus, rows):
    assert len(rows) == NUM_SOUNDTRACKS
    assert tuple(rows[0]) == ("id", "uri", "labels", "split", "group")
    assert {row["group"] for row in rows} == {""}  # nothing is taken from anywhere
    assert len({row["id"] for row in rows}) == NUM_SOUNDTRACKS
    files = {path.relative_to(corpus).as_posix() for path in (corpus / "media").iterdir()}
    assert {row["uri"] for row in rows} == files
    assert {Path(name).suffix for name in files} == {f.suffix for f in FORMATS}


def test_soundtracks_have_one_or_two_specific_labels_and_their_generic_labels(rows):
    for row in rows:
        labels = row["labels"].split(";")
        specific = [label for label in labels if label in GENERIC_LABELS]
        assert 1 <= len(labels) <= 4
        assert len(specific) in (1, 2)
        assert set(labels) == {*specific, *(g for name in specific for g in GENERIC_LABELS[name])}


def test_events_name_the_labels_of_each_soundtrack(corpus, rows):
    events = pq.read_table(corpus / "events.parquet").to_pylist()
    for row in rows:
        own = [event for event in events if event["id"] == row["id"]]
        assert {event["label"] for event in own if event["labelled"]} == set(
            row["labels"].split(";")
        )
        assert all(0 <= event["start"] < event["end"] <= 40 for event in own)
    assert not all(event["labelled"] for event in events)


def test_every_split_is_present(rows):
    assert {row["split"] for row in rows} == {"train", "validation", "evaluation"}


def test_media_hold_10_to_40_seconds_of_sound(corpus, rows):
    for row in rows:
        with av.open(str(corpus / row["uri"])) as container:
            rate = container.streams.audio[0].rate
            seconds = sum(frame.samples for frame in container.decode(audio=0)) / rate
        assert 10 <= seconds <= 40.1


def test_the_same_flags_give_the_same_bytes_in_another_process(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "process_pool", lambda _: process_pool(1))

    assert read_bytes(write_corpus(tmp_path)) == read_bytes(corpus)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--soundtracks", "2"], "--soundtracks: received 2; give 3 or more"),
        (["--seed", "-1"], "--seed: received -1; give 0 or more"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        demo_corpus.main(["--output", str(tmp_path / "corpus"), *arguments])
    assert not (tmp_path / "corpus").exists()


def test_an_output_that_is_a_file_is_refused(tmp_path):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(InputError, match=f"cannot create the folder --output {path}"):
        demo_corpus.main(["--output", str(path)])
