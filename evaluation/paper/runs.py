"""A run of a recipe: the steps that measure, train, score and evaluate it, and its results."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence

from evaluation.paper import steps
from evaluation.paper.scales import Settings
from evaluation.paper.steps import START_SECONDS, Step
from features import typed_json
from features.contracts import folders
from features.contracts.documents import Features, Metrics
from features.contracts.documents import Run as RunDocument
from features.contracts.sharding import TRAIN
from features.fingerprint import fingerprint
from features.storage import files
from features.typed_json import OMIT_NONE

# A network infers about three times as fast as it trains.
_INFERENCE_OVER_TRAINING = 3
# Building the graphs of a network, exporting and loading it.
_SECONDS_AROUND_TRAINING = 30.0
# Fields of a recipe that change the speed of training.
_SPEED_FIELDS = (
    *("num_labels", "num_layers", "batch_size", "precision", "width", "bottleneck_units"),
    *("pooling", "crop_seconds"),
)
_BATCH_SIZE = "128"  # of all recipes


@dataclasses.dataclass(frozen=True)
class MetricIntervals:
    """95 % intervals of the metrics of `RunResults`."""

    auc: tuple[float, float] | None
    d_prime: tuple[float, float] | None
    map: tuple[float, float] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunResults:
    """What results.json has of a run.

    Attributes:
      auc, d_prime, map, accuracy, prior_map, intervals: metrics, as in metrics.json.
      num_videos, num_labels: evaluated.
      labels_trained, videos_trained: seen in training.
      steps, patches: trained, those of earlier commands included.
      patches_per_second, seconds: of training.
      width: of the network.
      run: fingerprint of the network.
      command: of the training.
      staleness: of asynchronous training; None of another.
    """

    auc: float
    d_prime: float | None
    map: float
    accuracy: float
    prior_map: float
    intervals: MetricIntervals
    num_videos: int
    num_labels: int
    labels_trained: int
    videos_trained: int
    steps: int
    patches: int
    patches_per_second: float | None
    seconds: float | None
    width: float
    run: str | None
    command: str
    staleness: float | None = dataclasses.field(default=None, metadata=OMIT_NONE)


@dataclasses.dataclass(frozen=True)
class NetworkDescription:
    """What `training.describe --json` prints of a recipe, as far as experiments need it."""

    weights: int
    multiplies: int
    patches_per_second: float | None


@dataclasses.dataclass(frozen=True)
class _Model:
    width: float


@dataclasses.dataclass(frozen=True)
class _TrainedRecipe:
    batch_size: int
    training_subset: str | None
    model: _Model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A recipe that is trained on features, scored and evaluated.

    Attributes:
      name: of the folders `runs/NAME`, `scores/NAME` and `reports/NAME`.
      recipe: of training.train.
      settings: fields of the recipe.
      features: folder.
      folder: of the experiment.
      cluster: flags of training.train for several processes, and their values.
      is_open: whether a setting is not chosen yet.
    """

    name: str
    recipe: str
    settings: Settings
    features: str
    folder: str
    cluster: Mapping[str, str] = dataclasses.field(default_factory=dict)
    is_open: bool = False

    @property
    def output(self) -> str:
        """The RUN folder."""
        return files.join(self.folder, "runs", self.name)

    @property
    def scores(self) -> str:
        """The SCORES folder."""
        return files.join(self.folder, "scores", self.name)

    def measurement(self) -> Step:
        """The step that measures how fast this machine trains the network."""
        settings = {name: self.settings[name] for name in _SPEED_FIELDS if name in self.settings}
        return description([self.recipe, "--speed"], self.folder, settings)

    @property
    def patches_per_second(self) -> float:
        """The result of the measurement."""
        speed = read_descriptions(self.measurement())[self.recipe].patches_per_second
        assert speed is not None  # describe --speed
        return speed

    def seconds_to_infer(self, num_patches: int) -> float:
        """Expected duration of a command that infers so many patches."""
        return START_SECONDS + num_patches / self.patches_per_second / _INFERENCE_OVER_TRAINING

    def num_patches(self, recipe_steps: int) -> int:
        """Patches to train on; `recipe_steps` are the mini-batches of the recipe itself."""
        steps_to_train = int(self.settings.get("steps", recipe_steps))
        return steps_to_train * int(self.settings.get("batch_size", _BATCH_SIZE))

    def is_finished(self, name: str) -> bool:
        """Whether a step of this name has been finished in the folder."""
        return steps.is_finished(name, self.folder)

    @property
    def has_diverged(self) -> bool:
        """Whether its training has."""
        return steps.has_diverged(f"runs/{self.name}", self.folder)

    def seconds_to_train(self, recipe_steps: int) -> float:
        """Expected duration of a training, once the speed has been measured."""
        seconds = self.num_patches(recipe_steps) / self.patches_per_second
        return START_SECONDS + _SECONDS_AROUND_TRAINING + seconds

    def training(self, recipe_steps: int) -> Step:
        """Train; `recipe_steps` are the mini-batches of the recipe itself."""
        command = ["training.train", self.recipe, "--features", self.features]
        command += ["--output", self.output, *assignments(self.settings)]
        if self.cluster:
            command += ["--cluster", "local"]
            command += [word for flag in self.cluster.items() for word in flag]
        return Step(
            name=f"runs/{self.name}",
            command=tuple(command),
            seconds=self.seconds_to_train(recipe_steps),
            may_diverge=True,
            is_open=self.is_open,
        )

    def scoring(self, *, subset: str | None, evaluation_patches: int) -> list[Step]:
        """Score and evaluate.

        Args:
          subset: subset of the evaluation split to score; None for the whole split.
          evaluation_patches: approximate number of patches to score.
        """
        command = ["evaluation.score_videos", "--features", self.features, "--run", self.output]
        command += ["--output", self.scores]
        command += ["--subset", subset] if subset is not None else []
        score = Step(
            name=f"scores/{self.name}",
            command=tuple(command),
            seconds=self.seconds_to_infer(evaluation_patches),
        )
        return [score, self.evaluation()]

    def steps(
        self, *, recipe_steps: int, subset: str | None, evaluation_patches: int
    ) -> list[Step]:
        """Train, score and evaluate; see `training` and `scoring`."""
        return [
            self.training(recipe_steps),
            *self.scoring(subset=subset, evaluation_patches=evaluation_patches),
        ]

    def evaluation(self, suffix: str = "", flags: Sequence[str] = ()) -> Step:
        """Evaluate the scores into `reportsSUFFIX`, with more flags of evaluation.evaluate."""
        name = f"reports{suffix}/{self.name}"
        command = ["evaluation.evaluate", "--scores", self.scores, "--examples", "0"]
        command += ["--output", files.join(self.folder, name), *flags]
        return Step(name=name, command=tuple(command))

    def report(self, suffix: str = "") -> str:
        """The REPORT folder."""
        return files.join(self.folder, self.evaluation(suffix).name)

    def results(self, suffix: str = "") -> RunResults:
        """Read the results of a finished run, evaluated in `reportsSUFFIX`.

        Raises:
          ContractError: the run was trained on other features than there are now.
        """
        run = folders.read_document(self.output, RunDocument)
        features = folders.read_document(self.features, Features)
        folders.require_equal(
            "features_fingerprint",
            expected=features.splits[TRAIN].fingerprint,
            received=run.features_fingerprint,
            where=self.output,
            cure=f"{self.features} has been made again since; use another folder with --output",
        )
        metrics = folders.read_document(self.report(suffix), Metrics)
        recipe = typed_json.convert(
            run.recipe, _TrainedRecipe, where=self.output, cure="train the run again"
        )
        speed = run.metrics["patches_per_second"]
        patches = run.steps * recipe.batch_size
        return RunResults(
            auc=metrics.mean_auc,
            d_prime=metrics.d_prime,
            map=metrics.mean_ap,
            accuracy=metrics.accuracy_1best,
            prior_map=metrics.prior_mean_ap,
            intervals=MetricIntervals(
                auc=metrics.intervals.mean_auc,
                d_prime=metrics.intervals.d_prime,
                map=metrics.intervals.mean_ap,
            ),
            num_videos=metrics.num_videos,
            num_labels=metrics.num_labels,
            labels_trained=run.vocabulary.num_labels,
            videos_trained=self._num_videos(recipe.training_subset),
            steps=run.steps,
            patches=patches,
            patches_per_second=speed,
            seconds=patches / speed if speed else None,
            width=recipe.model.width,
            run=metrics.fingerprints["model"],
            command=steps.command_of(f"runs/{self.name}", self.folder),
            staleness=run.metrics.get("staleness"),
        )

    def _num_videos(self, subset: str | None) -> int:
        """Videos of the training split, or of a subset, whose name is the number of videos."""
        if subset is not None:
            return int(subset)
        return folders.read_document(self.features, Features).splits["train"].num_videos


