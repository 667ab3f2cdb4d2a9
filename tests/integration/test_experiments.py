"""Table 2 at the tiny scale, interrupted and resumed; steps, rows and pages of experiments."""

import dataclasses
import json
import math
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from evaluation.metrics.jackknife import LeftOut
from evaluation.paper import (
    corpus,
    esc10,
    event_detection,
    experiment,
    modern,
    results,
    seed_reports,
    steps,
    table2,
    table3,
    table4,
    table_results,
)
from evaluation.paper.experiment import Experiment
from evaluation.paper.runs import Run, RunResults
from evaluation.paper.scales import PAPER, SMALL, TINY, Scale
from evaluation.paper.seed_reports import SeedReports
from evaluation.paper.steps import Step
from evaluation.paper.table import Table, paper_results
from evaluation.paper.table import _finding as table_finding
from evaluation.paper.table import _parser as table_parser
from evaluation.paper.table import _plan as table_plan
from evaluation.paper.table_results import FindingResults, RowResults, TableResults
from evaluation.paper.tuning import Network, Tuning
from features.contracts import folders
from features.contracts.documents import Metrics, Sweep
from features.errors import INTERRUPTED, ContractError, InputError, JobFailedError
from features.paper import Reported
from features.typed_json import convert
from tests.training.conftest import write_features
from training import overrides, recipes, train

LIMIT_SECONDS = 300
DOCS = Path(__file__).parents[2] / "docs"
SAMPLES = Path(__file__).parents[1] / "features" / "contracts" / "documents"
PUBLISHED = json.loads((DOCS / "results.json").read_text())
TABLES = tuple(page.TABLE for page in (event_detection, table2, table3, table4, modern))


