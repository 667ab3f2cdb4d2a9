"""Measures how fast this machine applies an exported network to patches."""

import dataclasses
import itertools
import os
import time
from collections.abc import Callable

import numpy as np

from features.contracts import export as exports
from features.contracts.documents import Precision
from features.contracts.speeds import CPU, Speed, processor_name, today
from features.front_end.front_end import FrontEnd
from pipelines.runtime import accelerator, inference, model
from pipelines.runtime.model import ExportedModel, Patches

# After the first batch, for which runtimes plan: at least so many batches, for at least so long.
_LEAST_BATCHES, _LEAST_SECONDS = 2, 5.0
_PATCHES_AT_ONCE = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasuredNetwork:
    """An exported network on this machine.

    Attributes:
      speed: in scoring.
      load_seconds: CPU time of a process until its first batch; on a GPU, seconds of the GPU.
      padded_rows: the patches of a shard are filled up to a multiple of these.
      num_labels: of the scores.
      fingerprint: of the weights.
    """

    speed: Speed
    load_seconds: float
    padded_rows: int
    num_labels: int
    fingerprint: str


def measure_network(run: str, precision: Precision) -> MeasuredNetwork:
    """Apply the network of a run to random patches, on all cores or on the GPU.

    The time does not depend on the values of patches.

    Args:
      run: folder made by training.train, or a copy of its export.
      precision: of the layers.

    Raises:
      InputError: there is no such network, or this machine does not compute in the precision.
    """
    export = exports.find_export(run)
    runtime = model.choose_runtime(export, precision)
    is_cpu = runtime.device == "cpu"
    clock = time.process_time if is_cpu else time.perf_counter
    start = clock()
    network = ExportedModel(export, runtime)
    load_seconds, seconds_per_patch = _time_batches(network, clock, start)
    recipe = exports.read_exported_recipe(export)["model"]
    return MeasuredNetwork(
        speed=Speed(
            job="scoring",
            network=recipe["network"],
            width=recipe["width"],
            precision=precision,
            device=CPU if is_cpu else accelerator.gpu_name(),
            patches_per_second=1 / seconds_per_patch,
            machine=f"{processor_name()}, {len(os.sched_getaffinity(0))} cores",
            as_of=today(),
            source=f"{runtime.name} {runtime.version}, measured by pipelines.plan",
        ),
        load_seconds=load_seconds,
        padded_rows=inference.padded_rows(runtime),
        num_labels=network.num_labels,
        fingerprint=exports.fingerprint_weights(export),
    )


def _time_batches(
    network: ExportedModel, clock: Callable[[], float], start: float
) -> tuple[float, float]:
    """Seconds until the first batch without its own, and seconds of a patch in later batches."""
    scored = network.score(itertools.repeat(_random_patches(network.front_end)))
    first, _ = next(scored)
    ready, wall_start = clock(), time.monotonic()
    num_batches = num_patches = 0
    while num_batches < _LEAST_BATCHES or time.monotonic() - wall_start < _LEAST_SECONDS:
        batch, _ = next(scored)
        num_batches += 1
        num_patches += len(batch)
    seconds_per_patch = (clock() - ready) / num_patches
    return max(0.0, ready - start - len(first) * seconds_per_patch), seconds_per_patch


def _random_patches(front_end: FrontEnd) -> Patches:
    shape = (_PATCHES_AT_ONCE, *front_end.patch_shape)
    values = np.random.default_rng(0).uniform(-4.0, 4.0, shape).astype(np.float32)
    zeros = np.zeros(_PATCHES_AT_ONCE)
    return Patches(
        zeros.astype(np.int64), zeros.astype(np.float32), front_end.storage.encode(values)
    )
