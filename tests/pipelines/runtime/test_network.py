"""Networks with a card against the same SavedModel called on whole waveforms; refused networks."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from features.contracts.network_card import LabelsFile, NetworkOutputs
from features.errors import InputError, JobFailedError
from features.front_end.windows import stream_windows
from pipelines.runtime.model import Patches
from pipelines.runtime.network import CardNetwork, choose_network, find_runs, load_network, scale
from tests import networks
from tests.networks import WINDOWS

RNG = np.random.default_rng(5)


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A folder of its own for a card, with the network in a folder beside it."""
    network = tmp_path / "network"
    network.symlink_to(saved)
    (tmp_path / "classes.csv").write_bytes((saved / "classes.csv").read_bytes())
    card = dataclasses.replace(networks.card_of(), file="network")
    (tmp_path / card.FILE).write_bytes(card.to_json())
    return tmp_path


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved")
    networks.save(path)
    return path


def load(folder: Path) -> CardNetwork:
    return choose_network(str(folder), None)[0]


def patches_of(network: CardNetwork, waveforms: list[np.ndarray]) -> list[Patches]:
    """Windows of soundtracks, in chunks that have nothing to do with them."""
    windows = network.front_end.windows
    assert windows is not None
    parts = []
    for video, waveform in enumerate(waveforms):
        cut = np.concatenate(list(stream_windows([waveform], windows)))
        starts = (np.arange(len(cut)) * windows.hop_seconds).astype(np.float32)
        parts.append(Patches(np.full(len(cut), video), starts, cut))
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    return [whole[first : first + 7] for first in range(0, len(whole), 7)]


