"""Plans of demo corpora of the full size are examined, and a few soundtracks are rendered."""

from collections import Counter

import numpy as np
import pytest

from pipelines.corpus.mixing import mix
from pipelines.corpus.synthetic_corpus import (
    MAX_LABELS,
    assign_splits,
    list_classes,
    plan_corpus,
    plan_soundtracks,
)
from pipelines.corpus.synthetic_sounds import SOUND_CLASSES


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_splits_share_the_list_classes_a_full_corpus(seed):
    soundtracks = plan_soundtracks(seed=seed, count=64)
    splits = assign_splits(soundtracks)
    assert Counter(splits) == {"train": 38, "validation": 8, "evaluation": 18}

    counts = {split: Counter() for split in splits}
    for soundtrack, split in zip(soundtracks, splits, strict=True):
        counts[split].update(list_classes(soundtrack))
    for sound_class in SOUND_CLASSES:
        assert counts["evaluation"][sound_class.name] >= 2
        assert counts["train"][sound_class.name] > counts["evaluation"][sound_class.name]


def test_a_longer_corpus_begins_with_the_shorter_corpus():
    shorter = plan_soundtracks(seed=1, count=10)
    assert plan_soundtracks(seed=1, count=20)[:10] == shorter


def test_render_is_finite_unclipped_and_audible():
    for soundtrack in plan_soundtracks(seed=4, count=6):
        samples = mix(soundtrack)
        assert np.isfinite(samples).all()
        assert np.abs(samples).max() <= 0.9001
        assert 0.01 < samples.std() < 0.2


def test_a_plan_has_the_assigned_splits_and_at_most_four_labels():
    soundtracks = plan_corpus(seed=1, count=20)
    splits = assign_splits(plan_soundtracks(seed=1, count=20))
    assert [soundtrack.split for soundtrack in soundtracks] == splits
    assert all(1 <= len(soundtrack.labels) <= MAX_LABELS for soundtrack in soundtracks)


def test_the_smallest_corpus_has_all_splits():
    assert sorted(assign_splits(plan_soundtracks(seed=1, count=3))) == [
        "evaluation",
        "train",
        "validation",
    ]
