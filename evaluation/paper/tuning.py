"""The learning rates and seeds of a network: a sweep, then runs at its best rate.

"For each experiment, we coarsely optimized number of GPUs and learning rate" (section 3.3). The
rate is chosen by the mAP of the validation split: the evaluation split is read at the end only.
"""

import argparse
import dataclasses
import math
from collections.abc import Mapping

from evaluation.paper import steps
from evaluation.paper.choice import Choice
from evaluation.paper.runs import Run, assignments
from evaluation.paper.scales import Scale, Settings
from evaluation.paper.steps import Step
from features.contracts import folders
from features.contracts.documents import Features, Sweep
from features.contracts.export import find_export, fingerprint_weights
from features.contracts.sharding import VALIDATION
from features.errors import InputError, JobFailedError
from features.paper import REPORTED, Reported
from features.storage import files

# No run that is evaluated has the seed of the sweep, so that the luck of a run that was chosen is
# not in the results.
_SEED_OF_SWEEPS = 1_000
_RATE, _SEED = "learning_rate", "seed"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tuning:
    """What the flags say about learning rates, seeds and processes.

    Attributes:
      learning_rates: to choose from; none for that of the recipe at this scale.
      num_seeds: runs of each network that are evaluated.
      cluster: flags of training.train and their values; empty for a single process.
      num_seeds_by_run: run -> another number.
    """

    learning_rates: tuple[str, ...]
    num_seeds: int
    cluster: Mapping[str, str]
    num_seeds_by_run: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, args: argparse.Namespace, scale: Scale) -> "Tuning":
        """Read the flags of `add_arguments`, with the defaults of a scale.

        Raises:
          InputError: a rate or a number is out of its range, or two flags contradict each other.
        """
        rates = scale.learning_rates
        if args.learning_rates is not None:
            rates = tuple(rate.strip() for rate in args.learning_rates.split(","))
            numbers = [_positive(rate) for rate in rates]
            if None in numbers or len(set(numbers)) < len(numbers):
                raise InputError(
                    f"--learning-rates: received {args.learning_rates!r}; give numbers above 0, "
                    "separated by commas, each once"
                )
            if _RATE in scale.overrides:
                raise InputError(
                    "the learning rate is set by --set and by --learning-rates; leave out one"
                )
        num_seeds = scale.num_seeds if args.seeds is None else args.seeds
        if not 1 <= num_seeds < _SEED_OF_SWEEPS:
            raise InputError(
                f"--seeds: received {num_seeds}; give 1 or more, and less than {_SEED_OF_SWEEPS}"
            )
        return cls(
            learning_rates=() if _RATE in scale.overrides else rates,
            num_seeds=num_seeds,
            cluster=_cluster(args),
            num_seeds_by_run=scale.num_seeds_by_run if args.seeds is None else {},
        )

    def __str__(self) -> str:
        rates = ", ".join(self.learning_rates) or "that of the recipe"
        more = sorted(set(self.num_seeds_by_run.values()))
        return f"learning rates {rates}; {' or '.join(map(str, [self.num_seeds, *more]))} seeds"


