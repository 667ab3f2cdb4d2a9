"""Networks on inference runtimes: rows of float32 in, outputs by name out.

OpenVINO runs every kind of file where it is installed, because it needs less CPU time for
convolutions than the runtimes that the files were made for (for dense layers alone, TensorFlow
needs less), and it alone has bfloat16 and int8. Without it, float32 runs on the file's own runtime.
The last bits of outputs depend on the runtime, so its `InferenceRuntime` is part of every plan.
"""

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np

from features.contracts.documents import InferenceRuntime, Precision, RuntimeName
from features.errors import InputError
from features.quiet import import_tensorflow
from features.storage import files
from pipelines.runtime import accelerator
from pipelines.runtime.row_limit import OutOfMemoryError, RowLimit

Kind = Literal["saved_model", "tflite", "onnx", "openvino"]
Outputs = Mapping[str, np.ndarray]
Shapes = Mapping[str, tuple[int | None, ...]]

# The runtimes of each kind of file, the best first, and the packages that have them.
_RUNTIMES: Final[Mapping[Kind, tuple[RuntimeName, ...]]] = {
    "saved_model": ("openvino", "tensorflow"),
    "tflite": ("openvino", "ai-edge-litert"),
    "onnx": ("openvino", "onnxruntime"),
    "openvino": ("openvino",),
}
_MODULES: Final[Mapping[RuntimeName, str]] = {
    "openvino": "openvino",
    "tensorflow": "tensorflow",
    "ai-edge-litert": "ai_edge_litert",
    "onnxruntime": "onnxruntime",
}
# Rows of one call of TensorFlow; of one request of OpenVINO, of which each core has one at a time.
_TENSORFLOW_ROWS, _OPENVINO_ROWS = 128, 32
_REQUESTS_PER_CORE = 4
_GPU_ROWS = 512  # a few GB of activations of the largest network
# Signature of a SavedModel that has none and can be called.
CALL: Final = "__call__"
_OUT_OF_MEMORY: Final = re.compile("OOM|failed to allocate", re.IGNORECASE)
# Set by `--workers` in each worker, which has a part of the cores.
_THREADS = "TF_NUM_INTRAOP_THREADS"


class Network(Protocol):
    """A loaded network, which the threads of a runner may call at the same time.

    Attributes:
      runtime: what it runs on.
      outputs: name -> shape; None for a length that depends on the input.
      batch_size: rows of a call that keep all cores busy; None for a network whose input has no
        axis of rows, such as a waveform.
    """

    runtime: InferenceRuntime
    outputs: Shapes
    batch_size: int | None

    def __call__(self, batch: np.ndarray) -> Outputs:
        """Apply the network.

        Args:
          batch: float32 [rows, ...] with any number of rows, or an input without rows.

        Returns:
          Name -> float32 [rows, ...].
        """


def candidates(
    kind: Kind, precision: Precision, *, gpu: bool = False
) -> tuple[InferenceRuntime, ...]:
    """The installed runtimes for a kind of file, the best first.

    Args:
      kind: of the file.
      precision: of the layers.
      gpu: whether the machine that applies the network has a GPU, which TensorFlow alone uses, in
        float32.

    Raises:
      InputError: none is installed; the message says what to install.
    """
    wanted = _RUNTIMES[kind] if precision == "float32" else ("openvino",)
    on_gpu = gpu and "tensorflow" in wanted
    if on_gpu:
        wanted = ("tensorflow", "openvino")
    found = tuple(
        InferenceRuntime(
            name,
            importlib.metadata.version(name),
            precision,
            device="gpu" if on_gpu and name == "tensorflow" else "cpu",
        )
        for name in wanted
        if _is_installed(name)
    )
    # OpenVINO knows the tensors of TFLite, and not the names that its signatures give them.
    if not found or (kind == "tflite" and not _is_installed("ai-edge-litert")):
        raise InputError(
            f"a network in {kind} with --precision {precision} needs {' or '.join(wanted)}, which "
            f"is not installed: pip install {wanted[-1]}"
        )
    return found


def padded_rows(runtime: InferenceRuntime) -> int:
    """Number that rows are filled up to a multiple of, so that a runtime plans for one shape."""
    if runtime.name == "openvino":
        return _OPENVINO_ROWS
    return _GPU_ROWS if runtime.device == "gpu" else _TENSORFLOW_ROWS


