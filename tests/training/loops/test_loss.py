import numpy as np
import pytest
import tensorflow as tf

from training.loops.loss import NO_LABEL, sigmoid_cross_entropy, softmax_cross_entropy

LABEL_IDS = [[0, 3, 6], [2, NO_LABEL, NO_LABEL], [NO_LABEL] * 3, [1, 5, NO_LABEL]]


def test_equals_the_dense_cross_entropy_in_value_and_gradient() -> None:
    logits = tf.constant(np.random.default_rng(0).normal(0, 20, (4, 7)), tf.float32)
    dense = np.zeros((4, 7), np.float32)
    for row, ids in enumerate(LABEL_IDS):
        dense[row, [i for i in ids if i != NO_LABEL]] = 1
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        ours = sigmoid_cross_entropy(logits, tf.constant(LABEL_IDS))
        theirs = tf.reduce_mean(
            tf.nn.sigmoid_cross_entropy_with_logits(labels=dense, logits=logits)
        )
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    np.testing.assert_allclose(
        tape.gradient(ours, logits), tape.gradient(theirs, logits), atol=1e-7
    )


def test_softmax_equals_the_dense_cross_entropy_in_value_and_gradient() -> None:
    rng = np.random.default_rng(1)
    logits = tf.constant(rng.normal(0, 20, (3, 5)), tf.float32)
    label_ids = [[4, 1], [2, NO_LABEL], [3, 3]]
    shares = np.array([[0.3, 0.7], [1.0, 0.0], [0.6, 0.4]], np.float32)
    dense = np.array([[0, 0.7, 0, 0, 0.3], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0]], np.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        ours = softmax_cross_entropy(logits, tf.constant(label_ids), tf.constant(shares))
        theirs = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(dense, logits))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    np.testing.assert_allclose(
        tape.gradient(ours, logits), tape.gradient(theirs, logits), atol=1e-7
    )
    # Without a label a patch adds nothing, with two it counts twice.
    scores = np.log(tf.nn.softmax(tf.constant([[1.0, 2.0, 3.0]]), axis=1))[0]
    found = softmax_cross_entropy(
        tf.constant([[1.0, 2.0, 3.0]] * 2), tf.constant([[NO_LABEL, NO_LABEL], [0, 2]])
    )
    np.testing.assert_allclose(found, -(scores[0] + scores[2]) / 2, rtol=1e-6)


@pytest.mark.parametrize("width", [0, 2])
def test_batch_without_labels(width: int) -> None:
    logits = tf.zeros([3, 4], tf.bfloat16)
    loss = sigmoid_cross_entropy(logits, tf.fill([3, width], NO_LABEL))
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)
