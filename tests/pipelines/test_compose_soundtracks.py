"""Clips of known tones are composed by the command; the media are decoded and examined."""

import itertools
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from features.contracts.sharding import EVALUATION, TRAIN, VALIDATION
from features.errors import InputError
from features.sound.waveform import read_waveform
from pipelines import compose_soundtracks
from pipelines.adapters import folder_per_label
from pipelines.adapters.imported import match_media, write_import
from pipelines.corpus import writer
from pipelines.corpus.writer import process_pool  # not that of `_no_processes`
from tests.pipelines.corpus.tones import RATE, write_clip

# Label -> frequency of its tone.
TONES = {"low": 500.0, "middle": 1500.0, "high": 4500.0}
GENERIC_LABELS = "label,generic_labels\nlow,Sound;Deep\nmiddle,Sound\nSound,Anything\n"
# A folder `data/esc10` in any folder beside this repository.
ESC10 = sorted(Path(__file__).parents[3].glob("*/data/esc10/clips.csv"))


@pytest.fixture(scope="module", autouse=True)
def _no_processes() -> Iterator[None]:
    """Renders in this process, since each of a pool imports SciPy and more for seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "process_pool", lambda _: ThreadPoolExecutor(1))
        yield


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of each tone in two splits, a silent clip, a short clip and a broken file."""
    folder = tmp_path_factory.mktemp("clips")
    rows = ["id,uri,labels,split"]
    for split in (TRAIN, EVALUATION):
        for label, frequency in TONES.items():
            for number in range(2):
                name = f"{split}-{label}-{number}"
                write_clip(folder / f"{name}.wav", frequency, [(0.5, 1.5 + number)])
                rows.append(f"{name},{name}.wav,{label},{split}")
    write_clip(folder / "train-silent.wav", 500.0, [])
    write_clip(folder / "train-short.wav", 500.0, [(1.0, 1.1)])
    (folder / "train-broken.wav").write_text("no medium")
    others = ("train-silent", "train-short", "train-broken")
    rows += [f"{name},{name}.wav,low,train" for name in others]
    (folder / "clips.csv").write_text("\n".join(rows) + "\n")
    (folder / "generic.csv").write_text(GENERIC_LABELS)
    return folder / "clips.csv"


def compose(manifest: Path, output: Path, *flags: str) -> Path:
    command = ["--clips", str(manifest), "--output", str(output), "--soundtracks", "6"]
    generic = ["--generic-labels", str(manifest.parent / "generic.csv")]
    length = ["--seconds", "8", "12", "--events", "1", "3", "--gap", "0.5", "1.5"]
    formats = ["--formats", "wav", "mp4", "ogg", "--snr", "6", "12"]
    assert compose_soundtracks.main([*command, *generic, *length, *formats, *flags]) == 0
    return output


