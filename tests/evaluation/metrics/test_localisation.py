"""Which patches an event is in, and the metrics against scikit-learn."""

import numpy as np
import pytest
import sklearn.metrics

from evaluation.metrics.localisation import (
    Frames,
    active_patches,
    localise,
    read_events,
    summarise,
)
from features.contracts.labels import Vocabulary
from features.errors import InputError

VOCABULARY = Vocabulary(("dog", "rain"), ("Dog", "Rain"), np.array([2, 1]), 3)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0.0, 0.96, [True, False, False]),
        (0.0, 1.44, [True, True, False]),  # half of the second
        (0.0, 1.43, [True, False, False]),
        (0.48, 1.44, [True, True, False]),
        (1.0, 1.2, [False, True, False]),  # short, and wholly in the second
        (0.9, 1.0, [True, False, False]),  # most of it in the first
        (0.91, 1.01, [True, True, False]),  # half of it in each
        (0.0, 9.0, [True, True, True]),
        (5.0, 9.0, [False, False, False]),
    ],
)
def test_patches_that_an_event_is_in(start: float, end: float, expected: list[bool]) -> None:
    starts = np.array([0.0, 0.96, 1.92], np.float32)

    active = active_patches(starts, [(1, start, end)], patch_seconds=0.96, num_labels=2)

    assert active[:, 1].tolist() == expected
    assert not active[:, 0].any()


def test_metrics_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    video = np.repeat(np.arange(12), 10)
    active = (rng.random((120, 3)) < 0.3) & (rng.random((12, 3)) < 0.7)[video]
    active[:, 2] = False  # a label without an event
    scores = (rng.normal(size=(120, 3)) + active).astype(np.float32)

    frames = Frames(video, scores, active)
    classes = localise(frames)

    for label in range(2):
        mean = np.array([scores[video == number, label].mean() for number in range(12)], np.float32)
        rows = np.array([active[video == number, label].any() for number in video])
        ap = sklearn.metrics.average_precision_score
        own, truth = scores[:, label], active[:, label]
        assert classes.patches.ap[label] == pytest.approx(ap(truth, own), abs=1e-9)
        assert classes.ap_of_soundtrack[label] == pytest.approx(ap(truth, mean[video]), abs=1e-9)
        assert classes.ap_within[label] == pytest.approx(ap(truth[rows], own[rows]), abs=1e-9)
        assert classes.prior_within[label] == pytest.approx(truth[rows].mean())
    assert np.isnan(classes.ap_within[2])
    document = summarise(frames, classes, scores="", events="", num_missing=1)
    assert (document.num_videos, document.num_missing, document.num_patches) == (12, 1, 120)
    assert document.num_classes_evaluated == 2
    assert document.mean_ap > document.mean_ap_of_soundtrack > document.prior_mean_ap


def test_scores_that_know_what_and_not_when_are_chance_within() -> None:
    video = np.repeat(np.arange(4), 5)
    active = np.zeros((20, 1), bool)
    active[[0, 1, 5], 0] = True
    scores = (video < 2).astype(np.float32)[:, None]

    frames = Frames(video, scores, active)
    document = summarise(frames, localise(frames), scores="", events="", num_missing=0)

    assert document.mean_ap == document.mean_ap_of_soundtrack == pytest.approx(0.3)
    assert document.mean_ap_within == document.prior_mean_ap_within == pytest.approx(0.3)


def test_labels_that_are_always_active_cannot_be_localised() -> None:
    frames = Frames(np.zeros(3, int), np.eye(3, 1, dtype=np.float32), np.ones((3, 1), bool))

    with pytest.raises(InputError, match="no label is active in some patches"):
        summarise(frames, localise(frames), scores="", events="", num_missing=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,label,start\na,dog,0\n", "no column 'end'"),
        ("id,label,start,end\na,cat,0,1\n", "1 labels have no scores: 'cat'"),
        ("id,label,start,end\na,dog,1,1\n", "start 1 and end 1 of 'a'; expected 0 <= start"),
        ("", "cannot be read"),
    ],
)
def test_events_that_cannot_be_used_are_refused(tmp_path, text: str, message: str) -> None:
    path = tmp_path / "events.csv"
    path.write_text(text)

    with pytest.raises(InputError, match=message):
        read_events(str(path), VOCABULARY)


def test_events_are_read_from_any_of_three_formats(tmp_path) -> None:
    csv, lines = tmp_path / "events.csv", tmp_path / "events.jsonl"
    csv.write_text("id,label,start,end\na,dog,0,1.5\na,rain,1,2\n")
    lines.write_text(
        '{"id": "a", "label": "dog", "start": 0, "end": 1.5}\n'
        '{"id": "a", "label": "rain", "start": 1, "end": 2}\n'
    )

    for path in (csv, lines):
        assert read_events(str(path), VOCABULARY) == {"a": [(0, 0, 1.5), (1, 1, 2)]}
