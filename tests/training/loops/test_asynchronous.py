"""A cluster in one process: places of variables, statistics that workers share.

`integration/` has whole runs.
"""

import dataclasses
import socket
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from features.front_end.front_end import FrontEnd
from training.config import Options
from training.input.batches import Batch, decode_patches
from training.loops import asynchronous
from training.loops.asynchronous import output_layer_partitioner
from training.loops.optimizer import adam
from training.loops.step import replica_step
from training.models.build import build_model
from training.models.layers import (
    BatchNormalization,
    as_image,
    conv_batch_norm,
    embedding_and_logits,
)
from training.recipes import fully_connected

NUM_LABELS = 3_000
NUM_WORKERS, NUM_STEPS = 2, 40


Places = dict[str, list[tuple[list[int], list[str]]]]


def in_a_cluster() -> tuple[Places, list[tuple[np.ndarray, np.ndarray]]]:
    """The results of `place` and `share_statistics` with the same servers, all in this process."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(NUM_WORKERS + 2)]
    addresses = [f"localhost:{bound.getsockname()[1]}" for bound in sockets]
    for bound in sockets:
        bound.close()
    spec = tf.train.ClusterSpec({"worker": addresses[2:], "ps": addresses[:2]})
    # With a thread for each core alone, servers of one process wait for each other for ever.
    threads = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=NUM_WORKERS + 4)
    started = [
        tf.distribute.Server(spec, job_name=role, task_index=index, config=threads)
        for role, count in (("worker", NUM_WORKERS), ("ps", 2))
        for index in range(count)
    ]
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(spec, rpc_layer="grpc")
    strategy = tf.distribute.ParameterServerStrategy(
        resolver, output_layer_partitioner(fully_connected(), NUM_LABELS, num_servers=2)
    )
    results = place(strategy), share_statistics(strategy)
    assert len(started) == NUM_WORKERS + 2
    return results


def place(strategy: tf.distribute.Strategy) -> Places:
    """By variable its pieces: their shape, the devices of the piece and of its two moments."""
    recipe = fully_connected()
    with strategy.scope():
        model = build_model(
            recipe.model, num_labels=NUM_LABELS, patch_shape=(96, 64), precision="float32"
        )
        optimizer = adam(recipe, model.trainable_variables)
    found: Places = {}
    for variable in model.trainable_variables:
        moments = [optimizer.get_slot(variable, name) for name in ("m", "v")]
        devices = [piece.device for piece in (variable, *moments)]
        name = variable.name.split("/part_")[0].split(":")[0]
        found.setdefault(name, []).append((list(variable.shape), devices))
    return found


def share_statistics(strategy: tf.distribute.Strategy) -> list[tuple[np.ndarray, np.ndarray]]:
    """Train on one batch over and over; returns the moving statistics and those of the batch."""
    recipe = dataclasses.replace(fully_connected(), learning_rate=1e-9)  # the weights stay
    with strategy.scope():
        patches = tf_keras.Input((8, 8))
        x = conv_batch_norm(as_image(patches), 4, 3, momentum=0.9)
        outputs = embedding_and_logits(tf_keras.layers.Flatten()(x), 3)
        model = tf_keras.Model(patches, outputs)
        optimizer = adam(recipe, model.trainable_variables)
    replica = replica_step(model, optimizer, FrontEnd(resampler="none"), Options())
    step = asynchronous._measured_step(strategy, replica, optimizer)
    rng = np.random.default_rng(3)
    batch = Batch(
        tf.constant(rng.integers(0, 256, (16, 8, 8)).astype(np.uint8)),
        *(tf.zeros([16, 1], tf.int32), tf.constant(["video"] * 16), tf.zeros([16, 0])),
    )
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    repeated = coordinator.create_per_worker_dataset(
        lambda: tf.data.Dataset.from_tensors(batch).repeat()
    )
    batches = iter(repeated)
    for _ in range(NUM_STEPS):
        coordinator.schedule(step, args=(batches,))
    coordinator.join()
    assert optimizer.iterations.numpy() == NUM_STEPS
    [convolution] = [layer for layer in model.layers if isinstance(layer, tf_keras.layers.Conv2D)]
    [normalization] = [layer for layer in model.layers if isinstance(layer, BatchNormalization)]
    assert {variable.device.split("/")[1] for variable in normalization.weights} == {"job:ps"}
    images = decode_patches(batch.patches, FrontEnd(resampler="none").storage)[..., None]
    maps = tf.nn.conv2d(images, convolution.kernel.numpy(), 1, "SAME").numpy()
    expected = (maps.mean(axis=(0, 1, 2)), maps.var(axis=(0, 1, 2)))
    moving = (normalization.moving_mean.numpy(), normalization.moving_variance.numpy())
    return list(zip(moving, expected, strict=True))


@pytest.fixture(scope="module")
def cluster_results() -> tuple[Places, list[tuple[np.ndarray, np.ndarray]]]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(in_a_cluster).result(timeout=180)


def test_moments_live_beside_their_variable_and_the_output_layer_is_spread(
    cluster_results: tuple[Places, object],
) -> None:
    pieces, _ = cluster_results
    for name, of_variable in pieces.items():
        assert len(of_variable) == (2 if name == "logits/kernel" else 1), name
        for _, devices in of_variable:
            assert len(set(devices)) == 1, (name, devices)
            assert "/job:ps/" in devices[0]
    assert [shape for shape, _ in pieces["logits/kernel"]] == [[500, 3_000], [500, 3_000]]
    assert len({devices[0] for _, devices in pieces["logits/kernel"]}) == 2
    assert len({of_variable[0][1][0] for of_variable in pieces.values()}) == 2  # both are used


def test_statistics_that_workers_share_keep_nothing_of_their_start(
    cluster_results: tuple[object, list[tuple[np.ndarray, np.ndarray]]],
) -> None:
    _, statistics = cluster_results
    for moving, expected in statistics:
        np.testing.assert_allclose(moving, expected, rtol=0.01, atol=0.01)


@pytest.mark.parametrize(
    ("shape", "precision", "pieces"),
    [
        ([1_000, 3_000], "float32", [2, 1]),
        ([1_000, 3_000], "bfloat16", [2, 1]),
        ([3_000, 3_000], "float32", [2, 1]),
        ([3_000, 3_000], "bfloat16", [1, 1]),  # may be a layer that computes in bfloat16
        ([1_000, 1_000], "float32", [1, 1]),
        ([3_000], "float32", [1]),
        ([], "float32", []),
        ([16, 3_000], "float32", [1, 1]),  # not worth a message
        ([3, 3, 64, 3_000], "float32", [1, 1, 1, 1]),
    ],
)
def test_the_output_layer_alone_is_cut(shape: list, precision: str, pieces: list) -> None:
    recipe = dataclasses.replace(fully_connected(), precision=precision)
    partition = output_layer_partitioner(recipe, NUM_LABELS, num_servers=2)
    assert list(partition(tf.TensorShape(shape), tf.float32)) == pieces


class Lost:
    """What a step leaves whose result cannot be fetched, in TensorFlow's own words."""

    def __init__(self, *words: str):
        self._error = tf.errors.UnavailableError(None, None, "\n".join(words))

    def fetch(self) -> None:
        raise self._error


def test_only_the_loss_of_a_server_ends_a_run() -> None:
    worker = "ERROR:tensorflow:Worker /job:worker/replica:0/task:0 failed with UnavailableError()"
    server = "Additional GRPC error information from remote target /job:ps/replica:0/task:0"

    assert asynchronous._fetch_metrics(Lost(worker)) is None
    with pytest.raises(tf.errors.UnavailableError):
        asynchronous._fetch_metrics(Lost(worker, server))
    with pytest.raises(tf.errors.UnavailableError):
        asynchronous._fetch_metrics(Lost(server))
