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
    asynchronous,
    corpus,
    event_detection,
    experiment,
    modern,
    paper_cost,
    results,
    seed_reports,
    steps,
    table2,
    table3,
    table4,
    table_results,
)
from evaluation.paper.experiment import Experiment
from evaluation.paper.runs import MetricIntervals, Run, RunResults, require_recipes
from evaluation.paper.scales import PAPER, SMALL, TINY, Scale
from evaluation.paper.seed_reports import SeedReports
from evaluation.paper.steps import Step
from evaluation.paper.table import Finding, Table, network_of, paper_results
from evaluation.paper.table import _finding as table_finding
from evaluation.paper.table import _parser as table_parser
from evaluation.paper.table import _plan as table_plan
from evaluation.paper.table_results import FindingResults, RowResults, TableResults
from evaluation.paper.tuning import Network, Tuning
from features.code_version import code_version
from features.contracts import folders
from features.contracts.documents import VALIDATION_MAP, Metrics, Sweep, SweptRun
from features.contracts.documents import Run as RunDocument
from features.contracts.sharding import EVALUATION, TRAIN, VALIDATION
from features.errors import (
    DIVERGED,
    INTERRUPTED,
    ContractError,
    FolderTakenError,
    InputError,
    JobFailedError,
)
from features.paper import Reported
from features.typed_json import convert
from pipelines import compose_soundtracks
from pipelines.adapters.hierarchy import find_ancestors
from tests.training.conftest import write_features
from training import overrides, recipes, train

LIMIT_SECONDS = 300
DOCS = Path(__file__).parents[2] / "docs"
SAMPLES = Path(__file__).parents[1] / "features" / "contracts" / "documents"
PUBLISHED = json.loads((DOCS / "results.json").read_text())
TABLES = tuple(
    page.TABLE for page in (event_detection, table2, table3, table4, asynchronous, modern)
)
CLIPS = ["--scale=small", "--clips=sounds"]


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
    # There are eight training soundtracks.
    assert {"1-9"} <= row["map_by_training_videos"].keys() <= {"0", "1-9"}
    fingerprints = [report["fingerprints"]["model"] for report in reports]
    assert [seed["run"] for seed in row["seeds"]] == fingerprints
    assert len({row["run"], *fingerprints}) == 2
    assert " seed=1" in row["seeds"][1]["command"]
    assert row["sweep"]["command"].startswith("python -m training.sweep fully_connected")
    assert len({*fingerprints, *row["sweep"]["runs"].values()}) == 4
    assert row["command"].startswith("python -m training.train fully_connected --features FOLDER/")
    assert f"learning_rate={best}" in row["command"]

    for again in (command, [*command[:2], *command[4:], "--rows", "fully_connected"]):
        assert table2.main(again) == 0
        assert "nothing is left to run" in capsys.readouterr().out
        assert json.loads((folder / "results.json").read_text())["table2"] == document
    with pytest.raises(ContractError, match="the command of sweeps/fully_connected is"):
        table2.main([*command, "--learning-rates=1e-4,1e-3"])

    page = tmp_path / "results.md"
    page.write_text(
        "Before\n<!-- table2 -->\nold\n<!-- end of table2 -->\nafter\n"
        "<!-- table3 -->\nold\n<!-- end of table3 -->\n"
        "mAP <!-- value table2.fully_connected.map metric -->old<!-- end -->.\n"
    )
    assert results.main([str(folder), f"--output={tmp_path}"]) == 0
    assert json.loads((tmp_path / "results.json").read_text())["table2"] == document
    assert "| Fully connected | 11.2M / 11.2M |" in page.read_text()
    shown = [f"**{rate}** 0." if rate == best else f"{rate} 0." for rate in rates]
    by_rate = f"- Fully connected: validation mAP by learning rate {shown[0]}"
    assert by_rate in page.read_text()
    assert f", {shown[1]}" in page.read_text()
    assert "old" not in page.read_text()
    assert f"<!-- table3 -->\n{results.NOT_RUN}\n<!-- end of table3 -->" in page.read_text()
    assert f"map metric -->{row['map']:.3f}<!-- end -->." in page.read_text()
    assert f" All commands took {document['making']['hours']:.1f} hours, " in page.read_text()
    page.write_text("no markers\n")
    with pytest.raises(InputError, match="no markers of table2; write <!-- table2 --> and"):
        results.main([str(folder), f"--output={tmp_path}"])


