"""The loss: cross-entropy of a sigmoid for every label (section 3.1)."""

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
    is_label = label_ids != NO_LABEL  # [batch, most labels]
    true_logits = tf.gather(logits, tf.where(is_label, label_ids, 0), batch_dims=1)
    true_logits = tf.where(is_label, true_logits, 0.0)
    if label_shares is not None:
        true_logits *= label_shares
    total = tf.reduce_sum(tf.nn.softplus(logits)) - tf.reduce_sum(true_logits)
    return total / tf.cast(tf.size(logits), tf.float32)
