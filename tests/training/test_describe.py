import json
import os
from pathlib import Path

import pytest

from features.contracts.speeds import Speeds
from features.errors import InputError
from tests.training.conftest import NUM_LABELS, write_features
from training import overrides, recipes
from training.describe import main
from training.loops import throughput


def test_another_network_or_label_set_is_not_compared(capsys: pytest.CaptureFixture) -> None:
    flags = ["--set", "num_layers=2", "units=500", "num_labels=10", "--json"]
    assert main(["fully_connected", *flags]) == 0
    described = json.loads(capsys.readouterr().out)["fully_connected"]
    assert described["weights"] == 96 * 64 * 500 + 500 * 500 + 500 * 10
    assert described["paper"] is None


def test_a_network_is_counted_with_the_labels_and_patches_of_features(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_features(tmp_path, shards={"train": 1})
    assert main(["audio_set_log_mel", f"--features={tmp_path}", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)["audio_set_log_mel"]
    assert described["labels"] == NUM_LABELS  # and not 527, nor patches of 20 frames
    assert described["weights"] == 96 * 64 * 1_000 + 2 * 1_000**2 + 1_000 * NUM_LABELS


def test_the_table_has_the_numbers_of_the_paper(capsys: pytest.CaptureFixture) -> None:
    main(["alexnet"])
    assert capsys.readouterr().out.splitlines()[1].split() == [
        *("alexnet", "3087", "37.3M", "37.3M", "768M", "767M")
    ]


def test_fields_are_listed_with_what_the_paper_reports(capsys: pytest.CaptureFixture) -> None:
    main(["alexnet", "--steps=300", "--set", "width=0.25", "mixup=0.3"])
    _, text = capsys.readouterr().out.split("\n\n")
    lines = text.splitlines()
    assert lines[0] == (
        "alexnet: Table 2, row 2 of the paper: AUC 0.894, d-prime 1.764, mAP 0.115, 82 h on 20 "
        "GPUs and 10 parameter servers"
    )
    fields = overrides.fields_of(recipes.alexnet())
    assert [line.split("=")[0].strip() for line in lines[1::2]] == list(fields)
    for expected in ("steps=300", "report_steps=6", "width=0.25", "mixup=0.3", "precision=float32"):
        assert f"  {expected}" in lines
    assert "      dtype of activations; weights and loss are float32 (float32 or bfloat16)" in lines


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="did you mean resnet50"):
        main(["resnet"])
    with pytest.raises(InputError, match="num_labels must be positive; received 0"):
        main(["resnet50", "--set=num_labels=0"])
    with pytest.raises(InputError, match="give their number: --set num_labels=N"):
        main(["resnet50", "--set=num_labels=null"])


def test_the_speed_is_that_of_steps_on_this_machine(
    capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throughput, "_LEAST_SECONDS", 0.3)
    table = tmp_path / "speeds.json"
    with pytest.raises(InputError, match="--speeds: give --speed too"):
        main(["fully_connected", "--speeds", str(table)])
    small = [
        "fully_connected",
        "--speed",
        "--batch-size=32",
        "--json",
        f"--speeds={table}",
        "--set",
        "precision=bfloat16",
    ]
    rates = []
    for units in (8, 1_000):
        assert main([*small, f"units={units}"]) == 0
        described = json.loads(capsys.readouterr().out)["fully_connected"]
        rates.append(described["patches_per_second"])
        (row,) = Speeds.from_json(table.read_bytes(), str(table)).rows
        assert (row.job, row.network, row.width) == ("training", "fully_connected", 1.0)
        assert (row.precision, row.device) == ("bfloat16", "cpu")
        num_cores = len(os.sched_getaffinity(0))
        assert row.patches_per_second == pytest.approx(rates[-1] / num_cores)
    assert rates[0] > rates[1] > 0  # 11M weights instead of 74,000
