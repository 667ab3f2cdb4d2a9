"""A table of the paper at some scale: its rows, and the steps to our results beside the paper's."""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence

from evaluation.metrics.comparison import Comparison
from evaluation.paper import corpus, experiment, steps
from evaluation.paper.experiment import Experiment
from evaluation.paper.runs import Run, comparison, description, read_descriptions
from evaluation.paper.scales import Scale, Settings
from evaluation.paper.steps import Step
from evaluation.paper.table_results import (
    FindingResults,
    RowResults,
    TableResults,
    outcome_of,
    render,
    rounded,
)
from features.contracts import folders
from features.errors import OK, InputError
from features.paper import REPORTED, Reported
from features.storage import files


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
      recipe: of training.train.
      label: name of the row in the paper.
      name: of a row that is not in the paper, which trains the recipe with `settings`.
      settings: fields of the recipe.
    """

    recipe: str
    label: str
    name: str | None = None
    settings: Settings = dataclasses.field(default_factory=dict)

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
            return Reported("", weights=recipe.weights, multiplies=recipe.multiplies)
        return recipe


@dataclasses.dataclass(frozen=True)
class Finding:
    """A claim of the paper: in each of these pairs of rows, the first has the higher mAP."""

    claim: str
    pairs: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the paper.

    Attributes:
      name: of the command, and in results.json.
      title: what the table compares.
      rows: as in the paper.
      findings: what the paper concludes.
      few_labels: whether to evaluate on the small label set of section 4.2 only.
      band_statistics: whether a recipe normalises its input.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]
    few_labels: bool = False
    band_statistics: bool = False


def main(table: Table, argv: Sequence[str] | None = None) -> int:
    """Run the command of a table; returns its exit code."""
    args = _parser(table).parse_args(argv)
    setup = Experiment.of(args)
    requested = _requested(table, args.rows)
    source = corpus.corpus_of(args, setup, band_statistics=table.band_statistics)
    runs = {
        row.key: setup.run_of(
            setup.scale.run_of(row.recipe), source.features, name=row.name, settings=row.settings
        )
        for row in table.rows
    }
    kept = [key for key in runs if key in requested or _is_done(table, runs[key], setup.scale)]
    return run_table(table, {key: runs[key] for key in kept}, setup, source.steps)


def run_table(
    table: Table, runs: Mapping[str, Run], setup: Experiment, data: Sequence[Step]
) -> int:
    """Run rows of a table and keep the results, or print the cost; returns the exit code.

    Args:
      table: the table.
      runs: by key of the row, in the order of the table.
      setup: what the flags say.
      data: the steps to the features that the runs are trained on.
    """
    rows = [row for row in table.rows if row.key in runs]
    if not setup.run(
        table.title, runs.values(), lambda: _plan(table, rows, runs, setup.scale, data)
    ):
        print(_speeds(rows, runs))
        return OK
    results = _collect(table, rows, runs, setup.scale)
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


def _is_done(table: Table, run: Run, scale: Scale) -> bool:
    """Whether an earlier command has evaluated a row, which then stays in the table."""
    return steps.is_finished(run.evaluation(*_evaluated(table, scale)).name, run.folder)


def _plan(
    table: Table,
    rows: Sequence[Row],
    runs: Mapping[str, Run],
    scale: Scale,
    data: Sequence[Step],
) -> list[Step]:
    plan = [_networks(rows, runs), *data]
    suffix, flags = _evaluated(table, scale)
    for row in rows:
        run = runs[row.key]
        plan += run.steps(
            recipe_steps=row.reported.steps,
            subset=scale.evaluated,
            evaluation_patches=scale.evaluation_patches,
        )
        plan += [run.evaluation(suffix, flags)] if suffix else []
    for _, better, worse in _pairs(table, runs):
        plan.append(comparison(runs[better], runs[worse], suffix, flags))
    return plan


def _networks(rows: Sequence[Row], runs: Mapping[str, Run]) -> Step:
    """Count the weights and multiplies of the networks at full width."""
    recipes = list(dict.fromkeys(row.recipe for row in rows))
    return description(recipes, runs[rows[0].key].folder)


def _pairs(table: Table, runs: Mapping[str, Run]) -> list[tuple[str, str, str]]:
    """(claim, better, worse) of the findings for which both rows are run."""
    return [
        (finding.claim, better, worse)
        for finding in table.findings
        for better, worse in finding.pairs
        if better in runs and worse in runs
    ]


def _evaluated(table: Table, scale: Scale) -> tuple[str, tuple[str, ...]]:
    """The suffix of the table's reports, and the flags for their labels and videos."""
    if not table.few_labels:
        return "", ()
    flags: tuple[str, ...] = ("--labels", str(scale.few_labels))
    if scale.balanced_sets:
        flags += ("--subset", str(scale.few_labels))
    return "-few-labels", flags


def _speeds(rows: Sequence[Row], runs: Mapping[str, Run]) -> str:
    """For each row the number of patches to train on, and the speed of this machine."""
    width = max(len(row.key) for row in rows)
    return "\n".join(
        f"  {row.key:{width}}  "
        f"{rounded(runs[row.key].num_patches(row.reported.steps)):>7} patches, "
        f"{rounded(round(runs[row.key].patches_per_second)):>7} a second"
        for row in rows
    )


def _collect(
    table: Table, rows: Sequence[Row], runs: Mapping[str, Run], scale: Scale
) -> TableResults:
    suffix, _ = _evaluated(table, scale)
    networks = read_descriptions(_networks(rows, runs))
    paper_map = {row.key: row.reported.map for row in rows}
    findings = []
    for claim, better, worse in _pairs(table, runs):
        step = comparison(runs[better], runs[worse], suffix)
        folder = files.join(runs[better].folder, step.name)
        compared = folders.read_document(folder, Comparison)
        higher, lower = paper_map[better], paper_map[worse]
        findings.append(
            FindingResults(
                claim=claim,
                better=better,
                worse=worse,
                map_difference=compared.difference.mean_ap,
                interval=compared.intervals.mean_ap,
                paper_map_difference=None
                if higher is None or lower is None
                else round(higher - lower, 3),
                verdict=outcome_of(compared.intervals.mean_ap),
            )
        )
    return TableResults(
        scale=scale.name,
        rows={
            row.key: RowResults(
                label=row.label,
                **vars(runs[row.key].results(suffix)),
                weights=networks[row.recipe].weights,
                multiplies=networks[row.recipe].multiplies,
                paper=paper_results(row.reported),
            )
            for row in rows
        },
        findings=tuple(findings),
    )


def paper_results(reported: Reported) -> dict[str, int | float | None]:
    """The numbers of a row in the paper, without those that it does not report."""
    results: dict[str, int | float | None] = {}
    if reported.weights is not None:
        results |= {"weights": reported.weights, "multiplies": reported.multiplies}
    if reported.map is not None:
        results |= {"auc": reported.auc, "d_prime": reported.d_prime, "map": reported.map}
    return {**results, "steps": reported.steps, "hours": reported.hours}
