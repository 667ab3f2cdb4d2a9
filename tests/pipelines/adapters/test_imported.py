"""Clips of a listing are matched with file names; no medium is opened."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from features.contracts.sharding import split_of
from features.errors import InputError
from pipelines.adapters.disk import find_medium, index_media
from pipelines.adapters.hierarchy import expand_labels, find_ancestors
from pipelines.adapters.imported import SCHEMA, import_listing, match_media, write_import
from pipelines.adapters.listing import Listing, PublishedClip
from pipelines.runtime.rejects import Reject
from tests.pipelines.adapters import published

SEGMENT = PublishedClip(
    id="video_30000",
    labels=("bark", "dog"),
    file_names=("video", "Yvideo"),
    cut_endings=("_30_40", "_30000"),
    published_split="eval",
    recording="video",
    start=30.0,
    end=40.0,
)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["Yvideo_30_40", "Yvideo"], ("Yvideo", False)),
        (["Yvideo_30000", "video_30000"], ("video_30000", True)),
        (["video_30000", "Yvideo_30_40"], ("Yvideo_30_40", True)),
        (["video_31000", "other"], None),
    ],
)
def test_whole_media_and_likelier_names_come_first(
    names: list[str], found: tuple[str, bool] | None
) -> None:
    assert find_medium(SEGMENT, {name: name for name in names}) == found


def test_media_are_indexed_by_name_without_suffix(tmp_path: Path) -> None:
    published.touch(tmp_path, "b/x.MP4", "a/x.wav", "x.jpg", "y.json", "c/z.d.flac")

    assert index_media(str(tmp_path)) == {
        "x": f"{tmp_path}/a/x.wav",
        "z.d": f"{tmp_path}/c/z.d.flac",
    }


def test_every_clip_is_imported_or_left_out_with_a_reason() -> None:
    clips = [
        SEGMENT,
        PublishedClip("gone", ("dog",), ("gone",), published_split="eval"),
        PublishedClip("other", ("dog",), ("video",), published_split="fold 7"),
        PublishedClip("drawn", ("rain",), uri="rain.wav", recording="storm"),
    ]
    listing = Listing(clips, {}, rejects=[Reject("bad", "", "bad_times", "")])

    imported = match_media(listing, {"video_30_40": "v.wav"}, {"eval": "evaluation"})

    segment, drawn = imported.rows
    assert (segment.uri, segment.split, segment.start, segment.end) == (
        "v.wav",
        "evaluation",
        None,
        None,
    )
    assert (drawn.uri, drawn.split, drawn.group) == ("rain.wav", split_of("storm"), "storm")
    assert [(reject.id, reject.reason) for reject in imported.left_out] == [
        ("bad", "bad_times"),
        ("gone", "missing_media"),
        ("other", "other_split"),
    ]
    assert imported.listed == {
        ("eval", "bark"): 1,
        ("eval", "dog"): 2,
        ("fold 7", "dog"): 1,
        ("", "rain"): 1,
    }
    assert imported.found == {("eval", "bark"): 1, ("eval", "dog"): 1, ("", "rain"): 1}
    assert imported.summarise().splitlines() == [
        "5 clips = 2 imported + 3 left out",
        "  left out: 1 bad_times",
        "  left out: 1 missing_media",
        "  left out: 1 other_split",
    ]


def test_recordings_in_two_splits_are_found() -> None:
    clips = [
        PublishedClip(f"{recording}-{split}", ("a",), uri="u", published_split=split, **group)
        for recording in ("first", "second", "")
        for split in ("1", "2")[: 1 if recording == "second" else 2]
        for group in [{"recording": recording or None}]
    ]

    imported = match_media(Listing(clips, {}), {}, {"1": "train", "2": "evaluation"})

    assert imported.find_straddling() == ["first"]


def test_a_manifest_has_the_rows_of_the_import(tmp_path: Path) -> None:
    imported = match_media(Listing([SEGMENT], {}), {"video": "v.wav"}, {"eval": "evaluation"})

    path = write_import(imported, {"bark": "Bark"}, str(tmp_path))

    table = pq.read_table(path)
    assert table.schema == SCHEMA
    assert table.to_pylist() == [
        {
            "id": "video_30000",
            "uri": "v.wav",
            "labels": ["bark", "dog"],
            "split": "evaluation",
            "start": 30.0,
            "end": 40.0,
            "group": "video",
            "published_split": "eval",
        }
    ]
    assert (tmp_path / "coverage.csv").read_text().splitlines()[1:] == [
        "eval,bark,Bark,1,1",
        "eval,dog,dog,1,1",
    ]


def test_an_empty_listing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none of 0 clips can be used; .* the listing is empty"):
        import_listing(Listing([], {}), str(tmp_path), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_ancestors_are_found_through_every_parent() -> None:
    above = find_ancestors({"bark": ["dog"], "dog": ["pet", "canine"], "pet": ["animal"]}, "f")

    assert above["bark"] == {"dog", "pet", "canine", "animal"}
    assert above["animal"] == frozenset()
    assert expand_labels(["pet", "canine"], above) == ("animal", "canine", "pet")