def write_speeds(folder: str, table: Table, scale: Scale) -> None:
    """Measurements of 100 patches a second, and costs, as if the steps had been run."""
    runs = [(scale.run_of(row.recipe), row.settings) for row in table.rows]
    # The networks that others have their learning rates of.
    runs += [(recipe, {}) for recipe in set(scale.tuned_with.values())]
    for recipe, of_row in runs:
        settings = {**scale.settings_of(recipe), **of_row}
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


def plan_of(table: Table, flags: Sequence[str], folder: Path) -> dict[str, Step]:
    """The steps of a table whose speeds are measured, by name."""
    args = table_parser(table).parse_args([*flags, f"--output={folder}"])
    setup = Experiment.of(args)
    write_speeds(str(folder), table, setup.scale)
    tuned = Tuning.of(args, setup.scale)
    source = corpus.corpus_of(args, setup)
    few = corpus.few_recordings("sounds", setup)
    networks = {
        row.key: network_of(row, setup, tuned, source.features, few=few.features)
        for row in table.rows
    }
    data = [*source.steps, *few.steps]
    return {step.name: step for step in table_plan(table, table.rows, networks, setup, data)}


def test_few_recordings_are_composed_to_as_many_soundtracks(tmp_path: Path) -> None:
    plan = plan_of(table4.TABLE, CLIPS, tmp_path)

    all_clips, few = plan["corpus"].command, plan["corpus-few"].command
    for command in (all_clips, few):
        parsed = compose_soundtracks._parser().parse_args(command[1:])
        composition = compose_soundtracks._composition(parsed)
        assert composition.num_soundtracks == {TRAIN: 10000, VALIDATION: 1000, EVALUATION: 1000}
        assert composition.label_law is not None
    assert few[-2:] == ("--recordings-per-label", "2")
    assert few[: len(all_clips)] == tuple(
        word.replace("/corpus", "/corpus-few") for word in all_clips
    )
    assert plan["dataset"].command[-2:] == ("--count-split", "train")
    assert plan["dataset-few"].command[-2:] == ("--vocabulary", f"{tmp_path}/dataset")
    for name, features, subset in (
        ("resnet50_7m_videos", "features", "1778"),
        ("resnet50_700k_videos_few", "features-few", "316"),
        ("resnet50_23k_videos_few", "features-few", "10"),
    ):
        command = plan[f"runs/{name}"].command
        assert f"{tmp_path}/{features}" in command
        assert f"training_subset={subset}" in command
    [swept] = [step for name, step in plan.items() if name.startswith("sweeps/")]
    assert (swept.name, swept.command[3]) == ("sweeps/resnet50", f"{tmp_path}/features")
    # The row of all videos is the longer run of Table 2, with all its seeds.
    assert {"runs/resnet50_17m_seed_4", "runs/resnet50_70m_videos_few_seed_2"} <= plan.keys()
    steps_of = {
        train.parse(step.command[1:])[1].steps
        for name, step in plan.items()
        if name.startswith("runs/")
    }
    assert steps_of == {1020}


def record_diverged(folder: Path, run: Run) -> None:
    command = steps.shown(run.training(0).command, str(folder))
    record = steps.StepRecord(command=command, seconds=1.0, has_diverged=True)
    Path(folder, "steps", f"runs-{run.name}.json").write_bytes(record.to_json())


