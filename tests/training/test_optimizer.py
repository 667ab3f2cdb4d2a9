"""The learning rate, decoupled weight decay and the average of the weights, in closed form."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from training import recipes
from training.averaging import averaging, whole
from training.config import Options, Recipe
from training.optimizer import adam
from training.schedule import LearningRate


def recipe_with(**options: float) -> Recipe:
    return dataclasses.replace(
        recipes.resnet50(), steps=100, learning_rate=0.5, options=Options(**options)
    )


def test_rate_rises_then_falls_along_a_cosine() -> None:
    rate = LearningRate(recipe_with(warm_up=0.2, cosine=True))
    rising = [float(rate(step)) for step in range(20)]
    np.testing.assert_allclose(rising, 0.5 * np.arange(1, 21) / 20, rtol=1e-6)
    falling = [float(rate(step)) for step in range(20, 101)]
    angles = np.pi * np.arange(81) / 80
    np.testing.assert_allclose(falling, 0.25 * (1 + np.cos(angles)), atol=1e-7)
    assert float(rate(1_000)) == pytest.approx(0.0, abs=1e-7)


def test_rate_stays_where_nothing_else_is_asked_for() -> None:
    assert [float(LearningRate(recipe_with())(step)) for step in (0, 50, 100)] == [0.5] * 3
    assert float(LearningRate(recipe_with(warm_up=0.2))(100)) == 0.5


def test_kernels_decay_beside_the_update_of_adam() -> None:
    """Algorithm 2 of Loshchilov and Hutter; without decay, Keras's own Adam."""
    start = {"kernel": np.array([[1.0, -2.0]], np.float32), "bias": np.array([3.0], np.float32)}
    gradients = np.random.default_rng(1).normal(size=(4, 2)).astype(np.float32)
    weights = {name: tf.Variable(value) for name, value in start.items()}
    optimizer = adam(recipe_with(weight_decay=0.1), list(weights.values()))
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


def model_of(value: float) -> tf_keras.Model:
    inputs = tf_keras.Input((2,))
    outputs = tf_keras.layers.BatchNormalization()(tf_keras.layers.Dense(3)(inputs))
    model = tf_keras.Model(inputs, outputs)
    model.set_weights([np.full(weight.shape, value, np.float32) for weight in model.weights])
    return model


def test_average_takes_up_every_weight_for_as_many_steps_as_went_by() -> None:
    average, model = model_of(0.0), model_of(1.0)
    take_up = averaging(average, model, decay=0.95)
    expected = 0.0
    for step in range(1, 401):
        model.set_weights([np.full(weight.shape, step, np.float32) for weight in model.weights])
        take_up(step)
        if step < 10 or step % 10 == 0:
            kept = min(0.95, (1 + step) / (10 + step)) ** 10
            expected = kept * expected + (1 - kept) * step
    assert len(average.weights) == 6  # the moving statistics too
    for weight in average.weights:
        np.testing.assert_allclose(weight, expected, rtol=1e-5)
    # Of an average over all steps alike: it lags by decay / (1 - decay) of them.
    assert 400 - expected == pytest.approx(0.95 / 0.05, abs=5)


def test_variables_in_pieces_are_put_together() -> None:
    pieces = [tf.Variable(tf.fill([rows, 2], float(rows))) for rows in (3, 2, 1)]
    scalar = tf.Variable(7.0)
    like = [tf.Variable(tf.zeros([5, 2])), scalar, tf.Variable(tf.zeros([1, 2]))]
    found = list(whole([*pieces[:2], scalar, pieces[2]], like))
    np.testing.assert_array_equal(found[0], np.repeat([[3.0], [2.0]], [3, 2], axis=0).repeat(2, 1))
    assert found[1] is scalar
    np.testing.assert_array_equal(found[2], pieces[2])


@pytest.mark.parametrize("option", ["cosine", "warm_up"])
def test_a_run_whose_rate_follows_from_its_length_keeps_its_length(option: str) -> None:
    values = {"cosine": True, "warm_up": 0.1}
    recipe = recipe_with(**{option: values[option]})
    assert recipe.learning["steps"] == 100
    assert "steps" not in recipe_with(mixup=0.2).learning
    assert math.isfinite(float(LearningRate(recipe)(0)))
