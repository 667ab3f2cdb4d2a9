"""Table 2 at its tiny scale, interrupted and resumed; the steps, rows and pages of experiments."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evaluation.paper import (
    esc10,
    event_detection,
    modern,
    results,
    steps,
    table2,
    table3,
    table4,
)
from evaluation.paper.scales import PAPER, SMALL, TINY
from evaluation.paper.steps import Step
from evaluation.paper.table import CONTRADICTED, HOLDS, OPEN, Table, verdict
from features.contracts.folders import ContractError
from features.errors import INTERRUPTED, InputError, JobFailedError
from training import train
from training.config import Recipe

LIMIT_SECONDS = 300
TABLES = tuple(page.TABLE for page in (event_detection, table2, table3, table4, modern))


def test_a_table_goes_on_where_it_was_stopped_and_is_published(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "experiments"
    command = ["--scale=tiny", f"--output={folder}", "--rows", "fully_connected", "alexnet"]
    first = subprocess.Popen([sys.executable, "-m", "evaluation.paper.table2", *command])
    deadline = time.monotonic() + LIMIT_SECONDS
    while not (folder / "steps" / "corpus.json").exists():
        assert time.monotonic() < deadline
        assert first.poll() is None
        time.sleep(0.1)
    first.send_signal(signal.SIGTERM)
    assert first.wait(LIMIT_SECONDS) == INTERRUPTED
    manifest = (folder / "corpus" / "manifest.csv").stat().st_mtime_ns

    assert table2.main(command) == 0

    assert (folder / "corpus" / "manifest.csv").stat().st_mtime_ns == manifest
    printed = capsys.readouterr().out
    assert "Architectures, scale tiny: 9 commands to run, about" in printed
    document = json.loads((folder / "results.json").read_text())["table2"]
    for recipe in ("fully_connected", "alexnet"):
        row = document[recipe]
        report = json.loads((folder / "reports" / recipe / "metrics.json").read_text())
        assert (row["map"], row["run"]) == (report["mean_ap"], report["fingerprints"]["model"])
        assert row["command"].startswith(f"python -m training.train {recipe} --features FOLDER/")
    assert document["fully_connected"]["weights"] == pytest.approx(11.2e6, rel=0.005)
    [finding] = document["findings"]
    difference = document["alexnet"]["map"] - document["fully_connected"]["map"]
    assert finding["map_difference"] == pytest.approx(difference)
    assert finding["paper_map_difference"] == 0.057

    for again in (command, command[:-1]):  # a row alone takes nothing out of the table
        assert table2.main(again) == 0
        assert "scale tiny: nothing is left to run" in capsys.readouterr().out
        assert json.loads((folder / "results.json").read_text())["table2"] == document

    page = tmp_path / "results.md"
    page.write_text("Before\n<!-- table2 -->\nold\n<!-- end of table2 -->\nafter\n")
    assert results.main([str(folder), f"--output={tmp_path}"]) == 0
    assert json.loads((tmp_path / "results.json").read_text())["table2"] == document
    assert "| Fully connected | 11.2M / 11.2M |" in page.read_text()
    assert "old" not in page.read_text()
    page.write_text("no place\n")
    with pytest.raises(InputError, match="no place for table2: write <!-- table2 --> and"):
        results.main([str(folder), f"--output={tmp_path}"])


def test_a_failed_step_is_named_and_done_again(tmp_path: Path) -> None:
    folder = str(tmp_path)
    (tmp_path / "corpus").write_text("in the way of a folder")
    corpus = ("pipelines.demo_corpus", "--soundtracks=3", f"--output={folder}/corpus")
    step = Step(name="corpus", command=corpus)
    with pytest.raises(JobFailedError, match="step corpus ended with exit code 2"):
        steps.execute([step], folder)
    assert steps.unfinished([step, step], folder) == [step]

    (tmp_path / "corpus").unlink()
    steps.execute([step], folder)

    assert steps.unfinished([step], folder) == []
    assert steps.command_of("corpus", folder) == (
        "python -m pipelines.demo_corpus --soundtracks=3 --output=FOLDER/corpus"
    )
    longer = Step(name="corpus", command=(*corpus, "--seed=2"))
    with pytest.raises(ContractError, match=r"the command of corpus is .*--seed=2"):
        steps.unfinished([longer], folder)


def test_a_command_is_shown_without_the_places_of_this_machine(tmp_path: Path) -> None:
    ours = str(Path(steps.__file__).with_name("generic_labels.csv"))
    command = ("pipelines.compose_soundtracks", "--output", f"{tmp_path}/corpus", ours)
    shown = steps.shown(command, f"{tmp_path}/")
    assert shown == (
        "python -m pipelines.compose_soundtracks --output FOLDER/corpus "
        "evaluation/paper/generic_labels.csv"
    )


def test_the_cost_is_a_sum_by_command() -> None:
    trained = [Step(name=str(n), command=("training.train",), seconds=3_600) for n in range(2)]
    scored = Step(name="scores", command=("evaluation.score_videos",), seconds=90)
    assert steps.cost([scored, *trained]) == (
        "3 commands to run, about 2 h 01 min:\n"
        "  train         2 h 00 min\n"
        "  score_videos  1 min 30 s"
    )


@pytest.mark.parametrize("scale", [PAPER, SMALL, TINY], ids=lambda scale: scale.name)
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_rows_are_recipes_that_training_takes(scale, table: Table) -> None:
    for row in table.rows:
        run = scale.run_of(row.recipe)
        recipe = _recipe(run, {**scale.flags_of(run), **row.flags})
        own = _recipe(row.recipe, row.flags)
        assert own.steps == row.steps
        if scale is PAPER:  # the paper's figures exactly
            assert recipe.learning == {**own.learning, "name": recipe.name}
        if recipe.learning_rate_cuts:  # in their place, whatever the length
            [(cut, factor)] = recipe.learning_rate_cuts
            assert (factor, cut / recipe.steps) == (0.1, pytest.approx(13 / 17, abs=0.02))


def _recipe(name: str, flags: dict[str, str]) -> Recipe:
    words = [word for flag, value in flags.items() for word in (f"--{flag}", *value.split())]
    return train.parse([name, "--features=f", "--output=o", *words])[1]


# By the published differences of mAP: Table 3 has label sets the other way round once.
def test_findings_are_the_papers() -> None:
    for table in TABLES:
        papers = {row.key: row.paper for row in table.rows}
        differences = [
            papers[better].map - papers[worse].map
            for finding in table.findings
            for better, worse in finding.pairs
            if papers[better] and papers[worse]
        ]
        assert all(difference > -0.0015 for difference in differences)


def test_a_finding_needs_an_interval_without_0() -> None:
    assert verdict((0.01, 0.05)) == HOLDS
    assert verdict((-0.01, 0.05)) == OPEN
    assert verdict((-0.05, -0.01)) == CONTRADICTED
    assert verdict(None) == OPEN


def test_accuracy_on_clips_is_rendered_beside_what_is_published() -> None:
    fold = {"accuracy": 0.8, "patches": 38_400, "seconds": 90.0}
    ours = {"accuracy": 0.8, "interval": [0.75, 0.84], "folds": {1: fold, 2: fold}}
    lines = esc10.render({"scale": "small", "accuracy_paper": 0.8, "paper": ours}).splitlines()
    assert lines[2] == "| paper | **80.0 %** [75.0, 84.0] | 80.0, 80.0 | 38,400 | 1.5 min |"
    assert lines[3:] == [
        "| human (published) | 95.7 % | | | |",
        "| random forest on MFCC (published) | 72.7 % | | | |",
    ]


def test_what_cannot_be_run_is_refused_at_once(tmp_path: Path) -> None:
    output = f"--output={tmp_path}"
    with pytest.raises(InputError, match="table2 has no row vgg19; it has fully_connected, alex"):
        table2.main(["--scale=tiny", output, "--rows", "vgg19"])
    with pytest.raises(InputError, match="--scale paper takes --features, or a --manifest"):
        table4.main(["--scale=paper", output])
    with pytest.raises(InputError, match=r"give the excerpts whose .*, as --event-manifest"):
        event_detection.main(["--scale=small", output, "--manifest=videos.csv"])
    assert not any(tmp_path.iterdir())