def assignments(settings: Settings) -> list[str]:
    """The arguments of training.train and training.describe."""
    assignments = [f"{field}={value}" for field, value in settings.items()]
    return ["--set", *assignments] if assignments else []


def description(arguments: Sequence[str], folder: str, settings: Settings | None = None) -> Step:
    """A step that describes networks; runs with equal networks and settings share the step."""
    command = ["training.describe", *arguments, "--json", *assignments(settings or {})]
    name = "networks/" + fingerprint(command)
    path = files.join(folder, name + ".json")
    return Step(name=name, command=tuple(command), seconds=20.0, printed_to=path)


def measure(runs: Iterable[Run], folder: str) -> None:
    """Measure the speed of the networks of runs that have not been measured yet."""
    steps.execute([run.measurement() for run in runs], folder)


def require_recipes(runs: Iterable[Run], folder: str) -> None:
    """Raise an error if a run that other code has finished would be of another recipe today.

    Raises:
      ContractError: names the run.
    """
    known = list(runs)
    texts = {
        run.name: " ".join(
            [run.recipe, *(f"{field}={value}" for field, value in run.settings.items())]
        )
        for run in known
        if steps.is_of_other_version(f"runs/{run.name}", folder)
    }
    if not texts:
        return
    command = ("training.describe", "--fingerprints", *texts.values())
    name = "recipes/" + fingerprint([*command, steps.this_version()])
    path = files.join(folder, name + ".json")
    steps.execute([Step(name=name, command=command, printed_to=path)], folder)
    found = json.loads(files.read_bytes(path))
    for run in (run for run in known if run.name in texts):
        folders.require_equal(
            "recipe_fingerprint",
            expected=found[texts[run.name]],
            received=folders.read_document(run.output, RunDocument).recipe_fingerprint,
            where=run.output,
            cure=f"the defaults of {run.recipe} have changed since; use another folder",
        )


def read_descriptions(step: Step) -> dict[str, NetworkDescription]:
    """Read what a finished `description` has printed, by recipe."""
    assert step.printed_to is not None
    return typed_json.convert(
        json.loads(files.read_bytes(step.printed_to)),
        dict[str, NetworkDescription],
        where=step.printed_to,
        cure="delete the folder and run the experiment again",
    )
