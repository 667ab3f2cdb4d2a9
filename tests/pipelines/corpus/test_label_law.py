"""Labels are drawn for many planned soundtracks and counted; no medium is read."""

import collections
import dataclasses
import itertools

import numpy as np
import pytest

from features.contracts.sharding import EVALUATION, TRAIN
from pipelines.corpus.clips import Clip
from pipelines.corpus.composition import plan_soundtracks
from pipelines.corpus.label_law import LabelLaw, limit_recordings, rank_labels
from tests.pipelines.corpus.test_composition import SETTINGS

LABELS = [f"label {number}" for number in range(20)]
# Two recordings of a label with two clips each, in both splits.
CLIPS = [
    Clip(f"{split} {label} {take}", "", (label,), split, (f"{split} {label} {take // 2}",))
    for split in (TRAIN, EVALUATION)
    for label in LABELS
    for take in range(4)
]
AUDIBLE = [dataclasses.replace(clip, parts=((0.0, 3.0),)) for clip in CLIPS]
LAW = LabelLaw(exponent=2.0, shift=3.0, labels=(1, 1), least=4)


def draw(law: LabelLaw, number: int) -> dict[str, list[set[str]]]:
    """Split -> the labels of each of its soundtracks."""
    settings = dataclasses.replace(
        SETTINGS, num_soundtracks={TRAIN: number, EVALUATION: number}, label_law=law
    )
    found = collections.defaultdict(list)
    for soundtrack in plan_soundtracks(AUDIBLE, [], settings):
        found[soundtrack.split].append(set(soundtrack.labels))
    return found


def test_labels_follow_the_law_in_one_random_order() -> None:
    ranking = rank_labels(AUDIBLE, SETTINGS.seed)
    assert sorted(ranking) == sorted(LABELS) != ranking == rank_labels(AUDIBLE[::-1], SETTINGS.seed)
    number = 3_000

    found = draw(LAW, number)

    weights = [1 / (rank + 3) ** 2 for rank in range(1, 21)]
    for split, num_given in ((TRAIN, 1), (EVALUATION, 4)):
        counts = collections.Counter(itertools.chain(*found[split]))
        for label, weight in zip(ranking, weights, strict=True):
            share = weight / sum(weights)
            expected = num_given + (number - num_given * len(LABELS)) * share
            # Four standard deviations of a binomial count.
            assert abs(counts[label] - expected) < 4 * np.sqrt(number * share)
            assert counts[label] >= num_given


def test_a_soundtrack_has_as_many_labels_as_are_drawn_and_fit() -> None:
    law = dataclasses.replace(LAW, labels=(2, 2))
    # Soundtracks of 10 s and more have room for two events of 2 s.
    assert {len(labels) for labels in draw(law, 200)[TRAIN]} == {2}


def test_clips_of_a_label_are_used_equally_often() -> None:
    settings = dataclasses.replace(SETTINGS, num_soundtracks=400, label_law=LAW)
    uses = collections.Counter(
        event.source for track in plan_soundtracks(AUDIBLE, [], settings) for event in track.events
    )
    for split, label in itertools.product((TRAIN, EVALUATION), LABELS):
        times = [uses[f"{split} {label} {take}"] for take in range(4)]
        assert max(times) - min(times) <= 1


@pytest.mark.parametrize("number", [1, 5])
def test_some_recordings_of_each_label_are_trained_on(number: int) -> None:
    kept, num_unused = limit_recordings(CLIPS, number, seed=1)

    assert len(kept) + num_unused == len(CLIPS)
    assert [clip for clip in kept if clip.split == EVALUATION] == [
        clip for clip in CLIPS if clip.split == EVALUATION
    ]
    recordings = {clip.origins for clip in kept if clip.split == TRAIN}
    assert len(recordings) == min(number, 2) * len(LABELS)
    assert {clip.labels for clip in kept if clip.split == TRAIN} == {(label,) for label in LABELS}
