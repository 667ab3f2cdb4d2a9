"""Rare labels more often, frequent ones less: copies of patches, drawn in the input stream."""

import numpy as np
import tensorflow as tf

from features.contracts import record

# Records that are looked at together: parsing them one by one takes 4 times as long.
_TOGETHER = 256


def copies_of_labels(counts: np.ndarray, balance: float) -> np.ndarray:
    """How often a patch of each label should be in an epoch.

    Falling with the label's count to the power of `balance`, and 1 on average: where every patch
    has one label an epoch keeps its length, and at a balance of 1 all labels are in it equally
    often.

    Args:
      counts: [labels], of videos that bear it.
      balance: from 0, which is 1 for all labels, to 1.

    Returns:
      float64 [labels].
    """
    counts = np.maximum(counts, 1)
    copies = (1.0 / counts) ** balance
    return copies / np.average(copies, weights=counts)


def balanced(records: tf.data.Dataset, copies: np.ndarray, seed: tf.Tensor) -> tf.data.Dataset:
    """Serialized records, each several times or not at all.

    A patch is there as often as the rarest of its labels demands (the repeat factors of LVIS: Gupta
    et al. 2019), rounded up or down at random so that the mean is right. One without any label of
    the set is there once.

    Args:
      records: serialized, in any order.
      copies: [labels] of the label set.
      seed: int64; what is rounded which way follows from it and from the order.

    Returns:
      Serialized records, copies after each other.
    """
    of_labels = tf.constant(copies, tf.float32)

    def resample(number: tf.Tensor, serialized: tf.Tensor) -> tf.Tensor:
        parsed = tf.io.parse_example(serialized, {record.LABELS: tf.io.VarLenFeature(tf.int64)})
        ids = tf.sparse.to_dense(parsed[record.LABELS], default_value=-1)  # [records, most labels]
        in_set = (ids >= 0) & (ids < len(copies))
        wanted = tf.where(in_set, tf.gather(of_labels, tf.where(in_set, ids, 0)), 0.0)
        expected = tf.where(
            tf.reduce_any(in_set, axis=1), tf.reduce_max(wanted, axis=1), 1.0
        )  # [records]
        chance = tf.random.stateless_uniform(tf.shape(expected), tf.stack([seed, number]))
        return tf.repeat(serialized, tf.cast(tf.floor(expected + chance), tf.int32))

    return records.batch(_TOGETHER).enumerate().map(resample).unbatch()
