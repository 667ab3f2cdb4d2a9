"""The normalised network against the graph that tensorflow-transform writes."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from features.contracts import folders
from features.errors import InputError
from features.front_end.logmel import log_mel_patches
from features.front_end.params import LogMelParams
from pipelines import band_statistics
from pipelines.extraction import bands
from tests.training.conftest import write_features
from training.config import Recipe
from training.input.batches import open_features
from training.loops.checkpoints import restore_last_weights
from training.loops.step import fresh_model
from training.models.build import build_model
from training.train import main


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the statistics and the graph of the real job."""
    folder = tmp_path_factory.mktemp("features")
    write_features(folder, shards={"train": 2, "validation": 1})
    assert band_statistics.main(["--features", str(folder)]) == 0
    return folder


def command(features: Path, output: Path, *more: str) -> list[str]:
    sizes = ["--batch-size=32", "--set=width=0.05", "--steps=10"]
    return ["fully_connected", f"--features={features}", f"--output={output}", *sizes, *more]


@pytest.fixture(scope="module")
def run_folder(features: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("run")
    assert main(command(features, output, "--set=normalise=true")) == 0
    return output


@pytest.fixture(scope="module")
def model(features: Path, run_folder: Path) -> tf_keras.Model:
    """The trained network, from its checkpoint."""
    recipe = Recipe.from_json(json.loads((run_folder / "run.json").read_text())["recipe"])
    opened = open_features(str(features), num_labels=None, normalise=True)
    model = fresh_model(recipe, opened)
    restore_last_weights(str(run_folder), model, recipe)
    return model


def transformed(features: Path, patches: np.ndarray) -> tf.Tensor:
    import tensorflow_transform as tft

    graph = tft.TFTransformOutput(str(features / "transform"))
    return graph.transform_raw_features({bands.LOG_MEL: patches})[bands.LOG_MEL]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(-2, 2, shape).astype(np.float32)


def test_a_trained_network_normalises_as_the_transform_graph_does(
    features: Path, model: tf_keras.Model
) -> None:
    patches = noise(5, 96, 64)
    layer = tf_keras.Model(model.input, model.get_layer("normalisation").output)
    expected = transformed(features, patches)
    assert float(tf.reduce_max(tf.abs(expected - patches))) > 1
    np.testing.assert_allclose(layer(patches, training=True), expected, rtol=1e-5, atol=1e-5)


def test_both_signatures_of_the_export_normalise(
    features: Path, model: tf_keras.Model, run_folder: Path
) -> None:
    """The same weights without the layer, on the output of the transform graph."""
    recipe = Recipe.from_json(json.loads((run_folder / "run.json").read_text())["recipe"])
    plain = build_model(recipe.model, num_labels=6, patch_shape=(96, 64), precision="float32")
    plain.set_weights([w.numpy() for w in model.weights if "normalisation" not in w.name])
    waveform = 0.1 * noise(3 * 15_600)
    patches = log_mel_patches(waveform, LogMelParams())
    expected = plain(transformed(features, patches))["logits"]

    signatures = tf.saved_model.load(str(run_folder / "export")).signatures
    outputs = signatures["patches"](patches=tf.constant(patches))
    np.testing.assert_allclose(outputs["logits"], expected, rtol=1e-4, atol=1e-4)
    framed = signatures["waveform"](waveform=tf.constant(waveform))
    np.testing.assert_allclose(framed["scores"], tf.sigmoid(expected), atol=1e-4)


def test_features_without_their_own_statistics_are_refused(tmp_path: Path) -> None:
    features = tmp_path / "features"
    write_features(features, shards={"train": 1})
    path = features / folders.BAND_STATISTICS
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "features_fingerprint": "before"}))
    flags = command(features, tmp_path / "run", "--set=normalise=true")
    with pytest.raises(InputError, match=r"features_fingerprint of band_.* is 'before', expected"):
        main(flags)
    path.unlink()
    with pytest.raises(InputError, match=r"run `python -m pipelines\.band_statistics --features /"):
        main(flags)
    assert main(command(features, tmp_path / "run")) == 0


def test_a_run_is_resumed_only_with_the_normalisation_it_began_with(
    features: Path, run_folder: Path
) -> None:
    with pytest.raises(folders.ContractError, match=r"recipe\.normalise is False, expected True"):
        main(command(features, run_folder, "--steps=11"))