def test_a_seed_that_diverges_lowers_the_rate_of_all_seeds(tmp_path: Path) -> None:
    """The sweep found 1e-3 the best of 1e-4, 1e-3 and 3e-3."""
    write_speeds(str(tmp_path), table2.TABLE, TINY)
    flags = ["--scale=tiny", f"--output={tmp_path}", "--learning-rates=3e-3,1e-4,1e-3", "--seeds=2"]
    args = table_parser(table2.TABLE).parse_args(flags)
    setup = Experiment.of(args)
    tuned = Tuning.of(args, setup.scale)
    network = Network(run=setup.run_of("vgg", "features"), tuning=tuned)
    assert network.seeds[0].is_open
    sample = folders.read_document(str(SAMPLES), Sweep)
    maps = {"3e-3": 0.1, "1e-4": 0.2, "1e-3": 0.3}
    runs = tuple(
        dataclasses.replace(
            sample.runs[0], values={"learning_rate": rate}, metrics={VALIDATION_MAP: value}
        )
        for rate, value in maps.items()
    )
    (tmp_path / "sweeps/vgg").mkdir(parents=True)
    sweep = dataclasses.replace(sample, runs=runs)
    (tmp_path / "sweeps/vgg/sweep.json").write_bytes(sweep.to_json())
    done = steps.StepRecord(command="", seconds=1.0)
    (tmp_path / "steps/sweeps-vgg.json").write_bytes(done.to_json())
    assert (network.learning_rate, network.diverged_seeds) == ("1e-3", {})
    assert [run.name for run in network.seeds] == ["vgg", "vgg_seed_1"]

    record_diverged(tmp_path, network.seeds[1])

    assert (network.learning_rate, network.diverged_seeds) == ("1e-4", {"1e-3": (1,)})
    assert [run.name for run in network.seeds] == ["vgg_rate_1e-4", "vgg_seed_1_rate_1e-4"]
    assert {run.settings["learning_rate"] for run in network.seeds} == {"1e-4"}
    record_diverged(tmp_path, network.seeds[0])
    with pytest.raises(JobFailedError, match="there is no lower rate than 1e-4; give lower"):
        _ = network.seeds


def test_a_training_that_diverges_ends_its_step_and_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(tmp_path)
    trained, scored = (Step(name=name, command=("training.train", name)) for name in "ab")
    monkeypatch.setattr(steps, "_run", lambda _: (DIVERGED, b""))
    with pytest.raises(JobFailedError, match="step a ended with exit code 6"):
        steps.execute([trained, scored], folder)
    trained = dataclasses.replace(trained, may_diverge=True)
    steps.execute([trained, scored], folder)
    assert steps.has_diverged("a", folder)
    assert steps.unfinished([trained, scored], folder) == [scored]


def test_a_row_has_the_learning_rate_of_another(tmp_path: Path) -> None:
    plan = plan_of(table2.TABLE, CLIPS, tmp_path)

    assert "sweeps/resnet50" in plan
    assert "sweeps/resnet50_17m" not in plan
    assert plan["runs/resnet50_17m"].is_open  # until the sweep is finished
    assert "runs/resnet50_17m_seed_4" in plan  # five seeds
    args = table_parser(table2.TABLE).parse_args([*CLIPS, f"--output={tmp_path}"])
    setup = Experiment.of(args)
    rows = {row.key: row for row in table2.TABLE.rows}
    own, like = (
        network_of(rows[key], setup, Tuning.of(args, setup.scale), "features")
        for key in ("resnet50", "resnet50_17m")
    )
    # The validation of that row is not shown as this one's.
    write_sweep(tmp_path, "resnet50", {"3e-4": 0.5, "1e-3": 0.6})
    assert (own.learning_rate, like.learning_rate) == ("1e-3", "1e-3")
    assert (own.learning_rate_of, like.learning_rate_of) == (None, "resnet50")
    assert own.validation_map() == {"3e-4": 0.5, "1e-3": 0.6}
    assert like.validation_map() is None


