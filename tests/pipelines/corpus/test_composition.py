"""Plans of composed soundtracks are examined; no medium is read."""

import dataclasses

import numpy as np
import pytest

from features.contracts.sharding import EVALUATION, TRAIN, VALIDATION
from features.errors import InputError
from pipelines.corpus.clips import Clip, check_origins
from pipelines.corpus.composition import Composition, add_generic_labels, plan_soundtracks
from pipelines.corpus.encoding import FORMATS
from pipelines.corpus.mixing import Noise, Soundtrack

SETTINGS = Composition(
    num_soundtracks=10,
    seconds=(10.0, 20.0),
    events=(2, 4),
    gap_seconds=(0.0, 1.0),
    event_seconds=(0.5, 2.0),
    decibels=(0.0, 10.0),
    formats=FORMATS,
    seed=1,
)


def plan(audible: list[Clip], backgrounds: list[Clip] | None = None, **changes) -> list[Soundtrack]:
    return plan_soundtracks(audible, backgrounds or [], dataclasses.replace(SETTINGS, **changes))


def clip(name: str, split: str, *, seconds: float = 3.0) -> Clip:
    return Clip(name, f"{name}.wav", ("label",), split, (name,), parts=((0.5, 0.5 + seconds),))


def test_another_seed_gives_another_corpus() -> None:
    audible = [
        Clip(str(i), "x.wav", ("a",), TRAIN, (f"take {i}",), parts=((0.0, 3.0),)) for i in range(9)
    ]

    assert plan(audible) == plan(audible)
    assert plan(audible) != plan(audible, seed=2)


def test_splits_share_the_soundtracks_as_they_share_the_clips() -> None:
    audible = [clip(f"t{i}", TRAIN) for i in range(70)]
    audible += [clip(f"v{i}", VALIDATION) for i in range(20)]
    audible += [clip(f"e{i}", EVALUATION) for i in range(10)]

    splits = [soundtrack.split for soundtrack in plan(audible, num_soundtracks=100)]

    assert (splits.count(TRAIN), splits.count(VALIDATION), splits.count(EVALUATION)) == (69, 20, 11)
    assert len(plan(audible, num_soundtracks=3)) == 3
    with pytest.raises(InputError, match="--soundtracks: received 2 for clips of the splits train"):
        plan(audible, num_soundtracks=2)


def test_the_numbers_of_splits_are_as_given() -> None:
    audible = [clip("t", TRAIN), clip("e", EVALUATION)]

    splits = [track.split for track in plan(audible, num_soundtracks={TRAIN: 3, EVALUATION: 5})]

    assert splits == [TRAIN] * 3 + [EVALUATION] * 5
    with pytest.raises(InputError, match="--soundtracks: gives the splits train; the clips are of"):
        plan(audible, num_soundtracks={TRAIN: 3})


def test_long_sounds_are_cut_anywhere_in_them() -> None:
    sounds = [
        event.sound
        for soundtrack in plan([clip("long", TRAIN, seconds=60)], num_soundtracks=50)
        for event in soundtrack.events
    ]

    starts = np.array([sound.start for sound in sounds])
    assert all(sound.end - sound.start == pytest.approx(2.0) for sound in sounds)
    assert starts.min() < 5
    assert starts.max() > 50
    assert starts.max() <= 58.5


def test_backgrounds_stay_in_their_split() -> None:
    audible = [clip("a", TRAIN), clip("b", EVALUATION)]
    behind = [clip("train-wind", TRAIN, seconds=9), clip("evaluation-wind", EVALUATION, seconds=9)]

    for soundtrack in plan(audible, behind):
        assert soundtrack.background.uri == f"{soundtrack.split}-wind.wav"
    assert all(isinstance(soundtrack.background, Noise) for soundtrack in plan(audible))
    with pytest.raises(InputError, match="--background: no recording is in the split evaluation"):
        plan(audible, behind[:1])


def test_generic_labels_that_are_refused() -> None:
    audible = [Clip("1", "1.wav", ("dog",), TRAIN, ("1",), parts=((0.0, 1.0),))]

    with pytest.raises(InputError, match=r"g\.csv: no clip has the label 'dgo'; remove it"):
        add_generic_labels(audible, {"dgo": ["animal"]}, "g.csv")
    with pytest.raises(InputError, match=r"g\.csv: '\w+' is above '\w+' is above .*; remove one"):
        add_generic_labels(audible, {"dog": ["animal"], "animal": ["dog"]}, "g.csv")


def test_generic_labels_of_generic_labels_are_added() -> None:
    clips = [Clip(name, "", (name,), TRAIN, (name,)) for name in ("dog", "rain")]

    labelled = add_generic_labels(clips, {"dog": ["pet"], "pet": ["animal"]}, "g.csv")

    assert [clip.labels for clip in labelled] == [("dog",), ("rain",)]
    assert [clip.generic_labels for clip in labelled] == [("animal", "dog", "pet"), ("rain",)]


def test_origins_are_those_of_all_clips_and_of_the_background() -> None:
    audible = [
        dataclasses.replace(clip(f"c{i}", TRAIN), origins=(f"recording {i // 2}",))
        for i in range(6)
    ]
    behind = [dataclasses.replace(clip("wind", TRAIN, seconds=9), origins=("field",))]

    for soundtrack in plan(audible, behind, num_soundtracks=20):
        used = {f"recording {int(event.source[1:]) // 2}" for event in soundtrack.events}
        assert soundtrack.origins == tuple(sorted(used | {"field"}))
    assert "field" not in plan(audible)[0].origins


def test_clips_of_one_origin_in_two_splits_are_refused() -> None:
    clips = [clip("a", TRAIN), dataclasses.replace(clip("b", EVALUATION), origins=("a",))]

    with pytest.raises(InputError, match="clip 'b' in the split evaluation is from 'a', of which"):
        check_origins(clips)
    check_origins(clips[:1] * 2)
