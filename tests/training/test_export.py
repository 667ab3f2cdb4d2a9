"""Exports of networks, their front end, and their conversion to other formats."""

import dataclasses
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from features.contracts import folders
from features.contracts.documents import Run, VocabularyReference
from features.errors import InputError, JobFailedError
from features.front_end.logmel import log_mel_patches
from features.front_end.params import LogMelParams
from training import convert, overrides, recipes
from training.export import export
from training.export import log_mel_patches as log_mel_patches_in_graph
from training.input.batches import open_features
from training.loops.step import fresh_model, require_fit
from training.models.build import build_model


@pytest.fixture(scope="module")
def waveform() -> np.ndarray:
    """float32 [samples] of noise that grows, a little more than three patches."""
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 0.1, 3 * 15_360 + 3_000) * np.linspace(0, 1, 3 * 15_360 + 3_000)
    return samples.astype(np.float32)


@pytest.fixture(scope="module")
def run_folder(features_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of an untrained network with a bottleneck, as far as conversion reads it."""
    output = tmp_path_factory.mktemp("run")
    export_network("alexnet", features_folder, output)
    document = Run(
        made_by=folders.made_by(),
        recipe={},
        recipe_fingerprint="0" * 16,
        features=str(features_folder),
        features_fingerprint="0" * 16,
        front_end_fingerprint="0" * 16,
        vocabulary=VocabularyReference(num_labels=6, fingerprint="0" * 16),
        skipped_shards=(),
        steps=0,
        metrics={},
    )
    folders.write_document(str(output), document)
    return output


def export_network(name: str, features_folder: Path, output: Path) -> tf_keras.Model:
    features = open_features(str(features_folder), num_labels=None, training_subset=None)
    small = {"width": "0.05", "bottleneck_units": "16"}
    recipe = overrides.override(recipes.find_recipe(name), small)
    recipe = dataclasses.replace(recipe, precision="bfloat16")
    model = build_model(
        recipe.model,
        num_labels=len(features.vocabulary),
        patch_shape=(96, 64),
        precision="bfloat16",
    )
    export(model, recipe, features, str(output))
    return model


# Without convolutions and with; of ResNet-50 and the small network below and in test_train.py,
# and models/test_models.py computes in float32 what each network learned in bfloat16.
@pytest.mark.parametrize("name", ["fully_connected", "alexnet"])
def test_a_network_has_its_outputs_for_patches_and_waveforms(
    name: str, features_folder: Path, tmp_path: Path, waveform: np.ndarray
) -> None:
    model = export_network(name, features_folder, tmp_path)
    signatures = tf.saved_model.load(str(tmp_path / "export")).signatures
    patches = log_mel_patches(waveform, LogMelParams())
    outputs = signatures["patches"](patches=tf.constant(patches))
    shapes = {output: tuple(tensor.shape) for output, tensor in outputs.items()}
    assert shapes == {"scores": (3, 6), "logits": (3, 6), "embedding": (3, 16)}
    # The export computes in float32 what was trained in bfloat16.
    for output, tensor in model(patches).items():
        np.testing.assert_allclose(
            outputs[output], tensor, atol=0.05 * float(tf.reduce_max(tf.abs(tensor)))
        )
    framed = signatures["waveform"](waveform=tf.constant(waveform))
    assert set(framed) == {"scores", "start_seconds"}
    np.testing.assert_allclose(framed["scores"], outputs["scores"], atol=1e-4)
    np.testing.assert_allclose(framed["start_seconds"], [0, 0.96, 1.92], rtol=1e-6)


def test_what_was_trained_on_crops_with_a_softmax_is_exported_for_whole_patches(
    features_folder: Path, tmp_path: Path, waveform: np.ndarray
) -> None:
    features = open_features(str(features_folder), num_labels=None, normalise=True)
    settings = {"width": "0.05", "softmax": "true", "crop_seconds": "0.48"}
    recipe = overrides.override(recipes.small(), settings)
    model = fresh_model(recipe, features)
    export(model, recipe, features, str(tmp_path))
    patches = log_mel_patches(waveform, LogMelParams())

    loaded = tf.saved_model.load(str(tmp_path / "export"))
    outputs = loaded.signatures["patches"](patches=tf.constant(patches))

    assert model(patches[:, :48])["logits"].shape == (3, 6)
    np.testing.assert_allclose(outputs["logits"], model(patches)["logits"], atol=1e-4)
    exponentials = np.exp(outputs["logits"])
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(outputs["scores"], expected, rtol=1e-5)
    long = overrides.override(recipe, {"crop_seconds": "0.97"})
    with pytest.raises(
        InputError, match=r"crop_seconds is 0\.97, and the patches of .* have 0\.96"
    ):
        require_fit(long, features)


def test_log_mel_in_the_graph_is_the_front_end(waveform: np.ndarray) -> None:
    params = LogMelParams()
    in_graph = tf.function(log_mel_patches_in_graph)(tf.constant(waveform), params)
    expected = log_mel_patches(waveform.astype(np.float64), params)
    np.testing.assert_allclose(in_graph, expected, atol=1e-4)


def test_assets_name_the_front_end_by_its_fingerprint(
    run_folder: Path, features_folder: Path
) -> None:
    assets = run_folder / "export" / "assets"
    front_end = json.loads((assets / "front_end.json").read_text())
    features = json.loads((features_folder / "features.json").read_text())
    assert front_end["fingerprint"] == features["front_end_fingerprint"]
    assert {path.name for path in assets.iterdir()} == {
        "labels.parquet",
        "front_end.json",
        "recipe.json",
    }


@pytest.mark.parametrize(
    ("kind", "packages", "files"),
    [
        ("tflite", ["ai_edge_litert"], {"model.tflite"}),
        ("onnx", ["tf2onnx", "onnxruntime"], {"patches.onnx", "waveform.onnx"}),
    ],
)
def test_converted_models_equal_the_saved_model(
    run_folder: Path,
    capfd: pytest.CaptureFixture,
    waveform: np.ndarray,
    kind: str,
    packages: list[str],
    files: set[str],
) -> None:
    for package in packages:
        pytest.importorskip(package, reason=f"the conversion to {kind} needs {package}")
    assert convert.main([str(run_folder), f"--format={kind}"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-3:]] == ["SavedModel", kind, "wrote"]
    assert float(lines[-2].split()[-1]) < 1e-3
    assert {path.name for path in (run_folder / kind).iterdir()} == files
    # More patches than the test of the command has, and more than go through the network at once.
    samples = np.tile(waveform, 22)
    original = convert.load_saved_model(str(run_folder / "export"))
    load = {"tflite": convert.load_tflite, "onnx": convert.load_onnx}[kind]
    converted = load(run_folder / kind)
    expected, received = (apply("waveform", samples) for apply in (original, converted))
    assert expected["scores"].shape == (LogMelParams().num_patches(len(samples)), 6)
    assert len(expected["scores"]) > 64
    np.testing.assert_allclose(received["scores"], expected["scores"], atol=1e-4)
    np.testing.assert_allclose(received["start_seconds"], expected["start_seconds"], rtol=1e-6)


def test_a_converted_model_that_differs_is_refused(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = json.loads((run_folder / "export" / "assets" / "front_end.json").read_text())
    front_end = convert.FrontEnd.from_json(features)
    original = convert.load_saved_model(str(run_folder / "export"))

    def broken(name: str, values: np.ndarray) -> convert.Outputs:
        outputs = original(name, values)
        return {**outputs, "scores": np.full_like(outputs["scores"], np.nan)}

    with pytest.raises(JobFailedError, match="scores of patches differs by nan"):
        convert.largest_difference(broken, original, front_end)
    with pytest.raises(JobFailedError, match="patches gives"):
        convert.largest_difference(lambda *_: {}, original, front_end)


def test_what_is_missing_is_named(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(folders.ContractError, match=r"has no run\.json"):
        convert.main([str(tmp_path), "--format=onnx"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match="pip install tf2onnx onnxruntime"):
        convert.main([str(run_folder), "--format=onnx"])
