import collections
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from features.contracts import record
from training import recipes
from training.config import Options
from training.input.batches import open_features, training_batches
from training.input.label_balance import balanced, copies_of_labels

COUNTS = np.array([4_000, 1_000, 250, 50])


def serialized(labels: tuple[int, ...]) -> bytes:
    return record.encode(record.PatchRecord("video", b"", 0.0, labels))


def test_labels_are_equally_frequent_and_an_epoch_keeps_its_length() -> None:
    copies = copies_of_labels(COUNTS, 1.0)
    np.testing.assert_allclose(copies * COUNTS, COUNTS.sum() / 4)
    np.testing.assert_array_equal(copies_of_labels(COUNTS, 0.0), 1.0)
    half = copies_of_labels(COUNTS, 0.5)
    assert (half * COUNTS).sum() == pytest.approx(COUNTS.sum())
    np.testing.assert_allclose(half[0] / half[1], np.sqrt(1_000 / 4_000))


def test_copies_are_drawn_as_often_as_the_rarest_label_demands() -> None:
    copies = np.array([0.3, 1.0, 2.6])
    kinds = [(0,), (1,), (2,), (0, 2), (), (3,)]  # label 3 is not of the set
    expected = np.array([0.3, 1.0, 2.6, 2.6, 1.0, 1.0])
    examples = [serialized(labels) for labels in kinds] * 2_000
    records = tf.data.Dataset.from_tensor_slices(examples)

    def drawn() -> list[bytes]:
        all_records = balanced(records, copies, tf.constant(9, tf.int64)).batch(20_000)
        [batch] = all_records.as_numpy_iterator()
        return list(batch)

    found = drawn()
    counts = collections.Counter(found)
    share = np.array([counts[serialized(labels)] for labels in kinds]) / 2_000
    np.testing.assert_allclose(share, expected, atol=0.055)  # 5 deviations of the rounding
    assert share[1] == share[4] == share[5] == 1
    assert drawn() == found


def test_batches_of_a_recipe_that_balances(features_folder: Path) -> None:
    features = open_features(str(features_folder), num_labels=None)
    features = dataclasses.replace(
        features,
        vocabulary=dataclasses.replace(features.vocabulary, counts=np.array([900, 1, 1, 1, 1, 1])),
    )
    recipe = dataclasses.replace(
        recipes.fully_connected(), batch_size=100, options=Options(label_balance=1.0)
    )
    with_label_0_alone, rows = 0, 0
    for batch in training_batches(features, recipe, step=0).take(5):
        labels = [set(row) - {-1} for row in batch.label_ids.numpy().tolist()]
        with_label_0_alone += labels.count({0})
        rows += len(labels)
    assert rows == 500
    assert with_label_0_alone <= 3  # where each is there once in a thousand epochs
