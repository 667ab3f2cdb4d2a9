"""Networks in several formats on all installed runtimes, against the same network in NumPy."""

import importlib.util
import logging
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
import tensorflow as tf
import tf2onnx

from features.contracts.documents import InferenceRuntime
from features.errors import InputError, JobFailedError
from pipelines.runtime import inference
from tests import s3
from tests.networks import with_little_memory

_RNG = np.random.default_rng(3)
_WEIGHTS = _RNG.normal(0, 0.3, (6 * 4, 5)).astype(np.float32)


def expected(patches: np.ndarray) -> dict[str, np.ndarray]:
    logits = patches.reshape(len(patches), -1) @ _WEIGHTS
    return {"logits": logits, "scores": 1 / (1 + np.exp(-logits))}


class Module(tf.Module):
    def __init__(self) -> None:
        self.weights = tf.Variable(_WEIGHTS)

    @tf.function(input_signature=[tf.TensorSpec([None, 6, 4], tf.float32, "patches")])
    def patches(self, patches: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = tf.reshape(patches, [-1, 24]) @ self.weights
        return {"logits": logits, "scores": tf.sigmoid(logits)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "waveform")])
    def waveform(self, waveform: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"frames": tf.signal.frame(waveform, 4, 4)}


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Kind -> path of the same network; `waveform` is another, without an axis of rows.

    The files of OpenVINO and ONNX have their weights in a file beside them.
    """
    root = tmp_path_factory.mktemp("networks")
    module = Module()
    for name, function in (("saved_model", module.patches), ("waveform", module.waveform)):
        signatures = {"serving_default": function, "patches": module.patches}
        tf.saved_model.save(module, str(root / name), signatures=signatures)
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(root / "saved_model"), signature_keys=["serving_default"]
    )
    (root / "tflite").write_bytes(converter.convert())
    tf2onnx.convert.from_function(
        tf.function(lambda values: module.patches(values)),
        [tf.TensorSpec([None, 6, 4], tf.float32, "patches")],
        output_path=str(root / "onnx"),
    )
    onnx.save_model(
        onnx.load(root / "onnx"),
        str(root / "network.onnx"),
        save_as_external_data=True,
        location="network.onnx.data",
        size_threshold=100,
    )
    (root / "tflite").rename(root / "network.tflite")
    openvino = inference.import_openvino()
    graph = openvino.Core().read_model(root / "saved_model")
    openvino.save_model(graph, root / "network.xml", compress_to_fp16=False)
    return {
        "saved_model": f"{root}/saved_model",
        "tflite": f"{root}/network.tflite",
        "onnx": f"{root}/network.onnx",
        "openvino": f"{root}/network.xml",
        "waveform": f"{root}/waveform",
    }


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("saved_model", "openvino"),
        ("saved_model", "tensorflow"),
        ("tflite", "openvino"),
        ("tflite", "ai-edge-litert"),
        ("onnx", "openvino"),
        ("onnx", "onnxruntime"),
    ],
)
def test_every_runtime_gives_the_outputs_by_name(
    networks: dict[str, str], kind: inference.Kind, name: str
) -> None:
    found = {each.name: each for each in inference.candidates(kind, "float32")}
    assert next(iter(found)) == "openvino"
    network = inference.load(networks[kind], kind, found[name])

    assert network.runtime.name == name
    assert {output: shape[-1] for output, shape in network.outputs.items()} == {
        "logits": 5,
        "scores": 5,
    }
    for rows in (1, 16, 333):  # part of a piece, a piece, several calls
        patches = _RNG.normal(0, 1, (rows, 6, 4)).astype(np.float32)
        outputs = network(patches)
        for output, values in expected(patches).items():
            np.testing.assert_allclose(outputs[output], values, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("saved_model", "openvino"),
        ("saved_model", "tensorflow"),
        ("tflite", "ai-edge-litert"),
        ("onnx", "onnxruntime"),
    ],
)
def test_threads_call_a_network_at_the_same_time(
    networks: dict[str, str], kind: inference.Kind, name: str
) -> None:
    found = {each.name: each for each in inference.candidates(kind, "float32")}
    network = inference.load(networks[kind], kind, found[name])
    batches = [_RNG.normal(0, 1, (300, 6, 4)).astype(np.float32) for _ in range(40)]

    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(network, batches))

    for batch, values in zip(batches, outputs, strict=True):
        np.testing.assert_allclose(values["scores"], expected(batch)["scores"], atol=1e-4)


def test_networks_in_a_bucket_are_those_of_the_disk(networks: dict[str, str]) -> None:
    """Each with the files beside it, on every runtime; `openvino` as it has an int8 network."""
    patches = _RNG.normal(0, 1, (5, 6, 4)).astype(np.float32)
    with s3.start() as bucket:
        bucket.put_folder("run", Path(networks["onnx"]).parent)
        for kind in ("saved_model", "tflite", "onnx", "openvino"):
            place = f"s3://{s3.BUCKET}/run/{Path(networks[kind]).name}"
            for runtime in inference.candidates(kind, "int8" if kind == "openvino" else "float32"):
                scores = inference.load(place, kind, runtime)(patches)["scores"]
                np.testing.assert_allclose(scores, expected(patches)["scores"], atol=1e-4)


@pytest.mark.parametrize("name", ["openvino", "tensorflow"])
def test_a_waveform_has_no_rows(networks: dict[str, str], name: str) -> None:
    (runtime,) = (
        each for each in inference.candidates("saved_model", "float32") if each.name == name
    )
    network = inference.load(networks["waveform"], "saved_model", runtime, batched=False)
    waveform = np.arange(10, dtype=np.float32)

    assert network.batch_size is None
    np.testing.assert_array_equal(network(waveform)["frames"], waveform[:8].reshape(2, 4))


def test_another_version_or_a_damaged_network_is_refused(
    networks: dict[str, str], tmp_path: Path
) -> None:
    planned = InferenceRuntime("openvino", "2020.1", "float32")
    with pytest.raises(InputError, match=r"planned for openvino 2020.1 in float32, and this machi"):
        inference.load(networks["onnx"], "onnx", planned)
    (tmp_path / "broken.tflite").write_bytes(b"TFL3" * 9)
    (tmp_path / "broken.onnx").write_bytes(Path(networks["onnx"]).read_bytes()[:-50])
    shutil.copytree(networks["saved_model"], tmp_path / "broken")
    (weights,) = (tmp_path / "broken/variables").glob("*.data-*")
    weights.write_bytes(weights.read_bytes()[:-50])
    kinds: dict[str, inference.Kind] = {".tflite": "tflite", ".onnx": "onnx", "": "saved_model"}
    for suffix, kind in kinds.items():
        for runtime in inference.candidates(kind, "float32"):
            with pytest.raises(InputError, match=rf"(?s)broken{suffix}: .* load it.*copy its"):
                inference.load(f"{tmp_path}/broken{suffix}", kind, runtime)


def test_two_inputs_are_refused(tmp_path: Path) -> None:
    specs = [tf.TensorSpec([None, 4], tf.float32, name) for name in ("left", "right")]
    add = tf.function(lambda left, right: left + right, input_signature=specs)
    tf2onnx.convert.from_function(add, specs, output_path=f"{tmp_path}/two.onnx")
    converter = tf.lite.TFLiteConverter.from_concrete_functions([add.get_concrete_function()], add)
    (tmp_path / "two.tflite").write_bytes(converter.convert())
    kinds: tuple[inference.Kind, ...] = ("onnx", "tflite")
    for kind in kinds:
        for runtime in inference.candidates(kind, "float32"):
            with pytest.raises(InputError, match=r"it has 2 inputs, .* under file of the card"):
                inference.load(f"{tmp_path}/two.{kind}", kind, runtime)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    without = {"openvino", "onnxruntime"}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in without else find_spec(name)
    )
    (runtime,) = inference.candidates("saved_model", "float32")
    assert runtime.name == "tensorflow"
    assert [each.name for each in inference.candidates("tflite", "float32")] == ["ai-edge-litert"]
    with pytest.raises(InputError, match="int8 needs openvino, which is not installed: pip insta"):
        inference.candidates("saved_model", "int8")
    without.add("ai_edge_litert")
    for kind, package in (("tflite", "ai-edge-litert"), ("onnx", "onnxruntime")):
        with pytest.raises(InputError, match=f"needs openvino or .*: pip install {package}"):
            inference.candidates(kind, "float32")


def test_bfloat16_needs_its_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "_openvino_capabilities", lambda: ["FP32", "INT8"])
    with pytest.raises(InputError, match="bfloat16: this processor has no instructions for it"):
        inference.require_instructions("bfloat16")
    inference.require_instructions("int8")
    monkeypatch.setattr(inference, "_openvino_capabilities", lambda: ["FP32", "BF16"])
    inference.require_instructions("bfloat16")
    assert inference.candidates("saved_model", "bfloat16")[0].precision == "bfloat16"


def test_a_gpu_is_for_tensorflow(networks: dict[str, str]) -> None:
    found = inference.candidates("saved_model", "float32", gpu=True)
    assert [(each.name, each.device) for each in found] == [
        ("tensorflow", "gpu"),
        ("openvino", "cpu"),
    ]
    for kind, precision in (("onnx", "float32"), ("saved_model", "int8")):
        (first, *_) = inference.candidates(kind, precision, gpu=True)
        assert (first.name, first.device) == ("openvino", "cpu")
    if not tf.config.list_physical_devices("GPU"):
        with pytest.raises(InputError, match="planned for a GPU, and TensorFlow finds none on thi"):
            inference.load(networks["saved_model"], "saved_model", found[0])


@pytest.fixture
def propagated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines reach pytest, also after a command of the same process has set up its log."""
    monkeypatch.setattr(logging.getLogger("pipelines"), "propagate", True)


