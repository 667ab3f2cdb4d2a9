"""Manifests of every kind give the same rows; what cannot be used is named."""

import dataclasses
import decimal
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from features.errors import InputError
from pipelines.dataset import manifest, manifest_rows
from pipelines.dataset.manifest_format import ManifestFormat

ROWS = [
    {"id": "007", "uri": "a.mp4", "labels": "Dog;Cat", "split": "train", "start": 1.5, "end": 9.0},
    {"id": "b", "uri": "gs://bucket/b.webm", "labels": 'Say "hi", loudly', "split": "evaluation"},
    {"id": "c", "uri": "/abs/c.wav", "labels": "موسيقى;Dog;Dog; Cat ", "split": "train"},
]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return
    table = pa.table({name: [row.get(name) for row in rows] for name in names})
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        pyarrow.csv.write_csv(table, path)


def read(path: Path, layout: ManifestFormat) -> tuple[list[dict[str, Any]], list[Any]]:
    videos: list[dict[str, Any]] = []
    rejects = []
    for piece in manifest.divide(str(path)):
        for output in manifest.ReadManifest(layout).process(piece):
            if isinstance(output, pa.RecordBatch):
                videos += output.to_pylist()
            else:
                assert output.tag == manifest.REJECTED
                rejects.append(output.value)
    return videos, rejects


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_every_kind_gives_the_same_videos(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"videos{suffix}"
    write(path, ROWS)

    videos, rejects = read(path, ManifestFormat())

    assert rejects == []
    assert all(video.pop("origins") == [] for video in videos)
    assert videos == [
        {
            "id": "007",
            "uri": f"{tmp_path}/a.mp4",
            "labels": ["Cat", "Dog"],
            "split": "train",
            "start": 1.5,
            "end": 9.0,
        },
        {
            "id": "b",
            "uri": "gs://bucket/b.webm",
            "labels": ['Say "hi", loudly'],
            "split": "evaluation",
            "start": None,
            "end": None,
        },
        {
            "id": "c",
            "uri": "/abs/c.wav",
            "labels": ["Cat", "Dog", "موسيقى"],
            "split": "train",
            "start": None,
            "end": None,
        },
    ]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_labels_may_be_a_list(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"videos{suffix}"
    write(path, [{"id": "a", "uri": "a.wav", "labels": ["Rain; heavy", "Wind"]}])

    videos, _ = read(path, ManifestFormat())

    assert videos[0]["labels"] == ["Rain; heavy", "Wind"]


@pytest.mark.parametrize(
    "groups", [["b;a", " a ;;b", "", None], [["b", "a"], ["a", "b"], [], None]]
)
def test_groups_may_be_several(tmp_path: Path, groups: list[Any]) -> None:
    rows = [
        {"id": str(row), "uri": "a.wav", "labels": "x", "group": group}
        for row, group in enumerate(groups)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "videos.parquet")
    # Rows with numbers of another form are parsed one by one.
    others = pa.Table.from_pylist([{**row, "start": "0e0"} for row in rows])
    pq.write_table(others, tmp_path / "rows.parquet")

    for name in ("videos.parquet", "rows.parquet"):
        videos, rejects = read(tmp_path / name, ManifestFormat())
        assert rejects == []
        assert [video["origins"] for video in videos] == [["a", "b"], ["a", "b"], [], []]


def test_columns_and_split_values_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "clips.csv"
    path.write_text("clip,file,tag,fold\nx,x.ogg,dog,1\ny,y.ogg,dog,4\nz,z.ogg,cat,5\n")
    layout = ManifestFormat(
        id="clip",
        uri="file",
        labels="tag",
        split="fold",
        split_values={"1": "train", "4": "evaluation"},
    )

    videos, rejects = read(path, layout)

    assert [(video["id"], video["split"]) for video in videos] == [
        ("x", "train"),
        ("y", "evaluation"),
    ]
    assert [(reject[0], reject[2]) for reject in rejects] == [("z", "other_split")]
    assert "'5'" in rejects[0][3]


@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        ({"id": "", "uri": "a.wav", "labels": "x"}, "missing_id", "id is empty"),
        ({"id": "a", "uri": " ", "labels": "x"}, "missing_uri", "uri is empty"),
        ({"id": "a", "uri": "a.wav", "labels": " ; "}, "no_labels", "' ; '"),
        ({"id": "a", "uri": "a.wav", "labels": None}, "no_labels", "None"),
        ({"id": "a\0b", "uri": "a.wav", "labels": "x"}, "bad_text", "NUL"),
        ({"id": "a", "uri": "a.wav", "labels": "x", "start": "soon"}, "bad_times", "soon"),
        ({"id": "a", "uri": "a.wav", "labels": "x", "start": 5, "end": 5}, "bad_times", "5"),
        ({"id": "a", "uri": "a.wav", "labels": "x", "start": -1}, "bad_times", "-1"),
        ({"id": "a", "uri": "a.wav", "labels": "x", "split": "dev"}, "other_split", "'dev'"),
        ({"id": ["a"], "uri": "a.wav", "labels": "x"}, "bad_type", "['a']"),
        ({"id": "a", "uri": "a.wav", "labels": {"x": 0.9}}, "bad_type", "{'x': 0.9}"),
        ({"id": "a", "uri": "a.wav", "labels": [{"name": "x"}]}, "bad_type", "'name'"),
        ({"id": "a\ud800", "uri": "a.wav", "labels": "x"}, "bad_text", "surrogates"),
        ({"uri": "a.wav", "labels": "x"}, "missing_id", "id is empty"),
    ],
)
def test_a_row_that_cannot_be_used_is_rejected_with_a_reason(
    tmp_path: Path, row: dict[str, Any], reason: str, detail: str
) -> None:
    path = tmp_path / "videos.jsonl"
    good = {"id": "good", "uri": "good.wav", "labels": "x", "split": "train"}
    write(path, [row, good])

    videos, rejects = read(path, ManifestFormat())

    assert [video["id"] for video in videos] == ["good"]
    ((_, _, actual_reason, actual_detail),) = rejects
    assert actual_reason == reason
    assert detail in actual_detail


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("videos.csv", "id,uri,labels\na,a.wav,x\nb,b.wav\nc,c.wav,y\n"),
        (
            "videos.jsonl",
            '{"id": "a", "uri": "a.wav", "labels": "x"}\n{"id": \n\n'
            '{"id": "c", "uri": "c.wav", "labels": "y"}\n',
        ),
        (
            "videos.jsonl",
            '{"id": "a", "uri": "a.wav", "labels": "x"}\n[1, 2]\n'
            '{"id": "c", "uri": "c.wav", "labels": "y"}\n',
        ),
    ],
)
def test_a_malformed_row_costs_only_itself(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)

    videos, rejects = read(path, ManifestFormat())

    assert [video["id"] for video in videos] == ["a", "c"]
    ((_, _, reason, detail),) = rejects
    assert reason == "malformed_row"
    assert str(path) in detail