def results(network: CardNetwork, waveforms: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    scored = [outputs for _, outputs in network.score(patches_of(network, waveforms))]
    return (
        np.concatenate([outputs.scores for outputs in scored]),
        np.concatenate([outputs.embedding for outputs in scored]),
    )


def noise(num_samples: int) -> np.ndarray:
    return RNG.normal(0.0, 0.1, num_samples).astype(np.float32)


@pytest.mark.parametrize("frames_itself", [True, False])
def test_results_are_those_of_whole_waveforms(
    folder: Path, saved: Path, monkeypatch: pytest.MonkeyPatch, frames_itself: bool
) -> None:
    monkeypatch.setattr("pipelines.runtime.network._SECONDS_PER_BATCH", 4.0)  # 16 windows
    card = networks.card_of(dataclasses.replace(WINDOWS, frames_itself=frames_itself))
    networks.rewrite_card(folder, waveform=card.waveform, signature=card.signature)
    waveforms = [noise(size) for size in (50_000, 3_000, 4_000, 9_999)]

    network = load(folder)
    scores, embedding = results(network, waveforms)

    direct = tf.saved_model.load(str(saved)).signatures["waveform"]
    expected = [direct(waveform=tf.constant(waveform)) for waveform in waveforms]
    np.testing.assert_allclose(
        embedding, np.concatenate([each["embedding"] for each in expected]), atol=1e-5
    )
    np.testing.assert_allclose(
        scores, np.concatenate([each["scores"] for each in expected]), atol=1e-5
    )
    assert (network.num_labels, network.num_units) == (3, 16)
    assert network.vocabulary.names == networks.LABELS


def test_windows_that_do_not_fit_are_halved(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.runtime.network._SECONDS_PER_BATCH", 4.0)  # 16 windows
    waveform = dataclasses.replace(WINDOWS, frames_itself=False)
    networks.rewrite_card(folder, waveform=waveform, signature="windows")
    waveforms = [noise(size) for size in (50_000, 9_999)]
    expected = results(load(folder), waveforms)
    module = networks.Spectral(waveform)
    spec = tf.TensorSpec([None, WINDOWS.window_samples], tf.float32, "windows")
    plain = module.windows
    module.windows = tf.function(
        lambda windows: plain(networks.with_little_memory(windows, 5)), input_signature=[spec]
    )
    tf.saved_model.save(module, f"{tmp_path}/small", signatures={"windows": module.windows})
    networks.rewrite_card(folder, file="small")

    for found, wanted in zip(results(load(folder), waveforms), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_card_is_found_from_any_working_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = (folder / "network.json").rename(folder / "my.json")
    monkeypatch.chdir(folder)
    _, place = choose_network(str(folder), "my.json")
    monkeypatch.chdir("/")

    assert place.card == str(card)
    assert load_network(place).num_units == 16


def test_logits_become_scores(folder: Path) -> None:
    waveforms = [noise(20_000)]
    scores, _ = results(load(folder), waveforms)

    networks.rewrite_card(folder, outputs=NetworkOutputs(logits="logits"))
    from_logits, nothing = results(load(folder), waveforms)
    networks.rewrite_card(folder, outputs=NetworkOutputs(logits="logits", activation="softmax"))
    softmax, _ = results(load(folder), waveforms)

    np.testing.assert_allclose(from_logits, scores, atol=1e-6)
    assert nothing.shape == (len(scores), 0)
    np.testing.assert_allclose(softmax.sum(axis=1), 1.0, atol=1e-6)
    np.testing.assert_array_equal(softmax.argmax(axis=1), scores.argmax(axis=1))


def test_a_tflite_gives_the_same(folder: Path, saved: Path) -> None:
    waveform = dataclasses.replace(WINDOWS, frames_itself=False)
    networks.rewrite_card(folder, waveform=waveform, signature="windows")
    waveforms = [noise(20_000)]
    expected = results(load(folder), waveforms)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved), signature_keys=["windows"])
    (folder / "network.tflite").write_bytes(converter.convert())
    networks.rewrite_card(folder, file="network.tflite")

    for values, wanted in zip(results(load(folder), waveforms), expected, strict=True):
        np.testing.assert_allclose(values, wanted, atol=1e-4)


def test_windows_are_scaled_to_full_scale_and_peak() -> None:
    windows = RNG.normal(0.3, 0.1, (4, 100)).astype(np.float32)
    windows[3] = 0.0

    assert scale(windows, 1.0, None) is windows
    np.testing.assert_allclose(scale(windows, 32768.0, None), 32768 * windows, rtol=1e-6)
    scaled = scale(windows, 1.0, 0.25)
    np.testing.assert_allclose(scaled.mean(axis=1), 0.0, atol=1e-6)
    np.testing.assert_allclose(np.abs(scaled).max(axis=1), [0.25, 0.25, 0.25, 0.0], rtol=1e-6)


def test_drawn_windows_are_no_run() -> None:
    starts = np.array([0.0, 0.5, 2.0, 0.0, 0.5, 1.0], np.float32)
    batch = Patches(np.array([0, 0, 0, 1, 1, 1]), starts, np.zeros((6, 1)))

    assert find_runs(batch, 0.5) == [slice(0, 2), slice(2, 3), slice(3, 6)]


WRONG = {
    "outputs.scores: 'logits' has values from": {"outputs": NetworkOutputs(scores="logits")},
    "there is no output 'score', only": {"outputs": NetworkOutputs(scores="score")},
    "no signature predict, but": {"signature": "predict"},
    "labels file of its card has 2 labels": {"labels": LabelsFile(file="two.txt")},
    "windows or patches; name an output": {
        "waveform": dataclasses.replace(WINDOWS, hop_samples=1000)
    },
    "does not take what its card says": {
        "waveform": dataclasses.replace(WINDOWS, frames_itself=False)  # of another rank
    },
    r"\[3, 3000\] values of float32": {
        "signature": "windows",
        "waveform": dataclasses.replace(
            WINDOWS, sample_rate_hz=6000, window_samples=3000, frames_itself=False
        ),
    },
}


@pytest.mark.parametrize("message", WRONG)
def test_a_network_that_is_not_what_its_card_says_is_refused(folder: Path, message: str) -> None:
    (folder / "two.txt").write_text("Low\nHigh\n")
    networks.rewrite_card(folder, **WRONG[message])

    with pytest.raises(InputError, match=message):
        load(folder)


def test_a_tflite_with_unknown_operations_is_refused(folder: Path) -> None:
    function = tf.function(
        lambda windows: tf.linalg.det(tf.reshape(windows, [-1, 50, 80])[:, :, :50])[:, None],
        input_signature=[tf.TensorSpec([None, 4000], tf.float32)],
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.SELECT_TF_OPS]
    (folder / "network.tflite").write_bytes(converter.convert())
    networks.rewrite_card(
        folder,
        file="network.tflite",
        waveform=dataclasses.replace(WINDOWS, frames_itself=False),
        outputs=NetworkOutputs(embedding="output_0"),
        labels=None,
    )

    with pytest.raises(InputError, match=r"network\.tflite"):
        load(folder)


def test_nan_is_told_from_the_outputs_of_other_windows(folder: Path) -> None:
    network = load(folder)
    (chunk, *_) = patches_of(network, [noise(9_000), noise(9_000)])
    chunk.stored[1, 5] = np.nan

    ((batch, outputs),) = network.score([chunk])

    has_sample = (batch.video == 0) & (batch.start_seconds <= WINDOWS.hop_seconds)
    assert has_sample.sum() == 2
    np.testing.assert_array_equal(outputs.are_finite(), ~has_sample)


@pytest.mark.parametrize(("divisor", "kind"), [("level", "silence"), ("zero", "noise")])
def test_nan_at_load_is_refused(folder: Path, tmp_path: Path, divisor: str, kind: str) -> None:
    """Also of a network that divides by the level of the sound."""
    waveform = dataclasses.replace(WINDOWS, frames_itself=False)
    networks.rewrite_card(folder, waveform=waveform, signature="windows", file="divides")
    module = networks.Spectral(waveform)
    plain, spec = module.windows, tf.TensorSpec([None, WINDOWS.window_samples], tf.float32)
    module.windows = tf.function(
        lambda windows: plain(
            windows / (tf.reduce_max(tf.abs(windows)) if divisor == "level" else 0.0)
        ),
        input_signature=[spec],
    )
    tf.saved_model.save(module, f"{tmp_path}/divides", signatures={"windows": module.windows})

    with pytest.raises(InputError, match=f"its outputs for {kind} are not finite"):
        load(folder)


def test_scores_above_one_end_the_job(folder: Path, tmp_path: Path) -> None:
    """Of a network that gives the level of the sound, which is low when it is loaded."""
    networks.rewrite_card(
        folder,
        waveform=dataclasses.replace(WINDOWS, frames_itself=False),
        signature="serving_default",
        file="level",
        outputs=NetworkOutputs(scores="output_0"),
    )
    module = tf.Module()
    module.level = tf.function(
        lambda windows: tf.repeat(4 * tf.reduce_max(tf.abs(windows), 1, keepdims=True), 3, 1),
        input_signature=[tf.TensorSpec([None, WINDOWS.window_samples], tf.float32)],
    )
    tf.saved_model.save(module, f"{tmp_path}/level", signatures=module.level)
    network = load(folder)

    with pytest.raises(JobFailedError, match=r"level: outputs.scores: .* not from 0 to 1; name"):
        list(network.score(patches_of(network, [noise(9_000)])))
