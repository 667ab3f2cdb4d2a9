import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from sklearn.metrics import average_precision_score, log_loss

from features.contracts.export import LOGITS
from features.front_end.front_end import PatchStorage
from training.input.batches import Batch
from training.loops.loss import NO_LABEL
from training.loops.validation import inference, measure, validate

NUM_PATCHES, NUM_LABELS = 300, 12


def random_case(*, tied: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, padded label ids, the same labels as a dense matrix. Class 0 has no positive."""
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(NUM_PATCHES, NUM_LABELS)).astype(np.float32)
    if tied:
        scores = np.round(scores)
    dense = rng.random((NUM_PATCHES, NUM_LABELS)) < 0.2
    dense[:, 0] = False
    dense[:, 1] = True
    dense[:, 2] = np.arange(NUM_PATCHES) == 5
    label_ids = np.full((NUM_PATCHES, NUM_LABELS + 2), NO_LABEL, np.int32)
    for row, truth in enumerate(dense):
        ids = np.flatnonzero(truth)
        label_ids[row, : len(ids)] = ids
    return scores, label_ids, dense


@pytest.mark.parametrize("tied", [False, True])
def test_average_precision_equals_scikit_learn(tied: bool) -> None:
    scores, label_ids, dense = random_case(tied=tied)
    theirs = [
        average_precision_score(dense[:, label], scores[:, label]) for label in range(2, NUM_LABELS)
    ]
    metrics = measure(scores, label_ids, loss=0.0)
    np.testing.assert_allclose(metrics.mean_average_precision, np.mean(theirs), rtol=1e-12)
    assert metrics.num_classes == NUM_LABELS - 2  # without positives; without negatives


def test_accuracy_is_over_labelled_patches() -> None:
    scores = np.array([[1.0, 2.0], [1.0, 2.0], [3.0, 2.0], [0.0, 1.0]])
    label_ids = np.array([[0, 1], [0, -1], [0, -1], [-1, -1]])
    assert measure(scores, label_ids, loss=0.0).accuracy == pytest.approx(2 / 3)


def test_nothing_to_measure_is_nan() -> None:
    metrics = measure(np.zeros((2, 3)), np.full((2, 0), NO_LABEL), loss=0.0)
    assert np.isnan([metrics.accuracy, metrics.mean_average_precision]).all()


def test_a_softmax_ranks_by_its_scores_and_has_its_loss() -> None:
    """By logits, which rank the patches of a class otherwise, the mAP would not be 1."""
    logits = np.array([[1.0, 0.0], [5.0, 9.0]], np.float32)
    batch = Batch(logits, np.array([[0], [1]]), np.full(2, b"video"), np.zeros([2, 0], np.float32))
    batches = tf.data.Dataset.from_tensors(batch)
    inputs = tf_keras.Input(2)
    model = tf_keras.Model(inputs, {LOGITS: tf_keras.layers.Activation("linear")(inputs)})
    storage = PatchStorage(dtype="float16")

    metrics = validate(inference(model, storage, softmax=True), batches, softmax=True)

    assert (metrics.mean_average_precision, metrics.accuracy) == (1.0, 1.0)
    expected = np.mean([np.log1p(np.exp(-1.0)), np.log1p(np.exp(-4.0))])
    assert metrics.loss == pytest.approx(expected, rel=1e-6)
    by_logits = validate(inference(model, storage), batches)
    assert by_logits.mean_average_precision == pytest.approx(0.75)


def test_loss_of_batches_of_other_sizes_equals_scikit_learn() -> None:
    logits, label_ids, dense = random_case(tied=False)
    names = np.full(NUM_PATCHES, b"video")
    no_draws = np.zeros([NUM_PATCHES, 0], np.float32)
    batch = Batch(logits, label_ids, names, no_draws)
    batches = tf.data.Dataset.from_tensor_slices(batch).batch(128)
    metrics = validate(tf.identity, batches)
    scores = 1 / (1 + np.exp(-logits.astype(np.float64)))
    expected = log_loss(dense.ravel(), scores.ravel())
    assert metrics.loss == pytest.approx(expected, rel=1e-6)
    assert metrics == measure(logits, label_ids, loss=metrics.loss)
