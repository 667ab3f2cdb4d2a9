"""The same recipe on one device, on two of one process, on one of each of two processes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from features.errors import InputError
from training.distributed.strategies import require_equal_parts
from training.recipes import fully_connected
from training.train import main

STEPS = 30
OPTIONS = (
    *("--set", "mixup=0.5", "time_shift_seconds=0.1", "band_shift=2", "masks=1"),
    *("gain_decibels=3", "label_balance=0.5"),
    *("warm_up=0.1", "cosine=true", "weight_decay=0.01", "average_decay=0.9"),
)


def arguments(features: Path, output: Path, *more: str) -> list[str]:
    return [
        *("fully_connected", f"--features={features}", f"--output={output}", f"--steps={STEPS}"),
        *("--batch-size=32", "--learning-rate=1e-4", "--set", "width=0.05", "normalise=true"),
        *more,
    ]


def start(*arguments: str) -> subprocess.Popen:
    """A process with devices of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "training.train", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def curve(output: Path) -> dict[int, float]:
    losses = {}
    for path in sorted(output.glob("events/*")):
        for serialized in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(serialized)
            for value in event.summary.value:
                if value.tag == "loss":
                    losses[event.step] = float(tf.make_ndarray(value.tensor))
    return losses


def test_devices_and_processes_that_share_a_batch_learn_as_one_device_does(
    features_folder: Path, tmp_path: Path
) -> None:
    ways = ("one", "mirrored", "workers")
    one, mirrored, workers = (arguments(features_folder, tmp_path / way, *OPTIONS) for way in ways)
    process = start(*mirrored, "--devices=2")
    cluster = ["--cluster=local", "--workers=2", "--parameter-servers=0"]
    assert main([*workers, *cluster]) == 0
    assert main(one) == 0
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    curves = [curve(tmp_path / way) for way in ways]
    for losses in curves:
        assert list(losses) == list(range(1, STEPS + 1))
        assert losses == pytest.approx(curves[0], rel=1e-3)
    assert curves[0][STEPS] < 0.7 * curves[0][1]
    documents = [json.loads((tmp_path / way / "run.json").read_text()) for way in ways]
    precisions = [run["metrics"]["validation_mean_average_precision"] for run in documents]
    assert precisions[1:] == pytest.approx(precisions[:1] * 2, abs=1e-3)


def test_all_options_train_on_parameter_servers(
    make_features: Callable, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    make_features(tmp_path / "features", shards={"train": 5})  # no evaluator
    flags = ("--cluster=local", "--workers=1", *OPTIONS)
    output = tmp_path / "run"
    assert main(arguments(tmp_path / "features", output, *flags)) == 0
    captured = capfd.readouterr()
    assert "no validation patches" in captured.out + captured.err
    losses = curve(output)
    assert losses[STEPS] < losses[1]
    # Nobody else changes the weights meanwhile.
    assert json.loads((output / "run.json").read_text())["metrics"]["staleness"] == 0
    checkpoint = tf.train.load_checkpoint(str(output / "checkpoints"))
    exported = tf.saved_model.load(str(output / "export")).weights[-1].numpy()
    bias = "layer_with_weights-4/bias/.ATTRIBUTES/VARIABLE_VALUE"
    np.testing.assert_array_equal(exported, checkpoint.get_tensor(f"average/{bias}"))
    assert not np.array_equal(exported, checkpoint.get_tensor(f"model/{bias}"))


def test_a_network_with_batch_normalization_trains_on_two_devices(
    features_folder: Path, tmp_path: Path
) -> None:
    flags = ["--devices=2", "--steps=3", "--batch-size=8", "--set", "average_decay=0.9"]
    process = start("alexnet", *arguments(features_folder, tmp_path, *flags)[1:])
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    assert "validation mAP" in text


def test_a_batch_that_cannot_be_divided_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    monkeypatch.setattr(type(strategy), "num_replicas_in_sync", 3)
    with pytest.raises(InputError, match="a batch of 128 cannot be divided into 3 equal parts"):
        require_equal_parts(fully_connected(), strategy)
