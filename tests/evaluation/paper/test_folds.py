"""Classification in four folds: what a choice sees, intervals over recordings, results."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.special

from evaluation.paper import esc10, esc50, experiment, folds, steps
from evaluation.paper.clip_scores import ClipScores, accuracy_interval, read_scores
from evaluation.paper.corpus import FOLDS
from evaluation.paper.experiment import Experiment
from evaluation.paper.fold_results import ClassificationResults, FoldResults, MethodResults
from evaluation.paper.fold_runs import FoldRuns, Method
from evaluation.paper.runs import MetricIntervals, RunResults
from evaluation.paper.scales import SMALL, TINY, Scale
from features.errors import InputError
from tests.evaluation.metrics.scores import write_folder
from training import overrides, recipes

CLIPS_A_FOLD, NUM_LABELS = 6, 3
METHODS = (
    *(esc50.FROM_SCRATCH, esc50.PROBE_YAMNET, esc50.DETECTOR_LOG_MEL, esc50.DETECTOR_YAMNET),
    *(esc50.PAPER, esc50.MODERN),
)


def runs_of(method: Method, folder: Path, scale: Scale = SMALL) -> FoldRuns:
    setup = Experiment(scale=scale, folder=str(folder), estimate_only=False)
    return FoldRuns(clips=esc50.ESC50, method=method, setup=setup)


@pytest.mark.parametrize("fold", FOLDS)
def test_nothing_that_a_network_learns_from_or_is_chosen_by_is_of_the_tested_fold(
    fold: int, tmp_path: Path
) -> None:
    runs = runs_of(esc50.FROM_SCRATCH, tmp_path)
    parts = runs.parts(fold)
    assert sorted([*parts.pop(f"fold{fold}"), fold]) == list(FOLDS)
    [(name, pair)] = parts.items()
    [validated] = [other for other in FOLDS if other not in (fold, *pair)]
    assert validated != fold
    assert {run.features for run in runs.candidate_runs(fold)} == {
        f"{tmp_path}/features-esc50-{name}"
    }
    # The choice is not known, so the run that will be tested cannot start.
    assert all(run.is_open for run in runs.tested_runs(fold))
    command = folds._prepared("m", "d", pair).command
    assert command[-2:] == (
        "train=" + ",".join(map(str, pair)),
        "evaluation=" + ",".join(map(str, sorted((fold, validated)))),
    )


def write_candidate(runs: FoldRuns, number: int, num_right: dict[int, int]) -> None:
    """Scores of a candidate for folds 1 and 2, by fold so many right, as if steps had been run."""
    run = runs.candidate_runs(1)[number]
    names = [f"{fold}-{clip}" for fold in num_right for clip in range(CLIPS_A_FOLD)]
    truth = np.tile(np.eye(NUM_LABELS, dtype=bool), (2 * CLIPS_A_FOLD // NUM_LABELS, 1))
    is_right = [clip < right for right in num_right.values() for clip in range(CLIPS_A_FOLD)]
    scores = np.where(truth == np.array(is_right)[:, None], 0.9, 0.1).astype(np.float32)
    written = write_folder(Path(runs.setup.folder, "written", run.name), scores, truth, ids=names)
    Path(run.scores).parent.mkdir(parents=True, exist_ok=True)
    Path(written).rename(run.scores)
    record = steps.StepRecord(command="", seconds=1.0)
    path = Path(runs.setup.folder, "steps", f"scores-{run.name}.json")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(record.to_json())


def test_each_fold_is_tested_with_what_is_best_on_its_own_validation_fold(tmp_path: Path) -> None:
    candidates = tuple({"learning_rate": rate} for rate in ("1e-3", "2e-3", "3e-3"))
    method = dataclasses.replace(esc50.PROBE_YAMNET, candidates=candidates)
    runs = runs_of(method, tmp_path)
    names = [f"{fold}-{clip}" for fold in (1, 2) for clip in range(CLIPS_A_FOLD)]
    Path(runs.manifest).parent.mkdir()
    table = pa.table({"id": names, "published_split": [name[0] for name in names]})
    pq.write_table(table, runs.manifest)
    write_candidate(runs, 0, {1: 6, 2: 2})
    write_candidate(runs, 1, {1: 4, 2: 5})
    assert runs.choice(1) is None  # a candidate is not finished
    write_candidate(runs, 2, {1: 6, 2: 5})

    # Trained on folds 3 and 4: fold 2 chooses for fold 1, and fold 1 for fold 2.
    assert runs.validation_accuracies(1) == pytest.approx((2 / 6, 5 / 6, 5 / 6))
    assert runs.choice(1) == candidates[1]
    assert runs.validation_accuracies(2) == pytest.approx((1, 4 / 6, 1))
    assert runs.choice(2) == candidates[0]
    [first, second, third] = runs.tested_runs(1)
    assert not first.is_open
    assert [run.settings["seed"] for run in (first, second, third)] == ["0", "1", "2"]
    assert first.settings["learning_rate"] == "2e-3"
    assert first.features == f"{tmp_path}/embeddings-esc50-fold1"
    assert runs.choice(3) is None

    # A tested run of the best one diverged, and then a candidate: the next ones are taken.
    for run in (second, runs.candidate_runs(1)[2]):
        record = steps.StepRecord(command="", seconds=1.0, has_diverged=True)
        (tmp_path / "steps" / f"runs-{run.name}.json").write_bytes(record.to_json())
    assert runs.validation_accuracies(1) == (pytest.approx(2 / 6), pytest.approx(5 / 6), None)
    assert (runs.choice(1), runs.num_diverged(1)) == (candidates[0], 1)
    assert runs.tested_runs(1)[0].name == f"{first.name}-candidate0"

    everything = read_scores(runs.candidate_runs(1)[0].scores)
    assert everything.ids == tuple(names)
    assert everything.is_correct.tolist() == [True] * 6 + [True] * 2 + [False] * 4


def scores_of(is_correct: np.ndarray, origins: list[str]) -> ClipScores:
    ids = tuple(f"clip {number:03}" for number in range(len(is_correct)))
    return ClipScores(ids, tuple((name,) for name in origins), is_correct)


def test_takes_of_one_recording_count_once() -> None:
    """Beside a jackknife that leaves out whole recordings."""
    recordings = np.random.default_rng(4).random(80) < 0.8
    of_recordings = scores_of(recordings, [f"r{number}" for number in range(80)])
    is_correct = np.repeat(recordings, 3)
    of_takes = scores_of(is_correct, [f"r{number // 3}" for number in range(240)])

    without = [np.delete(is_correct, slice(3 * n, 3 * n + 3)).mean() for n in range(80)]
    moved = scipy.special.logit(without)
    error = np.sqrt(79 / 80 * ((moved - moved.mean()) ** 2).sum())
    half = scipy.special.stdtrit(79, 0.975) * error
    centre = scipy.special.logit(is_correct.mean())
    expected = tuple(scipy.special.expit([centre - half, centre + half]))

    assert accuracy_interval([of_recordings]) == pytest.approx(expected, abs=0.002)
    assert accuracy_interval([of_takes]) == pytest.approx(expected, abs=0.002)
    as_if_independent = accuracy_interval(
        [scores_of(is_correct, [f"r{number}" for number in range(240)])]
    )
    assert as_if_independent is not None
    wide, narrow = (high - low for low, high in (expected, as_if_independent))
    assert wide / narrow == pytest.approx(np.sqrt(3), rel=0.05)
    assert accuracy_interval([scores_of(np.ones(80, bool), ["r"] * 80)]) is None


@pytest.mark.parametrize("scale", [SMALL, TINY], ids=lambda scale: scale.name)
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_runs_are_recipes_that_training_takes(method: Method, scale: Scale, tmp_path: Path) -> None:
    runs = runs_of(method.at(scale.name), tmp_path, scale)
    for run in (*runs.candidate_runs(1), *runs.tested_runs(1)):
        recipe = overrides.override(recipes.find_recipe(run.recipe), run.settings)
        assert str(recipe.steps) == run.settings["steps"]
        assert recipe.options.softmax == (run.settings.get("softmax") == "true")
        assert recipe.options.augments == (method.input == "features")


def results_of(accuracies: dict[int, float]) -> MethodResults:
    runs = {
        fold: RunResults(
            **dict.fromkeys(("auc", "d_prime", "map", "prior_map", "width"), 0.5),
            accuracy=accuracy,
            intervals=MetricIntervals(None, None, None),
            **dict.fromkeys(("num_videos", "num_labels", "labels_trained", "videos_trained"), 50),
            steps=10,
            patches=1_280,
            patches_per_second=64.0,
            seconds=30.0,
            run=f"run {fold}",
            command="python -m training.train",
        )
        for fold, accuracy in accuracies.items()
    }
    by_fold = {
        fold: FoldResults(
            choice={"learning_rate": "1e-3"}, validation_accuracies=(0.7, 0.6), runs=(run,)
        )
        for fold, run in runs.items()
    }
    is_correct = np.arange(100) < round(100 * np.mean(list(accuracies.values())))
    clips = scores_of(is_correct, [f"r{number}" for number in range(100)])
    rates = ({"learning_rate": "1e-3"}, {"learning_rate": "3e-3"})
    return MethodResults.of("from scratch", rates, by_fold, [clips])


def test_results_are_read_as_they_were_written_and_shown() -> None:
    found = results_of({1: 0.8, 2: 0.9})
    results = ClassificationResults(scale="small", methods={"from_scratch": found})
    document = json.loads(json.dumps(results.to_plain()))
    assert document["from_scratch"]["accuracy"] == pytest.approx(0.85)
    assert document["from_scratch"]["folds"]["2"]["runs"][0]["run"] == "run 2"
    assert ClassificationResults.from_plain(document).to_plain() == results.to_plain()
    shown = results.render({"human": 0.813})
    assert "| from scratch | **85.0 %** [76." in shown
    assert "| 80.0, 90.0 | 0.500 | 0.500 | 1 | 1,280 | 0.5 min |" in shown
    assert "recordings. The interval does not hold the choice of the seed." in shown
    assert "| human (published) | 81.3 % |" in shown
    assert "from scratch: 100 clips of 100 recordings." in shown
    assert "| validated, % | for fold 1 | for fold 2 |\n|---|---|---|\n" in shown
    assert "| `learning_rate=1e-3` | **70.0** | **70.0** |" in shown
    assert "| `learning_rate=3e-3` | 60.0 | 60.0 |" in shown


def test_a_candidate_is_named_by_what_most_others_have_not() -> None:
    candidates = esc50.PROBE_YAMNET.candidates
    assert len({tuple(sorted(candidate.items())) for candidate in candidates}) == 12
    found = results_of({1: 0.8, 2: 0.9})
    choices = dataclasses.replace(
        found,
        candidates=candidates,
        folds={
            number: dataclasses.replace(
                fold, choice=candidates[9], validation_accuracies=(0.5,) * 9 + (0.6,) * 3
            )
            for number, fold in found.folds.items()
        },
    ).render_choices()
    usual = "`softmax=true` `cosine=true` `steps=3000` `batch_size=128`"
    assert choices[0] == f"| validated, %; else {usual} | for fold 1 | for fold 2 |"
    assert choices[2] == "| `learning_rate=3e-4` | 50.0 | 50.0 |"
    assert choices[6] == "| `learning_rate=1e-3` `cosine=false` | 50.0 | 50.0 |"
    assert choices[11] == "| `learning_rate=1e-3` `batch_size=32` | **60.0** | **60.0** |"
    assert len({line.partition("` | ")[0] for line in choices[2:]}) == 12


def test_a_method_on_embeddings_takes_a_network(tmp_path: Path) -> None:
    flags = ["--scale=tiny", f"--output={tmp_path}/experiments", "--clips=sounds"]
    with pytest.raises(InputError, match="--methods probe_yamnet takes embeddings; give --network"):
        esc10.main([*flags, "--methods", "probe_yamnet"])
    assert not any(tmp_path.iterdir())
    parser = folds._parser(esc10.ESC10, METHODS)
    args = parser.parse_args([*flags, "--network=yamnet"])
    runs = dataclasses.replace(runs_of(esc50.PROBE_YAMNET.at("tiny"), tmp_path), clips=esc10.ESC10)
    data = {step.name: step for step in folds._data(runs, args)}
    assert list(data)[:4] == [
        *("clips-esc10", "dataset-esc10-choice34", "embeddings-esc10-choice34"),
        "dataset-esc10-fold1",
    ]
    assert len(data) == 1 + 2 * (4 + 2)
    assert "clock tick" in data["clips-esc10"].command
    assert experiment.read_results(str(tmp_path)) == {}