def test_a_table_is_tuned_on_validation_resumes_where_it_was_stopped_and_is_published(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "experiments"
    rates = ("1e-7", "3e-3")
    command = ["--scale=tiny", f"--output={folder}", "--rows", "fully_connected"]
    command += [f"--learning-rates={','.join(rates)}", "--seeds=2"]
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
    title = f"Architectures (learning rates {', '.join(rates)}; 2 seeds), scale tiny"
    assert f"{title}: 9 commands to run, about" in printed
    document = json.loads((folder / "results.json").read_text())["table2"]
    row = document["fully_connected"]
    assert row["weights"] == pytest.approx(11.2e6, rel=0.005)
    # The sweep saw the validation split, and nothing of the evaluation split was scored before.
    sweep = folders.read_document(str(folder / "sweeps" / "fully_connected"), Sweep)
    assert row["validation_map"] == {
        run.values["learning_rate"]: run.mean_average_precision for run in sweep.runs
    }
    # Of so few videos, either may be the best.
    best = max(rates, key=row["validation_map"].get)
    assert row["learning_rate"] == best
    order = {path.stem: path.stat().st_mtime_ns for path in (folder / "steps").iterdir()}
    trained = ("sweeps-fully_connected", "runs-fully_connected", "runs-fully_connected_seed_1")
    assert max(order[name] for name in trained) < order["scores-fully_connected"]
    reports = [
        json.loads((folder / "reports" / name / "metrics.json").read_text())
        for name in ("fully_connected", "fully_connected_seed_1")
    ]
    assert [seed["map"] for seed in row["seeds"]] == [report["mean_ap"] for report in reports]
    assert row["map"] == pytest.approx(sum(report["mean_ap"] for report in reports) / 2)
    fingerprints = [report["fingerprints"]["model"] for report in reports]
    assert [seed["run"] for seed in row["seeds"]] == fingerprints
    assert len({row["run"], *fingerprints}) == 2
    assert row["command"].startswith("python -m training.train fully_connected --features FOLDER/")
    assert f"learning_rate={best}" in row["command"]

    for again in (command, [*command[:2], *command[4:], "--rows", "fully_connected"]):
        assert table2.main(again) == 0
        assert "nothing is left to run" in capsys.readouterr().out
        assert json.loads((folder / "results.json").read_text())["table2"] == document
    with pytest.raises(ContractError, match="the command of sweeps/fully_connected is"):
        table2.main([*command, "--learning-rates=1e-4,1e-3"])

    page = tmp_path / "results.md"
    page.write_text("Before\n<!-- table2 -->\nold\n<!-- end of table2 -->\nafter\n")
    assert results.main([str(folder), f"--output={tmp_path}"]) == 0
    assert json.loads((tmp_path / "results.json").read_text())["table2"] == document
    assert "| Fully connected | 11.2M / 11.2M |" in page.read_text()
    shown = [f"**{rate}** 0." if rate == best else f"{rate} 0." for rate in rates]
    by_rate = f"- Fully connected: validation mAP by learning rate {shown[0]}"
    assert by_rate in page.read_text()
    assert f", {shown[1]}" in page.read_text()
    assert "old" not in page.read_text()
    page.write_text("no markers\n")
    with pytest.raises(InputError, match="no markers of table2; write <!-- table2 --> and"):
        results.main([str(folder), f"--output={tmp_path}"])


def write_speeds(folder: str, table: Table, scale: Scale) -> None:
    """Measurements of 100 patches a second, and costs, as if the steps had been run."""
    for row in table.rows:
        recipe = scale.run_of(row.recipe)
        settings = {**scale.settings_of(recipe), **row.settings}
        step = Run(
            name="", recipe=recipe, settings=settings, features="", folder=folder
        ).measurement()
        described = {"weights": 1, "multiplies": 1, "patches_per_second": 100.0}
        assert step.printed_to is not None
        Path(step.printed_to).parent.mkdir(parents=True, exist_ok=True)
        Path(step.printed_to).write_text(json.dumps({recipe: described}))
        record = steps.StepRecord(command=steps.shown(step.command, folder), seconds=1.0)
        path = Path(folder, "steps", step.name.replace("/", "-") + ".json")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(record.to_json())


def test_the_estimate_is_of_all_rates_and_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_speeds(str(tmp_path), table3.TABLE, PAPER)
    assert table3.main(["--scale=paper", "--estimate", f"--output={tmp_path}"]) == 0
    printed = capsys.readouterr().out
    assert "Label sets (learning rates 3e-5, 1e-4, 3e-4, 1e-3; 3 seeds), scale paper" in printed
    days = {name: int(found) for name, found in re.findall(r"  (\w+) +(\d+) days", printed)}
    # 6 networks; 5M mini-batches of 128 at 100 patches a second are 74.07 days.
    assert days["sweep"] == int(6 * 4 * 74.07)
    assert days["train"] == int(6 * 3 * 74.07)
    # 3 seeds of 5 networks on 100K videos and of one on 1M; a patch infers 3 times as fast.
    assert days["score_videos"] == int(3 * 1.5e6 * 288 / 300 / 86_400)
    assert len(re.findall(r"640M patches a run, +100 a second; 4 \+ 3 runs", printed)) == 6


def test_experiments_train_asynchronously_and_figure_1_shows_all_labels(tmp_path: Path) -> None:
    args = table_parser(table3.TABLE).parse_args(
        ["--scale=paper", f"--output={tmp_path}", "--cluster=local", "--seeds=2"]
    )
    setup = Experiment.of(args)
    write_speeds(str(tmp_path), table3.TABLE, PAPER)
    networks = {
        row.key: Network(
            run=setup.run_of(PAPER.run_of(row.recipe), "features"),
            tuning=Tuning.of(args, setup.scale),
        )
        for row in table3.TABLE.rows
    }
    plan = table_plan(table3.TABLE, table3.TABLE.rows, networks, setup, [])
    by_name = {step.name: step for step in plan}
    name = "resnet50_bottleneck_30k"
    flags = ("--cluster", "local", "--workers", "2", "--parameter-servers", "1")
    trained, swept = by_name[f"runs/{name}"], by_name[f"sweeps/{name}"]
    assert trained.command[-6:] == flags
    parsed, _ = train.parse(trained.command[1:])
    assert (parsed.cluster, parsed.workers, parsed.parameter_servers) == ("local", 2, 1)
    assert " ".join(flags[2:]) in " ".join(swept.command)
    assert trained.is_open  # without its learning rate
    assert by_name[f"scores/{name}_seed_1"].command[-2:] == ("--subset", "30871")
    assert by_name["scores/resnet50_30k"].command[-2:] == ("--subset", "3087")
    assert by_name[f"reports-few-labels/{name}"].command[-4:] == (
        *("--labels", "400"),
        *("--subset", "400"),
    )
    assert by_name["figure1.pdf"].command == (
        *("evaluation.paper.figure1", "--report", f"{tmp_path}/reports/{name}"),
        *("--share", "0.2", "--output", f"{tmp_path}/figure1.pdf"),
    )


def test_a_failed_step_is_named_and_run_again(tmp_path: Path) -> None:
    folder = str(tmp_path)
    (tmp_path / "corpus").write_text("in the way of a folder")
    command = ("pipelines.demo_corpus", "--soundtracks=3", f"--output={folder}/corpus")
    step = Step(name="corpus", command=command)
    with pytest.raises(JobFailedError, match="step corpus ended with exit code 2"):
        steps.execute([step], folder)
    assert steps.unfinished([step, step], folder) == [step]

    (tmp_path / "corpus").unlink()
    steps.execute([step], folder)

    assert steps.unfinished([step], folder) == []
    assert steps.command_of("corpus", folder) == (
        "python -m pipelines.demo_corpus --soundtracks=3 --output=FOLDER/corpus"
    )
    longer = Step(name="corpus", command=(*command, "--seed=2"))
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


def test_no_clip_is_in_two_splits() -> None:
    assert corpus.split_values_of(4, 3) == ("train=1,2", "validation=3", "evaluation=4")
    assert corpus.split_values_of(2) == ("train=1,3,4", "evaluation=2")


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
    assert table_results.outcome_of((0.01, 0.05), 2) == "holds"
    assert table_results.outcome_of((0.01, 0.05), 1) == "open"
    assert table_results.outcome_of((-0.01, 0.05), 3) == "open"
    assert table_results.outcome_of((-0.05, -0.01), 3) == "does not hold"
    assert table_results.outcome_of((-0.05, -0.01), 1) == "open"
    assert table_results.outcome_of(None, 3) == "open"


def make_reports(maps: Sequence[float], effects: np.ndarray) -> SeedReports:
    """Reports of the present sample, with other values; `effects` are of the videos on each."""
    document = folders.read_document(str(SAMPLES), Metrics)
    left_out = [
        LeftOut(tuple(f"v{n:03}" for n in range(len(effects))), ((),) * len(effects), ap, ap)
        for ap in (value - effects / (len(effects) - 1) for value in maps)
    ]
    results = convert(PUBLISHED["table2"]["resnet50"], RunResults, where="", cure="")
    return SeedReports(
        results=tuple(dataclasses.replace(results, map=value, auc=value) for value in maps),
        metrics=(dataclasses.replace(document, num_videos=len(effects)),) * len(maps),
        left_out=tuple(left_out),
    )


def test_a_finding_is_a_difference_of_means_whose_interval_holds_seeds() -> None:
    effects = np.random.default_rng(1).normal(0, 0.1, 100)
    effects -= effects.mean()
    better, worse = make_reports([0.70, 0.74], effects), make_reports([0.60, 0.62], -effects)
    reports, reported = {"a": better, "b": worse}, {"a": Reported(""), "b": Reported("", map=0.1)}
    found = table_finding("claim", "a", "b", reports, reported)
    assert found.map_difference == pytest.approx(0.11)
    # Of the seeds: variances of 0.0008 and 0.0002 over 2; of the videos: that of a mean.
    of_seeds = [0.0008 / 2, 0.0002 / 2]
    of_videos = (2 * effects).var(ddof=1) / 100
    variance = sum(of_seeds) + of_videos
    freedom = variance**2 / (sum(part**2 for part in of_seeds) + of_videos**2 / 99)
    half = scipy.stats.t.ppf(0.975, freedom) * math.sqrt(variance)
    assert found.interval == pytest.approx((0.11 - half, 0.11 + half), rel=1e-6)
    assert (found.verdict, found.num_seeds) == ("holds", 2)

    single = {"a": make_reports([0.72], effects), "b": make_reports([0.61], -effects)}
    found = table_finding("claim", "a", "b", single, reported)
    half = scipy.stats.t.ppf(0.975, 99) * math.sqrt(of_videos)
    assert found.interval == pytest.approx((0.11 - half, 0.11 + half), rel=1e-6)
    assert (found.verdict, found.num_seeds) == ("open", 1)

    mean = better.mean()
    assert mean.map == pytest.approx(0.72)
    low, high = mean.intervals.map or (0, 0)
    assert 0 < low < 0.60 < 0.83 < high < 1  # two seeds say little about their variance


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


def test_reports_of_an_earlier_version_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"is of an earlier version, without left_out\.parquet"):
        seed_reports._read_left_out(str(tmp_path))


