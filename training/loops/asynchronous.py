"""Asynchronous training on parameter servers, as the paper trained (section 3.1).

Variables live on parameter servers. Each worker, independently of the others, reads the variables,
computes the gradient of a mini-batch of its own, and sends it to the servers, which apply it to the
variables as they are by then. The chief schedules the steps, counts them, and saves.
"""

import collections
import dataclasses
from collections.abc import Callable

import tensorflow as tf
import tf_keras

from training.config import Recipe
from training.distributed.cluster import CHIEF, PARAMETER_SERVER, Cluster
from training.distributed.watchdog import Watchdog, wait_for_address
from training.input.batches import Batch, FeatureSet, training_batches
from training.loops.averaging import averaging
from training.loops.checkpoints import Checkpoints
from training.loops.optimizer import adam
from training.loops.recorder import Recorder, TrainedRun
from training.loops.step import average_model, fresh_model, replica_step

# Steps scheduled ahead for each worker: the step that it does and the next, so that it never waits.
_STEPS_AHEAD = 2
# Parts of the message by which TensorFlow's own coordinator tells a lost worker from a lost server.
_OF_WORKER, _FROM_SERVER = "/job:worker", "GRPC error information from remote target /job:ps"
# Smaller pieces of a variable are not worth a message each.
_MIN_PIECE_BYTES = 256 * 1024


@dataclasses.dataclass(frozen=True)
class _StepMetrics:
    """The metrics of a step, in the order of the vector that a worker sends.

    Attributes:
      loss: of the mini-batch.
      staleness: steps of other workers between reading the weights and changing them.
      input_seconds: of waiting for the mini-batch.
      step_seconds: of the whole step.
    """

    loss: float
    staleness: float
    input_seconds: float
    step_seconds: float


def train_asynchronously(
    recipe: Recipe, features: FeatureSet, output: str, *, cluster: Cluster, watchdog: Watchdog
) -> TrainedRun:
    """Train a run as the chief, or resume it, in the folder `output`.

    Steps are done at least once: another worker repeats the steps of a worker that dies, even if
    their gradients had arrived. So a run may end a few steps beyond its last.

    Raises:
      LostPeerError: another process is not there in time.
      InterruptedRunError: a person stopped the run.
      tf.errors.OpError: see `training.loops.step.failure_of`; for a damaged shard DataLossError.
    """
    strategy, coordinator = _connect(recipe, features, cluster, watchdog)
    with watchdog.waiting_for("the connection of the cluster"):
        with strategy.scope():
            model = fresh_model(recipe, features)
            optimizer = adam(recipe, model.trainable_variables)
            next_stream = tf.Variable(0, dtype=tf.int64, trainable=False)
        average = average_model(recipe, features)
        checkpoints = Checkpoints(output, model, optimizer, average, is_chief=True)
        step = saved_step = checkpoints.restore()
    update_average = averaging(average, model, recipe.options.average_decay) if average else None
    tf.random.set_seed(1)  # with a seed of 0, tf.data fails on a seed that is a tensor

    def own_stream() -> tf.data.Dataset:
        # Runs on a worker whenever it joins or rejoins: each time in another order.
        stream = next_stream.assign_add(1)
        return training_batches(features, recipe, step=saved_step, stream=stream)

    def finish_scheduled_steps() -> None:
        # A checkpoint is of one moment: no worker may change a weight meanwhile.
        with watchdog.waiting_for("the end of the scheduled steps"):
            coordinator.join()

    replica = replica_step(model, optimizer, features.front_end, recipe.options)
    worker_step = _measured_step(strategy, replica, optimizer)
    batches = iter(coordinator.create_per_worker_dataset(own_stream))
    scheduled: collections.deque = collections.deque()
    recorder = Recorder(
        recipe,
        output,
        checkpoints,
        learning_rate=optimizer.learning_rate,
        before_save=finish_scheduled_steps,
    )
    with recorder:
        while step < recipe.steps:
            while len(scheduled) < min(_STEPS_AHEAD * cluster.num_workers, recipe.steps - step):
                scheduled.append(coordinator.schedule(worker_step, args=(batches,)))
            with watchdog.waiting_for("a step of any worker"):
                metrics = _fetch_metrics(scheduled.popleft())
            step += 1
            if update_average:
                update_average(step)
            recorder.add_step(step, **(dataclasses.asdict(metrics) if metrics else {}))
            if step == recipe.steps or recorder.save_is_due:
                recorder.save()
            recorder.show(step)
    return recorder.trained_run()


