"""The data set against counts made by plain Python from the same manifest."""

import collections
import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.contracts import folders, sharding
from features.contracts.labels import FILE_NAME, Vocabulary, read_vocabulary
from features.errors import InputError, JobFailedError
from features.typed_json import FORMAT_VERSION
from pipelines import prepare_dataset
from pipelines.cost.prices import read_prices
from pipelines.cost.status import read_status
from pipelines.dataset.draws import draw_numbers, hash_labels
from tests import conftest


def write_manifest(path: Path, rows: list[tuple[str, ...]], header: str = "id,uri,labels") -> str:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return str(path)


def prepare(manifest: str, output: Path, *flags: str) -> dict[str, Any]:
    code = prepare_dataset.main(["--manifest", manifest, "--output", str(output), *flags])
    assert code == 0
    return json.loads((output / folders.DATASET).read_bytes())


@pytest.fixture
def known_labels(tmp_path: Path) -> str:
    """A flag for the labels x and y, which spares tests of other stages the analysis of labels."""
    folder = tmp_path / "known"
    folder.mkdir()
    vocabulary = Vocabulary(("x", "y"), ("x", "y"), np.array([2, 1]), 3)
    (folder / FILE_NAME).write_bytes(vocabulary.to_bytes())
    return f"--vocabulary={folder}"


