"""Training uses oneDNN unless the user decides otherwise, and computes the same with it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

# The loss of a narrow AlexNet and its gradient, as the package `training` sets TensorFlow up.
CODE = """
import dataclasses, os, sys
import training
import numpy as np, tensorflow as tf, tf_keras
from tests.benchmarks.steps import batch
from training import recipes
from training.loops.loss import sigmoid_cross_entropy
from training.models.build import build_model
tf_keras.utils.set_random_seed(1)
network = dataclasses.replace(recipes.alexnet().model, width=0.1)
model = build_model(network, num_labels=3087, patch_shape=(96, 64), precision="float32")
patches, label_ids = batch(8)
with tf.GradientTape() as tape:
    loss = sigmoid_cross_entropy(model(patches, training=True)["logits"], label_ids)
gradient = [tf.reshape(part, [-1]) for part in tape.gradient(loss, model.trainable_variables)]
setting = os.environ["TF_ENABLE_ONEDNN_OPTS"]
np.savez(sys.argv[1], setting=setting, loss=loss, gradient=tf.concat(gradient, 0))
"""


def compute(path: Path, **environment: str) -> tuple[str, float, np.ndarray]:
    """The setting of oneDNN, the loss, and the gradient."""
    clean = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    command = [sys.executable, "-c", CODE, str(path)]
    subprocess.run(command, check=True, env={**clean, **environment})
    found = np.load(path)
    return str(found["setting"]), float(found["loss"]), found["gradient"]


def test_onednn_is_the_default_and_computes_the_same(tmp_path: Path) -> None:
    setting, loss, gradient = compute(tmp_path / "default.npz")
    other_setting, other_loss, other_gradient = compute(
        tmp_path / "without.npz", TF_ENABLE_ONEDNN_OPTS="0"
    )
    assert (setting, other_setting) == ("1", "0")
    assert abs(loss / other_loss - 1) < 1e-5
    apart = np.linalg.norm(gradient - other_gradient) / np.linalg.norm(other_gradient)
    assert apart < 1e-4
