"""A table of the paper at some scale: its rows, and the steps to our results beside the paper's."""

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence

from evaluation.paper import corpus, experiment, tuning
from evaluation.paper.decades import map_by_decade
from evaluation.paper.experiment import Experiment
from evaluation.paper.runs import (
    NetworkDescription,
    description,
    read_descriptions,
    require_recipes,
)
from evaluation.paper.scales import Scale, Settings
from evaluation.paper.seed_reports import SeedReports, map_difference
from evaluation.paper.steps import Making, Step
from evaluation.paper.table_results import (
    FindingResults,
    RowResults,
    SeedResults,
    SweepResults,
    TableResults,
    outcome_of,
    render,
    rounded,
)
from evaluation.paper.tuning import Network, Tuning
from features.errors import OK, InputError
from features.paper import REPORTED, Reported
from features.storage import files

# All seeds train on the same draw of videos, whose luck is in no interval. Findings on fewer videos
# than this are open.
_MIN_VIDEOS = 100


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
      recipe: of training.train.
      label: name of the row in the paper.
      name: of a row that is not in the paper, which trains the recipe with `settings`.
      settings: fields of the recipe.
      tuned_with: recipe whose learning rate the row has; None for that of the scale.
      num_workers: of an asynchronous training with a parameter server, if it is what the row is
        about.
      few_recordings: whether to train on soundtracks of few recordings, which are composed of
        --clips.
      options: name -> settings, of which some are chosen; none for those of the scale.
    """

    recipe: str
    label: str
    name: str | None = None
    settings: Settings = dataclasses.field(default_factory=dict)
    tuned_with: str | None = None
    num_workers: int | None = None
    few_recordings: bool = False
    options: Mapping[str, Settings] = dataclasses.field(default_factory=dict)

    @property
    def key(self) -> str:
        """Name of the row in --rows, results.json and findings."""
        return self.name or self.recipe

    @property
    def reported(self) -> Reported:
        """What the paper reports of this row."""
        recipe = REPORTED.get(self.recipe)
        if recipe is None:  # as long as the runs of Table 2
            return Reported("")
        if self.name is not None:  # the same network, trained in another way
            return Reported(
                "", weights=recipe.weights, multiplies=recipe.multiplies, steps=recipe.steps
            )
        return recipe


@dataclasses.dataclass(frozen=True)
class Finding:
    """A claim of the paper: in each of these pairs of rows, the first has the higher mAP.

    Attributes:
      claim: in words.
      pairs: keys of rows.
      margin: the first may have a mAP that is lower by less than this.
    """

    claim: str
    pairs: tuple[tuple[str, str], ...]
    margin: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the paper.

    Attributes:
      name: of the command, and in results.json.
      title: what the table compares.
      rows: as in the paper.
      findings: what the paper concludes.
      few_labels: whether to evaluate on the small label set of section 4.2 only.
      of_features: whether weights and multiplies are those with the labels and inputs of each row,
        and not with those of the paper.
      band_statistics: whether a recipe normalises its input.
      figure_row: key of the row that is scored on the evaluation set of all labels, and whose
        classes Figure 1 shows; None for a table without the figure.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]
    few_labels: bool = False
    of_features: bool = False
    band_statistics: bool = False
    figure_row: str | None = None


def main(table: Table, argv: Sequence[str] | None = None) -> int:
    """Run the command of a table; returns its exit code."""
    args = _parser(table).parse_args(argv)
    setup = Experiment.of(args)
    has_clips = args.clips is not None
    rows = tuple(row for row in table.rows if has_clips or not row.few_recordings)
    table = dataclasses.replace(table, rows=rows)
    requested = _requested(table, args.rows)
    source = corpus.corpus_of(args, setup, band_statistics=table.band_statistics)
    few = corpus.few_recordings(args.clips, setup) if has_clips else None
    tuned = Tuning.of(args, setup.scale)
    networks = {
        row.key: network_of(row, setup, tuned, source.features, few=few.features if few else None)
        for row in table.rows
    }
    kept = [key for key in networks if key in requested or _is_done(table, networks[key], setup)]
    data = list(source.steps)
    if few is not None and any(row.few_recordings for row in rows if row.key in kept):
        data += few.steps
    return run_table(table, {key: networks[key] for key in kept}, setup, lambda: data)


def network_of(
    row: Row, setup: Experiment, tuned: Tuning, features: str, *, few: str | None = None
) -> Network:
    """The runs of a row.

    Args:
      row: of a table.
      setup: what the flags of all experiments say.
      tuned: what the flags of tables say.
      features: to train on, and to choose learning rates on that rows share.
      few: features of few recordings, to train on where the row is about them.
    """
    scale = setup.scale
    trained_on = few if few is not None and row.few_recordings else features
    run = setup.run_of(scale.run_of(row.recipe), trained_on)
    if row.name is not None:
        run = dataclasses.replace(run, name=row.name, settings={**run.settings, **row.settings})
    tuned_with = row.tuned_with or scale.tuned_with.get(row.recipe)
    options = row.options or scale.options_by_recipe.get(row.recipe, {})
    cluster = {"--workers": str(row.num_workers), "--parameter-servers": "1"}
    return Network(
        run=run,
        tuning=tuned,
        is_tuned="learning_rate" not in row.settings,
        tuned_with=None if tuned_with is None else setup.run_of(tuned_with, features),
        cluster=None if row.num_workers is None else cluster,
        options={name: {**option, **scale.overrides} for name, option in options.items()},
    )


def run_table(
    table: Table,
    networks: Mapping[str, Network],
    setup: Experiment,
    data: Callable[[], Sequence[Step]],
) -> int:
    """Run rows of a table and keep the results, or print the cost; returns the exit code.

    Args:
      table: the table.
      networks: by key of the row, in the order of the table.
      setup: what the flags say.
      data: makes the steps to the features that the networks are trained on.
    """
    rows = [row for row in table.rows if row.key in networks]
    title = f"{table.title} ({networks[rows[0].key].tuning})"
    runs = [run for network in networks.values() for run in network.measured]
    for network in networks.values():
        network.has_features()  # raises errors before the speed is measured
    require_recipes((run for network in networks.values() for run in network.seeds), setup.folder)
    if not setup.run(title, runs, lambda: _plan(table, rows, networks, setup, data())):
        print(_speeds(rows, networks))
        return OK
    making = Making.of(_plan(table, rows, networks, setup, data()), setup.folder)
    results = _collect(table, rows, networks, setup.scale, making)
    setup.keep_results(table.name, results.to_plain(), render(results))
    return OK


def _parser(table: Table) -> argparse.ArgumentParser:
    parser = experiment.parser(
        f"evaluation.paper.{table.name}",
        f"{table.title}: train and evaluate the rows of the table, and print our\n"
        "results beside the paper's. After an interruption run the same command again.\n"
        "Outputs of other experiments in the same folder are used.",
    )
    corpus.add_arguments(parser)
    tuning.add_arguments(parser)
    parser.add_argument(
        "--rows",
        nargs="+",
        metavar="ROW",
        help="run only these rows, and keep those that are finished; of "
        + ", ".join(row.key for row in table.rows),
    )
    return parser


def _requested(table: Table, names: Sequence[str] | None) -> set[str]:
    known = [row.key for row in table.rows]
    unknown = sorted(set(names or ()) - set(known))
    if unknown:
        raise InputError(
            f"--rows: {table.name} has no row {', '.join(unknown)}; it has {', '.join(known)}"
        )
    return set(known if names is None else names)


def _is_done(table: Table, network: Network, setup: Experiment) -> bool:
    """Whether an earlier command has evaluated a row, which then stays in the table."""
    suffix, _ = _evaluated(table, setup.scale)
    return all(run.is_finished(run.evaluation(suffix).name) for run in network.seeds)


def _plan(
    table: Table,
    rows: Sequence[Row],
    networks: Mapping[str, Network],
    setup: Experiment,
    data: Sequence[Step],
) -> list[Step]:
    """All steps: the evaluation split is read after the last network has been trained."""
    described = list(_descriptions(table, rows, networks).values())
    plan = [*data, *described] if table.of_features else [*described, *data]
    for row in rows:
        plan += networks[row.key].sweep(row.reported.steps)
    for row in rows:
        choice = networks[row.key].choice
        plan += [] if choice is None else choice.trainings(row.reported.steps)
    for row in rows:
        plan += [run.training(row.reported.steps) for run in networks[row.key].seeds]
    scale = setup.scale
    suffix, flags = _evaluated(table, scale)
    for row in rows:
        has_figure = row.key == table.figure_row
        for run in networks[row.key].seeds:
            plan += run.scoring(
                subset=scale.all_labels if has_figure else scale.evaluated,
                evaluation_patches=scale.all_labels_patches
                if has_figure
                else scale.evaluation_patches,
            )
            plan += [run.evaluation(suffix, flags)] if suffix else []
    if table.figure_row is not None and table.figure_row in networks:
        plan.append(_figure_1(networks[table.figure_row], setup))
    return plan


def _figure_1(network: Network, setup: Experiment) -> Step:
    """Draw Figure 1 from the report of the first seed, which is of all labels."""
    command = ["evaluation.paper.figure1", "--report", network.seeds[0].report()]
    command += ["--share", str(setup.scale.figure_share)]
    command += ["--output", files.join(setup.folder, "figure1.pdf")]
    return Step(name="figure1.pdf", command=tuple(command))


def _descriptions(
    table: Table, rows: Sequence[Row], networks: Mapping[str, Network]
) -> dict[str, Step]:
    """By row, the step that counts the weights and multiplies of the network at full width."""
    folder = networks[rows[0].key].run.folder
    if table.of_features:
        return {
            row.key: description(
                [row.recipe, "--features", networks[row.key].run.features], folder, row.settings
            )
            for row in rows
        }
    recipes = list(dict.fromkeys(row.recipe for row in rows))
    return dict.fromkeys((row.key for row in rows), description(recipes, folder))


def _pairs(table: Table, networks: Mapping[str, Network]) -> list[tuple[Finding, str, str]]:
    """(finding, better, worse) of the findings for which both rows are run."""
    return [
        (finding, better, worse)
        for finding in table.findings
        for better, worse in finding.pairs
        if better in networks and worse in networks
    ]


def _evaluated(table: Table, scale: Scale) -> tuple[str, tuple[str, ...]]:
    """The suffix of the table's reports, and the flags for their labels and videos."""
    if not table.few_labels:
        return "", ()
    flags: tuple[str, ...] = ("--labels", str(scale.few_labels))
    if scale.balanced_sets:
        flags += ("--subset", str(scale.few_labels))
    return "-few-labels", flags


