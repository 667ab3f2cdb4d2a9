"""Each adapter reads the format of its publisher, quirks included, and refuses damaged files."""

from pathlib import Path

import pytest

from features.errors import InputError
from pipelines.adapters import (
    audioset,
    clip_list,
    esc50,
    folder_per_label,
    fsd50k,
    youtube8m_vocabulary,
)
from tests.pipelines.adapters import published


def test_audioset_segments(tmp_path: Path) -> None:
    listing = audioset.read(str(published.audioset(tmp_path)))

    assert listing.rejects == []
    assert [clip.id for clip in listing.clips] == [
        "--aaaaaaaaa_30000",
        "bbbbbbbbbb__0",
        "ccccccccccc_120000",
        "ddddddddddd_5000",
        "eeeeeeeeeee_30000",
        "fffffffffff_20000",
    ]
    first = listing.clips[0]
    assert (first.start, first.end, first.recording) == (30.0, 40.0, "--aaaaaaaaa")
    assert first.labels == ("/m/bark", "/m/music")
    assert first.published_split == "balanced_train"
    assert first.file_names == ("--aaaaaaaaa", "Y--aaaaaaaaa")
    assert {"_30000_40000", "_30.000_40.000", "_30_40", "_30000"} < {*first.cut_endings}
    assert listing.label_names["/t/dd00001"] == "Male speech, man speaking"
    assert listing.split_values["unbalanced_train"] == "train"
    assert listing.split_values["eval"] == "evaluation"


def test_audioset_ancestors_leave_out_restricted_labels(tmp_path: Path) -> None:
    listing = audioset.read(str(published.audioset(tmp_path)), ancestors=True)

    # Dog has two parents; the root is abstract.
    assert listing.clips[0].labels == (
        "/m/animal",
        "/m/bark",
        "/m/dog",
        "/m/domestic",
        "/m/music",
    )
    assert listing.clips[2].labels[-1] == "/t/dd00001"
    assert "/m/speech" in listing.clips[2].labels
    assert listing.label_names["/m/animal"] == "Animal"


@pytest.mark.parametrize(
    ("children", "message"),
    [
        (
            {**published.ONTOLOGY, "/m/bark": ["/m/animal"]},
            r"ontology\.json: '/m/\w+' is above '/m/\w+' is above .*; remove one of these",
        ),
        ({**published.ONTOLOGY, "/m/bark": ["/m/bark"]}, "'/m/bark' is above '/m/bark'; remove"),
        ({**published.ONTOLOGY, "/m/bark": ["/m/gone"]}, "has the undefined child '/m/gone'"),
        ({"/m/bark": []}, "the ontology has no /m/music; give the ontology.json that belongs"),
    ],
)
def test_ontologies_that_are_refused(tmp_path: Path, children: dict, message: str) -> None:
    published.audioset(tmp_path)
    published.write(tmp_path, {"ontology.json": published.ontology(children)})

    with pytest.raises(InputError, match=message):
        audioset.read(str(tmp_path), ancestors=True)


@pytest.mark.parametrize("content", ["{}", "[1]", '[{"id": "a"}]', "not JSON", "null"])
def test_a_file_that_is_not_an_ontology_is_refused(tmp_path: Path, content: str) -> None:
    published.audioset(tmp_path)
    published.write(tmp_path, {"ontology.json": content})

    with pytest.raises(InputError, match=r"ontology\.json|the ontology has no"):
        audioset.read(str(tmp_path), ancestors=True)


def test_bad_rows_of_audioset_become_rejects(tmp_path: Path) -> None:
    published.audioset(tmp_path)
    with (tmp_path / "eval_segments.csv").open("a") as file:
        file.write('ggggggggggg, soon, 10.000, "/m/bark"\n')
        file.write('hhhhhhhhhhh, 0.000, 10.000, "/m/bark,/m/unheard"\n')
        file.write('iiiiiiiiiii, 0.000, 10.000, ""\n')
        file.write("jjjjjjjjjjj, 0.000\n\n")

    listing = audioset.read(str(tmp_path))

    assert len(listing.clips) == 6
    assert [(reject.id, reject.reason) for reject in listing.rejects] == [
        ("ggggggggggg", "bad_times"),
        ("hhhhhhhhhhh", "unknown_label"),
        ("iiiiiiiiiii", "no_labels"),
        ("jjjjjjjjjjj", "malformed_row"),
    ]
    assert "'/m/bark,/m/unheard', see class_labels_indices.csv" in listing.rejects[1].detail


def test_esc50(tmp_path: Path) -> None:
    published.write(tmp_path, {"meta/esc50.csv": published.ESC50})

    listing = esc50.read(str(tmp_path))

    assert len(listing.clips) == 6
    takes = listing.clips[2:4]
    assert [take.id for take in takes] == ["3-100003-A-0", "3-100003-B-0"]
    assert {take.recording for take in takes} == {"100003"}
    assert {take.published_split for take in takes} == {"3"}
    assert listing.label_names == {"dog": "dog", "vacuum_cleaner": "vacuum cleaner"}
    assert [listing.split_values[str(fold)] for fold in range(1, 6)] == [
        *["train"] * 3,
        "validation",
        "evaluation",
    ]
    assert [clip.labels for clip in esc50.read(str(tmp_path), esc10=True).clips] == [("dog",)] * 4


def test_fsd50k(tmp_path: Path) -> None:
    listing = fsd50k.read(str(published.fsd50k(tmp_path)))

    assert [(clip.id, clip.published_split, clip.recording) for clip in listing.clips] == [
        ("64760", "train", "casa"),
        ("16399", "val", "blau"),
        ("37199", "eval", None),  # this part has no metadata
    ]
    assert listing.clips[0].labels == ("/m/02sgy", "/m/0342h", "/m/04rlf")
    assert listing.label_names["/m/07q2z82"] == "Accelerating and revving and vroom"


