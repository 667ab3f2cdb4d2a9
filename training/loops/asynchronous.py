"""Asynchronous training on parameter servers, as the paper trained (section 3.1).

Variables live on parameter servers. Each worker by itself reads them, takes the gradient of a
mini-batch of its own, and sends it to the servers, which apply it to whatever the variables have
become by then. The chief hands out the steps, counts them, and saves.
"""

import collections
import dataclasses
import math
import time
from collections.abc import Callable

import tensorflow as tf
import tf_keras

from training.config import Recipe
from training.distributed.cluster import CHIEF, Cluster
from training.distributed.watchdog import Watchdog, wait_for_address
from training.input.batches import FeatureSet, training_batches
from training.loops.averaging import averaging
from training.loops.checkpoints import Checkpoints, last_validation
from training.loops.optimizer import adam
from training.loops.progress import Curves, ProgressLine
from training.loops.step import average_model, fresh_model, replica_step
from training.loops.synchronous import InterruptedRunError, TrainedRun

# Steps handed out ahead for each worker: one that it does, and one so that it need not wait.
_STEPS_AHEAD = 2
# By what TensorFlow's own coordinator tells a worker that is lost from a server that is.
_OF_WORKER, _FROM_SERVER = "/job:worker", "GRPC error information from remote target /job:ps"
# A piece of a variable should be worth a message.
_MIN_PIECE_BYTES = 256 * 1024


@dataclasses.dataclass(frozen=True)
class _StepFigures:
    """What a worker tells of a step, in the order of the vector that it sends."""

    loss: float
    staleness: float  # steps of other workers between reading the weights and changing them
    input_seconds: float
    step_seconds: float


def train_asynchronously(
    recipe: Recipe, features: FeatureSet, output: str, *, cluster: Cluster, watchdog: Watchdog
) -> TrainedRun:
    """Be the chief: train, or go on training, in the folder `output`.

    Steps are done at least once: those of a worker that dies are done by another, even where their
    gradient had arrived. So a run may end a few steps beyond its last.

    Raises:
      LostPeerError: another process does not come.
      InterruptedRunError: a person stopped the run.
      tf.errors.OpError: see `training.loops.step.failure_of`; of a damaged shard DataLossError.
    """
    for role, addresses in cluster.addresses.items():
        for index, address in enumerate(addresses):
            if role != CHIEF:
                wait_for_address(address, f"{role} {index}", watchdog.seconds)
    with watchdog.waiting_for("the connection of the cluster"):
        strategy = tf.distribute.ParameterServerStrategy(
            cluster.resolver(),
            variable_partitioner=output_layer_partitioner(
                recipe, len(features.vocabulary), len(cluster.addresses["ps"])
            ),
        )
        coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
        with strategy.scope():
            model = fresh_model(recipe, features)
            slow_moving_statistics(model, cluster.num_workers)
            optimizer = adam(recipe, model.trainable_variables)
            next_stream = tf.Variable(0, dtype=tf.int64, trainable=False)
        average = average_model(recipe, features)
        checkpoints = Checkpoints(output, model, optimizer, average, is_chief=True)
        saved_step = checkpoints.restore()

    take_up = averaging(average, model, recipe.options.average_decay) if average else None
    tf.random.set_seed(1)  # where it is 0, tf.data fails on a seed that is a tensor

    def own_stream() -> tf.data.Dataset:
        # Runs on a worker whenever it comes or comes back: each time in a new order.
        stream = next_stream.assign_add(1)
        return training_batches(features, recipe, step=saved_step, stream=stream)

    replica = replica_step(model, optimizer, features.front_end, recipe.options)

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
        figures = [loss, staleness, received - start, end - start]
        return tf.stack([tf.cast(figure, tf.float32) for figure in figures])

    batches = iter(coordinator.create_per_worker_dataset(own_stream))
    curves = Curves(output)
    progress = ProgressLine(recipe.steps, recipe.batch_size)
    step, loss, last_loss = saved_step, None, math.nan
    save_at = time.monotonic() + 60 * recipe.checkpoint_minutes
    handed_out: collections.deque = collections.deque()
    try:
        while step < recipe.steps:
            while len(handed_out) < min(_STEPS_AHEAD * cluster.num_workers, recipe.steps - step):
                handed_out.append(coordinator.schedule(worker_step, args=(batches,)))
            with watchdog.waiting_for("a step of any worker"):
                figures = _figures_of(handed_out.popleft())
            step += 1
            if take_up:
                take_up(step)
            if figures is not None:
                last_loss = figures.loss
                curves.add_step(**dataclasses.asdict(figures))
            progress.step_done()
            is_last = step == recipe.steps
            if step % recipe.report_steps == 0 or is_last:
                loss = curves.write_steps(
                    step,
                    learning_rate=optimizer.learning_rate(step),
                    patches_per_second=progress.patches_per_second,
                ).get("loss", last_loss)
            if is_last or time.monotonic() >= save_at:
                # A checkpoint is of one moment: nobody changes a weight meanwhile.
                with watchdog.waiting_for("the end of the steps that are handed out"):
                    coordinator.join()
                saved_step = checkpoints.save()
                save_at = time.monotonic() + 60 * recipe.checkpoint_minutes
                progress.pause()
            if progress.due or is_last:
                progress.show(step, last_loss, last_validation(output))
    except KeyboardInterrupt:
        with watchdog.waiting_for("the end of the steps that are handed out"):
            coordinator.join()
        raise InterruptedRunError.at(checkpoints.save(), recipe.steps) from None
    except tf.errors.DataLossError:
        checkpoints.save()
        raise
    finally:
        progress.close()
        curves.close()
    return TrainedRun(saved_step, loss, None, progress.patches_per_second)


