"""Predictions against the extraction that follows, refusals, and prices."""

import json
import shutil
from pathlib import Path

import pytest

from features.contracts import folders
from features.contracts.documents import Features
from features.contracts.speeds import Speeds
from features.errors import InputError, JobFailedError
from pipelines import plan
from pipelines.cost import prices
from pipelines.cost.prediction import Prediction
from tests.conftest import Corpus

SPEEDS = Path(prices.__file__).with_name(Speeds.FILE)


def test_predicted_and_real(
    dataset: Path, features: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan.main(["--dataset", str(dataset), "--sample", "30", "--scale", "paper"]) == 0
    printed = capsys.readouterr().out
    predicted = folders.read_document(str(dataset), Prediction)
    made = folders.read_document(str(features), Features)
    capsys.readouterr()
    assert plan.main(["--actual", str(features)]) == 0
    compared = capsys.readouterr().out

    assert all(len(line) <= 80 for line in (printed + compared).splitlines())
    assert printed.startswith("15 of 16 videos measured on ")  # all that exist
    assert "  1 videos have no file and cost nothing\n  rejected: 1 corrupt\n" in printed
    assert "70,000,000 videos, 5,240,000 hours, 30,871 labels" in printed
    # All videos were measured: the output is known, and the cost but for the drift.
    num_hours = made.num_patches * 0.96 / 3600
    assert predicted.audio_hours == pytest.approx([num_hours] * 3)
    num_bytes = sum(split.num_bytes for split in made.splits.values())
    assert predicted.num_bytes == pytest.approx([num_bytes] * 3, rel=0.01)
    assert predicted.num_shards == len(list(features.rglob("patches-*.json")))
    low, best, high = predicted.cpu_seconds
    assert low < best < high
    assert made.work is not None
    assert best / 3 < made.work.cpu_seconds < 3 * best
    assert [line.split()[0] for line in compared.splitlines()[1:]] == [
        "CPU,", "sound,", "output,", "shards", "wall",
    ]  # fmt: skip
    assert f"shards{predicted.num_shards:>30}{predicted.num_shards:>12}" in compared


def test_a_cost_above_the_budget_is_refused(dataset: Path, tmp_path: Path) -> None:
    table = tmp_path / "prices.json"
    shutil.copy(Path(prices.__file__).with_name("prices.json"), table)
    document = json.loads(table.read_text())
    document["platforms"]["gold"] = {**document["platforms"]["dataflow"], "vcpu_hour": 1e6}
    table.write_text(json.dumps(document))
    command = ["--dataset", str(dataset), "--sample", "4", "--prices", str(table)]

    assert plan.main([*command, "--max-cost", "5", "--platform", "dataflow"]) == 0
    with pytest.raises(JobFailedError, match=r"--max-cost 5: extraction on gold may .* dollars"):
        plan.main([*command, "--max-cost", "5"])


def test_the_budget_is_for_extraction_scoring_and_training(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = json.loads(Path(prices.__file__).with_name("prices.json").read_text())
    for row in table["platforms"].values():
        row["as_of"] = "9999-01"
    table["gpus"] = {"H9": {"hour": 3600.0, "as_of": "2025-01", "source": "made up"}}
    (tmp_path / "prices.json").write_text(json.dumps(table))
    speed = {
        "job": "training",
        "network": "resnet50",
        "precision": "bfloat16",
        "device": "H9",
        "patches_per_second": 1000.0,
        "machine": "none",
        "as_of": "2026-01-01",
        "source": "made up",
    }
    rows = [speed, {**speed, "job": "scoring", "device": "cpu", "patches_per_second": 1e9}]
    (tmp_path / "speeds.json").write_text(json.dumps({"format_version": 1, "rows": rows}))
    command = ["--dataset", str(dataset), "--sample", "4", "--platform", "dataflow"]
    command += ["--prices", f"{tmp_path}/prices.json", "--speeds", f"{tmp_path}/speeds.json"]
    command += ["--score", "resnet50", "--precision", "bfloat16"]
    command += ["--train", "resnet50", "--train-precision", "bfloat16", "--train-device", "H9"]

    # 1,000 mini-batches of 100 patches take 100 s, at most 200 s, of 1 dollar each.
    command += ["--steps", "1000", "--batch-size", "100"]
    assert plan.main([*command, "--max-cost", "201"]) == 0
    printed = capsys.readouterr().out
    with pytest.raises(JobFailedError, match="extraction and scoring and training on dataflow"):
        plan.main([*command, "--max-cost", "200"])

    assert all(len(line) <= 80 for line in printed.splitlines())
    lines = {line.split("   ")[0]: line for line in printed.splitlines()}
    assert lines["GPU seconds"].split()[2:] == ["100", "50", "to", "200"]
    assert lines["$ H9"].split()[2:] == ["100", "50", "to", "200", "list,", "2025-01"]
    assert printed.endswith(
        "older prices, compare with your bill: storage (2025-07), H9 (2025-01)\n"
    )
    predicted = folders.read_document(str(dataset), Prediction)
    assert predicted.training is not None
    assert predicted.training.wall_seconds[1] == pytest.approx(100 / predicted.num_workers)


def test_prices_and_speeds_are_dated_and_have_a_source() -> None:
    ours = prices.read_prices(None)
    assert all(row.as_of and row.source for row in (*ours.platforms.values(), ours.storage))
    assert list(ours.list_older(2026)) == ["storage (2025-07)"]
    speeds = Speeds.from_json(SPEEDS.read_text(), str(SPEEDS))
    assert all(row.as_of and row.source and row.machine for row in speeds.rows)
    assert len({str(row) for row in speeds.rows}) == len(speeds.rows)
    assert {row.device for row in speeds.rows} == {"cpu"}  # as the message about GPUs says
    flexible, usual = ours.platforms["dataflow-flexrs"], ours.platforms["dataflow"]
    assert flexible.dollars_per_core_hour == pytest.approx(0.6 * usual.dollars_per_core_hour)


def test_refused(dataset: Path, corpus: Corpus, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('{"storage": {}}')
    for flags, message in (
        (["--sample", "0"], "--sample: received 0"),
        (["--platform", "moon"], "--platform: received 'moon'; the table has dataflow-flexrs, "),
        (["--prices", str(tmp_path / "none")], "--prices: there is no file"),
        (["--prices", str(corpus.manifest)], "is not a table of prices"),
        (["--prices", str(broken)], "field storage.gb_month is missing; begin with a copy of"),
        (["--train", "vgg"], "--train: give --steps and --batch-size, each 1 or more"),
        (["--score", "vgg", "--speeds", str(tmp_path / "none")], "--speeds: there is no file"),
        (["--score", "vgg", "--split", "test"], "--split: received 'test'; the data set has "),
        (["--run", str(tmp_path)], r"has no export/saved_model\.pb"),
    ):
        with pytest.raises(InputError, match=message):
            plan.main(["--dataset", str(dataset), *flags])
    h200 = ["--train", "vgg", "--steps", "9", "--train-device", "NVIDIA H200"]
    with pytest.raises(InputError) as refusal:
        plan.main(["--dataset", str(dataset), *h200])
    for part in (
        "no speed of training, vgg, float32, NVIDIA H200, but: training, vgg, float32, cpu; ",
        "No GPU has been measured for the table of this package. ",
        "`python -m training.describe RECIPE --speed --speeds FILE`, or add a row to a copy",
    ):
        assert part in str(refusal.value)
    row = {**json.loads(SPEEDS.read_text())["rows"][0], "network": "vgg", "device": "NVIDIA H200"}
    (tmp_path / "speeds.json").write_text(json.dumps({"format_version": 1, "rows": [row]}))
    with pytest.raises(InputError, match=r"no price of the GPU 'NVIDIA H200', but of: none; add "):
        plan.main(["--dataset", str(dataset), *h200, "--speeds", f"{tmp_path}/speeds.json"])
    with pytest.raises(InputError, match=r"has no dataset\.json"):
        plan.main(["--dataset", str(tmp_path)])
    with pytest.raises(InputError, match=r"has no features\.json"):
        plan.main(["--actual", str(tmp_path)])
    (tmp_path / "m.csv").write_text("id,uri,labels\na,none.wav,x\n")
    with pytest.raises(InputError, match="none of the files of 1 videos exists"):
        plan.main(["--manifest", str(tmp_path / "m.csv")])