def require_instructions(precision: Precision) -> None:
    """Require that the processor of this machine computes in a precision.

    Raises:
      InputError: it has no instructions for bfloat16.
    """
    if precision == "bfloat16" and "BF16" not in _openvino_capabilities():
        raise InputError(
            "--precision bfloat16: this processor has no instructions for it (AVX512_BF16 or AMX), "
            "and OpenVINO would compute in float32; give --precision float32 or int8"
        )


def load(
    path: str,
    kind: Kind,
    runtime: InferenceRuntime,
    *,
    signature: str | None = None,
    batched: bool = True,
) -> Network:
    """Load a network.

    Args:
      path: the folder of a SavedModel, or a file; may be in a bucket.
      kind: of the file.
      runtime: one of `candidates`.
      signature: of a SavedModel or TFLite; None for the default. OpenVINO reads the default alone,
        which is the signature `patches` of our exports.
      batched: whether the first axis of the input is of rows that do not depend on each other.

    Raises:
      InputError: another version of the runtime is installed, it cannot read the network, this
        processor has no instructions for the precision, or there is no GPU for a runtime on one.
    """
    require_instructions(runtime.precision)
    found = candidates(kind, runtime.precision, gpu=runtime.device == "gpu")
    installed = {each.name: each for each in found}
    if installed.get(runtime.name) != dataclasses.replace(runtime, weights=None):
        present = ", ".join(str(each) for each in installed.values())
        raise InputError(
            f"the job was planned for {runtime}, and this machine has {present}: install the same "
            f"version on all machines (pip install {runtime.name}=={runtime.version})"
        )
    with local_copy(path) as local:
        try:
            return _load(local, runtime, signature, batched)
        except _UnfitError as error:
            raise InputError(f"{path}: {runtime.name} cannot load it: {error}") from error
        except Exception as error:  # each runtime has its own
            raise InputError(
                f"{path}: {runtime.name} cannot load it: {type(error).__name__}: {error}; copy its "
                "files again, since they may be damaged, or give another one (in a card under file)"
            ) from error


class _UnfitError(ValueError):
    """A runtime or a network that is not what it has to be; the message has the cure."""


def _require_one_input(count: int) -> None:
    if count != 1:
        raise _UnfitError(
            f"it has {count} inputs, and the jobs give one, a batch of patches or samples; convert "
            "the network with its other inputs as constants, and name that under file of the card"
        )


def _load(path: str, runtime: InferenceRuntime, signature: str | None, batched: bool) -> Network:
    match runtime.name:
        case "openvino":
            return _OpenVino(path, runtime, signature, batched)
        case "onnxruntime":
            return _OnnxRuntime(path, runtime, batched)
        case "ai-edge-litert":
            return _TfLite(path, runtime, signature, batched)
        case "tensorflow":
            return _TensorFlow(path, runtime, signature, batched)


def require_installed(package: str) -> None:
    """Require a package of the same name as its module.

    Raises:
      InputError: it is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise InputError(f"{package} is not installed: pip install {package}")


def _is_installed(name: RuntimeName) -> bool:
    return importlib.util.find_spec(_MODULES[name]) is not None


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which sends an event to Google at each import.

    OpenVINO and NNCF do without the package if it cannot be imported.
    """
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino


def _openvino_capabilities() -> list[str]:
    return import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@contextlib.contextmanager
def local_copy(path: str) -> Iterator[str]:
    """The path itself, or for the block a copy of a file or folder that is in a bucket.

    A file keeps its name, and has the files of the same stem beside it, since some have their
    weights there: `network.bin` of `network.xml`, `network.onnx.data` of `network.onnx`.
    """
    if "://" not in path:
        yield path
        return
    folder, _, name = path.rstrip("/").rpartition("/")
    if files.exists(path):
        found = files.list_files(folder, f"{name.rpartition('.')[0] or name}.*")
    else:
        found = [file for depth in ("*", "*/*") for file in files.list_files(path, depth)]
    with tempfile.TemporaryDirectory() as temporary:
        for file in found:
            target = Path(temporary, file.removeprefix(f"{folder}/"))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(files.read_bytes(file))
        yield f"{temporary}/{name}"


def _num_threads() -> int:
    return int(os.environ.get(_THREADS) or len(os.sched_getaffinity(0)))


