import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from training.loops.averaging import averaging, whole


def model_of(value: float) -> tf_keras.Model:
    inputs = tf_keras.Input((2,))
    outputs = tf_keras.layers.BatchNormalization()(tf_keras.layers.Dense(3)(inputs))
    model = tf_keras.Model(inputs, outputs)
    model.set_weights([np.full(weight.shape, value, np.float32) for weight in model.weights])
    return model


def test_every_weight_is_averaged_for_as_many_steps_as_went_by() -> None:
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


def test_variables_in_pieces_are_joined() -> None:
    pieces = [tf.Variable(tf.fill([rows, 2], float(rows))) for rows in (3, 2, 1)]
    scalar = tf.Variable(7.0)
    like = [tf.Variable(tf.zeros([5, 2])), scalar, tf.Variable(tf.zeros([1, 2]))]
    found = list(whole([*pieces[:2], scalar, pieces[2]], like))
    np.testing.assert_array_equal(found[0], np.repeat([[3.0], [2.0]], [3, 2], axis=0).repeat(2, 1))
    assert found[1] is scalar
    np.testing.assert_array_equal(found[2], pieces[2])