@pytest.fixture(scope="module")
def corpus(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compose(manifest, tmp_path_factory.mktemp("corpus"))


def rows_of(corpus: Path) -> list[dict[str, str]]:
    header, *rows = (corpus / "manifest.csv").read_text().splitlines()
    return [dict(zip(header.split(","), row.split(","), strict=True)) for row in rows]


def events_of(corpus: Path) -> list[dict]:
    return pq.read_table(corpus / "events.parquet").to_pylist()


def samples_of(path: Path) -> np.ndarray:
    return np.concatenate(list(read_waveform(str(path), sample_rate_hz=RATE)))


def test_any_number_of_workers_gives_the_same_bytes(
    manifest: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "process_pool", process_pool)
    again = compose(manifest, tmp_path, "--workers", "2")

    files = {path.relative_to(corpus) for path in corpus.rglob("*") if path.is_file()}
    assert len(files) == 6 + 3
    assert {path.relative_to(again) for path in again.rglob("*") if path.is_file()} == files
    for path in files:
        assert (again / path).read_bytes() == (corpus / path).read_bytes(), path


def test_labels_of_a_soundtrack_are_the_labels_of_its_events(corpus: Path) -> None:
    rows, events = rows_of(corpus), events_of(corpus)

    assert len(rows) == 6
    for row in rows:
        own = {event["label"] for event in events if event["id"] == row["id"]}
        specific = own & TONES.keys()
        assert set(row["labels"].split(";")) == own
        assert ("Sound" in own) == ("Anything" in own) == bool(specific & {"low", "middle"})
        assert ("Deep" in own) == ("low" in specific)
        assert 1 <= len(specific) <= 3


def test_clips_are_used_in_their_own_split_and_equally_often(corpus: Path) -> None:
    rows, events = rows_of(corpus), events_of(corpus)

    assert [row["split"] for row in rows] == ["train"] * 3 + ["evaluation"] * 3
    split_of = {row["id"]: row["split"] for row in rows}
    heard = {(event["id"], event["start"]): event["source"] for event in events}
    for (soundtrack, _), source in heard.items():
        assert source.startswith(split_of[soundtrack])
    times = [list(heard.values()).count(source) for source in set(heard.values())]
    assert max(times) - min(times) <= 1


def test_tones_are_audible_only_at_the_times_of_their_events(corpus: Path) -> None:
    events = [event for event in events_of(corpus) if event["label"] in TONES]
    for row in rows_of(corpus):
        samples = samples_of(corpus / row["uri"])
        own = [event for event in events if event["id"] == row["id"]]
        assert 8 <= len(samples) / RATE <= 12.1
        block = RATE // 20
        spectra = np.abs(np.fft.rfft(samples[: len(samples) // block * block].reshape(-1, block)))
        middles = (np.arange(len(spectra)) + 0.5) * block / RATE
        for label, frequency in TONES.items():
            power = spectra[:, round(frequency * block / RATE)] ** 2
            times = [(event["start"], event["end"]) for event in own if event["label"] == label]
            # Codecs smear and delay by some milliseconds.
            inside = np.any([(middles > a + 0.1) & (middles < b - 0.1) for a, b in times], axis=0)
            near = np.any([(middles > a - 0.1) & (middles < b + 0.1) for a, b in times], axis=0)
            if inside.any():
                assert power[inside].min() > 3 * np.median(power[~near]), (row["id"], label)
                assert power[inside].min() > np.quantile(power[~near], 0.99), (row["id"], label)


def test_events_have_the_requested_gaps_and_levels(corpus: Path) -> None:
    events = [event for event in events_of(corpus) if event["label"] in TONES]
    row = rows_of(corpus)[0]
    assert row["uri"].endswith(".wav")
    samples = samples_of(corpus / row["uri"])
    heard = np.zeros(len(samples), bool)
    for event in (event for event in events if event["id"] == row["id"]):
        heard[int(event["start"] * RATE) - 200 : int(event["end"] * RATE) + 200] = True
        # As long as the clip is audible, to a frame of the search for silence.
        seconds = 0.1 if event["source"] == "train-short" else 1.0 + int(event["source"][-1])
        assert event["end"] - event["start"] == pytest.approx(seconds, abs=0.06)
    background = np.mean(samples[~heard] ** 2)
    for event in (event for event in events if event["id"] == row["id"]):
        first, last = int(event["start"] * RATE), int(event["end"] * RATE)
        ratio = np.mean(samples[first:last] ** 2) / background - 1
        # 6 to 12 dB; up to 6 dB less, where the sound is not in front of this channel.
        assert -0.5 <= 10 * np.log10(ratio) <= 12.5
    for soundtrack in {event["id"] for event in events}:
        own = sorted((e["start"], e["end"]) for e in events if e["id"] == soundtrack)
        gaps = [later[0] - earlier[1] for earlier, later in itertools.pairwise(own)]
        assert all(0.5 <= gap <= 1.5 for gap in gaps)


def test_inaudible_clips_are_left_out_and_short_ones_are_placed(corpus: Path) -> None:
    lines = (corpus / "left_out.csv").read_text().splitlines()[1:]

    assert {line.split(",")[0]: line.split(",")[2] for line in lines} == {
        "train-silent": "silent",
        "train-broken": "corrupt",
    }
    short = [event for event in events_of(corpus) if event["source"] == "train-short"]
    assert short
    assert all(event["end"] - event["start"] == pytest.approx(0.1, abs=0.06) for event in short)


def test_the_account_has_every_clip(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    few = ["--recordings-per-label=2", "--zipf", "1", "0", "--soundtracks", "train=3"]
    compose(manifest, tmp_path, *few, "evaluation=3", "--workers=1")

    printed = capsys.readouterr().out
    # Two of the five clips of "low" are chosen to train on.
    assert "unused: 3 clips, of recordings above --recordings-per-label" in printed
    # Each label has one soundtrack or more of the three of its split.
    assert re.search(r"^3 train, \d labels with priors of 0.33 to \S+$", printed, re.MULTILINE)


def test_recordings_as_backgrounds(manifest: Path, tmp_path: Path) -> None:
    """The hum is shorter than the soundtracks, so it is repeated."""
    for split in (TRAIN, EVALUATION):
        write_clip(tmp_path / "hum" / f"{split}.wav", 100.0, [(0.0, 4.0)])
    rows = [f"{split},hum/{split}.wav,hum,{split}" for split in (TRAIN, EVALUATION)]
    (tmp_path / "hum.csv").write_text("\n".join(["id,uri,labels,split", *rows]) + "\n")

    corpus = compose(
        manifest, tmp_path / "out", "--background", str(tmp_path / "hum.csv"), "--soundtracks", "2"
    )

    for row in rows_of(corpus):
        assert "hum" not in row["labels"]
        samples = samples_of(corpus / row["uri"])
        seconds = samples[: len(samples) // RATE * RATE].reshape(-1, RATE)
        assert np.abs(np.fft.rfft(seconds))[:, 100].min() > 50


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seconds", "9", "8"], "--seconds: received 9 8; give MIN and MAX"),
        (["--seconds", "0.2", "8"], "has no room for an event"),
        (["--events", "0", "3"], "--events: received 0 3; .* not below 1"),
        (["--soundtracks", "0"], "--soundtracks: received 0; give a number of 1 or more"),
        (["--soundtracks", "train=6"], "--soundtracks: gives the splits train; the clips are of"),
        (["--soundtracks", "train=6", "train=7"], "or SPLIT=N for each split"),
        (["--zipf", "-1", "0"], "--zipf: received -1 0; give an EXPONENT of 0 or more"),
        (["--zipf", "1", "0", "--labels", "0", "1"], "--labels: received 0 1; give 1 <= MIN"),
        (["--least", "3"], "--labels and --least are for --zipf"),
        (["--recordings-per-label", "0"], "--recordings-per-label: received 0; give 1 or more"),
        (["--workers", "0"], "--workers: received 0; give 1 or more"),
        (["--seed", "-1"], "--seed: received -1; give 0 or more"),
    ],
)
def test_flags_that_are_refused(
    manifest: Path, tmp_path: Path, flags: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        compose(manifest, tmp_path, *flags)


def test_a_manifest_without_usable_clips_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_text("id,uri,labels\na,a.wav,dog\n")

    with pytest.raises(InputError, match="none of 1 clips can be used; the first: not_found"):
        compose_soundtracks.main(
            ["--clips", str(tmp_path / "clips.csv"), "--output", str(tmp_path / "out")]
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not ESC10, reason="no data/esc10/clips.csv beside the repository")
def test_real_clips(tmp_path: Path) -> None:
    """The example of the documentation, with two of the labels."""
    listing = folder_per_label.read(
        str(ESC10[0].parent / "audio"),
        pattern=r"(?P<label>dog_bark|rain)/(?P<id>(?P<split>\d)-(?P<recording>\d+)-.)\.ogg",
    )
    folds = {"1": TRAIN, "2": TRAIN, "3": VALIDATION, "4": EVALUATION}
    path = write_import(
        match_media(listing, {}, folds), listing.label_names, str(tmp_path / "clips")
    )
    flags = ["--clips", path, "--output", str(tmp_path / "corpus"), "--soundtracks", "8"]
    flags += ["--seconds", "8", "12", "--events", "1", "3"]

    assert compose_soundtracks.main(flags) == 0

    rows, events = rows_of(tmp_path / "corpus"), events_of(tmp_path / "corpus")
    split_of = {row["id"]: row["split"] for row in rows}
    assert {row["split"] for row in rows} == {TRAIN, VALIDATION, EVALUATION}
    assert all(split_of[event["id"]] == folds[event["source"][0]] for event in events)
    assert (tmp_path / "corpus" / "left_out.csv").read_text().count("\n") == 1
