"""GPUs of NVIDIA: which this machine has, which each worker of a job gets, and how."""

import ctypes.util
import functools
import importlib.util
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipelines.runtime.finding import Finding, ok, problem
from pipelines.runtime.runners import kind_of

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

CUDA_CURE: Final = (
    "install the libraries (pip install 'tensorflow[and-cuda]', or the target `gpu` of the "
    "Dataflow image), or set CUDA_VISIBLE_DEVICES=-1 to do without the GPU"
)
_VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
_WORKER_ACCELERATOR: Final = "worker_accelerator="
_HINT: Final = "accelerator="
DRIVER: Final = "install-nvidia-driver"
_MODEL: Final = "Model:"
_ONE_PROCESS: Final = "no_use_multiple_sdk_containers"
_EXAMPLE: Final = (
    f"--dataflow_service_options='{_WORKER_ACCELERATOR}type:nvidia-l4;count:1;{DRIVER}'"
)


def find_gpus(devices: Path = Path("/dev")) -> list[str]:
    """Find the GPUs of NVIDIA of this machine that CUDA_VISIBLE_DEVICES does not hide.

    Returns:
      Their names in CUDA_VISIBLE_DEVICES.
    """
    names = [str(number) for number, _ in enumerate(devices.glob("nvidia[0-9]*"))]
    visible = os.environ.get(_VISIBLE)
    if visible is None or not names:
        return names
    # CUDA ignores the rest of the list from the first name that is none.
    return list(itertools.takewhile(lambda name: name not in ("", "-1"), visible.split(",")))


def has_gpu(devices: Path = Path("/dev")) -> bool:
    """Whether this machine has a GPU of NVIDIA that CUDA_VISIBLE_DEVICES does not hide."""
    return bool(find_gpus(devices))


def assign_gpu(worker: int, gpus: Sequence[str]) -> Mapping[str, str]:
    """Choose the GPU of a process, by turns.

    Args:
      worker: number of the process among those that share this machine, from 0 on.
      gpus: of `find_gpus`.

    Returns:
      Variables for its environment, before it imports TensorFlow; none without a GPU.
    """
    return {_VISIBLE: gpus[worker % len(gpus)]} if gpus else {}


def gpu_name(gpus: Path = Path("/proc/driver/nvidia/gpus")) -> str:
    """Name of the first GPU, as its driver gives it; `gpu` if it gives none."""
    for path in sorted(gpus.glob("*/information")):
        for line in path.read_text().splitlines():
            if line.startswith(_MODEL):
                return line.removeprefix(_MODEL).strip()
    return "gpu"


def _has_cuda() -> bool:
    """Whether the libraries that TensorFlow calls are there: of pip, or of the system."""
    of_pip = importlib.util.find_spec("nvidia") and importlib.util.find_spec("nvidia.cudnn")
    return bool(of_pip) or ctypes.util.find_library("cudnn") is not None


def this_machine(devices: Path = Path("/dev")) -> Finding:
    """Check that TensorFlow can use the GPU of this machine, if there is one."""
    name = "GPU"
    num_gpus = len(find_gpus(devices))
    if not num_gpus:
        return ok(name, "none; networks run on the processor")
    if not _has_cuda():
        return problem(name, f"{num_gpus} of NVIDIA, and no cuDNN", CUDA_CURE)
    return ok(name, f"{num_gpus} of NVIDIA, and cuDNN: --precision float32 runs on a GPU")


def workers_have_gpu(options: "PipelineOptions") -> bool:
    """Whether the workers of a job have a GPU: by the flags on Dataflow, else as this machine."""
    from apache_beam.options.pipeline_options import StandardOptions

    if kind_of(options.view_as(StandardOptions).runner) == "dataflowrunner":
        return _accelerator(options) is not None
    return has_gpu()


def _accelerator(options: "PipelineOptions") -> str | None:
    """What the flags ask of Dataflow, such as type:nvidia-l4;count:1;install-nvidia-driver."""
    from apache_beam.options.pipeline_options import (
        DebugOptions,
        GoogleCloudOptions,
        StandardOptions,
    )

    asked = [
        (options.view_as(GoogleCloudOptions).dataflow_service_options, _WORKER_ACCELERATOR),
        (options.view_as(DebugOptions).experiments, _WORKER_ACCELERATOR),
        (options.view_as(StandardOptions).resource_hints, _HINT),
    ]
    found = [
        word.removeprefix(prefix)
        for words, prefix in asked
        for word in words or []
        if word.startswith(prefix)
    ]
    return found[0] if found else None


def dataflow_gpu(options: "PipelineOptions") -> Finding:
    """Check that a GPU of Dataflow has its driver, and one process that uses it."""
    from apache_beam.options.pipeline_options import DebugOptions, GoogleCloudOptions

    name = "Dataflow GPU"
    accelerator = _accelerator(options)
    if accelerator is None:
        return ok(name, "none")
    parts = dict(part.partition(":")[::2] for part in accelerator.split(";"))
    asks = functools.partial(problem, name)
    if not parts.get("type") or parts.get("count") != "1":
        # A worker is one process, and TensorFlow computes on its first GPU.
        return asks(f"received {accelerator}; a worker uses one GPU", _EXAMPLE)
    if DRIVER not in parts:
        return asks(f"received {accelerator}: workers would have no driver", _EXAMPLE)
    if options.view_as(GoogleCloudOptions).flexrs_goal:
        return asks("FlexRS has no GPUs", "the same flags without --flexrs_goal")
    if _ONE_PROCESS not in (options.view_as(DebugOptions).experiments or []):
        return asks(
            "each vCPU would have a process, and each process a network on the same GPU",
            f"--experiments={_ONE_PROCESS}",
        )
    return ok(name, f"{accelerator}; the image has to be the target `gpu`, which has CUDA")
