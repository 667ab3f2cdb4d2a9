"""Examples and confusion against slow loops."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from evaluation.metrics import examples
from evaluation.metrics.selection import ScoredVideos
from features.ranking import Block

# As of a network whose labels are in an order of its own.
CONFUSED = examples.choose_confused(np.random.default_rng(2).integers(1, 9, 30))


def make_block(num_videos=60, num_classes=30, seed=3):
    rng = np.random.default_rng(seed)
    # Few values, so that ties abound.
    scores = rng.integers(0, 6, (num_videos, num_classes)).astype(np.float32) / 8
    truth = rng.random((num_videos, num_classes)) < 0.1
    truth[:, 4], truth[:, 5] = True, False
    ids = [f"v{number:03d}" for number in rng.permutation(num_videos)]
    return ids, scores, truth


def found(ids, scores, truth):
    videos = ScoredVideos(tuple(ids), ((),) * len(ids), Block(scores, *np.nonzero(truth)), ())
    return examples.find_examples(videos, CONFUSED[scores.shape[1] > CONFUSED])


def parts(ids, scores, truth, cuts):
    rows = np.split(np.arange(len(ids)), cuts)
    return [found([ids[row] for row in own], scores[own], truth[own]) for own in rows]


@pytest.mark.parametrize("cuts", [[], [1], [20, 40], [0, 7, 8, 8, 50]])
def test_examples_are_the_extremes_in_any_cut(cuts):
    ids, scores, truth = make_block()
    merged = examples.merge(reversed(parts(ids, scores, truth, cuts)))

    for label in range(scores.shape[1]):
        column = list(zip(scores[:, label].tolist(), ids, truth[:, label].tolist(), strict=True))
        hits = sorted((-score, name) for score, name, own in column if own)
        misses = sorted((score, name) for score, name, own in column if own)
        false_alarms = sorted((-score, name) for score, name, own in column if not own)
        for best, expected in (
            (merged.hits, hits),
            (merged.misses, misses),
            (merged.false_alarms, false_alarms),
        ):
            name = expected[0][1] if expected else ""
            assert best.video_ids[label] == name
            assert abs(best.scores[label]) == (abs(expected[0][0]) if expected else np.inf)


def test_each_video_answers_once_for_each_of_its_labels():
    ids, scores, truth = make_block()
    scores += np.random.default_rng(1).random(scores.shape, np.float32) / 100  # no ties
    size, confused = len(CONFUSED), CONFUSED.tolist()
    expected = np.zeros((size, size + 2), int)
    for values, own in zip(scores, truth, strict=True):
        top = values.argmax()
        for row, label in enumerate(confused):
            if not own[label]:
                continue
            if top == label:
                expected[row, row] += 1
            elif own[top]:
                expected[row, -2] += 1
            elif top in confused:
                expected[row, confused.index(top)] += 1
            else:
                expected[row, -1] += 1

    merged = examples.merge(parts(ids, scores, truth, [13, 31]))

    np.testing.assert_array_equal(merged.answers, expected)
    np.testing.assert_array_equal(merged.answers.sum(axis=1), truth[:, CONFUSED].sum(axis=0))


def test_the_most_frequent_labels_may_be_confused():
    counts = np.array([3, 0, 7, 7, 1])
    assert examples.choose_confused(counts).tolist() == [2, 3, 0, 4]
    falling = np.arange(1000)[::-1]
    assert examples.choose_confused(falling).tolist() == list(range(examples.MAX_CONFUSED))


def test_written_tables_hold_nulls_where_a_class_has_no_such_video(tmp_path):
    ids, scores, truth = make_block(num_classes=6)
    examples.write(found(ids, scores, truth), str(tmp_path))

    rows = pq.read_table(tmp_path / examples.EXAMPLES).to_pylist()
    confusion = pq.read_table(tmp_path / examples.CONFUSION).to_pylist()
    assert rows[4]["false_alarm"] is None  # all videos have the label
    assert rows[4]["false_alarm_score"] is None
    assert rows[5]["hit"] is rows[5]["miss_score"] is None
    assert 0 <= rows[4]["miss_score"] < rows[4]["hit_score"]
    assert [row["label"] for row in confusion] == CONFUSED[CONFUSED < 6].tolist()
    assert {len(row["answers"]) for row in confusion} == {len(confusion)}
