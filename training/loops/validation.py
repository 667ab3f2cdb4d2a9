"""Metrics during training: 1-best accuracy and mAP of single patches (section 3.1).

They differ from those of an evaluation, which scores whole videos of balanced sets (section 3.2).
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tf_keras

from features import ranking
from features.contracts.export import LOGITS
from features.front_end.front_end import PatchStorage
from training.input.batches import decode_patches
from training.loops.loss import NO_LABEL, sigmoid_cross_entropy, softmax_cross_entropy


@dataclasses.dataclass(frozen=True)
class ValidationMetrics:
    """Metrics of a validation subset; NaN without a labelled patch or a measurable class.

    Attributes:
      loss: the loss that training minimises.
      accuracy: share of the labelled patches whose highest score belongs to a true label.
      mean_average_precision: over classes that have both positive and negative patches.
      num_patches: of the subset.
      num_classes: classes that the mean is over.
    """

    loss: float
    accuracy: float
    mean_average_precision: float
    num_patches: int
    num_classes: int


def inference(
    model: tf_keras.Model, patch_storage: PatchStorage, *, softmax: bool = False
) -> Callable[[tf.Tensor], tf.Tensor]:
    """The model as a graph from stored patches to logits; with a softmax, to its logarithm.

    So the outputs of different patches rank as their scores do, and do not saturate.
    """

    @tf.function(reduce_retracing=True, autograph=False)
    def logits_of(patches: tf.Tensor) -> tf.Tensor:
        logits = model(decode_patches(patches, patch_storage), training=False)[LOGITS]
        return tf.nn.log_softmax(logits) if softmax else logits

    return logits_of


def validate(
    logits_of: Callable[[tf.Tensor], tf.Tensor], batches: tf.data.Dataset, *, softmax: bool = False
) -> ValidationMetrics:
    """Apply a model, made by `inference`, to `Batch`es and measure the logits."""
    loss_of = softmax_cross_entropy if softmax else sigmoid_cross_entropy
    logits, label_ids, losses = [], [], []
    for batch in batches:
        of_batch = logits_of(batch.patches)
        logits.append(of_batch.numpy())
        label_ids.append(batch.label_ids.numpy())
        losses.append(float(loss_of(of_batch, batch.label_ids)))
    loss = float(np.average(losses, weights=[len(ids) for ids in label_ids]))
    width = max(ids.shape[1] for ids in label_ids)
    padded = [
        np.pad(ids, [(0, 0), (0, width - ids.shape[1])], constant_values=NO_LABEL)
        for ids in label_ids
    ]
    return measure(np.concatenate(logits), np.concatenate(padded), loss=loss)


def measure(scores: np.ndarray, label_ids: np.ndarray, *, loss: float) -> ValidationMetrics:
    """The exact metrics of scores.

    Args:
      scores: float [patches, labels].
      label_ids: integers [patches, most labels of a patch], padded by NO_LABEL.
      loss: of these patches, which does not follow from the scores alone.
    """
    is_label = label_ids != NO_LABEL
    labelled = is_label.any(axis=1)
    hits = (label_ids == scores.argmax(axis=1)[:, None]).any(axis=1)
    block = ranking.Block(scores, np.nonzero(is_label)[0], label_ids[is_label])
    precisions = ranking.measure_classes(block).ap
    measurable = precisions[np.isfinite(precisions)]
    return ValidationMetrics(
        loss=loss,
        accuracy=float(hits[labelled].mean()) if labelled.any() else float("nan"),
        mean_average_precision=float(measurable.mean()) if measurable.size else float("nan"),
        num_patches=len(scores),
        num_classes=len(measurable),
    )
