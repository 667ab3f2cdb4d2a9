"""Where the devices are that share a mini-batch."""

from collections.abc import Callable

import tensorflow as tf

from features.errors import InputError
from training.config import Recipe
from training.distributed.cluster import Cluster


def synchronous_strategy(cluster: Cluster | None, num_devices: int) -> tf.distribute.Strategy:
    """One device, several of this machine, or those of several workers.

    Args:
      cluster: workers that train together; None for this process alone.
      num_devices: GPUs of each process, where there are any; or else parts of its CPU.

    Raises:
      InputError: there are fewer GPUs.
    """
    devices = _devices(num_devices)
    if cluster is not None:
        return tf.distribute.MultiWorkerMirroredStrategy(cluster.resolver())
    if num_devices > 1:
        return tf.distribute.MirroredStrategy(devices)
    return tf.distribute.get_strategy()


def _devices(number: int) -> list[str]:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        if len(gpus) < number:
            raise InputError(f"--devices {number}: this machine has {len(gpus)} GPUs")
        tf.config.set_visible_devices(gpus[:number], "GPU")
        return [f"GPU:{index}" for index in range(number)]
    (cpu,) = tf.config.list_physical_devices("CPU")
    if number > 1:
        one = tf.config.LogicalDeviceConfiguration()
        tf.config.set_logical_device_configuration(cpu, [one] * number)
    return [f"CPU:{index}" for index in range(number)]


def require_equal_parts(recipe: Recipe, strategy: tf.distribute.Strategy) -> None:
    """Every device gets as much of a batch as any other.

    Raises:
      InputError: the batch cannot be cut so.
    """
    number = strategy.num_replicas_in_sync
    if recipe.batch_size % number:
        raise InputError(
            f"a batch of {recipe.batch_size} cannot be cut into {number} equal parts, one for "
            "each device; give another --batch-size"
        )


def agreement(strategy: tf.distribute.Strategy) -> Callable[[list[bool]], list[bool]]:
    """A function that says of each wish whether any worker has it.

    Workers that share mini-batches must save and stop at the same step, so all of them must call
    it in every step. A process alone agrees with itself.
    """
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return lambda wishes: wishes

    @tf.function
    def add_up(wishes: tf.Tensor) -> tf.Tensor:
        return strategy.reduce("sum", strategy.run(tf.identity, args=(wishes,)), axis=None)

    return lambda wishes: [bool(n) for n in add_up(tf.constant(wishes, tf.float32)).numpy()]
