"""A corpus of noise is written, interrupted and written again."""

import dataclasses
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipelines.corpus.encoding import FORMATS
from pipelines.corpus.mixing import Event, Noise, Soundtrack
from pipelines.corpus.writer import MANIFEST, write_corpus

SOUNDTRACKS = [
    Soundtrack(
        key=f"track-{index}",
        split="train",
        media_format=FORMATS[-1],
        seconds=1.0,
        background=Noise(1.0),
        events=(Event("hiss", ("hiss",), Noise(0.3), seconds=0.5, decibels=10.0),),
        seed=(1, index),
    )
    for index in range(4)
]


class Interrupted(ThreadPoolExecutor):
    """Ends with Ctrl-C after two results."""

    def map(self, *args: Any, **more: Any) -> Iterator[Any]:
        yield from itertools.islice(super().map(*args, **more), 2)
        raise KeyboardInterrupt


def media_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    paths = sorted((folder / "media").iterdir())
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def test_media_of_an_interrupted_command_are_kept_if_their_plans_are_the_same(
    tmp_path: Path,
) -> None:
    with Interrupted(1) as executor, pytest.raises(KeyboardInterrupt):
        write_corpus(SOUNDTRACKS, tmp_path, executor)
    (tmp_path / "media" / "track-3.m4a").unlink(missing_ok=True)
    (tmp_path / "media" / "unfinished-track-3.m4a").write_bytes(b"cut short")
    first = media_of(tmp_path)
    assert not (tmp_path / MANIFEST).exists()

    with ThreadPoolExecutor(1) as executor:
        write_corpus(SOUNDTRACKS, tmp_path, executor)

    again = media_of(tmp_path)
    assert list(again) == [f"track-{index}.m4a" for index in range(4)]
    assert again["track-0.m4a"] == first["track-0.m4a"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("events.parquet", "manifest.csv", "media")
    ]

    # Of another seed nothing is kept.
    others = [dataclasses.replace(track, seed=(2, *track.seed)) for track in SOUNDTRACKS]
    with ThreadPoolExecutor(1) as executor:
        write_corpus(others, tmp_path, executor)
    changed = media_of(tmp_path)
    assert all(changed[name][0] != again[name][0] for name in again)