def test_missing_column_is_refused_with_the_columns_there_are(tmp_path: Path) -> None:
    path = tmp_path / "videos.csv"
    path.write_text("id,file,labels\na,a.wav,x\n")

    with pytest.raises(InputError, match=r"no column 'uri'.*'id', 'file', 'labels'.*--uri-column"):
        manifest.find_manifests(str(path), ManifestFormat())


def test_named_optional_column_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "videos.csv"
    path.write_text("id,uri,labels\na,a.wav,x\n")

    with pytest.raises(InputError, match=r"no column 'fold' for the split.*--split-column"):
        manifest.find_manifests(str(path), ManifestFormat(split="fold"))


@pytest.mark.parametrize("text", ["", "id,uri,labels\n"])
def test_empty_manifest_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "videos.csv"
    path.write_text(text)

    with pytest.raises(InputError, match="has no rows"):
        manifest.find_manifests(str(path), ManifestFormat())


def test_absent_manifest_and_unknown_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv: no such file"):
        manifest.find_manifests(str(tmp_path / "none.csv"), ManifestFormat())
    (tmp_path / "videos.xlsx").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"ends in one of \.csv"):
        manifest.find_manifests(str(tmp_path / "videos.xlsx"), ManifestFormat())


def test_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "videos.parquet"
    path.write_text("id,uri,labels\n")

    with pytest.raises(InputError, match="cannot be read as parquet"):
        manifest.find_manifests(str(path), ManifestFormat())