def write_sweep(folder: Path, name: str, maps: Mapping[str, float]) -> None:
    """A finished sweep of learning rates."""
    runs = tuple(
        SweptRun(
            folder="",
            values={"learning_rate": rate},
            steps=1,
            metrics={VALIDATION_MAP: value},
            error=None,
        )
        for rate, value in maps.items()
    )
    sweep = Sweep(
        made_by=folders.made_by(), features="", features_fingerprint="", recipe=name, runs=runs
    )
    folders.write_document(str(folder / "sweeps" / name), sweep)
    record = steps.StepRecord(command="", seconds=1.0)
    (folder / "steps" / f"sweeps-{name}.json").write_bytes(record.to_json())


def test_workers_of_asynchronous_training_are_what_the_rows_are_about(tmp_path: Path) -> None:
    plan = plan_of(asynchronous.TABLE, CLIPS, tmp_path)

    assert [name for name in plan if name.startswith("sweeps")] == ["sweeps/resnet50"]
    assert "--cluster" not in plan["sweeps/resnet50"].command + plan["runs/resnet50"].command
    for number in (1, 2, 4):
        command = plan[f"runs/resnet50_asynchronous_{number}"].command
        parsed, recipe = train.parse(command[1:])
        assert (parsed.workers, parsed.parameter_servers) == (number, 1)
        assert recipe.steps == int(SMALL.settings["steps"])


def test_options_are_compared_in_short_and_in_long_runs(tmp_path: Path) -> None:
    plan = plan_of(modern.TABLE, CLIPS, tmp_path)

    assert {name for name in plan if name.startswith("sweeps/")} == {
        *("sweeps/resnet50", "sweeps/modern", "sweeps/small")
    }
    for name, num_steps, cuts in (
        ("modern", 300, ()),
        ("resnet50_option_mixup", 300, ()),
        ("resnet50_17m_option_mixup", 1020, ((780, 0.1),)),
        ("resnet50_17m_modern", 1020, ()),
    ):
        _, recipe = train.parse(plan[f"runs/{name}"].command[1:])
        assert (recipe.steps, recipe.learning_rate_cuts) == (num_steps, cuts)
        assert recipe.options.cosine == name.endswith("modern")
        assert recipe.options.mixup == (0.3 if name.endswith("mixup") else 0.0)
    # What is not chosen is trained once and not scored.
    assert "scores/resnet50_option_seed_2" in plan
    assert not any("mixup" in name for name in plan if name.startswith("scores/"))
    order = list(plan)
    assert order.index("runs/resnet50_option_mixup") < order.index("runs/resnet50_option")


def test_the_option_of_the_highest_validation_map_is_evaluated(tmp_path: Path) -> None:
    run = Run(name="r", recipe="resnet50", settings={}, features="f", folder=str(tmp_path))
    tuning = Tuning(learning_rates=("1e-3",), num_seeds=2, cluster={})
    options = {"mixup": {"mixup": "0.3"}, "masks": {"masks": "2"}}
    network = Network(run=run, tuning=tuning, options=options)
    assert all(seed.is_open for seed in network.seeds)
    document = json.loads((SAMPLES / "run.json").read_text())
    (tmp_path / "steps").mkdir()
    for name, value in (("mixup", None), ("masks", 0.4)):
        output = tmp_path / "runs" / f"r_{name}"
        output.mkdir(parents=True)
        document["metrics"][VALIDATION_MAP] = value
        (output / "run.json").write_text(json.dumps(document))
        record = steps.StepRecord(command="", seconds=1.0)
        (tmp_path / "steps" / f"runs-r_{name}.json").write_bytes(record.to_json())
    assert network.choice is not None
    assert network.choice.validation_map() == {"mixup": None, "masks": 0.4}
    assert network.choice.best == "masks"
    assert not any(seed.is_open for seed in network.seeds)
    assert [seed.settings for seed in network.seeds] == [
        {"learning_rate": "1e-3", "masks": "2"},
        {"learning_rate": "1e-3", "masks": "2", "seed": "1"},
    ]
    of_choice = network.choice.runs["masks"].settings
    assert of_choice == {"learning_rate": "1e-3", "masks": "2", "seed": "1000"}


