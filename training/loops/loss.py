"""The loss: cross-entropy of a sigmoid for every label (section 3.1), or of one softmax."""

import tensorflow as tf

from training.input.batches import NO_LABEL


def sigmoid_cross_entropy(
    logits: tf.Tensor, label_ids: tf.Tensor, label_shares: tf.Tensor | None = None
) -> tf.Tensor:
    """Mean cross-entropy over patches and labels, without a dense matrix of targets.

    -y log p - (1 - y) log(1 - p) is softplus(z) - y z, so only the logits of true labels need
    targets. At 30,871 labels dense targets would cost more than the rest of the input.

    Args:
      logits: [batch, labels].
      label_ids: integers [batch, most labels of a patch], padded by NO_LABEL.
      label_shares: float32 of the same shape, the share that each id adds to the target y of its
        label; None for 1, with each id at most once in a row.

    Returns:
      float32 scalar.
    """
    logits = tf.cast(logits, tf.float32)
    true_logits = _of_labels(logits, label_ids, label_shares)
    total = tf.reduce_sum(tf.nn.softplus(logits)) - tf.reduce_sum(true_logits)
    return total / tf.cast(tf.size(logits), tf.float32)


def softmax_cross_entropy(
    logits: tf.Tensor, label_ids: tf.Tensor, label_shares: tf.Tensor | None = None
) -> tf.Tensor:
    """Mean cross-entropy over patches, for labels of which each patch has one.

    A patch of several labels counts once for each of them, and a patch without a label adds 0.

    Args:
      logits: [batch, labels].
      label_ids: as of `sigmoid_cross_entropy`.
      label_shares: likewise.

    Returns:
      float32 scalar.
    """
    scores = tf.nn.log_softmax(tf.cast(logits, tf.float32))
    return -tf.reduce_mean(tf.reduce_sum(_of_labels(scores, label_ids, label_shares), axis=1))


def _of_labels(
    values: tf.Tensor, label_ids: tf.Tensor, label_shares: tf.Tensor | None
) -> tf.Tensor:
    """The values [batch, labels] of the true labels, times their shares; 0 in the padding."""
    is_label = label_ids != NO_LABEL  # [batch, most labels]
    of_labels = tf.gather(values, tf.where(is_label, label_ids, 0), batch_dims=1)
    of_labels = tf.where(is_label, of_labels, 0.0)
    return of_labels if label_shares is None else of_labels * label_shares