def test_a_pattern_finds_all_files(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("id,uri,labels\na,a.wav,x\n")

    paths = manifest.find_manifests(str(tmp_path / "*.csv"), ManifestFormat())

    assert [Path(path).name for path in paths] == ["a.csv", "b.csv"]


def test_a_column_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "videos.csv"
    path.write_text("id,uri,uri,labels\na,a.wav,b.wav,x\n")

    with pytest.raises(InputError, match="the header has 'uri' twice"):
        manifest.find_manifests(str(path), ManifestFormat())


def test_numbers_and_bytes_are_text(tmp_path: Path) -> None:
    path = tmp_path / "videos.parquet"
    columns = {"id": [7, 8], "uri": [b"a.wav", b"b.wav"], "labels": ["x", "y"]}
    pq.write_table(pa.table({**columns, "split": [1.0, None]}), path)
    layout = ManifestFormat(split_values={"1": "train"})

    videos, rejects = read(path, layout)

    assert [(video["id"], video["uri"], video["split"]) for video in videos] == [
        ("7", f"{tmp_path}/a.wav", "train"),
        ("8", f"{tmp_path}/b.wav", None),
    ]
    assert rejects == []


def test_file_uris_are_paths(tmp_path: Path) -> None:
    path = tmp_path / "videos.jsonl"
    write(path, [{"id": "a", "uri": "file:///media/a b.wav", "labels": "x"}])

    assert read(path, ManifestFormat())[0][0]["uri"] == "/media/a b.wav"


def random_cell(rng: np.random.Generator, column: str) -> Any:
    words = [
        "",
        " ",
        "a",
        " b ",
        "Dog;Cat;Dog",
        ";",
        "x\0y",
        "音楽; Cat",
        "train",
        "7",
        "1.5",
        "-2",
    ]
    words += ["file:///m/a b.wav", "gs://b/c", "rel/d.wav", "nan", "inf", "1e3", "  ", "/abs"]
    if column == "labels" and rng.random() < 0.5:
        return [str(word) for word in rng.choice(words, rng.integers(0, 4))]
    return None if rng.random() < 0.1 else str(rng.choice(words))


@pytest.mark.parametrize("seed", range(6))
def test_columns_and_single_rows_are_parsed_alike(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = ("id", "uri", "labels", "split", "start", "end", "group")
    labels_are_lists = bool(seed % 2)
    rows = [{name: random_cell(rng, name) for name in names} for _ in range(400)]
    rows = [row for row in rows if isinstance(row["labels"], list) == labels_are_lists]
    for row in rows[:200]:  # most of which can be used
        row.update(id=f"v{rng.integers(1000)}", uri="a.wav", split=None, start="0.5", end="7")
    # A slice, as readers give them.
    arrays = {name: pa.array([rows[0][name], *(row[name] for row in rows)])[1:] for name in names}
    # Lists are never taken as columns.
    singly = {name: [row[name] for row in rows] for name in names}

    by_column, column_rejects = manifest_rows.parse_rows(arrays, ManifestFormat(), "/m")
    by_row, row_rejects = manifest_rows.parse_rows(singly, ManifestFormat(), "/m")

    def in_order(batch: pa.RecordBatch) -> list[str]:
        return sorted(map(repr, batch.to_pylist()))

    assert in_order(by_column) == in_order(by_row)
    assert sorted(column_rejects) == sorted(row_rejects)
    assert by_column.num_rows > 50
    assert len(column_rejects) > 50


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_pieces_of_a_file_hold_every_row_once(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "_BYTES_PER_PIECE", 97)
    monkeypatch.setattr(manifest, "_ROWS_PER_PIECE", 20)
    path = tmp_path / f"videos{suffix}"
    rows = [{"id": f"é{i}", "uri": "x" * (i % 50) + ".wav", "labels": "a\nb"} for i in range(100)]
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
    else:
        write(path, rows)

    pieces = list(manifest.divide(str(path)))
    videos, rejects = read(path, ManifestFormat())

    assert len(pieces) > 4
    assert [video["id"] for video in videos] == [row["id"] for row in rows]
    assert rejects == []


# As BigQuery's EXPORT DATA writes them: arrays are lists of `element`, INT64 and NUMERIC are exact.
EXPORTED = pa.schema(
    [
        ("video", pa.struct([("id", pa.int64()), ("uri", pa.string())])),
        (
            "labels",
            pa.list_(
                pa.field(
                    "element",
                    pa.struct([("id", pa.string()), ("by", pa.struct([("name", pa.string())]))]),
                )
            ),
        ),
        ("numbers", pa.list_(pa.field("element", pa.int64()))),
        ("start", pa.decimal128(38, 9)),
        ("end", pa.int64()),
        ("seen", pa.timestamp("us")),
        ("title", pa.binary()),
    ]
)
NESTED = ManifestFormat(id="video.id", uri="video.uri", labels="labels.id", group="labels.by.name")


def exported_rows() -> list[dict[str, Any]]:
    """More ids than a float holds exactly, lists of every length, and rows that have no labels."""
    labels: list[list[dict[str, Any]] | None] = [
        [{"id": "Dog", "by": {"name": "Ada"}}, {"id": "Cat", "by": None}],
        [],
        [{"id": "Dog", "by": {"name": None}}],
        None,
        [{"id": None, "by": {"name": "Bob"}}, {"id": "Rain; heavy", "by": {"name": "Ada"}}],
    ]
    return [
        {
            "video": {"id": 2**53 + 1 + row, "uri": f"{row}.wav"},
            "labels": found,
            "numbers": None if found is None else [7 * len(found), 3],
            "start": decimal.Decimal("1.5") if row else None,
            "end": 4 + row,
        }
        for row, found in enumerate(labels)
    ]


@pytest.mark.parametrize("pattern", ["export", "export/*.parquet", "export/"])
def test_a_folder_that_bigquery_exported(tmp_path: Path, pattern: str) -> None:
    rows, folder = exported_rows(), tmp_path / "export"
    folder.mkdir()
    for name, part in (("0", rows[:3]), ("1", rows[3:]), ("2", [])):
        table = pa.Table.from_pylist(part, EXPORTED)
        pq.write_table(table, folder / f"00000000000{name}.parquet", row_group_size=2)
    (folder / "_SUCCESS").write_text("")
    schema = pq.ParquetFile(folder / "000000000000.parquet").schema
    assert "labels.list.element.by.name" in [schema.column(at).path for at in range(len(schema))]

    paths = manifest.find_manifests(str(tmp_path / pattern), NESTED)
    found = [read(Path(path), NESTED) for path in paths]

    videos = [video for videos, _ in found for video in videos]
    assert [
        (video["id"], video["labels"], video["origins"], video["start"], video["end"])
        for video in videos
    ] == [
        ("9007199254740993", ["Cat", "Dog"], ["Ada"], None, 4.0),
        ("9007199254740995", ["Dog"], [], 1.5, 6.0),
        ("9007199254740997", ["Rain; heavy"], ["Ada", "Bob"], 1.5, 8.0),
    ]
    assert videos[0]["uri"] == f"{folder}/0.wav"
    rejects = [(reject.id, reject.reason) for _, rejects in found for reject in rejects]
    assert rejects == [("9007199254740994", "no_labels"), ("9007199254740996", "no_labels")]


def test_labels_may_be_an_array_of_integers(tmp_path: Path) -> None:
    path = tmp_path / "videos.parquet"
    pq.write_table(pa.Table.from_pylist(exported_rows()[:3], EXPORTED), path)

    videos, rejects = read(path, dataclasses.replace(NESTED, labels="numbers", group="title"))

    assert [video["labels"] for video in videos] == [["14", "3"], ["0", "3"], ["3", "7"]]
    assert rejects == []


def test_json_lines_that_bigquery_exported_give_the_same_videos(tmp_path: Path) -> None:
    rows = exported_rows()
    pq.write_table(pa.Table.from_pylist(rows, EXPORTED), tmp_path / "videos.parquet")
    for row in rows:  # INT64 and NUMERIC are texts there
        row["video"]["id"] = str(row["video"]["id"])
        row["start"] = None if row["start"] is None else str(row["start"])
        row["end"] = str(row["end"])
    (tmp_path / "videos.json").write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    of_parquet, of_json = (
        read(tmp_path / f"videos.{kind}", NESTED) for kind in ("parquet", "json")
    )

    assert of_json[0] == of_parquet[0]
    assert [reject[:3] for reject in of_json[1]] == [reject[:3] for reject in of_parquet[1]]


def test_a_value_that_is_no_object_costs_its_row(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "uri": "a.wav", "labels": [{"id": "Dog"}, {"id": "Cat"}]},
        {"id": "b", "uri": "b.wav", "labels": [{"id": "Dog"}, "Cat"]},
    ]
    write(tmp_path / "videos.jsonl", rows)

    videos, rejects = read(tmp_path / "videos.jsonl", ManifestFormat(labels="labels.id"))

    assert [video["labels"] for video in videos] == [["Cat", "Dog"]]
    assert [(reject.id, reject.reason) for reject in rejects] == [("b", "bad_type")]


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (
            dataclasses.replace(NESTED, labels="labels"),
            "column 'labels' for the labels is of objects; name the field of theirs with "
            "--labels-column: 'labels.id', 'labels.by.name'",
        ),
        (
            dataclasses.replace(NESTED, uri="video.url"),
            "no column 'video.url' for the uri; it has 'video.id', 'video.uri', 'labels.id'",
        ),
    ],
)
def test_a_nested_column_without_its_field_is_refused(
    tmp_path: Path, layout: ManifestFormat, message: str
) -> None:
    path = tmp_path / "videos.parquet"
    pq.write_table(pa.Table.from_pylist(exported_rows(), EXPORTED), path)

    with pytest.raises(InputError, match=re.escape(message)):
        manifest.find_manifests(str(path), layout)


def test_a_folder_with_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "videos.parquet", ROWS)
    (tmp_path / "README.md").write_text("videos")

    with pytest.raises(InputError, match=r"README\.md: a manifest ends in one of"):
        manifest.find_manifests(str(tmp_path), ManifestFormat())