def _figures_of(step: tf.distribute.experimental.coordinator.RemoteValue) -> _StepFigures | None:
    """What a step tells; None where its worker died between doing it and telling.

    Its gradient is with the servers, so the step counts; only a server that is lost ends the run.
    """
    try:
        return _StepFigures(*map(float, step.fetch()))
    except tf.errors.UnavailableError as error:
        if _OF_WORKER in str(error) and _FROM_SERVER not in str(error):
            return None
        raise


def slow_moving_statistics(model: tf_keras.Model, num_workers: int) -> None:
    """Let batch normalization's shared statistics move by 1 / workers of a step.

    All workers move the same mean and variance, each by what it read about one step of every
    other worker ago. At a momentum of 0.9 that becomes unstable beyond 15 workers: a mean that is
    moved by a share a of its distance, seen t moves late, converges only while
    a < 2 sin(pi / (4 t + 2)). With a share that is smaller by the number of workers it converges
    for any of them, and remembers as many seconds of training as one worker alone does.
    """
    for layer in model.layers:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            layer.momentum = 1 - (1 - layer.momentum) / num_workers


def output_layer_partitioner(
    recipe: Recipe, num_labels: int, num_servers: int
) -> Callable[..., list[int]]:
    """What spreads the weights of the output layer over the servers; other variables stay whole.

    It is the one layer that grows with the label set (63M of ResNet-50's weights at 30,871
    labels), and it is float32: a layer that computes in bfloat16 cannot be cut.
    """
    in_pieces = tf.distribute.experimental.partitioners.MinSizePartitioner(
        _MIN_PIECE_BYTES, max_shards=num_servers
    )

    def partition(shape: tf.TensorShape, dtype: tf.DType, **more: int) -> list[int]:
        is_output = shape.rank == 2 and shape[1] == num_labels
        # A hidden layer of that very size.
        may_be_hidden = recipe.precision == "bfloat16" and shape.rank == 2 and shape[0] == shape[1]
        if not is_output or may_be_hidden:
            return [1] * shape.rank
        return in_pieces(shape, dtype, **more)

    return partition
