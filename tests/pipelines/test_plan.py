"""Predictions against the extraction that follows, refusals, and prices."""

import json
import shutil
from pathlib import Path

import pytest

from features.contracts import folders
from features.contracts.documents import Features
from features.errors import InputError, JobFailedError
from pipelines import extract_features, plan, prepare_dataset
from pipelines.cost import prices
from pipelines.cost.prediction import Prediction
from tests.conftest import Corpus


@pytest.fixture(scope="module")
def dataset(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan") / "dataset"
    prepare_dataset.main(["--manifest", str(corpus.manifest), "--output", str(folder)])
    return folder


def test_predicted_and_real(
    dataset: Path, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan.main(["--dataset", str(dataset), "--sample", "30", "--scale", "paper"]) == 0
    printed = capsys.readouterr().out
    predicted = folders.read_document(str(dataset), Prediction)
    features = tmp_path / "features"
    extract_features.main(["--dataset", str(dataset), "--output", str(features)])
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
    with pytest.raises(JobFailedError, match=r"--max-cost 5: gold may take .* dollars"):
        plan.main([*command, "--max-cost", "5"])


def test_prices_are_dated_and_have_a_source() -> None:
    ours = prices.read_prices(None)
    assert all(row.as_of and row.source for row in (*ours.platforms.values(), ours.storage))
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
    ):
        with pytest.raises(InputError, match=message):
            plan.main(["--dataset", str(dataset), *flags])
    with pytest.raises(InputError, match=r"has no dataset\.json"):
        plan.main(["--dataset", str(tmp_path)])
    with pytest.raises(InputError, match=r"has no features\.json"):
        plan.main(["--actual", str(tmp_path)])
    (tmp_path / "m.csv").write_text("id,uri,labels\na,none.wav,x\n")
    with pytest.raises(InputError, match="none of the files of 1 videos exists"):
        plan.main(["--manifest", str(tmp_path / "m.csv")])