def read_videos(output: Path) -> list[dict[str, Any]]:
    return [
        row
        for path in sorted(output.glob("videos/*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]


LABELS = ["Music;Piano", "Music;Guitar", "Speech", "Music;Piano;Speech", "Rain, heavy;Äther\nline"]
ROWS = [(f"v{i}", f"{i}.wav", LABELS[i % 5]) for i in range(100)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 100 videos and a reject, beside its manifest m.csv and names of labels."""
    folder = tmp_path_factory.mktemp("prepared")
    manifest = write_manifest(folder / "m.csv", [*ROWS, ("bad", "bad.wav", "")])
    # As AudioSet ships it: ids in the second column, names with commas in quotes.
    names = folder / "class_labels_indices.csv"
    names.write_text('index,mid,display_name\n0,Piano,"Piano, grand"\n1,Music,""\n2,/m/9,Гитара\n')
    prepare(manifest, folder / "out", "--label-names", str(names))
    return folder / "out"


def test_vocabulary_splits_and_shards(prepared: Path) -> None:
    document = json.loads((prepared / folders.DATASET).read_bytes())
    counts = collections.Counter(label for _, _, cell in ROWS for label in cell.split(";"))
    vocabulary = read_vocabulary(str(prepared))
    # Falling count, ties by falling label.
    expected = sorted(counts.items(), key=lambda item: item[0], reverse=True)
    expected.sort(key=lambda item: item[1], reverse=True)
    assert list(zip(vocabulary.ids, vocabulary.counts, strict=True)) == expected
    assert vocabulary.priors[0] == 60 / 100
    assert document["vocabulary"]["fingerprint"] == vocabulary.fingerprint

    videos = read_videos(prepared)
    assert sorted(video["id"] for video in videos) == sorted(row[0] for row in ROWS)
    by_id = {video["id"]: video for video in videos}
    for video_id, uri, cell in ROWS:
        video = by_id[video_id]
        assert video["uri"] == f"{prepared.parent}/{uri}"
        assert {vocabulary.ids[label] for label in video["labels"]} == set(cell.split(";"))
        assert video["split"] == sharding.split_of(video_id)
        key = sharding.shard_of(video_id, video["split"], video["num_shards"])
        assert video["shard"] == key.index

    assert document["num_rows"] == document["num_videos"] + document["num_rejects"] == 101
    assert document["rejects"] == {"no_labels": 1}
    splits = collections.Counter(video["split"] for video in videos)
    assert {name: split["num_videos"] for name, split in document["splits"].items()} == splits
    (reject,) = pq.read_table(next(prepared.glob("rejects/*.parquet"))).to_pylist()
    assert (reject["id"], reject["reason"]) == ("bad", "no_labels")
    assert not list(prepared.glob("transform_temp*"))


def test_root_says_what_made_it(prepared: Path) -> None:
    document = json.loads((prepared / folders.DATASET).read_bytes())
    assert document["format_version"] == FORMAT_VERSION
    assert document["manifest"] == str(prepared.parent / "m.csv")
    assert document["made_by"]["versions"]["apache-beam"].startswith("2.")


def test_transform_graph_gives_the_same_indices(prepared: Path) -> None:
    import tensorflow as tf
    import tensorflow_transform as tft

    vocabulary = read_vocabulary(str(prepared))
    assert "Äther\nline" in vocabulary.ids
    transform = tft.TFTransformOutput(str(prepared / "transform"))
    strings = tf.sparse.from_dense([[*vocabulary.ids, "never seen"]])
    indices = transform.transform_raw_features({"labels": strings})["label_indices"]

    assert indices.values.numpy().tolist() == [*range(len(vocabulary.ids)), -1]


def test_same_manifest_gives_the_same_data_set(tmp_path: Path, known_labels: str) -> None:
    rows = [(f"v{i}", f"{i}.wav", "x") for i in range(30)]
    manifest = write_manifest(tmp_path / "m.csv", rows)
    first = prepare(manifest, tmp_path / "out", known_labels)
    videos = read_videos(tmp_path / "out")

    again = prepare(manifest, tmp_path / "out", known_labels)
    reversed_ = write_manifest(tmp_path / "m.csv", rows[::-1])
    reordered = prepare(reversed_, tmp_path / "other", known_labels)
    changed = prepare(
        write_manifest(tmp_path / "m.csv", [*rows[:-1], ("v29", "29.wav", "x;y")]),
        tmp_path / "changed",
        known_labels,
    )

    assert read_videos(tmp_path / "out") == videos == read_videos(tmp_path / "other")
    assert first["fingerprint"] == again["fingerprint"] == reordered["fingerprint"]
    assert changed["fingerprint"] != first["fingerprint"]


@pytest.mark.parametrize("splits", [("", ""), ("train", "evaluation")])
def test_id_that_occurs_twice_is_refused(
    tmp_path: Path, splits: tuple[str, str], known_labels: str
) -> None:
    rows = [(f"v{i}", f"{i}.wav", "x", "") for i in range(50)]
    twice = [("v7", "other.wav", "y", splits[0]), ("v7", "third.wav", "y", splits[1])]
    header = "id,uri,labels,split"
    manifest = write_manifest(tmp_path / "m.csv", [*rows, *twice], header)

    with pytest.raises(InputError, match=r"column id: 2 rows repeat an id.*'v7', 'v7'"):
        prepare(manifest, tmp_path / "out", known_labels)

    assert not (tmp_path / "out" / folders.DATASET).exists()


def test_manifest_without_one_usable_row_fails_with_the_counts(
    tmp_path: Path, known_labels: str
) -> None:
    manifest = write_manifest(tmp_path / "m.csv", [("a", "a.wav", ""), ("", "b.wav", "x")])

    with pytest.raises(JobFailedError, match=r"none of the 2 rows.*missing_id.*no_labels"):
        prepare(manifest, tmp_path / "out", known_labels)

    status = read_status(str(tmp_path / "out"), read_prices(None))
    assert (status.kind, status.finished, status.job) == ("DATASET", False, None)
    assert "none of the 2 rows" in str(status.failure)
    assert re.fullmatch("no job runs: run `python .*` again; it resumes .*", status.next)


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


def test_files_of_the_user_in_the_output_folder_stay(tmp_path: Path, known_labels: str) -> None:
    manifest = write_manifest(tmp_path / "m.csv", [("a", "videos/a.mp4", "x")])
    for name in ("videos/a.mp4", "rejects/mine.txt", "transform/mine.txt", "train/all/best-of-1"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("precious")

    prepare(manifest, tmp_path)
    assert (tmp_path / "transform/transform_fn").exists()
    prepare(manifest, tmp_path, known_labels)  # removes the files of the first

    assert not (tmp_path / "transform/transform_fn").exists()
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
    (tmp_path / "features" / folders.FEATURES).write_text("{}")

    with pytest.raises(InputError, match=r"file cannot be written"):
        prepare(manifest, tmp_path / "file")
    with pytest.raises(InputError, match=r"holds the features\.json of"):
        prepare(manifest, tmp_path / "features")


def test_a_manifest_that_cannot_be_read_to_its_end_is_refused(
    tmp_path: Path, known_labels: str
) -> None:
    path = tmp_path / "m.csv"
    rows = "".join(
        f"v{i},{i:02000}.wav,x\n" for i in range(10_000)
    )  # 20 MB, more than is read at once
    path.write_bytes(b"id,uri,labels\n" + rows.encode() + b"w,w.wav,\xff\xfe\n")

    with pytest.raises(InputError, match="cannot be read to its end as csv"):
        prepare(str(path), tmp_path / "out", known_labels)


def test_rare_labels_are_left_out_with_the_videos_that_have_no_other(tmp_path: Path) -> None:
    rows = [(f"v{i}", f"{i}.wav", "common") for i in range(8)]
    rows += [
        ("w0", "w0.wav", "common;twice"),
        ("w1", "w1.wav", "twice;once"),
        ("x", "x.wav", "odd"),
    ]
    manifest = write_manifest(tmp_path / "m.csv", rows)

    document = prepare(manifest, tmp_path / "min", "--min-count=2")
    assert read_vocabulary(str(tmp_path / "min")).ids == ("common", "twice")
    assert document["rejects"] == {"rare_labels": 1}
    assert {video["id"]: video["labels"] for video in read_videos(tmp_path / "min")}["w1"] == [1]
    document = prepare(manifest, tmp_path / "top", "--top-k=1")
    assert read_vocabulary(str(tmp_path / "top")).ids == ("common",)
    assert document["rejects"] == {"rare_labels": 2}
    with pytest.raises(JobFailedError, match=r"none of the 11 rows.*'rare_labels': 11"):
        prepare(manifest, tmp_path / "none", "--min-count=100")
    with pytest.raises(InputError, match="--top-k: received 0"):
        prepare(manifest, tmp_path / "none", "--top-k=0")


def test_labels_are_counted_in_one_split(tmp_path: Path) -> None:
    """Evaluation has other frequent labels, and two that training lacks."""
    cells = [("a;b", "train")] * 3 + [("b", "train"), ("c", "train"), ("c;d;e", "evaluation")]
    cells += [("c", "evaluation")] * 9
    rows = [(f"v{i}", f"{i}.wav", *cell) for i, cell in enumerate(cells)]
    manifest = write_manifest(tmp_path / "m.csv", rows, "id,uri,labels,split")

    document = prepare(manifest, tmp_path / "out", "--count-split=train")

    vocabulary = read_vocabulary(str(tmp_path / "out"))
    assert vocabulary.ids == ("b", "a", "c", "e", "d")
    assert vocabulary.counts.tolist() == [4, 3, 1, 0, 0]
    assert vocabulary.num_videos == 5
    assert document["num_videos"] == 15
    coverage = pq.read_table(tmp_path / "out" / "coverage.parquet")
    assert coverage["evaluation"].to_pylist() == [0, 0, 10, 1, 1]
    rare = prepare(manifest, tmp_path / "rare", "--count-split=train", "--min-count=2")
    assert read_vocabulary(str(tmp_path / "rare")).ids == ("b", "a")
    assert rare["rejects"] == {"rare_labels": 11}
    with pytest.raises(InputError, match="--count-split validation: no row with labels is of this"):
        prepare(manifest, tmp_path / "none", "--count-split=validation")


def test_labels_of_another_data_set(prepared: Path, tmp_path: Path) -> None:
    # Here another label is the most frequent, one is new, most do not occur.
    later = [("e", "e.wav", "Guitar"), ("f", "f.wav", "Music;Guitar;new"), ("g", "g.wav", "new")]
    later = [(*row, "evaluation") for row in later]
    manifest = write_manifest(tmp_path / "later.csv", later, "id,uri,labels,split")

    document = prepare(manifest, tmp_path / "second", "--vocabulary", str(prepared))

    assert (tmp_path / "second/labels.parquet").read_bytes() == (
        prepared / "labels.parquet"
    ).read_bytes()
    ids = read_vocabulary(str(prepared)).ids
    guitar = ids.index("Guitar")
    assert ids.index("Music") == 0 < guitar
    videos = {video["id"]: video["labels"] for video in read_videos(tmp_path / "second")}
    assert videos == {"e": [guitar], "f": [0, guitar]}
    assert document["rejects"] == {"rare_labels": 1}
    coverage = pq.read_table(tmp_path / "second" / "coverage.parquet")
    expected = [{"Music": 1, "Guitar": 2}.get(name, 0) for name in ids]
    assert coverage["evaluation"].to_pylist() == expected
    with pytest.raises(InputError, match=r"--vocabulary .*/nowhere: has no labels\.parquet"):
        prepare(manifest, tmp_path / "third", "--vocabulary", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="leave out --min-count, --top-k, --count-sp"):
        prepare(manifest, tmp_path / "third", f"--vocabulary={prepared}", "--top-k=1")


def test_names_of_labels_come_from_a_side_file(prepared: Path) -> None:
    vocabulary = read_vocabulary(str(prepared))
    expected = ["Piano, grand" if name == "Piano" else name for name in vocabulary.ids]
    assert list(vocabulary.names) == expected
    document = json.loads((prepared / folders.DATASET).read_bytes())
    assert document["vocabulary"]["num_unnamed_labels"] == 5
    assert document["vocabulary"]["num_unused_names"] == 1
    assert "Piano, grand" in (prepared / "dataset.html").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,name\na,A\na,B\n", r"'a' is called 'A' and 'B'"),
        ("label,name\na,A\n", r"no column 'id' or 'mid'; it has 'label', 'name'"),
        ("", "cannot be read"),
    ],
)
def test_side_file_that_cannot_be_one_is_refused(tmp_path: Path, text: str, message: str) -> None:
    manifest = write_manifest(tmp_path / "m.csv", [("a", "a.wav", "a")])
    (tmp_path / "names.csv").write_text(text)

    with pytest.raises(InputError, match=message):
        prepare(manifest, tmp_path / "out", "--label-names", str(tmp_path / "names.csv"))


def test_no_origin_is_in_two_splits(tmp_path: Path, known_labels: str) -> None:
    header = "id,uri,labels,uploader"
    rows = [(f"v{i}", f"{i}.wav", "x", f"u{i % 60}" if i % 5 else "") for i in range(400)]
    manifest = write_manifest(tmp_path / "m.csv", rows, header)

    prepare(manifest, tmp_path / "out", "--group-column=uploader", known_labels)

    split_of = {video["id"]: video["split"] for video in read_videos(tmp_path / "out")}
    for video_id, _, _, uploader in rows:
        assert split_of[video_id] == sharding.split_of(uploader or video_id)
    assert set(split_of.values()) == {"train", "validation", "evaluation"}


def test_origin_that_the_manifest_puts_into_two_splits_is_refused(
    tmp_path: Path, known_labels: str
) -> None:
    header = "id,uri,labels,split,group"
    rows = [(f"v{i}", f"{i}.wav", "x", "train", f"u{i // 2}") for i in range(40)]
    rows[7] = ("v7", "7.wav", "x", "evaluation", "u3")
    # Its other video is drawn by the hash of the group.
    other = next(split for split in sharding.SPLITS if split != sharding.split_of("u9"))
    rows[18:20] = [("v18", "18.wav", "x", other, "u9"), ("v19", "19.wav", "x", "", "u9")]
    manifest = write_manifest(tmp_path / "m.csv", rows, header)

    with pytest.raises(InputError, match=r"column group: 2 groups have videos in.*'u3', 'u9';"):
        prepare(manifest, tmp_path / "out", known_labels)


def test_statistics_and_coverage(tmp_path: Path) -> None:
    header = "id,uri,labels,split,end"
    rows = [(f"v{i}", f"{i}.wav", "a;b" if i % 4 else "a", "train", "15") for i in range(40)]
    rows += [(f"w{i}", f"{i}.wav", "a;b;c" if i < 3 else "c", "evaluation", "") for i in range(10)]
    manifest = write_manifest(tmp_path / "m.csv", rows, header)

    sets = ["--balanced-sets=2,3", "--examples-per-class=4", "--subsets=10"]
    labels = conftest.known_labels(Path(manifest))
    document = prepare(manifest, tmp_path / "out", *sets, labels)

    statistics = document["statistics"]
    assert statistics["labels_per_video"]["histogram"] == {"1": 17, "2": 30, "3": 3}
    assert statistics["labels_per_video"]["mean"] == (17 + 60 + 9) / 50
    train, evaluation = (statistics["splits"][split] for split in ("train", "evaluation"))
    assert train["known_hours"] == train["hours"] == round(40 * 15 / 3600, 3)
    assert (evaluation["num_known_lengths"], evaluation["hours"]) == (0, round(10 * 276 / 3600, 3))
    assert (train["num_labels"], train["num_absent_labels"]) == (2, 1)
    co_occurrence = statistics["co_occurrence"]
    assert co_occurrence["labels"] == ["a", "b", "c"]
    assert co_occurrence["num_videos"] == [[43, 33, 3], [33, 33, 3], [3, 3, 10]]
    # The 2-label set takes the 3 videos of a and b; for c come 4 videos by their draws.
    positions = sharding.unit_hashes("position", [row[0] for row in rows[40:]])
    draws = draw_numbers(hash_labels(("a", "b", "c"))[[2] * 10], positions)
    more = sum(rows[40 + place][2] == "c" for place in np.argsort(draws)[:4])
    coverage = pq.read_table(tmp_path / "out" / "coverage.parquet").to_pydict()
    assert coverage["train"] == [40, 30, 0]
    assert coverage["evaluation"] == [3, 3, 10]
    assert coverage["balanced_2"] == [3, 3, None]
    assert coverage["balanced_3"] == [3, 3, 3 + more]
    assert document["balanced_sets"]["2"]["num_short"] == 2
    assert document["balanced_sets"]["3"]["num_videos"] == 3 + more
    assert document["balanced_sets"]["3"]["examples"]["max"] == 3 + more
    assert document["subsets"]["train"] == {"10": ["10"]}
    assert document["splits"]["train"]["num_videos_by_group"] == {"10": 10, "rest": 30}
    page = (tmp_path / "out" / "dataset.html").read_text()
    for anchor in ("splits", "subsets", "balanced", "labels"):
        assert f'<table id="{anchor}">' in page
    assert "http" not in page.replace("http-equiv", "")


def test_subset_that_is_too_large_fails_with_the_size(tmp_path: Path, known_labels: str) -> None:
    manifest = write_manifest(
        tmp_path / "m.csv", [("a", "a.wav", "x", "train")], "id,uri,labels,split"
    )

    with pytest.raises(InputError, match=r"--subsets: 5 is 5 videos; the training split has 1"):
        prepare(manifest, tmp_path / "out", "--subsets=5", known_labels)
    with pytest.raises(InputError, match=r"--balanced-sets: no video is in the evaluation split"):
        prepare(manifest, tmp_path / "out", "--balanced-sets=1", known_labels)


def test_hostile_rows_cost_only_themselves(tmp_path: Path) -> None:
    many = [f"label {i:03d}" for i in range(300)]
    rows: list[dict[str, Any]] = [
        {"id": "300 labels", "uri": "a.wav", "labels": many},
        {"id": "quotes", "uri": "b.wav", "labels": ['Say "hi", loudly', "موسيقى", "音楽;and more"]},
        {"id": "mixed", "uri": "c.wav", "labels": "label 001;label 002"},
        {"id": 7, "uri": "d.wav", "labels": ["label 001"], "end": "12"},
        {"id": "nul label", "uri": "e.wav", "labels": ["a\0b", "label 001"]},
        {"id": "nul\0", "uri": "e.wav", "labels": ["label 001"]},
        {"id": "no labels", "uri": "e.wav", "labels": []},
        {"id": "endless", "uri": "e.wav", "labels": ["label 001"], "end": 1e999},
    ]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))

    document = prepare(str(manifest), tmp_path / "out")

    vocabulary = read_vocabulary(str(tmp_path / "out"))
    labels = {
        video["id"]: {vocabulary.ids[label] for label in video["labels"]}
        for video in read_videos(tmp_path / "out")
    }
    assert labels == {
        "300 labels": set(many),
        "quotes": {'Say "hi", loudly', "موسيقى", "音楽;and more"},
        "mixed": {"label 001", "label 002"},
        "7": {"label 001"},
    }
    assert document["rejects"] == {"bad_text": 2, "bad_times": 1, "no_labels": 1}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"id": [1], "media": ["a"], "labels": ["x"]},
            "no column 'uri' for the uri; it has 'id', 'media'",
        ),
        ({"id": [{"a": 1}], "uri": ["a"], "labels": ["x"]}, r"of objects.*--id-column: 'id.a'"),
        ({"id": ["a"], "uri": ["a"], "labels": [{"x": 0.5}]}, r"of objects.*--labels-column: 'l"),
    ],
)
def test_parquet_of_a_wrong_schema(
    tmp_path: Path, columns: dict[str, Any], message: str, known_labels: str
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "m.parquet")

    with pytest.raises((InputError, JobFailedError), match=message):
        prepare(str(tmp_path / "m.parquet"), tmp_path / "out", known_labels)


def test_any_number_of_workers_gives_the_same_data_set(tmp_path: Path) -> None:
    header = "id,uri,labels,group"
    rows = [(f"v{i}", f"{i}.wav", f"l{i % 7};l{i % 11}", f"u{i % 90}") for i in range(600)]
    for index in range(4):
        write_manifest(tmp_path / f"m{index}.csv", rows[index::4], header)
    write_manifest(tmp_path / "all.csv", rows, header)
    flags = ["--subsets=100,0.5", "--balanced-sets=3,11", "--examples-per-class=5"]

    labels = conftest.known_labels(tmp_path / "all.csv")  # the other analyses them in two parts

    one = prepare(str(tmp_path / "all.csv"), tmp_path / "one", *flags, labels)
    two = prepare(
        str(tmp_path / "m*.csv"),
        tmp_path / "two",
        *flags,
        "--direct_num_workers=2",
        "--direct_running_mode=multi_threading",  # on Flink they are processes
    )

    for field in one.keys() - {"made_by", "manifest"}:
        assert one[field] == two[field], field
    for name in ("coverage.parquet", "labels.parquet"):
        assert pq.read_table(tmp_path / "one" / name) == pq.read_table(tmp_path / "two" / name)
    assert read_videos(tmp_path / "one") == read_videos(tmp_path / "two")