class _TensorFlow:
    """A signature of a SavedModel in TensorFlow."""

    def __init__(
        self, path: str, runtime: InferenceRuntime, signature: str | None, batched: bool
    ) -> None:
        # Otherwise the first process on a GPU takes all its memory.
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        # Imported here, since commands that only build a graph of stages do without its 5 s.
        import_tensorflow()
        import tensorflow as tf

        if runtime.device == "gpu" and not tf.config.list_physical_devices("GPU"):
            raise _UnfitError(
                "the job was planned for a GPU, and TensorFlow finds none on this machine: it has "
                f"no GPU, no driver ({accelerator.DRIVER} on Dataflow) or no CUDA; "
                f"{accelerator.CUDA_CURE}"
            )
        # Otherwise products have 10 bits on GPUs since Ampere, and float32 is not what it says.
        tf.config.experimental.enable_tensor_float_32_execution(False)
        self._to_tensor = tf.constant
        self._model = tf.saved_model.load(path)
        signatures = self._model.signatures
        name = signature or "serving_default"
        if name == CALL and callable(self._model):
            functions = self._model.__call__.concrete_functions
            if len(functions) != 1:
                raise _UnfitError(
                    f"it can be called in {len(functions)} ways, and the jobs need one; give "
                    f"signature of the card one of: {', '.join(signatures)}"
                )
            (self._apply,) = functions
        elif name in signatures:
            self._apply = signatures[name]
        else:
            raise _UnfitError(
                f"it has no signature {name}, but: {', '.join(signatures)}; correct signature of "
                "the card"
            )
        self.runtime = runtime
        self.outputs: Shapes = {
            output: tuple(spec.shape.as_list())
            for output, spec in _by_name(self._apply.structured_outputs).items()
        }
        rows = padded_rows(runtime)
        self.batch_size = rows if batched else None
        self._limit = RowLimit(rows)
        self._no_memory = tf.errors.ResourceExhaustedError

    def __call__(self, batch: np.ndarray) -> Outputs:
        if self.batch_size is None:
            return self._call(batch)
        return self._limit.call(lambda rows: _in_pieces(self._call, batch, rows))

    def _call(self, batch: np.ndarray) -> Outputs:
        try:
            outputs = self._apply(self._to_tensor(batch))
        except self._no_memory as error:
            lines = str(error).splitlines()  # most are about the graph
            raise OutOfMemoryError(next(filter(_OUT_OF_MEMORY.match, lines), lines[0])) from error
        return {name: tensor.numpy() for name, tensor in _by_name(outputs).items()}


def _by_name(outputs: Any) -> Mapping[str, Any]:
    """Outputs by name, as of a signature; those of a function have the names of their places."""
    if isinstance(outputs, Mapping):
        return outputs
    listed = outputs if isinstance(outputs, list | tuple) else [outputs]
    return {f"output_{place}": output for place, output in enumerate(listed)}


def _tflite_interpreter(path: str) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(path, num_threads=_num_threads())


class _TfLite:
    """A TFLite file in LiteRT. Without signatures, outputs have the names of their tensors."""

    def __init__(
        self, path: str, runtime: InferenceRuntime, signature: str | None, batched: bool
    ) -> None:
        self._interpreter = interpreter = _tflite_interpreter(path)
        _require_one_input(len(interpreter.get_input_details()))
        if interpreter.get_signature_list():
            runner = interpreter.get_signature_runner(signature)
            (name,) = runner.get_input_details()
            details = runner.get_output_details()
            self._call: Callable[[np.ndarray], Outputs] = lambda batch: runner(**{name: batch})
        else:
            details = {detail["name"]: detail for detail in interpreter.get_output_details()}
            self._call = self._invoke
        self.runtime = runtime
        self.outputs: Shapes = {
            name: tuple(None if length < 0 else int(length) for length in detail["shape_signature"])
            for name, detail in details.items()
        }
        self.batch_size = _TENSORFLOW_ROWS if batched else None
        self._calling = threading.Lock()  # an interpreter has one set of tensors

    def __call__(self, batch: np.ndarray) -> Outputs:
        with self._calling:
            if self.batch_size is None:
                return self._call(batch)
            return _in_pieces(self._call, batch, self.batch_size)

    def _invoke(self, batch: np.ndarray) -> Outputs:
        (node,) = self._interpreter.get_input_details()
        if tuple(node["shape"]) != batch.shape:
            self._interpreter.resize_tensor_input(node["index"], batch.shape)
        self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(node["index"], batch)
        self._interpreter.invoke()
        found = self._interpreter.get_output_details()
        return {detail["name"]: self._interpreter.get_tensor(detail["index"]) for detail in found}


