"""The places of variables, and the statistics that workers share; `integration/` has whole runs."""

import dataclasses
import socket
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import tensorflow as tf
import tf_keras

from training.loops import asynchronous
from training.loops.asynchronous import output_layer_partitioner, slow_moving_statistics
from training.loops.optimizer import adam
from training.models.build import build_model
from training.recipes import fully_connected

NUM_LABELS = 3_000


def placement() -> dict[str, list[tuple[list[int], list[str]]]]:
    """By variable its pieces: their shape, the devices of the piece and of its two moments.

    The cluster is in this process.
    """
    sockets = [socket.create_server(("localhost", 0)) for _ in range(3)]
    worker, *servers = (f"localhost:{bound.getsockname()[1]}" for bound in sockets)
    for bound in sockets:
        bound.close()
    spec = tf.train.ClusterSpec({"worker": [worker], "ps": servers})
    started = [
        tf.distribute.Server(spec, job_name=role, task_index=index)
        for role, index in (("worker", 0), ("ps", 0), ("ps", 1))
    ]
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(spec, rpc_layer="grpc")
    recipe = fully_connected()
    strategy = tf.distribute.ParameterServerStrategy(
        resolver, output_layer_partitioner(recipe, NUM_LABELS, num_servers=len(servers))
    )
    with strategy.scope():
        model = build_model(
            recipe.model, num_labels=NUM_LABELS, patch_shape=(96, 64), precision="float32"
        )
        optimizer = adam(recipe, model.trainable_variables)
    found: dict[str, list[tuple[list[int], list[str]]]] = {}
    for variable in model.trainable_variables:
        moments = [optimizer.get_slot(variable, name) for name in ("m", "v")]
        devices = [piece.device for piece in (variable, *moments)]
        name = variable.name.split("/part_")[0].split(":")[0]
        found.setdefault(name, []).append((list(variable.shape), devices))
    assert len(started) == 3
    return found


def test_moments_live_beside_their_variable_and_the_output_layer_is_spread() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pieces = pool.submit(placement).result(timeout=180)
    for name, of_variable in pieces.items():
        assert len(of_variable) == (2 if name == "logits/kernel" else 1), name
        for _, devices in of_variable:
            assert len(set(devices)) == 1, (name, devices)
            assert "/job:ps/" in devices[0]
    assert [shape for shape, _ in pieces["logits/kernel"]] == [[500, 3_000], [500, 3_000]]
    assert len({devices[0] for _, devices in pieces["logits/kernel"]}) == 2
    assert len({of_variable[0][1][0] for of_variable in pieces.values()}) == 2  # both are used


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


def moving_mean(share: float, delay: int, num_moves: int) -> float:
    """A mean that starts at 0 and is moved towards 1, from what it was `delay` moves ago."""
    means = [0.0] * (delay + 1)
    for _ in range(num_moves):
        means.append(means[-1] + share * (1 - means[-1 - delay]))
    return means[-1]


@pytest.mark.parametrize("num_workers", [1, 2, 10, 20, 50])
def test_statistics_that_workers_share_converge(num_workers: int) -> None:
    normalization = tf_keras.layers.BatchNormalization(momentum=0.9)
    slow_moving_statistics(tf_keras.Sequential([normalization]), num_workers)
    share = 1 - normalization.momentum
    # 100 steps of every worker, after which one worker alone is at 1 - 0.9^100.
    reached = moving_mean(share, num_workers - 1, 100 * num_workers)
    assert reached == pytest.approx(1, abs=1e-3)
    # Left as it is, it would not converge for more than 15 workers.
    unchanged = moving_mean(0.1, num_workers - 1, 1_000 * num_workers)
    assert (abs(unchanged - 1) < 1e-3) == (num_workers < 15)


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