def test_rows_that_do_not_fit_are_halved(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, propagated: None
) -> None:
    """TensorFlow's own error; there is no memory for 41 rows, or for one."""
    (runtime,) = (
        each for each in inference.candidates("saved_model", "float32") if each.name == "tensorflow"
    )
    found, module = {}, Module()
    for rows in (40, 0):

        @tf.function(input_signature=[tf.TensorSpec([None, 6, 4], tf.float32, "patches")])
        def patches(patches: tf.Tensor, rows: int = rows) -> dict[str, tf.Tensor]:
            return module.patches(with_little_memory(patches, rows))

        module.wrapped = patches
        tf.saved_model.save(module, f"{tmp_path}/{rows}", signatures={"serving_default": patches})
        found[rows] = inference.load(f"{tmp_path}/{rows}", "saved_model", runtime)
    values = _RNG.normal(0, 1, (333, 6, 4)).astype(np.float32)

    for _ in range(2):
        scores = found[40](values)["scores"]
        np.testing.assert_allclose(scores, expected(values)["scores"], atol=1e-4)
    ours = [record for record in caplog.records if record.name.endswith("row_limit")]
    assert [record.getMessage() for record in ours] == [
        "no memory for 128 rows at once; going on with 64",
        "no memory for 64 rows at once; going on with 32",
    ]
    with pytest.raises(JobFailedError, match=r"has no room for the network: .*OOM when allocating"):
        found[0](values)


def test_nothing_leaves_the_machine(networks: dict[str, str], tmp_path: Path) -> None:
    """A process without telemetry opens no connection; the package would at its import."""
    program = f"""
import sys
def refuse(event, arguments):
    assert event not in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen"), arguments
sys.addaudithook(refuse)
from pipelines.runtime import inference
(runtime, *_) = inference.candidates("onnx", "float32")
inference.load({networks["onnx"]!r}, "onnx", runtime)
import openvino.tools.ovc
assert openvino.tools.ovc.telemetry.__class__.__module__ == "openvino.tools.ovc.telemetry_stub"
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env={"HOME": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
