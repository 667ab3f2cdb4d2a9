"""The networks at a small width."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from training import overrides, recipes
from training.config import FullyConnected, ModelConfig
from training.loops.loss import sigmoid_cross_entropy
from training.models.build import build_model
from training.models.layers import BatchNormalization, GeneralisedMean, move_statistics, pooled

PATCH_SHAPE = (96, 64)
NETWORKS = ("fully_connected", "alexnet", "vgg", "inception_v3", "resnet50", "small")
NARROW = ("width=0.05", "bottleneck_units=16")


def network(name: str, *fields: str) -> ModelConfig:
    settings = dict(field.split("=") for field in fields)
    return overrides.override(recipes.find_recipe(name), settings).model


def build(config: ModelConfig, precision: str = "float32", num_labels: int = 5) -> tf_keras.Model:
    return build_model(config, num_labels=num_labels, patch_shape=PATCH_SHAPE, precision=precision)


def kernel_shapes(model: tf_keras.Model) -> list[tuple[int, ...]]:
    kernels = (layer.kernel for layer in model.layers if hasattr(layer, "kernel"))
    return sorted(tuple(kernel.shape) for kernel in kernels)


@functools.cache
def trained(name: str, *, seed: int, repetition: int = 0) -> tuple[tf_keras.Model, list[float]]:
    """The network after two steps in bfloat16, and the losses before them."""
    patches, label_ids = batch()
    tf_keras.utils.set_random_seed(seed)
    model = build(network(name, *NARROW), "bfloat16")
    optimizer = tf_keras.optimizers.legacy.SGD(0.001)
    losses = []
    for _ in range(2):
        with tf.GradientTape() as tape:
            outputs = model(patches, training=True)
            loss = sigmoid_cross_entropy(outputs["logits"], label_ids)
        assert {output.dtype for output in [*outputs.values(), loss]} == {tf.float32}
        gradients = tape.gradient(loss, model.trainable_variables)
        assert all(gradient is not None for gradient in gradients)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        losses.append(float(loss))
    return model, losses


def batch() -> tuple[tf.Tensor, tf.Tensor]:
    rng = np.random.default_rng(0)
    patches = tf.constant(rng.normal(-2, 1, (4, *PATCH_SHAPE)), tf.float32)
    return patches, tf.constant([[0, 2], [1, -1], [-1, -1], [3, 4]])


@pytest.mark.parametrize("name", NETWORKS)
def test_what_trained_in_bfloat16_computes_the_same_in_float32(name: str) -> None:
    model, losses = trained(name, seed=1)
    assert losses[1] < losses[0]
    assert {weight.dtype for weight in model.weights} == {tf.float32}
    assert "bfloat16" in {layer.compute_dtype for layer in model.layers}
    exact = build(network(name, *NARROW))
    assert {layer.compute_dtype for layer in exact.layers} == {"float32"}
    exact.set_weights(model.get_weights())
    patches, _ = batch()
    outputs, expected = model(patches), exact(patches)
    assert outputs["logits"].shape == (4, 5)
    assert outputs["embedding"].shape == (4, 16)
    for output, tensor in expected.items():
        error = np.linalg.norm(outputs[output] - tensor)
        assert error < 0.05 * np.linalg.norm(tensor), output


# Together they have all kinds of layers with weights that are drawn or statistics.
@pytest.mark.parametrize("name", ["fully_connected", "alexnet", "small"])
def test_training_is_the_same_under_the_same_seed(name: str) -> None:
    model, losses = trained(name, seed=1)
    model_again, again = trained(name, seed=1, repetition=1)
    np.testing.assert_allclose(again, losses, rtol=1e-3)
    for weight, weight_again in zip(model.get_weights(), model_again.get_weights(), strict=True):
        np.testing.assert_allclose(weight_again, weight, atol=1e-3)
    _, other = trained(name, seed=2)
    assert other[0] != losses[0]


def test_without_a_bottleneck_the_embedding_is_the_last_pool() -> None:
    model = build(network("small", "width=0.05"))
    pool = next(
        layer for layer in model.layers if isinstance(layer, tf_keras.layers.GlobalAveragePooling2D)
    )
    patches = tf.zeros([2, *PATCH_SHAPE])
    pooled = tf_keras.Model(model.input, pool.output)(patches)
    np.testing.assert_array_equal(model(patches)["embedding"], pooled)


def test_units_of_the_papers_width_are_not_rounded() -> None:
    # M = 500 of the sweep (section 3.3.1) is no multiple of eight.
    assert (500, 500) in kernel_shapes(build(network("fully_connected", "units=500")))


def test_poolings_are_the_average_at_first_and_more_than_it_later() -> None:
    maps = np.random.default_rng(4).gamma(1.0, 5.0, (3, 6, 4, 8)).astype(np.float32)
    maps[0, :, :, 0] = 0.0  # a channel that is silent
    mean, greatest = maps.mean(axis=(1, 2)), maps.max(axis=(1, 2))
    inputs = tf_keras.Input(maps.shape[1:])

    average = tf_keras.Model(inputs, pooled(inputs, "average"))
    np.testing.assert_allclose(average(maps), mean, rtol=1e-5)

    attention = tf_keras.Model(inputs, pooled(inputs, "attention"))
    np.testing.assert_allclose(attention(maps), mean, rtol=1e-5)
    kernel = np.linspace(-0.2, 0.2, 8, dtype=np.float32)[:, None]
    attention.set_weights([kernel, np.ones(1, np.float32)])
    scores = np.exp(maps @ kernel)  # [batch, frames, bands, 1]
    expected = (scores * maps).sum(axis=(1, 2)) / scores.sum(axis=(1, 2))
    np.testing.assert_allclose(attention(maps), expected, rtol=1e-4)

    generalised = tf_keras.Model(inputs, pooled(inputs, "generalised_mean"))
    cubic = np.cbrt((maps.astype(np.float64) ** 3).mean(axis=(1, 2)))
    np.testing.assert_allclose(generalised(maps), cubic, rtol=1e-5, atol=1e-5)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(generalised(tf.constant(maps)))
    assert np.isfinite(tape.gradient(total, generalised.trainable_variables)[0])
    for power, limit in ((1.0, mean), (500.0, greatest)):
        generalised.set_weights([np.float32(power)])
        np.testing.assert_allclose(generalised(maps), limit, rtol=0.01, atol=1e-5)


@pytest.mark.parametrize(("policy", "error"), [("float32", 0.01), ("mixed_bfloat16", 0.1)])
def test_moving_statistics_are_the_mean_of_the_first_batches_and_then_exponential(
    policy: str, error: float
) -> None:
    layer = BatchNormalization(momentum=0.8, dtype=tf_keras.mixed_precision.Policy(policy))
    inputs = tf_keras.Input((3, 2, 2))
    model = tf_keras.Model(inputs, layer(inputs))

    @tf.function
    def step(images: tf.Tensor, num_moves: tf.Tensor) -> tf.Tensor:
        outputs = model(images, training=True)
        move_statistics(model, num_moves)
        return outputs

    rng = np.random.default_rng(5)
    batches = rng.normal([3, -1], [2, 0.5], (12, 4, 3, 2, 2)).astype(np.float32)
    batches += np.arange(12, dtype=np.float32)[:, None, None, None, None]
    of_batches = np.stack([batches.mean((1, 2, 3)), batches.var((1, 2, 3))])  # [2, batches, 2]
    expected = np.zeros((2, 2))
    for index, images in enumerate(batches):
        outputs = step(tf.constant(images), tf.constant(index))
        normalised = (images - images.mean((0, 1, 2))) / images.std((0, 1, 2))
        np.testing.assert_allclose(outputs, normalised, atol=error)
        if index < 5:
            expected = of_batches[:, : index + 1].mean(axis=1)
        else:
            expected = 0.8 * expected + 0.2 * of_batches[:, index]
        moving = np.stack([layer.moving_mean.numpy(), layer.moving_variance.numpy()])
        np.testing.assert_allclose(moving, expected, rtol=error / 5)
    inferred = (batches[0] - expected[0]) / np.sqrt(expected[1] + layer.epsilon)
    np.testing.assert_allclose(model(batches[0], training=False), inferred, atol=error)


def test_pooling_is_a_field_of_the_network() -> None:
    """Of the small network below."""
    model = build(network("resnet50", "width=0.0625", "pooling=generalised_mean"), "bfloat16")
    [pool] = [layer for layer in model.layers if isinstance(layer, GeneralisedMean)]
    assert (pool.count_params(), pool.output_shape) == (1, (None, 128))
    assert model.output["embedding"].shape == (None, 128)
    model = build(network("inception_v3", "width=0.0625", "pooling=attention"), "bfloat16")
    [scores] = [
        layer
        for layer in model.layers
        if isinstance(layer, tf_keras.layers.Dense) and layer.name != "logits"
    ]
    assert (scores.count_params(), scores.input_shape[2:]) == (128 + 1, (128,))
    assert model.output["embedding"].shape == (None, 128)


@pytest.mark.parametrize("pooling", ["average", "generalised_mean", "attention"])
def test_a_network_that_pools_takes_any_number_of_frames(pooling: str) -> None:
    config = network("small", "width=0.05", f"pooling={pooling}")
    free = build_model(config, num_labels=3, patch_shape=(None, 64), precision="float32")
    fixed = build_model(config, num_labels=3, patch_shape=(130, 64), precision="float32")
    fixed.set_weights(free.get_weights())
    patches = np.random.default_rng(2).normal(size=(2, 130, 64)).astype(np.float32)
    np.testing.assert_allclose(free(patches)["logits"], fixed(patches)["logits"], rtol=1e-5)
    assert free(patches[:, :48])["logits"].shape == (2, 3)


def test_no_hidden_layers_make_a_linear_classifier() -> None:
    config = FullyConnected(num_layers=0, units=1, width=1.0)
    model = build_model(config, num_labels=7, patch_shape=(20,), precision="float32")
    patches = np.random.default_rng(0).normal(size=(5, 20)).astype(np.float32)

    outputs = model(patches)

    weights, bias = model.get_weights()
    np.testing.assert_allclose(outputs["logits"], patches @ weights + bias, atol=1e-5)
    np.testing.assert_array_equal(outputs["embedding"], patches)
