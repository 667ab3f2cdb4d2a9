"""The devices that share a mini-batch."""

from collections.abc import Callable

import tensorflow as tf

from features.errors import InputError
from training.config import Recipe
from training.distributed.cluster import Cluster


def synchronous_strategy(cluster: Cluster | None, num_devices: int) -> tf.distribute.Strategy:
    """The strategy for one device, several of this machine, or those of several workers.

    Args:
      cluster: workers that train together; None for this process alone.
      num_devices: GPUs of each process; parts of its CPU if it has no GPU.

    Raises:
      InputError: this machine has fewer GPUs.
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
        part = tf.config.LogicalDeviceConfiguration()
        tf.config.set_logical_device_configuration(cpu, [part] * number)
    return [f"CPU:{index}" for index in range(number)]


def require_equal_parts(recipe: Recipe, strategy: tf.distribute.Strategy) -> None:
    """Make sure that a mini-batch divides into equal parts, one for each device.

    Raises:
      InputError: the batch size is not a multiple of the number of devices.
    """
    number = strategy.num_replicas_in_sync
    if recipe.batch_size % number:
        raise InputError(
            f"a batch of {recipe.batch_size} cannot be divided into {number} equal parts, one for "
            f"each device; give a --batch-size that is a multiple of {number}"
        )


def any_worker(strategy: tf.distribute.Strategy) -> Callable[[list[bool]], list[bool]]:
    """A function that ORs a list of booleans across workers.

    Workers that share mini-batches must save and stop at the same step, so each must call the
    function in every step. Without other workers it returns its argument.
    """
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return lambda flags: flags

    @tf.function
    def add_up(flags: tf.Tensor) -> tf.Tensor:
        return strategy.reduce("sum", strategy.run(tf.identity, args=(flags,)), axis=None)

    return lambda flags: [bool(n) for n in add_up(tf.constant(flags, tf.float32)).numpy()]