def _connect(
    recipe: Recipe, features: FeatureSet, cluster: Cluster, watchdog: Watchdog
) -> tuple[tf.distribute.ParameterServerStrategy, tf.distribute.coordinator.ClusterCoordinator]:
    """Wait for the other processes, and connect to them."""
    for role, addresses in cluster.addresses.items():
        for index, address in enumerate(addresses):
            if role != CHIEF:
                wait_for_address(address, f"{role} {index}", watchdog.seconds)
    with watchdog.waiting_for("the connection of the cluster"):
        partitioner = output_layer_partitioner(
            recipe, len(features.vocabulary), len(cluster.addresses[PARAMETER_SERVER])
        )
        strategy = tf.distribute.ParameterServerStrategy(cluster.resolver(), partitioner)
        return strategy, tf.distribute.coordinator.ClusterCoordinator(strategy)


def _measured_step(
    strategy: tf.distribute.Strategy,
    replica: Callable[[Batch], tf.Tensor],
    optimizer: tf_keras.optimizers.Optimizer,
) -> Callable[[tf.data.Iterator], tf.Tensor]:
    """A function that a worker runs: one step; it returns the vector of `_StepMetrics`."""

    @tf.function
    def worker_step(batches: tf.data.Iterator) -> tf.Tensor:
        steps_before = optimizer.iterations.read_value()
        start = tf.timestamp()
        with tf.control_dependencies([start]):
            batch = next(batches)
        with tf.control_dependencies([batch.label_ids]):
            received = tf.timestamp()
        loss = strategy.run(replica, args=(batch,))
        with tf.control_dependencies([loss]):
            staleness = optimizer.iterations.read_value() - steps_before - 1
            with tf.control_dependencies([staleness]):
                end = tf.timestamp()
        metrics = [loss, staleness, received - start, end - start]
        return tf.stack([tf.cast(metric, tf.float32) for metric in metrics])

    return worker_step


def _fetch_metrics(step: tf.distribute.experimental.coordinator.RemoteValue) -> _StepMetrics | None:
    """The metrics of a step; None if its worker died after the step and before sending them.

    The servers have the gradient, so the step counts. Only a lost server ends the run.
    """
    try:
        return _StepMetrics(*map(float, step.fetch()))
    except tf.errors.UnavailableError as error:
        if _OF_WORKER in str(error) and _FROM_SERVER not in str(error):
            return None
        raise


def output_layer_partitioner(
    recipe: Recipe, num_labels: int, num_servers: int
) -> Callable[..., list[int]]:
    """A partitioner that spreads the output layer over the servers; other variables stay whole.

    Only this layer grows with the label set (63M of ResNet-50's weights at 30,871 labels), and it
    is float32: a layer that computes in bfloat16 cannot be partitioned.
    """
    partition_output = tf.distribute.experimental.partitioners.MinSizePartitioner(
        _MIN_PIECE_BYTES, max_shards=num_servers
    )

    def partition(shape: tf.TensorShape, dtype: tf.DType, **more: int) -> list[int]:
        is_output = shape.rank == 2 and shape[1] == num_labels
        # A hidden layer may have as many units as there are labels.
        may_be_hidden = recipe.precision == "bfloat16" and shape.rank == 2 and shape[0] == shape[1]
        if not is_output or may_be_hidden:
            return [1] * shape.rank
        return partition_output(shape, dtype, **more)

    return partition
