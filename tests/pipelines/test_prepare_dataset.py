"""The data set against counts made by plain Python from the same manifest."""

import collections
import csv
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from features import contract
from features.errors import InputError, JobFailedError
from features.labels import read_vocabulary
from pipelines import prepare_dataset, sharding


def write_manifest(path: Path, rows: list[tuple[str, ...]], header: str = "id,uri,labels") -> str:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return str(path)


def prepare(manifest: str, output: Path, *flags: str) -> dict[str, Any]:
    code = prepare_dataset.main(["--manifest", manifest, "--output", str(output), *flags])
    assert code == 0
    return contract.read_root(str(output), contract.DATASET)


def read_videos(output: Path) -> list[dict[str, Any]]:
    return [
        row
        for path in sorted(output.glob("videos/*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]


def test_vocabulary_splits_and_shards(tmp_path: Path) -> None:
    labels = ["Music;Piano", "Music;Guitar", "Speech", "Music;Piano;Speech", "Rain, heavy"]
    rows = [(f"v{i}", f"{i}.wav", labels[i % 5]) for i in range(100)]
    manifest = write_manifest(tmp_path / "m.csv", [*rows, ("bad", "bad.wav", "")])

    document = prepare(manifest, tmp_path / "out")

    counts = collections.Counter(label for _, _, cell in rows for label in cell.split(";"))
    vocabulary = read_vocabulary(str(tmp_path / "out"))
    # Falling count, ties by falling label.
    expected = sorted(counts.items(), key=lambda item: item[0], reverse=True)
    expected.sort(key=lambda item: item[1], reverse=True)
    assert list(zip(vocabulary.ids, vocabulary.counts, strict=True)) == expected
    assert vocabulary.priors[0] == 60 / 100
    assert document["vocabulary"]["fingerprint"] == vocabulary.fingerprint

    videos = read_videos(tmp_path / "out")
    assert sorted(video["id"] for video in videos) == sorted(row[0] for row in rows)
    by_id = {video["id"]: video for video in videos}
    for video_id, uri, cell in rows:
        video = by_id[video_id]
        assert video["uri"] == f"{tmp_path}/{uri}"
        assert {vocabulary.ids[label] for label in video["labels"]} == set(cell.split(";"))
        assert video["split"] == sharding.split_of(video_id)
        key = sharding.shard_of(video_id, video["split"], video["num_shards"])
        assert video["shard"] == key.index

    assert document["num_rows"] == document["num_videos"] + document["num_rejects"] == 101
    assert document["rejects"] == {"no_labels": 1}
    splits = collections.Counter(video["split"] for video in videos)
    assert {name: split["num_videos"] for name, split in document["splits"].items()} == splits
    (reject,) = pq.read_table(next((tmp_path / "out").glob("rejects/*.parquet"))).to_pylist()
    assert (reject["id"], reject["reason"]) == ("bad", "no_labels")
    assert not list((tmp_path / "out").glob("transform_temp*"))


def test_transform_graph_gives_the_same_indices(tmp_path: Path) -> None:
    rows = [("a", "a.wav", "Rain;Wind"), ("b", "b.wav", "Wind"), ("c", "c.wav", "Äther\nline")]
    manifest = write_manifest(tmp_path / "m.csv", rows)
    prepare(manifest, tmp_path / "out")
    vocabulary = read_vocabulary(str(tmp_path / "out"))
    import tensorflow as tf
    import tensorflow_transform as tft

    transform = tft.TFTransformOutput(str(tmp_path / "out" / "transform"))
    strings = tf.sparse.from_dense([[*vocabulary.ids, "never seen"]])
    indices = transform.transform_raw_features({"labels": strings})["label_indices"]

    assert indices.values.numpy().tolist() == [0, 1, 2, -1]


def test_same_manifest_gives_the_same_data_set(tmp_path: Path) -> None:
    rows = [(f"v{i}", f"{i}.wav", "x") for i in range(30)]
    manifest = write_manifest(tmp_path / "m.csv", rows)
    first = prepare(manifest, tmp_path / "out")
    videos = read_videos(tmp_path / "out")

    again = prepare(manifest, tmp_path / "out")
    reordered = prepare(write_manifest(tmp_path / "m.csv", rows[::-1]), tmp_path / "other")
    changed = prepare(
        write_manifest(tmp_path / "m.csv", [*rows[:-1], ("v29", "29.wav", "x;y")]),
        tmp_path / "changed",
    )

    assert read_videos(tmp_path / "out") == videos == read_videos(tmp_path / "other")
    assert first["fingerprint"] == again["fingerprint"] == reordered["fingerprint"]
    assert changed["fingerprint"] != first["fingerprint"]


@pytest.mark.parametrize("splits", [("", ""), ("train", "evaluation")])
def test_id_that_occurs_twice_is_refused(tmp_path: Path, splits: tuple[str, str]) -> None:
    rows = [(f"v{i}", f"{i}.wav", "x", "") for i in range(50)]
    twice = [("v7", "other.wav", "y", splits[0]), ("v7", "third.wav", "y", splits[1])]
    header = "id,uri,labels,split"
    manifest = write_manifest(tmp_path / "m.csv", [*rows, *twice], header)

    with pytest.raises(InputError, match=r"column id: 2 rows repeat an id.*'v7', 'v7'"):
        prepare(manifest, tmp_path / "out")

    assert not (tmp_path / "out" / contract.DATASET).exists()


def test_manifest_without_one_usable_row_fails_with_the_counts(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "m.csv", [("a", "a.wav", ""), ("", "b.wav", "x")])

    with pytest.raises(JobFailedError, match=r"none of the 2 rows.*missing_id.*no_labels"):
        prepare(manifest, tmp_path / "out")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--split-values", "train"], "expected SPLIT=VALUE"),
        (["--split-values", "dev=1"], "one of train, validation, evaluation"),
    ],
)
def test_bad_split_values_are_refused(tmp_path: Path, flags: list[str], message: str) -> None:
    manifest = write_manifest(tmp_path / "m.csv", [("a", "a.wav", "x")])

    with pytest.raises(InputError, match=message):
        prepare(manifest, tmp_path / "out", *flags)


def test_unknown_flag_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        prepare("m.csv", tmp_path, "--shards=7")

    assert exit_info.value.code == 2
    assert "unknown flags: --shards=7" in capsys.readouterr().err


def test_root_says_what_made_it(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "m.csv", [("a", "a.wav", "x")])
    prepare(manifest, tmp_path / "out")

    document = json.loads((tmp_path / "out" / contract.DATASET).read_text())

    assert document["format_version"] == contract.FORMAT_VERSION
    assert document["manifest"] == manifest
    assert document["made_by"]["versions"]["apache-beam"].startswith("2.")


def test_files_of_the_user_in_the_output_folder_stay(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "m.csv", [("a", "videos/a.mp4", "x")])
    for name in ("videos/a.mp4", "rejects/mine.txt", "transform/mine.txt", "train/all/best-of-1"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("precious")

    prepare(manifest, tmp_path)
    prepare(manifest, tmp_path)

    for name in ("videos/a.mp4", "rejects/mine.txt", "transform/mine.txt", "train/all/best-of-1"):
        assert (tmp_path / name).read_text() == "precious"


def test_splits_without_a_column_are_refused(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "m.csv", [("a", "a.wav", "x", "1")], "id,uri,labels,fold")

    with pytest.raises(InputError, match=r"no column 'split' for the split.*--split-column"):
        prepare(manifest, tmp_path / "out", "--split-values", "train=1")


def test_output_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "m.csv", [("a", "a.wav", "x")])
    (tmp_path / "file").touch()
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / contract.FEATURES).write_text("{}")

    with pytest.raises(InputError, match=r"--output .*file cannot be written"):
        prepare(manifest, tmp_path / "file")
    with pytest.raises(InputError, match=r"holds the features\.json of"):
        prepare(manifest, tmp_path / "features")


def test_a_manifest_that_cannot_be_read_to_its_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    rows = "".join(f"v{i},v{i}.wav,x\n" for i in range(1_200_000))
    path.write_bytes(b"id,uri,labels\n" + rows.encode() + b"w,w.wav,\xff\xfe\n")

    with pytest.raises(InputError, match="cannot be read to its end as csv"):
        prepare(str(path), tmp_path / "out")
