"""The shipped cards, with small networks that have the interfaces of the published ones.

The interfaces are those of research/audioset/yamnet/export.py and
research/audioset/vggish/vggish_export_tfhub.py of tensorflow/models, of the signature
serving_default of Perch 2 as google-research/mseb and kitzeslab/bioacoustics-model-zoo call it, and
of the TFLite file of BirdNET V2.4 as kahst/BirdNET-Analyzer resizes it.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf2onnx

from features.contracts.network_card import NetworkCard
from features.front_end.windows import WaveformWindows
from pipelines.runtime.network import choose_network
from tests.pipelines.runtime.test_network import patches_of

_RNG = np.random.default_rng(7)
_PARTS = 10  # of a window; the network sees the mean level of each
_UNITS = {"yamnet": 1024, "vggish": 128, "perch": 1536, "birdnet": 0}
_LABELS = {"yamnet": 521, "vggish": 0, "perch": 14_795, "birdnet": 6_522}
CARDS = Path(__file__).parents[3] / "features" / "contracts" / "cards"


@dataclasses.dataclass
class StandIn:
    """Levels of the parts of a window, times weights; in NumPy and in TensorFlow."""

    name: str

    def __post_init__(self) -> None:
        self.units = _RNG.normal(0, 1, (_PARTS, max(1, _UNITS[self.name]))).astype(np.float32)
        self.labels = _RNG.normal(0, 1, (_PARTS, max(1, _LABELS[self.name]))).astype(np.float32)

    def expect(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits and embeddings of windows."""
        levels = np.abs(windows.reshape(len(windows), _PARTS, -1)).mean(axis=2)
        return levels @ self.labels, levels @ self.units

    def apply(self, windows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        length = windows.shape[1] // _PARTS
        levels = tf.reduce_mean(tf.abs(tf.reshape(windows, [-1, _PARTS, length])), axis=2)
        return tf.matmul(levels, self.labels), tf.matmul(levels, self.units)

    def apply_to(self, waveform: tf.Tensor, hop: int, pad: bool) -> tuple[tf.Tensor, tf.Tensor]:
        if pad:
            num_samples = tf.shape(waveform)[0]
            num_hops = tf.maximum(0, -((15_600 - num_samples) // hop))
            waveform = tf.pad(waveform, [[0, num_hops * hop + 15_600 - num_samples]])
        return self.apply(tf.signal.frame(waveform, 15_600, hop))


def save_yamnet(folder: Path, network: StandIn) -> None:
    """A list of three outputs, and one signature."""
    module = tf.Module()

    def call(waveform: tf.Tensor) -> list[tf.Tensor]:
        logits, embedding = network.apply_to(waveform, 7_680, pad=True)
        return [tf.sigmoid(logits), embedding, tf.zeros([4, 64])]

    module.call = tf.function(call, input_signature=[tf.TensorSpec([None], tf.float32, "waveform")])
    tf.saved_model.save(module, str(folder), signatures=module.call.get_concrete_function())
    rows = [f"{index},/m/{index},Label {index}" for index in range(521)]
    write(folder / "assets" / "yamnet_class_map.csv", ["index,mid,display_name", *rows])


def save_vggish(folder: Path, network: StandIn) -> None:
    """A module that can be called, without a signature."""

    class Module(tf.Module):
        @tf.function(input_signature=(tf.TensorSpec([None], tf.float32),))
        def __call__(self, waveform: tf.Tensor) -> tf.Tensor:
            return network.apply_to(waveform, 15_360, pad=False)[1]

    tf.saved_model.save(Module(), str(folder))


def save_perch(folder: Path, network: StandIn) -> None:
    """Windows as `inputs`, outputs by name, and labels under a heading of their own."""
    module = tf.Module()

    def call(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        logits, embedding = network.apply(inputs)
        rows = tf.shape(inputs)[0]
        shapes = {"spatial_embedding": [rows, 5, 3, 1], "spectrogram": [rows, 500, 2]}
        others = {name: tf.zeros(shape) for name, shape in shapes.items()}
        return {"label": logits, "embedding": embedding, **others}

    spec = tf.TensorSpec([None, 160_000], tf.float32, "inputs")
    module.call = tf.function(call, input_signature=[spec])
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.call})
    write_perch_labels(folder)


def write_perch_labels(folder: Path) -> None:
    labels = [f"Species {index}" for index in range(14_795)]
    write(folder / "assets" / "labels.csv", ["inat2024_fsd50k", *labels])


def save_birdnet(folder: Path, network: StandIn) -> None:
    """A TFLite file for one window, which takes more when it is resized."""
    spec = tf.TensorSpec([1, 144_000], tf.float32, "INPUT")
    function = tf.function(lambda windows: network.apply(windows)[0], input_signature=[spec])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    (folder / "BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite").write_bytes(converter.convert())
    labels = [f"Genus species{index}_Bird {index}" for index in range(6_522)]
    write(folder / "BirdNET_GLOBAL_6K_V2.4_Labels.txt", labels)


def write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def windows_of(waveform: np.ndarray, windows: WaveformWindows) -> np.ndarray:
    """All complete windows, and with `pad_end` the rest."""
    length, hop = windows.window_samples, windows.hop_samples
    missing = max(0, -(-(len(waveform) - length) // hop)) * hop + length - len(waveform)
    if windows.pad_end:
        waveform = np.pad(waveform, (0, missing))
    return np.lib.stride_tricks.sliding_window_view(waveform, length)[::hop]


def compare(folder: Path, card: str | None, stand_in: StandIn) -> None:
    """Give a network two soundtracks, and compare with NumPy."""
    network, _ = choose_network(str(folder), card)
    windows = network.front_end.windows
    assert windows is not None
    sizes = (2 * windows.window_samples + windows.hop_samples // 3, windows.window_samples)
    waveforms = [_RNG.normal(0.02, 0.1, size).astype(np.float32) for size in sizes]
    cut = np.concatenate([windows_of(waveform, windows) for waveform in waveforms])
    if card in (None, "perch"):
        cut = cut - cut.mean(axis=1, keepdims=True)
        cut = cut * (0.25 / np.abs(cut).max(axis=1, keepdims=True))
    logits, embedding = stand_in.expect(cut)
    scores = 1 / (1 + np.exp(-logits))
    if card in (None, "perch"):
        scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    found = [outputs for _, outputs in network.score(patches_of(network, waveforms))]

    name = stand_in.name
    assert (network.num_labels, network.num_units) == (_LABELS[name], _UNITS[name])
    for role, expected in (("scores", scores), ("embedding", embedding)):
        values = np.concatenate([getattr(outputs, role) for outputs in found])
        if values.shape[1]:
            np.testing.assert_allclose(values, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("yamnet", save_yamnet),
        ("vggish", save_vggish),
        ("perch", save_perch),
        ("birdnet", save_birdnet),
    ],
)
def test_a_shipped_card_runs_its_interface(
    tmp_path: Path, name: str, save: Callable[[Path, StandIn], None]
) -> None:
    network = StandIn(name)
    save(tmp_path, network)

    compare(tmp_path, name, network)


def test_perch_as_onnx(tmp_path: Path) -> None:
    network = StandIn("perch")
    spec = tf.TensorSpec([None, 160_000], tf.float32, "inputs")

    def call(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(zip(("label", "embedding"), network.apply(inputs), strict=True))

    tf2onnx.convert.from_function(
        tf.function(call), [spec], output_path=str(tmp_path / "perch.onnx")
    )
    write_perch_labels(tmp_path)
    shipped = NetworkCard.from_json((CARDS / "perch.json").read_bytes(), "perch.json")
    card = dataclasses.replace(shipped, file="perch.onnx")
    (tmp_path / card.FILE).write_bytes(card.to_json())

    compare(tmp_path, None, network)