def test_a_published_network_has_a_row_in_event_detection(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for table in (event_detection.TABLE, table2.TABLE):
        write_speeds(str(tmp_path), table, SMALL)
    command = [*CLIPS, "--estimate", f"--output={tmp_path}"]
    for flags, rows in (([], 3), (["--network=yamnet"], 4)):
        assert event_detection.main([*command, *flags]) == 0
        printed = capsys.readouterr().out
        assert len(re.findall(r"patches a run, +100 a second; 6 \+ 5 runs", printed)) == rows
        assert ("yamnet_embeddings" in printed) == (rows == 4)
        # Of a row: a sweep, three options, and five runs that are trained, scored and evaluated.
        # The ResNet has five seeds, each with its embeddings. Each row has a description.
        assert f"{19 + bool(flags) + 20 * rows} commands to run" in printed


def test_generic_labels_hold_wherever_their_labels_do() -> None:
    parents = compose_soundtracks._read_generic_labels(str(corpus._GENERIC_LABELS))
    above = find_ancestors(parents, "")
    generic = set().union(*above.values()) - {"engine"}  # the label of clips, too
    assert len(generic) == 13
    assert {label for label in above if label not in generic} > {"engine", "speech"}
    assert above["hi hat"] == {"Percussion", "Musical instrument", "Music"}
    assert above["rain"] == {"Water", "Wind and rain"}


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


def test_what_decided_a_finished_step_has_to_be_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one attempt that was interrupted, and one that finished."""
    (tmp_path / "sounds").mkdir()
    clips = tmp_path / "sounds" / "clips.csv"
    clips.write_text("clip_id,path\n")
    folder = str(tmp_path / "experiments")
    command = ("pipelines.import_dataset", "--source", str(clips.parent), f"--output={folder}/a")
    step = Step(name="a", command=command)
    outcomes = [KeyboardInterrupt, (2, b""), (0, b"")]

    def end(_: Step) -> tuple[int, bytes]:
        time.sleep(0.1)
        outcome = outcomes.pop(0)
        if isinstance(outcome, tuple):
            return outcome
        raise outcome

    monkeypatch.setattr(steps, "_run", end)
    for error in (KeyboardInterrupt, JobFailedError):
        with pytest.raises(error):
            steps.execute([step], folder)
        assert steps.unfinished([step], folder) == [step]
    steps.execute([step], folder)
    assert steps.unfinished([step], folder) == []
    record = steps.StepRecord.from_json(Path(folder, "steps", "a.json").read_bytes(), "a.json")
    assert record.seconds >= 0.3
    making = steps.Making.of([step, step], folder)
    assert making.hours == round(record.seconds / 3_600, 2)
    # Of the recipes, too.
    assert making.code == (code_version(with_training=True),) != (code_version(),)

    clips.write_text("clip_id,path,label\n")
    with pytest.raises(ContractError, match="the sha256 of the inputs of a is"):
        steps.unfinished([step], folder)
    other = dataclasses.replace(step, command=(*command, "--force"))
    with pytest.raises(AssertionError, match="two commands of a"):
        steps.unfinished([step, other], folder)
    # A record of an earlier version is taken, and said to be.
    assert not steps.other_versions([step], folder)
    earlier = {"command": steps.shown(command, folder), "seconds": 1.0}
    Path(folder, "steps", "a.json").write_text(json.dumps(earlier))
    assert steps.unfinished([step], folder) == []
    [unknown] = steps.other_versions([step], folder)
    assert "earlier version" in unknown
    assert steps.is_of_other_version("a", folder)


def test_two_experiments_do_not_write_a_folder_at_once(tmp_path: Path) -> None:
    step = Step(name="a", command=("pipelines.status",))
    with steps.hold(str(tmp_path)), pytest.raises(FolderTakenError, match="is written by"):
        steps.execute([step], str(tmp_path))


def test_a_run_that_other_code_finished_has_to_have_the_recipe_of_today(tmp_path: Path) -> None:
    plan = plan_of(modern.TABLE, CLIPS, tmp_path)
    _, recipe = train.parse(plan["runs/resnet50_17m_modern"].command[1:])
    run = Run(
        name="resnet50_17m_modern",
        recipe="resnet50_17m",
        settings={**SMALL.settings_of("resnet50_17m"), **modern.TABLE.rows[-2].settings},
        features="features",
        folder=str(tmp_path),
    )
    command = plan[f"runs/{run.name}"].command
    earlier = {"command": steps.shown(command, str(tmp_path)), "seconds": 1.0}
    (tmp_path / "steps" / f"runs-{run.name}.json").write_text(json.dumps(earlier))
    sample = folders.read_document(str(SAMPLES), RunDocument)
    (tmp_path / "runs" / run.name).mkdir(parents=True)
    for fingerprint in (recipe.fingerprint, "of other defaults"):
        document = dataclasses.replace(sample, recipe_fingerprint=fingerprint)
        (tmp_path / "runs" / run.name / "run.json").write_bytes(document.to_json())
        if fingerprint == recipe.fingerprint:
            require_recipes([run], str(tmp_path))
            continue
        with pytest.raises(ContractError, match="recipe_fingerprint is 'of other defaults'"):
            require_recipes([run], str(tmp_path))


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


def test_no_clip_is_in_two_splits() -> None:
    assert corpus.split_values_of(4, 3) == ("train=1,2", "validation=3", "evaluation=4")
    assert corpus.split_values_of(2) == ("train=1,3,4", "evaluation=2")


def test_set_wins_over_the_scale() -> None:
    parser = experiment.parser("evaluation.paper.table2", "")
    flags = ["--scale=small", "--output=experiments", "--set", "steps=7", "model.width=0.5"]
    scale = Experiment.of(parser.parse_args([*flags, "--set", "seed=3"])).scale
    chosen = {"steps": "7", "width": "0.5", "seed": "3"}
    for recipe in ("fully_connected", "resnet50_17m", "audio_set_log_mel", "modern"):
        assert {**scale.settings_of(recipe), **chosen} == scale.settings_of(recipe)
    assert scale.settings_of("resnet50_3k")["num_labels"] == "30"
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


RUN_RESULTS = RunResults(
    **{"auc": 0.9, "d_prime": 1.81, "map": 0.7, "accuracy": 0.5, "prior_map": 0.1},
    intervals=MetricIntervals(auc=(0.89, 0.91), d_prime=(1.73, 1.9), map=(0.6, 0.8)),
    **{"num_videos": 100, "num_labels": 80, "labels_trained": 80, "videos_trained": 10_000},
    **{"steps": 600, "patches": 76_800, "patches_per_second": 200.0, "seconds": 384.0},
    **{"width": 0.25, "run": "0123456789abcdef", "command": "python -m training.train resnet50"},
)


def make_reports(maps: Sequence[float], effects: np.ndarray) -> SeedReports:
    """Reports of the present sample, with other values; `effects` are of the videos on each."""
    document = folders.read_document(str(SAMPLES), Metrics)
    left_out = [
        LeftOut(tuple(f"v{n:03}" for n in range(len(effects))), ((),) * len(effects), ap, ap)
        for ap in (value - effects / (len(effects) - 1) for value in maps)
    ]
    return SeedReports(
        results=tuple(dataclasses.replace(RUN_RESULTS, map=value, auc=value) for value in maps),
        metrics=(dataclasses.replace(document, num_videos=len(effects)),) * len(maps),
        left_out=tuple(left_out),
    )


def test_a_finding_is_a_difference_of_means_whose_interval_holds_seeds() -> None:
    effects = np.random.default_rng(1).normal(0, 0.1, 100)
    effects -= effects.mean()
    better, worse = make_reports([0.70, 0.74], effects), make_reports([0.60, 0.62], -effects)
    reports, reported = {"a": better, "b": worse}, {"a": Reported(""), "b": Reported("", map=0.1)}
    found = table_finding(Finding("claim", ()), "a", "b", reports, reported)
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
    found = table_finding(Finding("claim", ()), "a", "b", single, reported)
    half = scipy.stats.t.ppf(0.975, 99) * math.sqrt(of_videos)
    assert found.interval == pytest.approx((0.11 - half, 0.11 + half), rel=1e-6)
    assert (found.verdict, found.num_seeds) == ("open", 1)

    # Within a margin of the better one, if the whole interval is.
    for margin, verdict in ((0.0, "does not hold"), (0.11, "open"), (0.5, "holds")):
        within = table_finding(Finding("claim", (), margin), "b", "a", reports, reported)
        assert (within.verdict, within.margin) == (verdict, margin or None)
    # The luck of the draw of so few videos is in no interval.
    few = dataclasses.replace(
        worse,
        results=tuple(dataclasses.replace(run, videos_trained=56) for run in worse.results),
    )
    drawn = table_finding(Finding("claim", ()), "a", "b", {"a": better, "b": few}, reported)
    assert drawn.verdict == "open"

    mean = better.mean()
    assert mean.map == pytest.approx(0.72)
    low, high = mean.intervals.map or (0, 0)
    assert 0 < low < 0.60 < 0.83 < high < 1  # two seeds say little about their variance


def test_a_rate_at_the_edge_of_those_tried_is_said() -> None:
    row = RowResults(
        **{**vars(RUN_RESULTS), "label": "VGG", "weights": 1, "multiplies": 1},
        paper={"steps": 1, "hours": None},
        learning_rate="1e-3",
        validation_map={"3e-4": 0.5, "1e-3": 0.6},
    )
    wider = {**(row.validation_map or {}), "3e-3": None}
    rows = {"a": row, "b": dataclasses.replace(row, validation_map=wider)}
    shown = table_results.render(TableResults(scale="small", rows=rows, findings=()))
    assert "by learning rate 3e-4 0.500, **1e-3** 0.600 (the best is the last on" in shown
    assert "by learning rate 3e-4 0.500, **1e-3** 0.600, 3e-3 diverged\n" in shown


def results_of(document: Mapping[str, Any]) -> TableResults:
    """The inverse of `TableResults.to_plain`."""
    findings = convert(
        document["findings"], tuple[FindingResults, ...], where="results.json", cure=""
    )
    rows = {
        key: convert(row, RowResults, where=key, cure="")
        for key, row in document.items()
        if key not in ("scale", "making", "findings")
    }
    making = convert(document["making"], steps.Making, where="results.json", cure="")
    return TableResults(scale=document["scale"], making=making, rows=rows, findings=findings)


def read_table(name: str) -> str:
    _, _, rest = (DOCS / "results.md").read_text().partition(f"<!-- {name} -->\n")
    return rest.partition(f"<!-- end of {name} -->")[0]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_published_table_is_what_the_published_results_say(table: Table) -> None:
    if table.name not in PUBLISHED:
        assert read_table(table.name) == results.NOT_RUN + "\n"
        return
    document = PUBLISHED[table.name]
    published = results_of(document)
    assert table_results.render(published) == read_table(table.name)
    assert json.dumps(published.to_plain()) == json.dumps(document)  # the keys in order, too
    for row in table.rows:
        assert published.rows[row.key].paper == paper_results(row.reported)


def test_published_numbers_are_those_of_the_results() -> None:
    page = (DOCS / "results.md").read_text()
    assert results.fill_values(page, PUBLISHED) == page


def test_a_marked_number_is_taken_from_the_results() -> None:
    found = {"esc50": {"from_scratch": {"accuracy": 0.8125}, "name": "x"}, "clips": 1598}
    page = "<!-- value {} -->old<!-- end -->"

    def filled(value: str) -> str:
        return results.fill_values(page.format(value), found).split("-->")[1].split("<!")[0]

    assert filled("esc50.from_scratch.accuracy percent") == "81.2%"
    assert filled("esc50.from_scratch.accuracy metric") == "0.812"
    assert filled("clips count") == "1,598"
    assert filled("esc10.from_scratch.accuracy percent") == "(not run yet)"
    for wrong in ("esc50 metric", "esc50.name metric", "clips pounds"):
        with pytest.raises(InputError, match=r"is not the path of a number in results\.json and"):
            filled(wrong)


def test_findings_that_do_not_hold_are_listed_first() -> None:
    rows = {key: {"label": key.upper()} for key in "ab"}
    verdicts = ("holds", "open", "does not hold")
    findings = [
        {"claim": f"Claim {number}", "better": "a", "worse": "b", "verdict": verdict}
        | {"map_difference": 0.01 * number}
        for number, verdict in enumerate(verdicts)
    ]
    found = {
        "table2": {"scale": "small", **rows, "findings": findings},
        "esc50": {"scale": "small"},
    }
    assert results.list_findings(found) == (
        "- **does not hold**: Claim 2 (A over B, mAP +0.020)\n"
        "- **open**: Claim 1 (A over B, mAP +0.010)\n"
        "- **holds**: Claim 0 (A over B, mAP +0.000)\n\n"
        "Each of these 3 verdicts has an interval of its own: if no row differed from another, "
        "about 0.1 would not be open by chance."
    )
    assert results.list_findings({}) == results.NOT_RUN
    page = (DOCS / "results.md").read_text()
    assert results.put(page, "findings", results.list_findings(PUBLISHED)) == page


def test_the_cost_of_the_papers_scale_follows_from_the_benchmarks(tmp_path: Path) -> None:
    script = {"date": "2026-11-29", "processor": "4 cores of X", "quick": False, "values": {}}
    speeds = [[name, "float32", 100.0] for name in set(paper_cost._ROWS) - {"resnet50_17m"}]
    codecs = {name: {"core_hours": 20_000.0} for name in paper_cost._SOUNDTRACKS}
    sparse = {f"{key}_over_dense": 0.1 for key in paper_cost._SOUNDTRACKS.values()}
    header = ["network", "precision", "trains, patches/s"]
    speeds.append(["resnet50", "bfloat16", 200.0])
    scored = ["network", "runtime", "of 1M videos"], [["resnet50", "openvino", 3_000.0]]
    scripts = {
        "codecs": {"values": codecs},
        "sparse": {"values": sparse},
        "networks": {"tables": {"speeds": {"header": header, "rows": speeds}}},
        "scoring": {"tables": {"networks": dict(zip(("header", "rows"), scored, strict=True))}},
    }
    document = {"scripts": {k: {"tables": {}, **script, **v} for k, v in scripts.items()}}
    (tmp_path / "benchmarks.json").write_text(json.dumps(document))

    shown = paper_cost.render(tmp_path / "benchmarks.json")

    assert "Measured 2026-11-29 on 4 cores of X." in shown
    assert "| extraction, mp4/AAC, 9 patches a video | 2,000 |" in shown
    # 640M patches at 100 a second on 4 cores.
    assert "| training vgg, 5M steps, float32 | 7,111 | 10 x 184 |" in shown
    assert "| training resnet50, 5M steps, bfloat16 | 3,556 | 20 x 119 |" in shown
    assert "| scoring 1M videos, resnet50, openvino | 3,000 |" in shown


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
