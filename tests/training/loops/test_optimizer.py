import dataclasses

import numpy as np
import tensorflow as tf
import tf_keras

from training import recipes
from training.config import Options
from training.loops.optimizer import adam


def test_kernels_decay_beside_the_update_of_adam() -> None:
    """Algorithm 2 of Loshchilov and Hutter; without decay, Keras's own Adam."""
    recipe = dataclasses.replace(
        recipes.resnet50(), learning_rate=0.5, options=Options(weight_decay=0.1)
    )
    start = {"kernel": np.array([[1.0, -2.0]], np.float32), "bias": np.array([3.0], np.float32)}
    gradients = np.random.default_rng(1).normal(size=(4, 2)).astype(np.float32)
    weights = {name: tf.Variable(value) for name, value in start.items()}
    optimizer = adam(recipe, list(weights.values()))
    plain = {name: tf.Variable(value) for name, value in start.items()}
    kerass = tf_keras.optimizers.legacy.Adam(0.5)
    kernel, first, second = start["kernel"].astype(np.float64), 0.0, 0.0
    for step, gradient in enumerate(gradients, start=1):
        both = [gradient[None], gradient[:1]]
        optimizer.apply_gradients(zip(map(tf.constant, both), weights.values(), strict=True))
        kerass.apply_gradients(zip(map(tf.constant, both), plain.values(), strict=True))
        first = 0.9 * first + 0.1 * gradient[None]
        second = 0.999 * second + 0.001 * np.square(gradient[None])
        corrected = np.sqrt(second / (1 - 0.999**step)) + 1e-7
        kernel = kernel - 0.5 * (first / (1 - 0.9**step) / corrected + 0.1 * kernel)
    np.testing.assert_allclose(weights["kernel"], kernel, rtol=1e-4)
    np.testing.assert_array_equal(weights["bias"], plain["bias"])
    assert not np.allclose(weights["kernel"], plain["kernel"])
