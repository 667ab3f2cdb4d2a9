"""Training and inference steps of the networks, as graphs on data in memory.

Functions import TensorFlow themselves, because `batch_norm` first decides which Keras the networks
use.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

NUM_LABELS, LABELS_PER_PATCH = 3_087, 5
PATCH_SHAPE = (96, 64)
# Operations of training over those of inference: the gradients of the inputs and those of the
# weights each cost as much as the forward pass.
TRAINING_OVER_INFERENCE = 3
# Of the speed of a product of two large matrices, which is not quite the fastest one.
LARGEST_SHARE = 1.25


def batch(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-mel float32 [size, 96, 64] and label ids int64 [size, 5]."""
    rng = np.random.default_rng(0)
    ids = [rng.choice(NUM_LABELS, LABELS_PER_PATCH, replace=False) for _ in range(size)]
    return rng.normal(-2, 1, (size, *PATCH_SHAPE)).astype(np.float32), np.sort(ids)


def build(recipe_name: str, precision: str) -> Any:
    """The network of a recipe, for 3,087 labels."""
    from training import recipes
    from training.models.build import build_model

    return build_model(
        recipes.find_recipe(recipe_name).model,
        num_labels=NUM_LABELS,
        patch_shape=PATCH_SHAPE,
        precision=precision,  # type: ignore[arg-type]
    )


def training_step(model: Any, optimizer: Any, size: int) -> Callable[[], tuple[Any, Any]]:
    """A step that always trains on the same batch; returns the loss and the logits."""
    import tensorflow as tf

    from training.loops.loss import sigmoid_cross_entropy
    from training.models.layers import move_statistics

    patches, label_ids = (tf.constant(array) for array in batch(size))
    # Keras 3 wraps TensorFlow's variables.
    variables = [
        variable if isinstance(variable, tf.Variable) else variable.value
        for variable in model.trainable_variables
    ]

    @tf.function
    def step() -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            logits = model(patches, training=True)["logits"]
            loss = sigmoid_cross_entropy(logits, label_ids)
        gradients = tape.gradient(loss, variables)
        move_statistics(model, tf.constant(100))
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss, logits

    return step


def inference_step(model: Any, size: int) -> Callable[[], Any]:
    """A step that infers the logits of a batch."""
    import tensorflow as tf

    patches = tf.constant(batch(size)[0])
    return tf.function(lambda: model(patches, training=False)["logits"])