@pytest.mark.parametrize("content", ["{", "[]"])
def test_invalid_results_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ContractError, match=r"results\.json is not .*; delete the file and run"):
        results.main([str(tmp_path), f"--output={tmp_path}"])


def test_what_cannot_be_run_is_refused_at_once(tmp_path: Path) -> None:
    output = f"--output={tmp_path}"
    with pytest.raises(InputError, match="table2 has no row vgg19; it has fully_connected, alex"):
        table2.main(["--scale=tiny", output, "--rows", "vgg19"])
    for flags, message in (
        (["--seeds=0"], "--seeds: received 0; give 1 or more"),
        (["--learning-rates=1e-3,0.001"], "--learning-rates: received '1e-3,0.001'; give numbers"),
        (["--learning-rates=1e-3,-1"], "--learning-rates: received '1e-3,-1'; give numbers above"),
        (["--learning-rates=1e-3,nan"], "separated by commas, each once"),
        (["--learning-rates=1e-3,,1"], "separated by commas, each once"),
        (["--learning-rates=1", "--set", "learning_rate=2"], "is set by --set and by --learning-r"),
        (["--workers=2"], "--workers is for --cluster local"),
        (["--cluster=local", "--workers=0"], "--workers must be at least 1; received 0"),
    ):
        with pytest.raises(InputError, match=message):
            table2.main(["--scale=tiny", output, *flags])
    with pytest.raises(InputError, match="--scale paper takes --features, or a --manifest"):
        table4.main(["--scale=paper", output])
    with pytest.raises(InputError, match=r"name the excerpts whose .* with --event-manifest"):
        event_detection.main(["--scale=small", output, "--manifest=videos.csv"])
    assert not any(tmp_path.iterdir())
    write_features(tmp_path / "features", shards={"train": 1})
    features = f"--features={tmp_path}/features"
    with pytest.raises(InputError, match="has no validation split to choose a learning rate by"):
        table2.main(["--scale=small", f"{output}/experiments", features])
    assert not (tmp_path / "experiments").exists()
