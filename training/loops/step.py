"""One step of training on one device; the loops differ only in who calls it, and when."""

import re
from collections.abc import Callable, Sequence

import tensorflow as tf
import tf_keras

from features.errors import InputError, JobFailedError
from features.front_end.front_end import FrontEnd
from features.front_end.params import LogMelParams
from training.config import Options, Recipe
from training.distributed.watchdog import LostPeerError
from training.input.augmentation import Examples, augment
from training.input.batches import Batch, FeatureSet, decode_patches
from training.loops.loss import sigmoid_cross_entropy
from training.models.build import build_model

# Around the text of a failed step, among what TensorFlow adds to it.
_OPEN, _CLOSE = "<<", ">>"
# What TensorFlow says where a process that it needs is gone, or is a new one without the state.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
)


class NotFiniteError(JobFailedError):
    """The loss, an activation or a gradient is not finite any more."""


def fresh_model(recipe: Recipe, features: FeatureSet) -> tf_keras.Model:
    """The network of a recipe, with weights drawn from its seed."""
    tf_keras.utils.set_random_seed(recipe.seed)
    return build_model(
        recipe.model,
        num_labels=len(features.vocabulary),
        patch_shape=features.front_end.patch_shape,
        precision=recipe.precision,
        band_statistics=features.band_statistics,
    )


def average_model(recipe: Recipe, features: FeatureSet) -> tf_keras.Model | None:
    """The network that holds the average of the weights; None where a recipe has none.

    Not in the scope of a strategy: one copy is enough, whoever has parts of the weights.
    """
    return fresh_model(recipe, features) if recipe.options.average_decay else None


def require_fit(recipe: Recipe, features: FeatureSet) -> None:
    """Make sure that the network of a recipe takes the patches.

    Raises:
      InputError: it is made for larger images, or for images and not for embeddings.
    """
    shape = features.front_end.patch_shape
    if recipe.options.augments and features.front_end.embedding is not None:
        raise InputError(
            f"{features.folder} holds embeddings, which cannot be shifted, mixed or masked as "
            "patches are; leave out the options of the recipe that do so"
        )
    if shape == LogMelParams().patch_shape:
        return  # all do, and building one may take seconds
    try:
        fresh_model(recipe, features)
    except ValueError as error:
        raise InputError(
            f"{recipe.model.network} cannot take the patches of {features.folder}, whose shape is "
            f"{shape}; train a fully connected network on them, such as the recipe fully_connected"
        ) from error


def replica_step(
    model: tf_keras.Model,
    optimizer: tf_keras.optimizers.Optimizer,
    front_end: FrontEnd,
    options: Options,
) -> Callable[[Batch], tf.Tensor]:
    """A function of a device's part of a batch, to be called in a graph: it returns the loss.

    The optimizer adds up the gradients of the devices that share a batch; they add up to those of
    the mean loss of the whole batch. Where something is not finite the step fails before it
    changes a weight, so that the weights stay worth saving.
    """

    def step(batch: Batch) -> tf.Tensor:
        num_parts = tf.distribute.get_replica_context().num_replicas_in_sync
        patches = decode_patches(batch.patches, front_end.storage)
        examples = Examples(patches, batch.label_ids, label_shares=None)
        if options.augments:
            examples = augment(patches, batch.label_ids, batch.draws, options, front_end.log_mel)
        with tf.GradientTape() as tape:
            outputs = model(examples.patches, training=True)
            loss = sigmoid_cross_entropy(
                outputs["logits"], examples.label_ids, examples.label_shares
            )
            part_of_loss = loss / num_parts
        # bfloat16 has the exponents of float32: gradients do not vanish, and need no loss scale.
        weights = model.trainable_variables
        gradients = tape.gradient(part_of_loss, weights)
        check = _require_finite(
            loss, outputs["embedding"], gradients, optimizer.iterations + 1, batch.video_ids
        )
        with tf.control_dependencies([check]):
            gradients = [tf.identity(gradient) for gradient in gradients]
        optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return loss

    return step


def _require_finite(
    loss: tf.Tensor,
    embedding: tf.Tensor,
    gradients: Sequence[tf.Tensor],
    step: tf.Tensor,
    video_ids: tf.Tensor,
) -> tf.Operation:
    """An operation that fails, with the step and its videos, unless all of them are finite.

    A sum is finite only where all its terms are, and reads them once.
    """
    activations = tf.reduce_sum(tf.abs(embedding))
    gradient = tf.add_n([tf.reduce_sum(gradient) for gradient in gradients])
    figures = tf.strings.format(
        "step {}: loss {}, sum of activations {}, of gradients {}; its videos: ",
        (step, loss, activations, gradient),
    )
    names = tf.strings.reduce_join(tf.unique(video_ids).y, separator=", ")
    text = tf.strings.join([_OPEN, figures, names, _CLOSE])
    return tf.debugging.Assert(tf.math.is_finite(loss + activations + gradient), [text])


def failure_of(error: tf.errors.OpError, saved_step: int) -> Exception:
    """What a person is told of an error in a step; bugs stay as they are."""
    goes_on = f"the last checkpoint is of step {saved_step}"
    if isinstance(error, _LOST):
        return LostPeerError(
            f"lost another process of the cluster ({type(error).__name__}); {goes_on}; "
            "run the same command again to go on from there"
        )
    found = re.search(f"{_OPEN}(.*?){_CLOSE}", error.message, re.DOTALL)
    if found is None:
        return error
    return NotFiniteError(
        f"not finite in {found[1]}; {goes_on}; train into another folder with a lower "
        "--learning-rate, or look at these videos"
    )
