"""Small networks on the samples of a waveform, as published ones take them."""

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from features.contracts.network_card import (
    LabelsFile,
    NetworkCard,
    NetworkOutputs,
    WaveformInput,
)

WINDOWS = WaveformInput(
    sample_rate_hz=8000, window_samples=4000, hop_samples=2000, pad_end=True, frames_itself=True
)
LABELS = ("Low", "Middle", "Siren, wailing")
_UNITS = 16
# YAMNet, and sounds to run it on, in any folder beside this repository.
YAMNETS = sorted(Path(__file__).parents[2].glob("*/models/yamnet/saved_model.pb"))
SOUNDS = sorted(Path(__file__).parents[2].glob("*/data/sounds/clips.csv"))


class Spectral(tf.Module):
    """Scores and embeddings of windows, from their spectra; weights are drawn from a seed."""

    def __init__(self, windows: WaveformInput):
        super().__init__()
        rng = np.random.default_rng(3)
        num_bins = windows.window_samples // 2 + 1
        weights = rng.normal(0.0, 0.05, (num_bins, _UNITS)).astype(np.float32)
        self.hidden = tf.Variable(weights)
        self.last = tf.Variable(rng.normal(0.0, 1.0, (_UNITS, len(LABELS))).astype(np.float32))
        length, hop = windows.window_samples, windows.hop_samples

        def apply(frames: tf.Tensor) -> dict[str, tf.Tensor]:
            spectra = tf.abs(tf.signal.rfft(frames, [length]))
            embedding = tf.nn.relu(tf.matmul(tf.math.log1p(spectra), self.hidden))
            logits = tf.matmul(embedding, self.last)
            return {"scores": tf.sigmoid(logits), "logits": logits, "embedding": embedding}

        def frame_and_apply(waveform: tf.Tensor) -> dict[str, tf.Tensor]:
            return apply(tf.signal.frame(waveform, length, hop, pad_end=False))

        def pad_and_apply(waveform: tf.Tensor) -> dict[str, tf.Tensor]:
            size = tf.shape(waveform)[0]
            hops = tf.maximum(0, -((length - size) // hop))
            return frame_and_apply(tf.pad(waveform, [[0, hops * hop + length - size]]))

        spec = tf.TensorSpec([None], tf.float32, "waveform")
        self.waveform = tf.function(pad_and_apply, input_signature=[spec])
        spec = tf.TensorSpec([None, length], tf.float32, "windows")
        self.windows = tf.function(apply, input_signature=[spec])


def with_little_memory(values: tf.Tensor, rows: int) -> tf.Tensor:
    """The same values, of which TensorFlow finds no memory for more than so many rows at once."""
    length = tf.where(tf.shape(values)[0] > rows, tf.constant(2**60, tf.int64), 0)
    return values + tf.reduce_sum(tf.random.uniform([length]))  # which TensorFlow cannot fold


def card_of(waveform: WaveformInput = WINDOWS) -> NetworkCard:
    """The card of the SavedModel that `save` writes."""
    return NetworkCard(
        name="Spectral",
        file=".",
        signature="waveform" if waveform.frames_itself else "windows",
        waveform=waveform,
        outputs=NetworkOutputs(scores="scores", embedding="embedding"),
        labels=LabelsFile(file="classes.csv", name_column="display_name", id_column="mid"),
    )


def save(folder: Path, waveform: WaveformInput = WINDOWS) -> NetworkCard:
    """Write a SavedModel, its labels and its card."""
    network = Spectral(waveform)
    signatures = {"waveform": network.waveform, "windows": network.windows}
    tf.saved_model.save(network, str(folder), signatures=signatures)
    with (folder / "classes.csv").open("w", newline="") as file:
        rows = [(index, f"/m/{index}", name) for index, name in enumerate(LABELS)]
        csv.writer(file).writerows([("index", "mid", "display_name"), *rows])
    card = card_of(waveform)
    (folder / card.FILE).write_bytes(card.to_json())
    return card


def rewrite_card(folder: Path, **fields: Any) -> None:
    """Change fields of the card of a folder."""
    path = folder / NetworkCard.FILE
    card = NetworkCard.from_json(path.read_bytes(), str(path))
    path.write_bytes(dataclasses.replace(card, **fields).to_json())


def yamnet_flags(folder: Path) -> list[str]:
    """Flags for YAMNet, with the shipped card but for the outputs' names of a copy of our own."""
    path = Path(__file__).parents[1] / "features" / "contracts" / "cards" / "yamnet.json"
    card = NetworkCard.from_json(path.read_bytes(), str(path))
    outputs = NetworkOutputs(scores="scores", embedding="embedding")
    (folder / "yamnet.json").write_bytes(dataclasses.replace(card, outputs=outputs).to_json())
    return ["--network", str(YAMNETS[0].parent), "--card", f"{folder}/yamnet.json"]


def sounds_manifest(folder: Path, num_clips: int) -> Path:
    """A manifest of clips of ESC-50 for evaluation, each of another label."""
    with SOUNDS[0].open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == "esc50"]
    chosen = list({row["label"]: row for row in rows}.values())[:num_clips]
    path = folder / "manifest.csv"
    with path.open("w", newline="") as file:
        clips = [
            (row["clip_id"], str(SOUNDS[0].parent / row["path"]), row["label"], "evaluation")
            for row in chosen
        ]
        csv.writer(file).writerows([("id", "uri", "labels", "split"), *clips])
    return path