def test_an_fsd50k_label_outside_the_vocabulary_becomes_a_reject(tmp_path: Path) -> None:
    published.fsd50k(tmp_path)
    with (tmp_path / "FSD50K.ground_truth" / "eval.csv").open("a") as file:
        file.write('1,"Bark,Howl","/m/05tny_,/m/07qf0zm"\n')

    listing = fsd50k.read(str(tmp_path))

    assert len(listing.clips) == 3
    (reject,) = listing.rejects
    assert (reject.id, reject.reason) == ("1", "unknown_label")
    assert "/m/07qf0zm not in" in reject.detail


def test_fsd50k_metadata_of_another_form_is_refused(tmp_path: Path) -> None:
    published.fsd50k(tmp_path)
    published.write(tmp_path, {"FSD50K.metadata/dev_clips_info_FSD50K.json": '{"64760": {}}'})

    with pytest.raises(InputError, match=r"dev_clips_info_FSD50K\.json: expected .* uploader"):
        fsd50k.read(str(tmp_path))


def test_youtube8m_vocabulary(tmp_path: Path) -> None:
    published.write(tmp_path, {"vocabulary.csv": published.YOUTUBE8M})

    by_entity = youtube8m_vocabulary.read(str(tmp_path))
    by_index = youtube8m_vocabulary.read(str(tmp_path), label_ids="Index")

    # Some entities have no name.
    assert by_entity.label_names == {"/m/03bt1gh": "Game", "/m/01mw1": "/m/01mw1"}
    assert by_index.label_names == {"0": "Game", "1": "1"}
    assert by_entity.clips == []


def test_a_list_of_clips_and_some_of_its_sources_and_labels(tmp_path: Path) -> None:
    source = str(published.write(tmp_path, {"clips.csv": published.CLIP_LIST}))

    listing = clip_list.read(source)

    assert listing.rejects == []
    assert [clip.id for clip in listing.clips] == ["esc50-1", "esc50-2", "us8k-1", "us8k-2"]
    second = listing.clips[1]
    assert second.uri == f"{source}/audio/esc50/2.ogg"
    assert (second.labels, second.published_split) == (("air conditioner",), "4")
    assert [clip.recording for clip in listing.clips] == ["fs1", "fs2", "fs3", None]

    listing = clip_list.read(source, sources=["urbansound8k", "esc50"], labels=["dog"])
    assert [clip.id for clip in listing.clips] == ["esc50-1", "us8k-1", "us8k-2"]
    assert [(reject.id, reject.reason) for reject in listing.rejects] == [
        ("esc50-2", "other_label")
    ]
    with pytest.raises(InputError, match=r"clips\.csv: no clip has the source 'esc10', 'fsdd'"):
        clip_list.read(source, sources=["fsdd", "esc50", "esc10"])


def test_folder_per_label(tmp_path: Path) -> None:
    published.touch(
        tmp_path, "dog_bark/1.wav", "rain/1.WAV", "rain/deep/2.mp3", "rain/notes.txt", "loose.wav"
    )

    listing = folder_per_label.read(str(tmp_path))

    assert [(clip.id, clip.labels) for clip in listing.clips] == [
        ("dog_bark/1.wav", ("dog_bark",)),
        ("rain/1.WAV", ("rain",)),
        ("rain/deep/2.mp3", ("rain",)),
    ]
    assert [(reject.id, reject.reason) for reject in listing.rejects] == [("loose.wav", "no_label")]
    assert listing.label_names["dog_bark"] == "dog bark"


def test_folder_per_label_by_pattern(tmp_path: Path) -> None:
    published.touch(tmp_path, "dog/3-1234-A.ogg", "犬/4-77-B.ogg")

    listing = folder_per_label.read(
        str(tmp_path),
        pattern=r"(?P<label>.+)/(?P<id>(?P<split>\d)-(?P<recording>\d+)-.)\.ogg",
    )

    assert [(c.id, c.labels[0], c.published_split, c.recording) for c in listing.clips] == [
        ("3-1234-A", "dog", "3", "1234"),
        ("4-77-B", "犬", "4", "77"),
    ]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(?P<label>", "is not a regular expression"),
        (".*", r"has the groups \[\]; expected \(\?P<label>"),
        ("(?P<label>.*)(?P<fold>)", r"has the groups \['fold', 'label'\]"),
        ("(?P<label>.*)/x", "none of its 1 media files has a path that matches"),
    ],
)
def test_patterns_that_are_refused(tmp_path: Path, pattern: str, message: str) -> None:
    published.touch(tmp_path, "dog/1.wav")

    with pytest.raises(InputError, match=message):
        folder_per_label.read(str(tmp_path), pattern=pattern)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"meta/esc50\.csv: no such file"),
        (b"", "no column 'filename', 'fold', .* it has no header"),
        (b"filename,category\na.wav,dog\n", "no column 'fold', 'target', 'esc10'"),
        (published.ESC50.encode("utf-16"), "cannot be read as CSV"),
    ],
)
def test_a_file_that_is_not_as_published_is_refused(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    (tmp_path / "meta").mkdir()
    if content is not None:
        (tmp_path / "meta" / "esc50.csv").write_bytes(content)

    with pytest.raises(InputError, match=message):
        esc50.read(str(tmp_path))


def test_a_malformed_row_of_a_label_file_is_refused(tmp_path: Path) -> None:
    published.audioset(tmp_path)
    with (tmp_path / "class_labels_indices.csv").open("a") as file:
        file.write("4,/m/more\n")

    with pytest.raises(InputError, match="2 cells for 3"):
        audioset.read(str(tmp_path))
