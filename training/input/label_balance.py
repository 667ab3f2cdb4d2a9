"""Label balancing: patches of rare labels are repeated, patches of frequent labels dropped."""

import numpy as np
import tensorflow as tf

from features.contracts import record

# Parsing records one by one takes 4 times as long.
_RECORDS_PARSED_TOGETHER = 256


def copies_of_labels(counts: np.ndarray, balance: float) -> np.ndarray:
    """How often an epoch should have each patch of a label.

    Proportional to 1 / count^balance, and 1 on average: if every patch has one label, an epoch
    keeps its length, and at a balance of 1 it has all labels equally often.

    Args:
      counts: [labels], videos that have the label.
      balance: from 0, which gives 1 for all labels, to 1.

    Returns:
      float64 [labels].
    """
    counts = np.maximum(counts, 1)
    copies = (1.0 / counts) ** balance
    return copies / np.average(copies, weights=counts)


def balanced(records: tf.data.Dataset, copies: np.ndarray, seed: tf.Tensor) -> tf.data.Dataset:
    """Repeat or drop serialized records.

    A record is repeated as its rarest label demands (the repeat factors of LVIS: Gupta et al.
    2019), rounded up or down at random so that the mean is right. A record without a label of the
    set is kept once.

    Args:
      records: serialized, in any order.
      copies: [labels] of the label set.
      seed: int64; the rounding follows from the seed and the order of the records.

    Returns:
      Serialized records; copies follow each other.
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
        draws = tf.random.stateless_uniform(tf.shape(expected), tf.stack([seed, number]))
        return tf.repeat(serialized, tf.cast(tf.floor(expected + draws), tf.int32))

    return records.batch(_RECORDS_PARSED_TOGETHER).enumerate().map(resample).unbatch()
