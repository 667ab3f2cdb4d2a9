"""The command, run in-process on features made in the test."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import yaml

from features.contracts import folders
from features.contracts.documents import Run
from features.contracts.export import read_exported_vocabulary, read_front_end
from features.contracts.folders import ContractError
from features.contracts.labels import Vocabulary, read_vocabulary
from features.contracts.network_card import NetworkFolder
from features.errors import DIVERGED, InputError, JobFailedError
from features.front_end.front_end import FrontEnd
from features.front_end.logmel import log_mel_patches
from features.front_end.params import LogMelParams
from training import recipes
from training.config import Recipe, ResNet50
from training.export import export
from training.input.batches import open_features, validation_batches
from training.loops import evaluator
from training.loops.checkpoints import claim, restore_weights
from training.loops.step import fresh_model
from training.loops.validation import inference, validate
from training.models.build import build_model
from training.models.layers import move_statistics
from training.train import main

STEPS = 40
APPLY_TO_PATCHES = """
import numpy as np
import tensorflow as tf
signature = tf.saved_model.load(".").signatures["patches"]
outputs = signature(patches=tf.constant(np.load("patches.npy")))
np.savez("outputs.npz", **{name: tensor.numpy() for name, tensor in outputs.items()})
"""


def command(features: Path, output: Path, *more: str) -> list[str]:
    sizes = ["--batch-size=32", "--set=width=0.05", "--learning-rate=3e-3", f"--steps={STEPS}"]
    return ["fully_connected", f"--features={features}", f"--output={output}", *sizes, *more]


def scalars(output: Path) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for path in sorted(output.glob("events/*")):
        for serialized in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(serialized)
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = float(tf.make_ndarray(value.tensor))
    return found


@pytest.fixture(scope="module")
def run_folder(features_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("run")
    assert main(command(features_folder, output)) == 0
    return output


def test_it_learns(run_folder: Path) -> None:
    curves = scalars(run_folder)
    assert curves["loss"][STEPS] < 0.5 * curves["loss"][1]
    assert set(curves["validation/mAP"]) == {STEPS / 2, STEPS}
    assert curves["validation/mAP"][STEPS] > 0.85
    assert curves["validation/accuracy"][STEPS] > 0.6
    assert curves["learning_rate"][STEPS] == pytest.approx(3e-3)


def test_run_json_says_what_was_trained(run_folder: Path, features_folder: Path) -> None:
    document = json.loads((run_folder / "run.json").read_text())
    features = json.loads((features_folder / "features.json").read_text())
    assert document["steps"] == STEPS
    assert document["recipe"]["steps"] == STEPS
    assert document["features_fingerprint"] == features["splits"]["train"]["fingerprint"]
    assert document["front_end_fingerprint"] == features["front_end_fingerprint"]
    assert document["vocabulary"] == features["vocabulary"]
    assert document["metrics"]["validation_mean_average_precision"] > 0.85
    assert document["metrics"]["validation_num_patches"] == 64


def test_a_finished_run_says_so(
    run_folder: Path, features_folder: Path, capsys: pytest.CaptureFixture
) -> None:
    before = (run_folder / "run.json").read_bytes()
    assert main(command(features_folder, run_folder)) == 0
    assert f"is finished, at {STEPS} steps" in capsys.readouterr().out
    assert (run_folder / "run.json").read_bytes() == before


def test_export_carries_labels_front_end_and_recipe(
    run_folder: Path, features_folder: Path
) -> None:
    assets = run_folder / "export" / "assets"
    features = open_features(str(features_folder), num_labels=None, training_subset=None)
    labels = Vocabulary.from_bytes((assets / "labels.parquet").read_bytes())
    assert labels.fingerprint == features.vocabulary.fingerprint
    front_end = json.loads((assets / "front_end.json").read_text())
    assert FrontEnd.from_json(front_end) == features.front_end
    recipe = json.loads((assets / "recipe.json").read_text())
    assert recipe == json.loads((run_folder / "run.json").read_text())["recipe"]


def test_the_readme_opens_the_export_with_tensorflow_alone(
    run_folder: Path, tmp_path: Path
) -> None:
    """Away from this repository, where neither our packages nor Keras can be imported."""
    export = tmp_path / "export"
    shutil.copytree(run_folder / "export", export)
    readme = (export / "README.md").read_text(encoding="utf-8")
    _, front_matter, body = readme.split("---\n", 2)
    snippet = body.partition("```python\n")[2].partition("```")[0]
    ours = ["features", "pipelines", "training", "evaluation", "tf_keras", "keras", "apache_beam"]
    alone = f"import sys\nsys.modules.update(dict.fromkeys({ours}))\n{snippet}{APPLY_TO_PATCHES}"
    patches = np.random.default_rng(0).normal(-2, 1, (3, 96, 64)).astype(np.float32)
    np.save(export / "patches.npy", patches)
    # `features.quiet` tells TensorFlow to load tf-keras.
    environment = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}

    done = subprocess.run(
        [sys.executable, "-c", alone],
        cwd=export,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )

    here = tf.saved_model.load(str(run_folder / "export")).signatures["patches"]
    expected = here(patches=tf.constant(patches))
    with np.load(export / "outputs.npz") as outputs:
        assert set(outputs) == {"scores", "logits", "embedding"}
        for output in outputs:
            np.testing.assert_allclose(outputs[output], expected[output], rtol=1e-5, atol=1e-6)

    document = folders.read_document(str(run_folder), Run)
    metadata = yaml.safe_load(front_matter)
    assert metadata["pipeline_tag"] == "audio-classification"
    found = {
        metric["type"]: metric["value"]
        for metric in metadata["model-index"][0]["results"][0]["metrics"]
    }
    accuracy = document.metrics["validation_accuracy"]
    assert found["1-best accuracy"] == pytest.approx(accuracy, rel=1e-3)
    names = read_vocabulary(str(export / "assets")).names
    lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
    assert {name for _, name in lines} <= set(names)
    scores = [float(score) for score, _ in lines]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == min(3, len(names))


def test_the_card_of_the_export_names_its_labels_and_front_end(run_folder: Path) -> None:
    export = str(run_folder / "export")
    network = NetworkFolder.open(export)

    assert network.vocabulary.fingerprint == read_exported_vocabulary(export).fingerprint
    assert network.card.front_end == read_front_end(export)


def test_signatures_equal_the_model(features_folder: Path, tmp_path: Path) -> None:
    features = open_features(str(features_folder), num_labels=4, training_subset=None)
    config = ResNet50(width=0.05, batch_norm_momentum=0.5)
    recipe = dataclasses.replace(recipes.resnet50(), model=config)
    model = build_model(config, num_labels=4, patch_shape=(96, 64), precision="float32")
    rng = np.random.default_rng(0)
    # 70 patches: more than go through the network at once.
    waveform = rng.normal(0, 0.1, 70 * 15_360 + 3_000).astype(np.float32)
    waveform *= np.linspace(0, 1, len(waveform), dtype=np.float32)
    patches = log_mel_patches(waveform, LogMelParams())
    model(patches[::10], training=True)
    move_statistics(model, tf.constant(0))  # to those of these patches
    loaded = tf.saved_model.load(export(model, recipe, features, str(tmp_path)))
    expected = model(tf.constant(patches))
    outputs = loaded.signatures["serving_default"](patches=tf.constant(patches))
    for name in ("logits", "embedding"):
        np.testing.assert_allclose(outputs[name], expected[name], atol=1e-5)
    np.testing.assert_allclose(outputs["scores"], tf.sigmoid(outputs["logits"]), atol=1e-6)
    framed = loaded.signatures["waveform"](waveform=tf.constant(waveform))
    assert framed["scores"].shape == (70, 4)
    np.testing.assert_allclose(framed["scores"], outputs["scores"], atol=1e-4)
    np.testing.assert_allclose(framed["start_seconds"], 0.96 * np.arange(70), rtol=1e-6)


@pytest.mark.parametrize("num_samples", [0, 100, 15_599])
def test_waveform_shorter_than_a_patch_has_no_scores(run_folder: Path, num_samples: int) -> None:
    loaded = tf.saved_model.load(str(run_folder / "export"))
    framed = loaded.signatures["waveform"](waveform=tf.zeros([num_samples]))
    assert framed["scores"].shape == (0, 6)
    assert framed["start_seconds"].shape == (0,)


def test_an_interrupted_run_resumes_where_it_stopped(
    features_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(evaluator, "validate", interrupt)  # at half of the steps
        with pytest.raises(JobFailedError, match=f"stopped at step 20 of {STEPS}, which is saved"):
            main(command(features_folder, tmp_path))
    assert not (tmp_path / "run.json").exists()
    before = scalars(tmp_path)["loss"]
    assert max(before) == 20

    assert main(command(features_folder, tmp_path)) == 0
    after = {step: loss for step, loss in scalars(tmp_path)["loss"].items() if step > 20}
    assert set(before) | set(after) == set(range(1, STEPS + 1))
    assert after[21] < 0.9 * before[1]  # the weights came back

    assert main([*command(features_folder, tmp_path), f"--steps={STEPS + 10}"]) == 0
    assert json.loads((tmp_path / "run.json").read_text())["steps"] == STEPS + 10
    assert max(scalars(tmp_path)["loss"]) == STEPS + 10


@pytest.mark.parametrize("averages", [False, True])
def test_a_run_that_died_before_its_end_was_recorded_is_finished(
    features_folder: Path, run_folder: Path, tmp_path: Path, averages: bool
) -> None:
    flags = command(features_folder, tmp_path)
    if averages:
        flags += ["--set", "average_decay=0.9", "cosine=true"]
        main(flags)
    else:
        shutil.copytree(run_folder, tmp_path, dirs_exist_ok=True)
    first = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").unlink()
    shutil.rmtree(tmp_path / "export")
    assert main(flags) == 0
    again = json.loads((tmp_path / "run.json").read_text())
    assert again["steps"] == STEPS
    name = "validation_mean_average_precision"
    assert again["metrics"][name] == pytest.approx(first["metrics"][name])
    assert (tmp_path / "export" / "saved_model.pb").exists()
    if averages:  # at another length, the steps behind it would have had other learning rates
        with pytest.raises(ContractError, match=f"recipe.steps is 50, expected {STEPS}"):
            main([*flags, "--steps=50"])


def test_another_recipe_or_other_features_are_refused(
    run_folder: Path, features_folder: Path, tmp_path: Path, make_features: Callable
) -> None:
    with pytest.raises(ContractError, match=r"recipe\.seed is 1, expected 0; .*--output"):
        main(command(features_folder, run_folder, "--seed=1"))
    with pytest.raises(ContractError, match=r"recipe\.model\.width is 0\.1, expected 0\.05"):
        main(command(features_folder, run_folder, "--set=width=0.1"))
    make_features(tmp_path, shards={"train": 1})
    with pytest.raises(ContractError, match="features_fingerprint is"):
        main(command(tmp_path, run_folder))


def test_a_run_from_before_there_was_a_switch_is_resumed_with_the_switch_off(
    features_folder: Path, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(recipes.vgg(), num_labels=None)
    features = open_features(str(features_folder), num_labels=None, training_subset=None)
    claim(str(tmp_path), recipe, features)
    record = tmp_path / "checkpoints" / "recipe.json"
    document = json.loads(record.read_text())
    assert document.pop("recipe.model.reduced_strides") is False
    record.write_text(json.dumps(document))

    claim(str(tmp_path), recipe, features)
    model = dataclasses.replace(recipe.model, reduced_strides=True)
    with pytest.raises(ContractError, match=r"reduced_strides is True, expected None"):
        claim(str(tmp_path), dataclasses.replace(recipe, model=model), features)


def test_what_is_not_finite_stops_the_run_and_names_its_videos(
    features_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(JobFailedError, match=r"not finite in step \d+: loss -?(nan|inf)") as caught:
        main(command(features_folder, tmp_path, "--learning-rate=1e30"))
    assert caught.value.exit_code == DIVERGED
    (videos,) = re.findall("its videos: (.*?);", str(caught.value))
    assert 8 <= len(videos.split(", ")) <= 32
    assert all(re.fullmatch(r"train-\d-\d", video) for video in videos.split(", "))
    assert not (tmp_path / "run.json").exists()
    assert not list(tmp_path.glob("checkpoints/ckpt*"))


def test_a_damaged_shard_is_named_and_skipped_only_on_request(
    tmp_path: Path, make_features: Callable, capsys: pytest.CaptureFixture
) -> None:
    make_features(tmp_path / "features", shards={"train": 4, "validation": 1})
    shards = sorted((tmp_path / "features" / "train" / "all").glob("*.tfrecord"))
    for path in shards[:2]:
        content = bytearray(path.read_bytes())
        content[20_000] ^= 1
        path.write_bytes(content)
    flags = command(tmp_path / "features", tmp_path / "run")
    with pytest.raises(JobFailedError, match=r"00000-of-00004\.tfrecord: record 3 is damaged"):
        main(flags)
    with pytest.raises(JobFailedError, match=r"00001-of-00004\.tfrecord: record 3 is damaged"):
        main([*flags, "--skip-damaged-shards=1"])
    assert main([*flags, "--skip-damaged-shards=2"]) == 0
    assert "00001-of-00004.tfrecord: record 3 is damaged" in capsys.readouterr().err
    document = json.loads((tmp_path / "run" / "run.json").read_text())
    assert document["skipped_shards"] == [str(path) for path in shards[:2]]
    assert document["steps"] == STEPS


def test_best_checkpoint_is_kept(run_folder: Path, features_folder: Path) -> None:
    best = json.loads((run_folder / "checkpoints" / "best" / "validation.json").read_text())
    curve = scalars(run_folder)["validation/mAP"]
    assert best["mean_average_precision"] == pytest.approx(max(curve.values()))
    assert curve[best["step"]] == pytest.approx(max(curve.values()))
    features = open_features(str(features_folder), num_labels=None, training_subset=None)
    recipe = Recipe.from_json(json.loads((run_folder / "run.json").read_text())["recipe"])
    model = fresh_model(recipe, features)
    latest = tf.train.latest_checkpoint(str(run_folder / "checkpoints" / "best"))
    restore_weights(latest, model)
    logits_of = inference(model, features.front_end.storage)
    again = validate(logits_of, validation_batches(features, recipe))
    assert dataclasses.asdict(again) == pytest.approx(
        {name: best[name] for name in best if name != "step"}
    )


def test_without_validation_it_says_so_and_trains(
    tmp_path: Path, make_features: Callable, capsys: pytest.CaptureFixture
) -> None:
    make_features(tmp_path / "features", shards={"train": 1}, indexed=False)
    output = tmp_path / "run"
    assert main(command(tmp_path / "features", output, "--steps=2")) == 0
    captured = capsys.readouterr()
    warning = f"`python -m pipelines.index_features --features {tmp_path}/features` adds the index"
    assert captured.err.count(warning) == 1
    assert captured.err.count("no validation patches") == 1
    assert "2 steps" in captured.out
    assert captured.out.splitlines()[-1] == f"wrote {output}"
    assert "validation_accuracy" not in json.loads((output / "run.json").read_text())["metrics"]


def test_unknown_flags_and_recipes_are_refused(
    features_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(command(features_folder, tmp_path, "--step=3"))
    assert "unrecognized arguments: --step=3" in capsys.readouterr().err
    with pytest.raises(InputError, match="did you mean fully_connected"):
        main(["fully_conected", *command(features_folder, tmp_path)[1:]])
    assert not list(tmp_path.iterdir())


def test_help_lists_the_recipes(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    for name in recipes.RECIPES:
        assert f"\n  {name} " in text
