"""A small corpus is written whole, twice, and read back; plans of larger ones are examined."""

import csv
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from features.errors import InputError
from pipelines import demo_corpus
from pipelines.corpus.encoding import FORMATS
from pipelines.corpus.mixing import mix
from pipelines.corpus.synthetic_sounds import SOUND_CLASSES, synthesise

NUM_SOUNDTRACKS = 8  # every format, and the first again
GENERIC_LABELS = {sound_class.name: sound_class.generic_labels for sound_class in SOUND_CLASSES}


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
    assert tuple(rows[0]) == ("id", "uri", "labels", "split")
    assert len({row["id"] for row in rows}) == NUM_SOUNDTRACKS
    files = {path.relative_to(corpus).as_posix() for path in (corpus / "media").iterdir()}
    assert {row["uri"] for row in rows} == files
    assert {Path(name).suffix for name in files} == {f.suffix for f in FORMATS}


def test_labels_are_one_to_four_and_generic_ones_stand_by_specific_ones(rows):
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


def test_running_again_gives_the_same_bytes(corpus, tmp_path):
    assert read_bytes(write_corpus(tmp_path)) == read_bytes(corpus)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_splits_share_the_classes_of_a_full_corpus(seed):
    soundtracks = demo_corpus.plan_soundtracks(seed=seed, count=64)
    splits = demo_corpus.assign_splits(soundtracks)
    assert Counter(splits) == {"train": 38, "validation": 8, "evaluation": 18}

    counts = {split: Counter() for split in splits}
    for soundtrack, split in zip(soundtracks, splits, strict=True):
        counts[split].update(demo_corpus.classes_of(soundtrack))
    for sound_class in SOUND_CLASSES:
        assert counts["evaluation"][sound_class.name] >= 2
        assert counts["train"][sound_class.name] > counts["evaluation"][sound_class.name]


def test_a_longer_corpus_begins_with_the_shorter_one():
    shorter = demo_corpus.plan_soundtracks(seed=1, count=10)
    assert demo_corpus.plan_soundtracks(seed=1, count=20)[:10] == shorter


def test_render_is_finite_unclipped_and_audible():
    for soundtrack in demo_corpus.plan_soundtracks(seed=4, count=6):
        samples = mix(soundtrack)
        assert np.isfinite(samples).all()
        assert np.abs(samples).max() <= 0.9001
        assert 0.01 < samples.std() < 0.2


@pytest.mark.parametrize("sound_class", SOUND_CLASSES, ids=lambda c: c.name)
def test_no_two_instances_are_equal_and_all_have_the_same_level(sound_class):
    rng = np.random.default_rng(5)
    sounds = [
        synthesise(sound_class, num_samples=num_samples, sample_rate=16_000, rng=rng)
        for num_samples in (1_600, 32_000, 32_000)
    ]
    assert [len(sound) for sound in sounds] == [1_600, 32_000, 32_000]
    for sound in sounds[1:]:
        assert np.sqrt(np.mean(sound**2)) == pytest.approx(1.0)
    assert abs(np.corrcoef(sounds[1], sounds[2])[0, 1]) < 0.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--soundtracks", "2"], "got '2'; give a whole number of 3 or more"),
        (["--soundtracks", "many"], "got 'many'; give a whole number of 3 or more"),
        (["--seed", "-1"], "got '-1'; give a whole number of 0 or more"),
        (["--sed", "1"], "unrecognized arguments"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as refusal:
        demo_corpus.main(["--output", str(tmp_path / "corpus"), *arguments])
    assert refusal.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "corpus").exists()


def test_an_output_that_is_a_file_is_refused(tmp_path):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(InputError, match=f"cannot make a folder at --output {path}"):
        demo_corpus.main(["--output", str(path)])
