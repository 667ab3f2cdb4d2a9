import numpy as np
import pytest
import tensorflow as tf

from training.loops.loss import NO_LABEL, sigmoid_cross_entropy

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


@pytest.mark.parametrize("width", [0, 2])
def test_batch_without_labels(width: int) -> None:
    logits = tf.zeros([3, 4], tf.bfloat16)
    loss = sigmoid_cross_entropy(logits, tf.fill([3, width], NO_LABEL))
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)