class _OnnxRuntime:
    """An ONNX file in ONNX Runtime."""

    def __init__(self, path: str, runtime: InferenceRuntime, batched: bool) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = _num_threads()
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        inputs = self._session.get_inputs()
        _require_one_input(len(inputs))
        self._input = inputs[0].name
        self.runtime = runtime
        self.outputs: Shapes = {
            node.name: tuple(length if isinstance(length, int) else None for length in node.shape)
            for node in self._session.get_outputs()
        }
        self.batch_size = _TENSORFLOW_ROWS if batched else None

    def __call__(self, batch: np.ndarray) -> Outputs:
        if self.batch_size is None:
            return self._call(batch)
        return _in_pieces(self._call, batch, self.batch_size)

    def _call(self, batch: np.ndarray) -> Outputs:
        values = self._session.run(list(self.outputs), {self._input: batch})
        return dict(zip(self.outputs, values, strict=True))


class _OpenVino:
    """Any file in OpenVINO: small pieces of a batch, one on each core at a time.

    A piece fits in the cache of its core, and cores do not wait for each other within it.
    """

    def __init__(
        self, path: str, runtime: InferenceRuntime, signature: str | None, batched: bool
    ) -> None:
        openvino = import_openvino()
        core = openvino.Core()
        model = core.read_model(path)
        _require_one_input(len(model.inputs))
        names = [min(output.get_names()) for output in model.outputs]
        if path.endswith(".tflite"):
            names = _signature_names(path, signature, names)
        self.outputs: Shapes = {
            name: tuple(None if length.is_dynamic else length.get_length() for length in shape)
            for name, shape in zip(
                names, (output.partial_shape for output in model.outputs), strict=True
            )
        }
        num_threads = _num_threads()
        if batched:
            shape = model.inputs[0].partial_shape
            shape[0] = _OPENVINO_ROWS
            model.reshape(shape)
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "bf16" if runtime.precision == "bfloat16" else "f32",
                "INFERENCE_NUM_THREADS": num_threads,
                "NUM_STREAMS": num_threads if batched else 1,
                # Processes that run side by side would be pinned to the same cores.
                "ENABLE_CPU_PINNING": False,
            },
        )
        self.runtime = runtime
        self._names = names
        self._requests = openvino.AsyncInferQueue(compiled, num_threads if batched else 1)
        self.batch_size = _OPENVINO_ROWS * _REQUESTS_PER_CORE * num_threads if batched else None
        self._calling = threading.Lock()  # the requests of a call have all cores

    def __call__(self, batch: np.ndarray) -> Outputs:
        with self._calling:
            return self._call(batch)

    def _call(self, batch: np.ndarray) -> Outputs:
        if self.batch_size is None:
            request = self._requests[0]
            request.infer([batch])
            return self._copy_outputs(request)
        pieces: dict[int, Outputs] = {}
        self._requests.set_callback(
            lambda request, start: pieces.__setitem__(start, self._copy_outputs(request))
        )
        for start in range(0, len(batch), _OPENVINO_ROWS):
            self._requests.start_async([_padded(batch[start:], _OPENVINO_ROWS)], start)
        self._requests.wait_all()
        return _concatenate([pieces[start] for start in sorted(pieces)], len(batch))

    def _copy_outputs(self, request: Any) -> Outputs:
        # The next piece overwrites the tensors of a request.
        return {
            name: request.get_output_tensor(index).data.copy()
            for index, name in enumerate(self._names)
        }


def _signature_names(path: str, signature: str | None, tensors: list[str]) -> list[str]:
    """The outputs of a signature of TFLite, by the names of the tensors that OpenVINO has."""
    interpreter = _tflite_interpreter(path)
    if not interpreter.get_signature_list():
        return tensors
    details = interpreter.get_signature_runner(signature).get_output_details()
    names = {detail["name"]: name for name, detail in details.items()}
    if names.keys() != set(tensors):
        raise _UnfitError(
            "OpenVINO reads the first graph of the file, which is of another signature; convert "
            "the network with this signature alone"
        )
    return [names[tensor] for tensor in tensors]


def _in_pieces(apply: Callable[[np.ndarray], Outputs], batch: np.ndarray, rows: int) -> Outputs:
    """Apply a network to pieces of one shape, for which runtimes plan once."""
    starts = range(0, len(batch), rows)
    return _concatenate([apply(_padded(batch[start:], rows)) for start in starts], len(batch))


def _padded(batch: np.ndarray, rows: int) -> np.ndarray:
    """The first rows of a batch; zeros where it has fewer."""
    if len(batch) >= rows:
        return batch[:rows]
    padded = np.zeros((rows, *batch.shape[1:]), batch.dtype)
    padded[: len(batch)] = batch
    return padded


def _concatenate(pieces: list[Outputs], rows: int) -> Outputs:
    return {name: np.concatenate([piece[name] for piece in pieces])[:rows] for name in pieces[0]}
