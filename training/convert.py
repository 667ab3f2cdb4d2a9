"""RUN -> RUN: convert the export of a trained network, and check it against the SavedModel.

python -m training.convert run --format tflite
"""

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from features.contracts import folders
from features.contracts.documents import Run
from features.contracts.export import FOLDER, PATCHES, WAVEFORM, read_front_end
from features.errors import OK, InputError, JobFailedError, run_command
from features.front_end.front_end import FrontEnd
from features.storage import files, tensorflow_paths
from training.export import signatures_of

_DESCRIPTION = """\
Convert the SavedModel of a run, apply both models to the same input, and print
the largest difference, the sizes and the load times.

  tflite  RUN/tflite/model.tflite, a file with the signatures `patches` and
          `waveform`, which needs only operations of TFLite itself
  onnx    RUN/onnx/patches.onnx and RUN/onnx/waveform.onnx

A network on embeddings has only `patches`. The formats need more packages:
pip install ai-edge-litert, or pip install tf2onnx onnxruntime.
"""
# Packages that the formats need.
_PACKAGES = {"tflite": ("ai_edge_litert",), "onnx": ("tf2onnx", "onnxruntime")}
_OPSET = 17  # operations of 2022, which present runtimes support
# Largest difference from the SavedModel, relative to the largest value of an output.
_TOLERANCE = 1e-3

Outputs = Mapping[str, np.ndarray]
# A converted model, loaded: (signature, input) -> outputs.
Apply = Callable[[str, np.ndarray], Outputs]


def to_tflite(export: str, folder: Path, signatures: Sequence[str]) -> None:
    """Write `folder`/model.tflite."""
    converter = tf.lite.TFLiteConverter.from_saved_model(export, signature_keys=list(signatures))
    (folder / "model.tflite").write_bytes(converter.convert())


def load_tflite(folder: Path) -> Apply:
    """Load the file that `to_tflite` wrote."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(folder / "model.tflite"))
    signatures = interpreter.get_signature_list()
    runners = {name: interpreter.get_signature_runner(name) for name in signatures}
    return lambda name, values: runners[name](**{name: values})


def to_onnx(export: str, folder: Path, signatures: Sequence[str]) -> None:
    """Write a file for each signature, such as `folder`/patches.onnx."""
    import tf2onnx

    model = tf.saved_model.load(export)
    for name in signatures:
        signature = model.signatures[name]
        (spec,) = signature.structured_input_signature[1].values()
        function = tf.function(lambda values, f=signature, n=name: f(**{n: values}))
        tf2onnx.convert.from_function(
            function, [spec], opset=_OPSET, output_path=str(folder / f"{name}.onnx")
        )


def load_onnx(folder: Path) -> Apply:
    """Load the files that `to_onnx` wrote."""
    import onnxruntime

    sessions = {path.stem: onnxruntime.InferenceSession(path) for path in folder.glob("*.onnx")}

    def apply(name: str, values: np.ndarray) -> Outputs:
        session = sessions[name]
        outputs = [output.name for output in session.get_outputs()]
        return dict(zip(outputs, session.run(outputs, {name: values}), strict=True))

    return apply


def load_saved_model(export: str) -> Apply:
    """Load a SavedModel."""
    model = tf.saved_model.load(export)

    def apply(name: str, values: np.ndarray) -> Outputs:
        outputs = model.signatures[name](**{name: tf.constant(values)})
        return {output: tensor.numpy() for output, tensor in outputs.items()}

    return apply


_CONVERTERS: Mapping[
    str, tuple[Callable[[str, Path, Sequence[str]], None], Callable[[Path], Apply]]
] = {"tflite": (to_tflite, load_tflite), "onnx": (to_onnx, load_onnx)}


def largest_difference(converted: Apply, original: Apply, front_end: FrontEnd) -> float:
    """The largest difference between two models on noise, relative to each output's maximum.

    Raises:
      JobFailedError: outputs or shapes differ, or the difference is above the tolerance.
    """
    rng = np.random.default_rng(0)
    inputs = {
        PATCHES: rng.normal(-2, 1, (3, *front_end.patch_shape)),
        WAVEFORM: rng.normal(0, 0.1, 3 * front_end.log_mel.patch_samples),
    }
    largest = 0.0
    for name in signatures_of(front_end):
        values = inputs[name]
        expected = original(name, values.astype(np.float32))
        received = converted(name, values.astype(np.float32))
        shapes = [{k: v.shape for k, v in outputs.items()} for outputs in (expected, received)]
        if shapes[0] != shapes[1]:
            raise JobFailedError(f"{name} gives {shapes[1]}, expected {shapes[0]}")
        for output, reference in expected.items():
            difference = np.abs(received[output] - reference).max() / np.abs(reference).max()
            # A NaN is not below any tolerance.
            if not difference <= _TOLERANCE:
                raise JobFailedError(
                    f"{output} of {name} differs by {difference:.2g} of its largest value from "
                    "the SavedModel; the converted model must not be used"
                )
            largest = max(largest, float(difference))
    return largest


def convert(run: str, kind: str) -> str:
    """Convert to RUN/`kind`; returns a table of sizes, load times and the difference.

    Nothing is written if the converted model differs.

    Raises:
      ContractError: the run is not finished.
      InputError: a package that the format needs is not installed.
      JobFailedError: see `largest_difference`.
    """
    folders.read_document(run, Run)
    missing = [name for name in _PACKAGES[kind] if importlib.util.find_spec(name) is None]
    if missing:
        packages = " ".join(name.replace("_", "-") for name in missing)
        raise InputError(f"{kind} needs packages that are not installed: pip install {packages}")
    write, load = _CONVERTERS[kind]
    export = files.join(run, FOLDER)
    front_end = read_front_end(export)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write(export, folder, signatures_of(front_end))
        original, original_seconds = _timed(lambda: load_saved_model(export))
        converted, converted_seconds = _timed(lambda: load(folder))
        difference = largest_difference(converted, original, front_end)
        converted_bytes = 0
        for file in sorted(folder.iterdir()):
            converted_bytes += file.stat().st_size
            files.write_bytes(files.join(run, kind, file.name), file.read_bytes())
    original_bytes = sum(
        files.size_of(path)
        for pattern in ("*", "*/*")
        for path in files.list_files(export, pattern)
    )
    return (
        f"{'':<12}{'MB':>8}{'loads in s':>12}{'differs by':>12}\n"
        f"{'SavedModel':<12}{original_bytes / 1e6:>8.1f}{original_seconds:>12.2f}\n"
        f"{kind:<12}{converted_bytes / 1e6:>8.1f}{converted_seconds:>12.2f}{difference:>12.1e}"
    )


def _timed(load: Callable[[], Apply]) -> tuple[Apply, float]:
    start = time.monotonic()
    loaded = load()
    return loaded, time.monotonic() - start


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.convert",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run", metavar="RUN", help="folder made by training.train")
    parser.add_argument("--format", required=True, choices=list(_CONVERTERS))
    args = parser.parse_args(argv)
    run = files.absolute(args.run)
    tensorflow_paths.require_opens("RUN", run)
    print(convert(run, args.format))
    print(f"wrote {files.join(args.run, args.format)}")
    return OK


if __name__ == "__main__":
    run_command(main)
