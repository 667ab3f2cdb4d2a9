"""Table 2 at the tiny scale, interrupted and resumed; steps, rows and pages of experiments."""

import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from evaluation.paper import (
    esc10,
    event_detection,
    experiment,
    modern,
    results,
    steps,
    table2,
    table3,
    table4,
    table_results,
)
from evaluation.paper.experiment import Experiment
from evaluation.paper.scales import PAPER, SMALL, TINY, Scale
from evaluation.paper.steps import Step
from evaluation.paper.table import Table, paper_results
from evaluation.paper.table_results import FindingResults, RowResults, TableResults
from features.errors import INTERRUPTED, ContractError, InputError, JobFailedError
from features.typed_json import convert
from training import overrides, recipes

LIMIT_SECONDS = 300
DOCS = Path(__file__).parents[2] / "docs"
PUBLISHED = json.loads((DOCS / "results.json").read_text())
TABLES = tuple(page.TABLE for page in (event_detection, table2, table3, table4, modern))


def test_a_table_resumes_where_it_was_stopped_and_is_published(
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

    for again in (command, command[:-1]):  # the other row stays in the table
        assert table2.main(again) == 0
        assert "scale tiny: nothing is left to run" in capsys.readouterr().out
        assert json.loads((folder / "results.json").read_text())["table2"] == document

    page = tmp_path / "results.md"
    page.write_text("Before\n<!-- table2 -->\nold\n<!-- end of table2 -->\nafter\n")
    assert results.main([str(folder), f"--output={tmp_path}"]) == 0
    assert json.loads((tmp_path / "results.json").read_text())["table2"] == document
    assert "| Fully connected | 11.2M / 11.2M |" in page.read_text()
    assert "old" not in page.read_text()
    page.write_text("no markers\n")
    with pytest.raises(InputError, match="no markers of table2; write <!-- table2 --> and"):
        results.main([str(folder), f"--output={tmp_path}"])


def test_a_failed_step_is_named_and_run_again(tmp_path: Path) -> None:
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


def test_a_command_is_shown_without_the_paths_of_this_machine(tmp_path: Path) -> None:
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
def test_rows_are_recipes_that_training_takes(scale: Scale, table: Table) -> None:
    for row in table.rows:
        run = scale.run_of(row.recipe)
        recipe = overrides.override(
            recipes.find_recipe(run), {**scale.settings_of(run), **row.settings}
        )
        own = overrides.override(recipes.find_recipe(row.recipe), row.settings)
        assert own.steps == row.reported.steps
        if scale is PAPER:  # exactly as in the paper
            assert recipe.learning == {**own.learning, "name": recipe.name}
        if recipe.learning_rate_cuts:  # at the same share of the run
            [(cut, factor)] = recipe.learning_rate_cuts
            assert (factor, cut / recipe.steps) == (0.1, pytest.approx(13 / 17, abs=0.02))


@pytest.mark.parametrize("scale", [SMALL, TINY], ids=lambda scale: scale.name)
def test_recipes_for_clips_are_recipes_that_training_takes(scale: Scale) -> None:
    for name in (esc10.PAPER_RECIPE, esc10.MODERN_RECIPE):
        settings = scale.clip_settings_of(name)
        recipe = overrides.override(recipes.find_recipe(name), settings)
        assert (str(recipe.steps), str(recipe.batch_size)) == (
            settings["steps"],
            settings["batch_size"],
        )


def test_set_wins_over_the_scale_for_soundtracks_and_clips() -> None:
    parser = experiment.parser("evaluation.paper.table2", "")
    flags = ["--scale=small", "--output=experiments", "--set", "steps=7", "model.width=0.5"]
    scale = Experiment.of(parser.parse_args([*flags, "--set", "seed=3"])).scale
    chosen = {"steps": "7", "width": "0.5", "seed": "3"}
    for recipe in ("fully_connected", "resnet50_17m", "audio_set_log_mel", "modern"):
        assert {**scale.settings_of(recipe), **chosen} == scale.settings_of(recipe)
        assert {**scale.clip_settings_of(recipe), **chosen} == scale.clip_settings_of(recipe)
    assert scale.settings_of("resnet50_3k")["num_labels"] == "8"
    with pytest.raises(InputError, match="--set takes FIELD=VALUE; received 'steps'"):
        Experiment.of(parser.parse_args([*flags[:2], "--set", "steps"]))


# By the published differences of mAP; in one pair of Table 3 the order is reversed.
def test_findings_are_the_papers() -> None:
    differences = []
    for table in TABLES:
        reported = {row.key: row.reported.map for row in table.rows}
        for finding in table.findings:
            for better, worse in finding.pairs:
                higher, lower = reported[better], reported[worse]
                if higher is not None and lower is not None:
                    differences.append(higher - lower)
    assert len(differences) == 19
    assert all(difference > -0.0015 for difference in differences)


def test_a_finding_needs_an_interval_without_0() -> None:
    assert table_results.outcome_of((0.01, 0.05)) == "holds"
    assert table_results.outcome_of((-0.01, 0.05)) == "open"
    assert table_results.outcome_of((-0.05, -0.01)) == "does not hold"
    assert table_results.outcome_of(None) == "open"


def results_of(document: Mapping[str, Any]) -> TableResults:
    """The inverse of `TableResults.to_plain`."""
    findings = convert(
        document["findings"], tuple[FindingResults, ...], where="results.json", cure=""
    )
    rows = {
        key: convert(row, RowResults, where=key, cure="")
        for key, row in document.items()
        if key not in ("scale", "findings")
    }
    return TableResults(scale=document["scale"], rows=rows, findings=findings)


def read_table(name: str) -> str:
    _, _, rest = (DOCS / "results.md").read_text().partition(f"<!-- {name} -->\n")
    return rest.partition(f"<!-- end of {name} -->")[0]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_published_table_is_what_the_published_results_say(table: Table) -> None:
    document = PUBLISHED[table.name]
    published = results_of(document)
    assert table_results.render(published) == read_table(table.name)
    assert json.dumps(published.to_plain()) == json.dumps(document)  # the keys in order, too
    for row in table.rows:
        assert published.rows[row.key].paper == paper_results(row.reported)


def test_the_published_accuracy_on_clips_is_what_the_published_results_say() -> None:
    published = esc10.ClipResults.from_plain(PUBLISHED["esc10"])
    assert esc10.render(published) == read_table("esc10")
    assert json.dumps(published.to_plain()) == json.dumps(PUBLISHED["esc10"])
    for recipe in published.recipes.values():
        accuracies = [fold.accuracy for fold in recipe.folds.values()]
        assert math.isclose(recipe.accuracy, sum(accuracies) / 4)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_invalid_results_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ContractError, match=r"results\.json is not .*; delete the file and run"):
        results.main([str(tmp_path), f"--output={tmp_path}"])


def test_what_cannot_be_run_is_refused_at_once(tmp_path: Path) -> None:
    output = f"--output={tmp_path}"
    with pytest.raises(InputError, match="table2 has no row vgg19; it has fully_connected, alex"):
        table2.main(["--scale=tiny", output, "--rows", "vgg19"])
    with pytest.raises(InputError, match="--scale paper takes --features, or a --manifest"):
        table4.main(["--scale=paper", output])
    with pytest.raises(InputError, match=r"name the excerpts whose .* with --event-manifest"):
        event_detection.main(["--scale=small", output, "--manifest=videos.csv"])
    assert not any(tmp_path.iterdir())
