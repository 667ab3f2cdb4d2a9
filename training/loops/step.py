"""One training step on one device, the same in both loops."""

import re
from collections.abc import Callable, Sequence

import tensorflow as tf
import tf_keras

from features.contracts.export import EMBEDDING, LOGITS
from features.errors import DIVERGED, InputError, JobFailedError
from features.front_end.front_end import FrontEnd
from features.front_end.params import LogMelParams
from training.config import Options, Recipe
from training.distributed.watchdog import LostPeerError
from training.input.augmentation import Examples, augment
from training.input.batches import Batch, FeatureSet, decode_patches
from training.loops.loss import sigmoid_cross_entropy, softmax_cross_entropy
from training.models.build import build_model
from training.models.layers import move_statistics

# Mark the text of a failed step within the message of TensorFlow.
_OPEN, _CLOSE = "<<", ">>"
NOT_FINITE = "not finite in"  # start of the message of `NotFiniteError`
# Errors of TensorFlow when a process that it needs is gone, or was replaced and lost its state.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
)


class NotFiniteError(JobFailedError):
    """The loss, an activation or a gradient is not finite any more."""

    exit_code = DIVERGED


def fresh_model(recipe: Recipe, features: FeatureSet) -> tf_keras.Model:
    """The network of a recipe, with initial weights drawn from the seed."""
    tf_keras.utils.set_random_seed(recipe.seed)
    return build_model(
        recipe.model,
        num_labels=len(features.vocabulary),
        patch_shape=_input_shape(recipe, features.front_end.patch_shape),
        precision=recipe.precision,
        band_statistics=features.band_statistics,
    )


def _input_shape(recipe: Recipe, patch_shape: tuple[int, ...]) -> tuple[int | None, ...]:
    """The shape of the input; of any number of frames if training crops patches."""
    return (None, *patch_shape[1:]) if recipe.options.crop_seconds else patch_shape


def average_model(recipe: Recipe, features: FeatureSet) -> tf_keras.Model | None:
    """The network that holds the average of the weights; None if the recipe averages none.

    Created outside the scope of a strategy: one copy is enough, wherever the weights are.
    """
    return fresh_model(recipe, features) if recipe.options.average_decay else None


def require_fit(recipe: Recipe, features: FeatureSet) -> None:
    """Make sure that the network of a recipe takes the patches.

    Raises:
      InputError: the network needs larger patches, or patches and not embeddings.
    """
    shape = features.front_end.patch_shape
    if recipe.options.augments and features.front_end.embedding is not None:
        raise InputError(
            f"{features.folder} holds embeddings, which cannot be augmented as patches are; set "
            "the options of the recipe that augment to 0 (docs/training.md)"
        )
    crop = recipe.options.crop_seconds
    if crop > features.front_end.patch_seconds:
        raise InputError(
            f"crop_seconds is {crop:g}, and the patches of {features.folder} have "
            f"{features.front_end.patch_seconds:g} s; set less, or extract longer patches "
            "with --patch-frames"
        )
    if shape == LogMelParams().patch_shape:
        return  # which every network takes; building one may take seconds
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
    """A function from the part of a batch on a device to its loss, to be called in a graph.

    The optimizer sums the gradients of the devices that share a batch, which gives the gradient of
    the mean loss of the whole batch. If the loss, an activation or a gradient is not finite, the
    step fails before it changes the weights, so that they can still be saved.
    """
    loss_of = softmax_cross_entropy if options.softmax else sigmoid_cross_entropy

    def step(batch: Batch) -> tf.Tensor:
        num_parts = tf.distribute.get_replica_context().num_replicas_in_sync
        patches = decode_patches(batch.patches, front_end.storage)
        examples = Examples(patches, batch.label_ids, label_shares=None)
        if options.augments:
            examples = augment(patches, batch.label_ids, batch.draws, options, front_end.log_mel)
        with tf.GradientTape() as tape:
            outputs = model(examples.patches, training=True)
            loss = loss_of(outputs[LOGITS], examples.label_ids, examples.label_shares)
            part_of_loss = loss / num_parts
        # bfloat16 has the exponents of float32: gradients do not underflow, and need no loss scale.
        weights = model.trainable_variables
        gradients = tape.gradient(part_of_loss, weights)
        check = _require_finite(
            loss, outputs[EMBEDDING], gradients, optimizer.iterations + 1, batch.video_ids
        )
        with tf.control_dependencies([check]):
            gradients = [tf.identity(gradient) for gradient in gradients]
            move_statistics(model, optimizer.iterations)
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
    """An operation that fails, naming the step and its videos, unless all values are finite.

    A sum is finite only if all its terms are, and reads each once.
    """
    activations = tf.reduce_sum(tf.abs(embedding))
    gradient = tf.add_n([tf.reduce_sum(gradient) for gradient in gradients])
    sums = tf.strings.format(
        "step {}: loss {}, sum of activations {}, of gradients {}; its videos: ",
        (step, loss, activations, gradient),
    )
    names = tf.strings.reduce_join(tf.unique(video_ids).y, separator=", ")
    text = tf.strings.join([_OPEN, sums, names, _CLOSE])
    return tf.debugging.Assert(tf.math.is_finite(loss + activations + gradient), [text])


def failure_of(error: tf.errors.OpError, saved_step: int) -> Exception:
    """The error to show for an error in a step; bugs are returned as they are."""
    saved = f"the last checkpoint is of step {saved_step}"
    if isinstance(error, _LOST):
        return LostPeerError(
            f"lost another process of the cluster ({type(error).__name__}); {saved}; "
            "run the same command again to resume from there"
        )
    found = re.search(f"{_OPEN}(.*?){_CLOSE}", error.message, re.DOTALL)
    if found is None:
        return error
    return NotFiniteError(
        f"{NOT_FINITE} {found[1]}; {saved}; train into another folder with a lower "
        "--learning-rate, or look at these videos"
    )
