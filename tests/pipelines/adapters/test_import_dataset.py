"""The command matches published listings with media on disk."""

import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from features.errors import InputError
from pipelines import import_dataset, prepare_dataset
from pipelines.corpus.encoding import write_media
from tests.pipelines.adapters import published

# A folder `data/esc10` in any folder beside this repository.
ESC10 = sorted(Path(__file__).parents[4].glob("*/data/esc10/clips.csv"))


def write_tone(path: Path, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = 0.1 * np.sin(np.arange(int(seconds * 8000)) / 4)[:, None]
    write_media(path, tone.astype(np.float32), sample_rate=8000, codec="pcm_s16le")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def audioset(tmp_path: Path) -> Path:
    """Media of four of six segments: two whole videos, and two files of a segment."""
    source = published.audioset(tmp_path / "source")
    write_tone(source / "media" / "Y--aaaaaaaaa.wav", 45)
    write_tone(source / "media" / "deep" / "bbbbbbbbbb_.wav", 12)
    write_tone(source / "media" / "Yccccccccccc_120000_130000.wav", 10)
    write_tone(source / "media" / "eeeeeeeeeee_30.000_40.000.wav", 10)
    published.touch(source / "media", "ddddddddddd.info.json", "fffffffffff.jpg")
    return source


def test_audioset_media_are_found_by_name(
    audioset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "imported"
    flags = ["--source", str(audioset), "--output", str(output)]

    assert import_dataset.main(["audioset", *flags]) == 0

    rows = pq.read_table(output / "manifest.parquet").to_pylist()
    places = {r["id"]: (Path(r["uri"]).name, r["start"], r["end"], r["split"]) for r in rows}
    assert places == {
        "--aaaaaaaaa_30000": ("Y--aaaaaaaaa.wav", 30.0, 40.0, "train"),
        "bbbbbbbbbb__0": ("bbbbbbbbbb_.wav", 0.0, 10.0, "train"),
        "ccccccccccc_120000": ("Yccccccccccc_120000_130000.wav", None, None, "train"),
        "eeeeeeeeeee_30000": ("eeeeeeeeeee_30.000_40.000.wav", None, None, "evaluation"),
    }
    assert {row["group"] for row in rows} >= {"--aaaaaaaaa", "bbbbbbbbbb_"}
    assert {row["published_split"] for row in rows} == {"balanced_train", "eval"}
    left_out = {row["id"]: row["reason"] for row in rows_of(output / "left_out.csv")}
    assert left_out == dict.fromkeys(("ddddddddddd_5000", "fffffffffff_20000"), "missing_media")
    coverage = {
        (row["published_split"], row["name"]): (int(row["listed"]), int(row["imported"]))
        for row in rows_of(output / "coverage.csv")
    }
    assert coverage == {
        ("balanced_train", "Bark"): (2, 2),
        ("balanced_train", "Male speech, man speaking"): (1, 1),
        ("balanced_train", "Music"): (2, 1),
        ("balanced_train", "Speech"): (1, 1),
        ("eval", "Bark"): (1, 1),
        ("eval", "Speech"): (1, 0),
    }
    names = {row["id"]: row["name"] for row in rows_of(output / "label_names.csv")}
    assert names["/t/dd00001"] == "Male speech, man speaking"
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "6 clips = 4 imported + 2 left out"
    assert [line.split() for line in printed if line.startswith("  eval")] == [["eval", "2", "1"]]
    assert ["Music", "2", "1"] in [line.split() for line in printed]
    assert max(map(len, printed[:-1])) <= 80


def test_an_imported_manifest_can_be_prepared(audioset: Path, tmp_path: Path) -> None:
    flags = ["--source", str(audioset), "--output", str(tmp_path / "imported")]
    import_dataset.main(["audioset", "--ancestors", *flags])

    manifest = str(tmp_path / "imported" / "manifest.parquet")
    output = tmp_path / "dataset"
    assert prepare_dataset.main(["--manifest", manifest, "--output", str(output)]) == 0

    videos = pq.read_table(output / "videos").to_pylist()
    assert sorted((video["id"], video["start"]) for video in videos) == [
        ("--aaaaaaaaa_30000", 30.0),
        ("bbbbbbbbbb__0", 0.0),
        ("ccccccccccc_120000", None),
        ("eeeeeeeeeee_30000", None),
    ]
    labels = pq.read_table(output / "labels.parquet").to_pylist()
    assert {row["id"]: row["count"] for row in labels}["/m/domestic"] == 3


def test_lengths_of_media_are_checked_against_cut(tmp_path: Path) -> None:
    source = published.audioset(tmp_path / "source")
    write_tone(source / "Y--aaaaaaaaa.wav", 10)
    flags = ["audioset", "--source", str(source), "--output", str(tmp_path / "imported")]

    with pytest.raises(InputError, match=r"lasts 10\.0 s, .* from 30 to 40 s; give --cut"):
        import_dataset.main(flags)
    assert import_dataset.main([*flags, "--cut"]) == 0
    (row,) = pq.read_table(tmp_path / "imported" / "manifest.parquet").to_pylist()
    assert (row["start"], row["end"]) == (None, None)

    write_tone(source / "Y--aaaaaaaaa.wav", 60)
    with pytest.raises(InputError, match=r"lasts 60\.0 s, .*; leave out --cut"):
        import_dataset.main([*flags, "--cut"])


def test_missing_media_are_kept_on_request(audioset: Path, tmp_path: Path) -> None:
    flags = ["--source", str(audioset), "--output", str(tmp_path), "--keep-missing", ".m4a"]

    import_dataset.main(["audioset", *flags])

    rows = pq.read_table(tmp_path / "manifest.parquet").to_pylist()
    kept = {row["id"]: (row["uri"], row["start"]) for row in rows if row["uri"].endswith(".m4a")}
    assert kept == {
        "ddddddddddd_5000": (f"{audioset}/ddddddddddd.m4a", 5.0),
        "fffffffffff_20000": (f"{audioset}/fffffffffff.m4a", 20.0),
    }
    assert rows_of(tmp_path / "left_out.csv") == []


def test_esc50_with_another_fold_for_evaluation(tmp_path: Path) -> None:
    source = published.write(tmp_path / "ESC-50-master", {"meta/esc50.csv": published.ESC50})
    names = [line.split(",")[0] for line in published.ESC50.splitlines()[1:]]
    published.touch(source / "audio", *names)
    flags = ["--source", str(source), "--output", str(tmp_path / "imported")]

    import_dataset.main(["esc50", *flags, "--split-values", "train=2,3,4", "evaluation=1"])

    rows = pq.read_table(tmp_path / "imported" / "manifest.parquet").to_pylist()
    assert {row["published_split"]: row["split"] for row in rows} == {
        "1": "evaluation",
        "2": "train",
        "3": "train",
        "4": "train",
    }
    left_out = rows_of(tmp_path / "imported" / "left_out.csv")
    assert [(row["id"], row["reason"]) for row in left_out] == [("5-100005-A-36", "other_split")]


def test_a_published_data_set_is_prepared_by_one_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = published.write(tmp_path / "ESC-50-master", {"meta/esc50.csv": published.ESC50})
    names = [line.split(",")[0] for line in published.ESC50.splitlines()[1:]]
    published.touch(source / "audio", *names[1:])
    flags = ["--adapter", "esc50", "--manifest", str(source), "--output", str(tmp_path / "dataset")]

    assert prepare_dataset.main(flags) == 0

    lines = capsys.readouterr().out
    assert f"{len(names)} clips = {len(names) - 1} imported + 1 left out" in lines
    assert "left out: 1 missing_media" in lines
    (videos,) = (tmp_path / "dataset" / "videos").iterdir()
    splits = {row["id"]: row["split"] for row in pq.read_table(videos).to_pylist()}
    fold = {"1": "train", "2": "train", "3": "train", "4": "validation", "5": "evaluation"}
    assert splits == {name.removesuffix(".wav"): fold[name[0]] for name in names[1:]}
    with pytest.raises(InputError, match="--media is for an adapter"):
        prepare_dataset.main(["--manifest", "a.csv", "--output", "b", "--media", "c"])
    with pytest.raises(InputError, match="--uri-column is for a manifest of your own"):
        prepare_dataset.main([*flags, "--uri-column", "url"])

    own_names = tmp_path / "names.csv"
    own_names.write_text("id,name\ndog,A dog of mine\n")
    assert prepare_dataset.main([*flags, "--label-names", str(own_names)]) == 0
    labels = pq.read_table(tmp_path / "dataset" / "labels.parquet").to_pylist()
    assert "A dog of mine" in {label["name"] for label in labels}


def test_a_recording_in_two_splits_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = published.fsd50k(tmp_path / "fsd50k")
    info = (source / "FSD50K.metadata" / "dev_clips_info_FSD50K.json").read_text()
    published.write(
        source,
        {"FSD50K.metadata/dev_clips_info_FSD50K.json": info.replace("blau", "casa")},
    )
    published.touch(source, "FSD50K.dev_audio/64760.wav", "FSD50K.dev_audio/16399.wav")

    import_dataset.main(["fsd50k", "--source", str(source), "--output", str(tmp_path / "out")])

    assert "warning: 1 recordings are in two splits: casa" in capsys.readouterr().out


def test_a_vocabulary_gives_label_names_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published.write(tmp_path, {"vocabulary.csv": published.YOUTUBE8M})
    flags = ["--source", str(tmp_path), "--output", str(tmp_path / "out")]

    assert import_dataset.main(["youtube8m-vocabulary", *flags]) == 0

    assert rows_of(tmp_path / "out" / "label_names.csv")[0] == {"id": "/m/03bt1gh", "name": "Game"}
    assert "2 labels, and no list of videos" in capsys.readouterr().out


def test_a_folder_without_media_is_refused(tmp_path: Path) -> None:
    source = published.audioset(tmp_path)

    with pytest.raises(InputError, match=r"none of 6 clips can be used.*no file --aaaaaaaaa or Y"):
        import_dataset.main(["audioset", "--source", str(source), "--output", str(tmp_path / "o")])


@pytest.mark.skipif(not ESC10, reason="no data/esc10/clips.csv beside the repository")
def test_esc50_metadata_of_real_clips(tmp_path: Path) -> None:
    """ESC-10 is published without metadata; metadata in the form of ESC-50's find its clips."""
    clips = rows_of(ESC10[0])
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for clip in clips:
        _, source, take = clip["clip_id"].split("-")
        category = clip["label"].replace(" ", "_")
        lines.append(f"{clip['clip_id']}.ogg,{clip['fold']},0,{category},True,{source},{take}")
    published.write(tmp_path, {"meta/esc50.csv": "\n".join(lines) + "\n"})
    media = ["--media", str(ESC10[0].parent), "--output", str(tmp_path / "out")]

    import_dataset.main(["esc50", "--esc10", "--source", str(tmp_path), *media])

    rows = pq.read_table(tmp_path / "out" / "manifest.parquet").to_pylist()
    assert len(rows) == len(clips) == 320
    labels = {clip["clip_id"]: clip["label"] for clip in clips}
    for row in rows:
        assert labels[row["id"]] == row["labels"][0].replace("_", " ")
        assert Path(row["uri"]).is_file()
        assert Path(row["uri"]).parent.name == row["labels"][0]
    folds = {
        row["group"]: {r["published_split"] for r in rows if r["group"] == row["group"]}
        for row in rows
    }
    assert all(len(within) == 1 for within in folds.values())