def _speeds(rows: Sequence[Row], networks: Mapping[str, Network]) -> str:
    """For each row the number of patches that a run trains on, the speed, and the runs."""
    width = max(len(row.key) for row in rows)
    lines = []
    for row in rows:
        network = networks[row.key]
        has_sweep = network.has_choice and network.tuned_with is None
        num_choices = len(network.options) + (len(network.learning_rates) if has_sweep else 0)
        lines.append(
            f"  {row.key:{width}}  "
            f"{rounded(network.run.num_patches(row.reported.steps)):>7} patches a run, "
            f"{rounded(round(network.run.patches_per_second)):>7} a second; "
            f"{num_choices} + {network.num_seeds} runs"
        )
    return "\n".join(lines)


def _collect(
    table: Table,
    rows: Sequence[Row],
    networks: Mapping[str, Network],
    scale: Scale,
    making: Making,
) -> TableResults:
    suffix, _ = _evaluated(table, scale)
    costs = {
        row.key: read_descriptions(_descriptions(table, rows, networks)[row.key])[row.recipe]
        for row in rows
    }
    reports = {row.key: SeedReports.read(networks[row.key], suffix) for row in rows}
    reported = {row.key: row.reported for row in rows}
    return TableResults(
        scale=scale.name,
        making=making,
        rows={
            row.key: _row_results(row, networks[row.key], reports[row.key], costs[row.key], suffix)
            for row in rows
        },
        findings=tuple(
            _finding(finding, better, worse, reports, reported)
            for finding, better, worse in _pairs(table, networks)
        ),
    )


