"""A real sweep, interrupted and resumed; its table and plot from results made here."""

import concurrent.futures
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from features.contracts import folders
from features.contracts.documents import Sweep, SweptRun
from features.contracts.folders import ContractError
from features.errors import InputError, JobFailedError
from training import train
from training.sweep import main
from training.sweep_table import plot, table

GOOD, SLOW, BAD = "3e-3", "1e-7", "1e30"


def command(features: Path, output: Path, *more: str) -> list[str]:
    sizes = ["--batch-size=32", "--set=width=0.05", "--steps=40"]
    return ["fully_connected", f"--features={features}", f"--output={output}", *sizes, *more]


def test_a_sweep_resumes_and_a_failed_run_leaves_the_others_alone(
    features_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flags = command(features_folder, tmp_path, "--learning-rate", GOOD, SLOW, BAD)
    good, slow, bad = (tmp_path / f"learning_rate={rate}" for rate in (GOOD, SLOW, BAD))
    stopped = threading.Event()

    def terminate() -> None:
        while not (slow / "events").exists():
            if stopped.wait(0.1):
                return
        os.kill(os.getpid(), signal.SIGTERM)

    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        executor.submit(terminate)
        try:
            with pytest.raises(
                JobFailedError, match=r"1 runs were running, .* 1 had not"
            ) as caught:
                main(flags)
        finally:
            stopped.set()
    assert caught.value.exit_code == 130
    capsys.readouterr()
    first = (good / "run.json").read_bytes()
    assert not (tmp_path / "sweep.json").exists()
    assert not (bad / "events").exists()

    with pytest.raises(JobFailedError, match="1 of 3 runs failed"):
        main([*flags, "--jobs=2"])
    assert (good / "run.json").read_bytes() == first
    captured = capsys.readouterr()
    assert re.match("3 runs, [12] of them finished before", captured.out)
    assert f"{bad} failed:" in captured.err
    rows = [line.split() for line in captured.out.splitlines()[1:-1]]
    assert rows[0] == ["learning_rate", "mAP", "accuracy", "loss", "patches/s", "steps"]
    assert [row[0] for row in rows[1:]] == [GOOD, SLOW, BAD]
    assert [row[-1] for row in rows[1:3]] == ["40", "40"]
    assert " ".join(rows[3][1:]).startswith("failed: not finite in step")

    runs = json.loads((tmp_path / "sweep.json").read_text())["runs"]
    sweep = folders.read_document(str(tmp_path), Sweep)
    assert [run.folder for run in sweep.runs] == [str(good), str(slow), str(bad)]
    assert list(runs[0]) == ["folder", "values", "steps", "metrics", "error"]
    assert [run["values"] for run in runs] == [
        {"learning_rate": rate} for rate in (GOOD, SLOW, BAD)
    ]
    for run, folder in zip(runs[:2], (good, slow), strict=True):
        assert run["metrics"] == json.loads((folder / "run.json").read_text())["metrics"]
        assert run["error"] is None
    precision = "validation_mean_average_precision"
    assert runs[0]["metrics"][precision] > runs[1]["metrics"][precision]
    assert runs[2]["error"].startswith("not finite in step")
    assert "learning rate" in (tmp_path / "sweep.svg").read_text()

    assert sweep.best is not None
    assert sweep.best.values == {"learning_rate": GOOD}
    with monkeypatch.context() as patched:  # what the run would fail with once more
        error = {str(bad): runs[2]["error"]}
        patched.setattr("training.sweep._train", lambda unfinished, **_: error)
        assert main([*flags, "--accept-diverged"]) == 0
    capsys.readouterr()

    # Fewer values: nothing is left to train.
    assert main(command(features_folder, tmp_path, "--learning-rate", GOOD, SLOW)) == 0
    assert "2 runs, 2 of them finished before" in capsys.readouterr().out


def test_what_training_would_refuse_is_refused_before_any_run(
    features_folder: Path, tmp_path: Path
) -> None:
    def refused(message: str, *more: str) -> None:
        with pytest.raises(InputError, match=message):
            main(command(features_folder, tmp_path / "sweep", *more))
        assert not (tmp_path / "sweep").exists()

    refused("nothing to sweep over", "--learning-rate", "1e-3")
    refused("nothing to sweep over", "--learning-rate", "1e-3", "1e-3")
    refused("has no field 'layers'; did you mean num_layers", "--set", "layers=2,3")
    refused("learning_rate must be positive; received -1", "--learning-rate", "1e-3", "-1")
    refused(
        "learning_rate is set by --set and by --learning-rate",
        "--set",
        "learning_rate=1,2",
        "--learning-rate",
        "1e-3",
    )
    refused("--set takes FIELD=VALUE; received 'mixup'", "--set", "mixup")
    refused("--workers must be at least 1; received 0", "--workers", "1", "0")
    refused("--jobs must be at least 1", "--jobs=0", "--learning-rate", "1e-3", "1e-4")
    refused(
        "learning_rate_cuts must be STEP:FACTOR", "--set", "learning_rate_cuts=1300", "seed=1,2"
    )
    refused("has no training subset '7'", "--set", "training_subset=7", "seed=1,2")


def test_runs_of_another_sweep_are_refused(
    features_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_is_started(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", none_is_started)
    layers = ["--set", "num_layers=1,2"]
    with pytest.raises(JobFailedError, match="0 runs were running"):
        main(command(features_folder, tmp_path, *layers))
    with pytest.raises(ContractError, match=r"num_layers=1 holds another run: recipe\.seed is 1"):
        main(command(features_folder, tmp_path, *layers, "--seed=1"))


def test_every_flag_of_training_can_be_given(capsys: pytest.CaptureFixture) -> None:
    flags = []
    for command_main in (train.main, main):
        with pytest.raises(SystemExit, match="0"):
            command_main(["--help"])
        text = capsys.readouterr().out
        assert max(map(len, text.splitlines())) <= 80
        flags.append(set(re.findall(r"^  (--[a-z-]+)", text, re.MULTILINE)))
    # A sweep of strategies names the cluster itself; it does not wait for another's run.
    assert flags[0] - flags[1] == {"--cluster", "--wait-for-lease"}
    assert flags[1] - flags[0] == {"--jobs", "--accept-diverged"}


def result(mean_average_precision: float | None, **values: str) -> SweptRun:
    metrics = {
        "validation_mean_average_precision": mean_average_precision,
        "validation_accuracy": 0.5,
        "validation_loss": 0.01,
        "patches_per_second": 1234.5,
    }
    return SweptRun(folder="run", values=values, steps=10, metrics=metrics, error=None)


def grid() -> Sequence[SweptRun]:
    return [
        result(0.1, num_layers="2", units="500"),
        SweptRun(
            folder="run",
            values={"num_layers": "2", "units": "4000"},
            steps=None,
            metrics={},
            error="a shard is damaged",
        ),
        result(None, num_layers="4", units="500"),
        result(0.3, num_layers="4", units="4000"),
    ]


def test_the_table_is_by_falling_precision() -> None:
    assert table(grid()).splitlines() == [
        "num_layers  units  mAP  accuracy  loss  patches/s  steps",
        "         4   4000  0.3       0.5  0.01       1234     10",
        "         2    500  0.1       0.5  0.01       1234     10",
        "         4    500    -       0.5  0.01       1234     10",
        "         2   4000  failed: a shard is damaged",
    ]


def test_the_plot_has_a_panel_for_each_quantity_and_a_line_for_the_others() -> None:
    svg = plot(grid())
    assert svg is not None
    text = svg.decode()
    for words in ("num layers", ">units<", "validation mAP", "units 4000", "num_layers 2"):
        assert words in text
    assert plot(grid()) == svg
    assert plot([result(0.1, precision="float32"), result(0.2, precision="bfloat16")])
    assert plot([result(None, seed="1"), result(None, seed="2")]) is None