def _positive(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 < number < math.inf else None


def _cluster(args: argparse.Namespace) -> dict[str, str]:
    sizes = {"--workers": (args.workers, 1), "--parameter-servers": (args.parameter_servers, 0)}
    for flag, (number, least) in sizes.items():
        if number is not None and args.cluster is None:
            raise InputError(f"{flag} is for --cluster local; give both or none")
        if number is not None and number < least:
            raise InputError(f"{flag} must be at least {least}; received {number}")
    if args.cluster is None:
        return {}
    workers = 2 if args.workers is None else args.workers
    servers = 1 if args.parameter_servers is None else args.parameter_servers
    return {"--workers": str(workers), "--parameter-servers": str(servers)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `Tuning`."""
    add = parser.add_argument_group("tuning and training").add_argument
    add(
        "--learning-rates",
        metavar="RATE,RATE",
        help="choose the rate of each network by its validation mAP; default: those of the scale",
    )
    add("--seeds", type=int, metavar="N", help="evaluated runs of each network")
    add("--cluster", choices=["local"], help="train in several processes, as training.train")
    add("--workers", type=int, metavar="N", help="of --cluster local; default: 2")
    add(
        "--parameter-servers",
        type=int,
        metavar="N",
        help="of --cluster local; default: 1, for asynchronous training as in the paper",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """The runs of a row.

    Attributes:
      run: without learning rate and seed; the first run has its name.
      tuning: what the flags say.
      is_tuned: whether the learning rate is open; it may be what the row is about.
      tuned_with: another run, whose learning rate this one has; None for a sweep of its own.
      cluster: processes to train in, if they are what the row is about; None for those of the
        flags.
      features: of each seed, where they differ; () for those of the run.
      options: name -> settings, of which some are chosen at that rate.
    """

    run: Run
    tuning: Tuning
    is_tuned: bool = True
    tuned_with: Run | None = None
    cluster: Mapping[str, str] | None = None
    features: tuple[str, ...] = ()
    options: Mapping[str, Settings] = dataclasses.field(default_factory=dict)

    @property
    def _swept(self) -> Run:
        return self.tuned_with or self.run

    @property
    def num_seeds(self) -> int:
        """Runs that are evaluated."""
        if self.features:
            return len(self.features)
        return self.tuning.num_seeds_by_run.get(self.run.name, self.tuning.num_seeds)

    @property
    def measured(self) -> tuple[Run, ...]:
        """The runs whose speed is in the cost of the network."""
        return self.run, self._swept

    @property
    def learning_rates(self) -> tuple[str, ...]:
        """Those to choose from; none for that of the settings."""
        return self.tuning.learning_rates if self.is_tuned else ()

    @property
    def has_choice(self) -> bool:
        """Whether there are several learning rates."""
        return len(self.learning_rates) > 1

    def has_features(self) -> bool:
        """Whether the features to choose a learning rate on are there yet.

        Raises:
          InputError: they are, but without a validation split, which the choice of a rate needs.
        """
        features = folders.find_document(self._swept.features, Features)
        if features is None:
            return False
        has_validation = VALIDATION in features.splits and features.splits[VALIDATION].num_patches
        if self.has_choice and not has_validation:
            raise InputError(
                f"{self._swept.features} has no {VALIDATION} split to choose a learning rate by; "
                "extract one, or give a single rate with --learning-rates"
            )
        return True

    def sweep(self, recipe_steps: int) -> list[Step]:
        """The step that trains the network with each learning rate; none for a single one.

        Raises:
          InputError: see `has_features`.
        """
        if not self.has_choice:
            return []
        swept = self._swept
        if self.tuned_with is not None:
            recipe_steps = REPORTED.get(swept.recipe, Reported("")).steps
        command = ["training.sweep", swept.recipe, "--features", swept.features]
        command += ["--output", self._sweep_folder, "--accept-diverged"]
        command += ["--learning-rate", *self.learning_rates, "--seed", str(_SEED_OF_SWEEPS)]
        command += [word for flag in self.tuning.cluster.items() for word in flag]
        rest = {k: v for k, v in swept.settings.items() if k not in (_RATE, _SEED)}
        return [
            Step(
                name=self._sweep_name,
                command=(*command, *assignments(rest)),
                seconds=len(self.learning_rates) * swept.seconds_to_train(recipe_steps),
                is_open=not self.has_features(),
            )
        ]

    @property
    def _sweep_name(self) -> str:
        return f"sweeps/{self._swept.name}"

    @property
    def _sweep_folder(self) -> str:
        return files.join(self.run.folder, self._sweep_name)

    def validation_map(self) -> dict[str, float | None] | None:
        """Learning rate -> mAP of the validation split, None for a rate that diverged.

        None before the sweep is finished, and without a sweep of its own.
        """
        sweep = self._find_sweep()
        if sweep is None or self.tuned_with is not None:
            return None
        found = {run.values[_RATE]: run.mean_average_precision for run in sweep.runs}
        return {rate: None if math.isnan(value) else value for rate, value in found.items()}

    def sweep_fingerprints(self) -> dict[str, str | None] | None:
        """Learning rate -> fingerprint of its network, None for a rate that diverged.

        None before the sweep is finished, and without a sweep.
        """
        sweep = self._find_sweep()
        if sweep is None:
            return None
        return {
            run.values[_RATE]: None
            if run.error is not None
            else fingerprint_weights(find_export(run.folder))
            for run in sweep.runs
        }

    @property
    def sweep_command(self) -> str:
        """The command of the finished sweep."""
        return steps.command_of(self._sweep_name, self.run.folder)

    @property
    def learning_rate_of(self) -> str | None:
        """The run whose learning rate this one has; None for a choice of its own."""
        return self.tuned_with.name if self.has_choice and self.tuned_with is not None else None

    def _find_sweep(self) -> Sweep | None:
        if not (self.has_choice and self.run.is_finished(self._sweep_name)):
            return None
        return folders.read_document(self._sweep_folder, Sweep)

    @property
    def learning_rate(self) -> str | None:
        """The rate of all seeds: the chosen one, or a lower one after a seed diverged.

        None before the sweep is finished, and for that of the settings.

        Raises:
          JobFailedError: no rate of the sweep has a validation mAP, or a seed diverged at the
            least.
        """
        return self._settle_rate()[0]

    @property
    def diverged_seeds(self) -> dict[str, tuple[int, ...]]:
        """Higher learning rate -> seeds that diverged with it."""
        return self._settle_rate()[1]

    def _settle_rate(self) -> tuple[str | None, dict[str, tuple[int, ...]]]:
        rate = self._chosen_rate
        diverged: dict[str, tuple[int, ...]] = {}
        if rate is None and self.has_choice:
            return None, diverged
        while any(run.has_diverged for run in self._seeds_at(rate)):
            lower = [r for r in self.learning_rates if rate is not None and float(r) < float(rate)]
            if rate is None or not lower:
                raise JobFailedError(
                    f"{self.run.name} diverged with a seed, and there is no lower rate than "
                    f"{rate or 'that of the recipe'}; give lower --learning-rates in another "
                    "--output"
                )
            first = self._first_seed
            diverged[rate] = tuple(
                first + place for place, run in enumerate(self._seeds_at(rate)) if run.has_diverged
            )
            rate = max(lower, key=float)
        return rate, diverged

    @property
    def _chosen_rate(self) -> str | None:
        """The best rate of the sweep; None before it is finished, and for that of the settings.

        Raises:
          JobFailedError: no rate of the sweep has a validation mAP.
        """
        if len(self.learning_rates) == 1:
            return self.learning_rates[0]
        sweep = self._find_sweep()
        if sweep is None:
            return None
        if sweep.best is None:
            raise JobFailedError(
                f"no learning rate of {self._sweep_folder} has a validation mAP: training "
                "diverged, or no class of the validation split can be measured; give other "
                "--learning-rates, or features with more validation videos, in another --output"
            )
        return sweep.best.values[_RATE]

    @property
    def _first_seed(self) -> int:
        return int(self.run.settings.get(_SEED, 0))

    @property
    def seeds(self) -> tuple[Run, ...]:
        """The runs to evaluate; their steps are open before all settings are chosen."""
        return self._seeds_at(self.learning_rate)

    @property
    def choice(self) -> Choice | None:
        """The choice of an option; None without options."""
        return self._choice_at(self.learning_rate)

    def _at(self, rate: str | None) -> Run:
        """The run with a learning rate; open before that is chosen."""
        return dataclasses.replace(
            self.run,
            settings={**self.run.settings, **({} if rate is None else {_RATE: rate})},
            cluster=self.tuning.cluster if self.cluster is None else self.cluster,
            is_open=self.has_choice and rate is None,
        )

    def _suffix(self, rate: str | None) -> str:
        """Runs at a lower rate than the chosen one are beside those that diverged."""
        return "" if rate == self._chosen_rate else f"_rate_{rate}"

    def _choice_at(self, rate: str | None) -> Choice | None:
        if not self.options:
            return None
        run = self._at(rate)
        settings = {**run.settings, _SEED: str(_SEED_OF_SWEEPS)}
        name = run.name + self._suffix(rate)
        run = dataclasses.replace(run, name=name, settings=settings)
        return Choice(run=run, options=self.options)

    def _seeds_at(self, rate: str | None) -> tuple[Run, ...]:
        run, choice, first = self._at(rate), self._choice_at(rate), self._first_seed
        option = None if choice is None else choice.best
        chosen = {} if option is None else self.options[option]
        runs = []
        for index, seed in enumerate(range(first, first + self.num_seeds)):
            settings = {**run.settings, **chosen}
            settings |= {} if seed == first else {_SEED: str(seed)}
            name = run.name if seed == first else f"{run.name}_seed_{seed}"
            runs.append(
                dataclasses.replace(
                    run,
                    name=name + self._suffix(rate),
                    settings=settings,
                    features=self.features[index] if self.features else run.features,
                    is_open=run.is_open or (choice is not None and option is None),
                )
            )
        return tuple(runs)