def _row_results(
    row: Row, network: Network, reports: SeedReports, cost: NetworkDescription, suffix: str
) -> RowResults:
    choice, runs = network.choice, network.seeds
    return RowResults(
        label=row.label,
        **vars(reports.mean()),
        weights=cost.weights,
        multiplies=cost.multiplies,
        paper=paper_results(row.reported),
        learning_rate=network.learning_rate,
        learning_rate_of=network.learning_rate_of,
        validation_map=network.validation_map(),
        sweep=_sweep(network),
        diverged_seeds=network.diverged_seeds or None,
        option=None if choice is None else choice.best,
        option_map=None if choice is None else choice.validation_map(),
        map_by_training_videos=map_by_decade(
            [run.report(suffix) for run in runs], runs[0].features
        ),
        num_origins=reports.num_origins,
        seeds=tuple(
            SeedResults(
                auc=run.auc, d_prime=run.d_prime, map=run.map, run=run.run, command=run.command
            )
            for run in reports.results
        ),
    )


def _sweep(network: Network) -> SweepResults | None:
    runs = network.sweep_fingerprints()
    return None if runs is None else SweepResults(command=network.sweep_command, runs=runs)


def _finding(
    finding: Finding,
    better: str,
    worse: str,
    reports: Mapping[str, SeedReports],
    reported: Mapping[str, Reported],
) -> FindingResults:
    difference, interval = map_difference(reports[better], reports[worse])
    higher, lower = reported[better].map, reported[worse].map
    of_paper = None if higher is None or lower is None else round(higher - lower, 3)
    results = [reports[key].results for key in (better, worse)]
    num_seeds = min(map(len, results))
    # As if the first had a mAP that is higher by the margin.
    moved = interval and (interval[0] + finding.margin, interval[1] + finding.margin)
    is_drawn = min(found[0].videos_trained for found in results) < _MIN_VIDEOS
    return FindingResults(
        claim=finding.claim,
        better=better,
        worse=worse,
        map_difference=difference,
        interval=interval,
        paper_map_difference=of_paper,
        verdict="open" if is_drawn else outcome_of(moved, num_seeds),
        num_seeds=num_seeds,
        margin=finding.margin or None,
    )


def paper_results(reported: Reported) -> dict[str, int | float | None]:
    """The numbers of a row in the paper, without those that it does not report."""
    results: dict[str, int | float | None] = {}
    if reported.weights is not None:
        results |= {"weights": reported.weights, "multiplies": reported.multiplies}
    if reported.map is not None:
        results |= {"auc": reported.auc, "d_prime": reported.d_prime, "map": reported.map}
    return {**results, "steps": reported.steps, "hours": reported.hours}
