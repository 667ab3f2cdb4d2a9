"""Clips of known tones are read and cut into their audible parts."""

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from features.contracts.sharding import EVALUATION, TRAIN, VALIDATION
from features.sound.outcome import Outcome
from pipelines.corpus.clips import Clip, find_audible, read_clips
from tests.pipelines.corpus.tones import write_clip


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def test_a_clip_is_cut_at_its_long_silences(tmp_path: Path, executor: Executor) -> None:
    # Half a second belongs to the sound, one and a half does not.
    write_clip(tmp_path / "a.wav", 700.0, [(0.2, 0.6), (1.1, 1.5), (3.0, 3.9)])
    whole = Clip("a", str(tmp_path / "a.wav"), ("a",), TRAIN, ("a",))
    part = Clip("b", str(tmp_path / "a.wav"), ("a",), TRAIN, ("a",), start=1.0, end=3.5)

    audible, rejects = find_audible([whole, part], shortest=0.3, executor=executor)

    assert rejects == []
    assert np.allclose(audible[0].parts, [(0.2, 1.5), (3.0, 3.9)], atol=0.03)
    assert np.allclose(audible[1].parts, [(1.1, 1.5), (3.0, 3.5)], atol=0.03)


def test_a_clip_that_cannot_be_decoded_becomes_a_reject(tmp_path: Path, executor: Executor) -> None:
    _, rejects = find_audible(
        [Clip("gone", str(tmp_path / "gone.wav"), ("a",), TRAIN, ("a",))],
        shortest=0.3,
        executor=executor,
    )

    assert [(reject.id, reject.reason) for reject in rejects] == [("gone", Outcome.NOT_FOUND)]


def test_folder_of_labels(tmp_path: Path) -> None:
    for index in range(40):
        path = tmp_path / ("rain", "wind")[index % 2] / f"{index}.wav"
        path.parent.mkdir(exist_ok=True)
        path.touch()

    found, rejects = read_clips(str(tmp_path))

    assert len(found) == 40
    assert {clip.labels for clip in found} == {("rain",), ("wind",)}
    # Drawn by a hash of the id, 70 : 20 : 10.
    assert {clip.split for clip in found} == {TRAIN, VALIDATION, EVALUATION}
    assert rejects == []


def test_clips_of_one_recording_are_drawn_into_one_split(tmp_path: Path) -> None:
    rows = [f"{index},{index}.wav,rain,recording-{index // 4}" for index in range(160)]
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("\n".join(["id,uri,labels,group", *rows]))

    found, _ = read_clips(str(manifest))

    splits = [{clip.split for clip in found[first : first + 4]} for first in range(0, 160, 4)]
    assert all(len(of_recording) == 1 for of_recording in splits)
    assert set().union(*splits) == {TRAIN, VALIDATION, EVALUATION}
