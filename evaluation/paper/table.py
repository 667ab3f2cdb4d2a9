"""A table of the paper, run at some scale: our figures beside its, and which findings hold."""

import argparse
import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evaluation.paper import corpus, experiment, steps
from evaluation.paper.experiment import Run
from evaluation.paper.scales import Scale, Settings
from evaluation.paper.steps import Step
from features.contracts import folders
from features.errors import OK, InputError
from features.storage import files

HOLDS, CONTRADICTED, OPEN = "holds", "does not hold", "open"


@dataclasses.dataclass(frozen=True)
class Figures:
    """Of one row in the paper."""

    auc: float
    d_prime: float
    map: float


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
      recipe: of training.train.
      label: what the paper's row is called.
      steps: mini-batches of the recipe.
      paper: its figures; None where it has none.
      hours: that the paper trained.
      network: a recipe with the same network, if that is another.
      name: of a row that trains the recipe with settings of its own.
      settings: fields of the recipe.
    """

    recipe: str
    label: str
    steps: int
    paper: Figures | None
    hours: float | None = None
    network: str | None = None
    name: str | None = None
    settings: Settings = dataclasses.field(default_factory=dict)

    @property
    def key(self) -> str:
        """What the row is called in --rows, results.json and findings."""
        return self.name or self.recipe


@dataclasses.dataclass(frozen=True)
class Finding:
    """A claim of the paper: of each of these pairs of rows, the first has the higher mAP."""

    claim: str
    pairs: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Table:
    """One of the paper's tables.

    Attributes:
      name: of its command, and in results.json.
      title: what it compares.
      rows: as in the paper.
      findings: what the paper reads from it.
      few_labels: whether it is evaluated on the small label set of section 4.2 alone.
      statistics: whether a recipe of it normalises its input.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]
    few_labels: bool = False
    statistics: bool = False


def main(table: Table, argv: Sequence[str] | None) -> int:
    """Run the command of a table; returns its exit code."""
    args = _parser(table).parse_args(argv)
    scale, folder = experiment.scale_of(args), files.absolute(args.output)
    asked = _asked(table, args.rows)
    source = corpus.corpus_of(args, scale, folder, statistics=table.statistics)
    runs = {row.key: _run(row, scale, source.features, folder) for row in table.rows}
    rows = [row for row in table.rows if row.key in asked or _is_done(table, runs[row.key], scale)]
    runs = {row.key: runs[row.key] for row in rows}
    return run(table, rows, runs, scale, source.steps, args)


def run(
    table: Table,
    rows: Sequence[Row],
    runs: Mapping[str, Run],
    scale: Scale,
    data: Sequence[Step],
    args: argparse.Namespace,
) -> int:
    """Do what the rows need and keep what was found, or say what it would cost.

    Args:
      table: what is run.
      rows: of it.
      runs: of each row, by its key.
      scale: of the runs.
      data: the steps to what they are trained on.
      args: --output and --estimate.
    """
    folder = files.absolute(args.output)
    experiment.measure(runs.values(), folder)
    plan = steps.unfinished(_plan(table, rows, runs, scale, data), folder)
    print(f"{table.title}, scale {scale.name}: {steps.cost(plan)}", flush=True)
    if args.estimate:
        print(_rates(rows, runs))
        return OK
    steps.execute(plan, folder)
    document = _collect(table, rows, runs, scale)
    text = render(table, document)
    experiment.keep_results(folder, table.name, document, text)
    print(f"\n{text}\nwrote {args.output}/{experiment.RESULTS}")
    return OK


def _parser(table: Table) -> argparse.ArgumentParser:
    parser = experiment.parser(
        f"evaluation.paper.{table.name}",
        f"{table.title}: train and evaluate the rows of the table, and print our\n"
        "figures beside the paper's. Run the same command again after any interruption;\n"
        "what other tables have made in the same folder is used.",
    )
    corpus.add_arguments(parser)
    parser.add_argument(
        "--rows",
        nargs="+",
        metavar="ROW",
        help=f"only these, and those that are done, of {', '.join(row.key for row in table.rows)}",
    )
    return parser


def _asked(table: Table, names: Sequence[str] | None) -> set[str]:
    known = [row.key for row in table.rows]
    unknown = sorted(set(names or ()) - set(known))
    if unknown:
        raise InputError(
            f"--rows: {table.name} has no row {', '.join(unknown)}; it has {', '.join(known)}"
        )
    return set(known if names is None else names)


def _is_done(table: Table, run: Run, scale: Scale) -> bool:
    """Whether an earlier command has evaluated a row: it stays in the table."""
    return steps.is_finished(run.evaluation(*_evaluated(table, scale)).name, run.folder)


def _run(row: Row, scale: Scale, features: str, folder: str) -> Run:
    recipe = scale.run_of(row.recipe)
    return Run(
        name=row.name or recipe,
        recipe=recipe,
        network=scale.run_of(row.network or row.recipe),
        settings={**scale.settings_of(recipe), **row.settings},
        features=features,
        folder=folder,
    )


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
            recipe_steps=row.steps,
            subset=scale.evaluated,
            evaluation_patches=scale.evaluation_patches,
        )
        plan += [run.evaluation(suffix, flags)] if suffix else []
    for finding in table.findings:
        for better, worse in _pairs(finding, runs):
            plan.append(experiment.comparison(runs[better], runs[worse], suffix, flags))
    return plan


def _networks(rows: Sequence[Row], runs: Mapping[str, Run]) -> Step:
    """Counts the networks of the rows as the paper has them."""
    recipes = list(dict.fromkeys(row.recipe for row in rows))
    return experiment.networks(recipes, runs[rows[0].key].folder)


def _pairs(finding: Finding, runs: Mapping[str, Run]) -> list[tuple[str, str]]:
    """Those of which both were run."""
    return [pair for pair in finding.pairs if set(pair) <= set(runs)]


def _evaluated(table: Table, scale: Scale) -> tuple[str, tuple[str, ...]]:
    """What the table's reports are called, and the flags for the labels and videos in them."""
    if not table.few_labels:
        return "", ()
    flags: tuple[str, ...] = ("--labels", str(scale.few_labels))
    if scale.balanced_sets:
        flags += ("--subset", str(scale.few_labels))
    return "-few-labels", flags


def _rates(rows: Sequence[Row], runs: Mapping[str, Run]) -> str:
    """What each row trains on, and how fast this machine does."""
    width = max(len(row.key) for row in rows)
    lines = []
    for row in rows:
        run = runs[row.key]
        patches = run.num_steps(row.steps) * int(run.settings.get("batch_size", 128))
        lines.append(
            f"  {row.key:{width}}  {_rounded(patches):>7} patches, "
            f"{_rounded(round(run.patches_per_second)):>7} a second"
        )
    return "\n".join(lines)


def _collect(
    table: Table, rows: Sequence[Row], runs: Mapping[str, Run], scale: Scale
) -> dict[str, Any]:
    """What results.json holds of the table: its rows by their keys, and the findings."""
    suffix, _ = _evaluated(table, scale)
    by_key = {row.key: row for row in rows}
    document: dict[str, Any] = {"scale": scale.name}
    networks = experiment.printed(_networks(rows, runs))
    for row in rows:
        document[row.key] = {
            "label": row.label,
            **runs[row.key].figures(suffix),
            # Of the network as the paper has it, not of a narrower one.
            "weights": networks[row.recipe]["weights"],
            "multiplies": networks[row.recipe]["multiplies"],
            "paper": {
                **(networks[row.recipe]["paper"] or {}),
                **(dataclasses.asdict(row.paper) if row.paper else {}),
                "steps": row.steps,
                "hours": row.hours,
            },
        }
    document["findings"] = []
    for finding in table.findings:
        for better, worse in _pairs(finding, runs):
            step = experiment.comparison(runs[better], runs[worse], suffix)
            compared = folders.read_root(
                files.join(runs[better].folder, step.name), folders.COMPARISON
            )
            interval = compared["intervals"]["mean_ap"]
            papers = [by_key[key].paper for key in (better, worse)]
            document["findings"].append(
                {
                    "claim": finding.claim,
                    "better": better,
                    "worse": worse,
                    "map_difference": compared["difference"]["mean_ap"],
                    "interval": interval,
                    "paper_map_difference": None
                    if None in papers
                    else round(papers[0].map - papers[1].map, 3),  # type: ignore[union-attr]
                    "verdict": verdict(interval),
                }
            )
    return document


def verdict(interval: Sequence[float] | None) -> str:
    """What the interval of a difference, which the paper has above 0, says."""
    if interval is None or interval[0] <= 0 <= interval[1]:
        return OPEN
    return HOLDS if interval[0] > 0 else CONTRADICTED


def render(table: Table, document: Mapping[str, Any]) -> str:
    """Markdown: the rows beside the paper's, and a sentence for each finding.

    A cell with a slash has the paper's figure after it.
    """
    rows = {row.key: row for row in table.rows if row.key in document}
    lines = [
        "| | weights | multiplies | here | steps | time | AUC | d' | mAP | 95 % |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for key, row in rows.items():
        ours, paper = document[key], document[key]["paper"]
        cells = [
            row.label,
            _beside(ours["weights"], paper.get("weights"), _rounded),
            _beside(ours["multiplies"], paper.get("multiplies"), _rounded),
            f"width {ours['width']:g}, {ours['labels_trained']:,} labels, "
            f"{ours['videos_trained']:,} videos",
            _beside(ours["steps"], row.steps, _rounded),
            _beside(ours["seconds"], row.hours and row.hours * 3600, _time),
            _beside(ours["auc"], paper.get("auc"), _figure),
            _beside(ours["d_prime"], paper.get("d_prime"), _figure),
            _beside(ours["map"], paper.get("map"), _figure),
            _interval(ours["intervals"]["map"], "{:.3f}"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    one = document[next(iter(rows))]
    lines += [
        "",
        f"{one['num_videos']:,} videos, {one['num_labels']:,} labels; a constant score has mAP "
        f"{one['prior_map']:.3f}.",
        "",
    ]
    for claim, findings in itertools.groupby(document["findings"], lambda one: one["claim"]):
        lines.append(f"- {claim}:")
        for finding in findings:
            papers = finding["paper_map_difference"]
            lines.append(
                f"  - **{finding['verdict']}** for {rows[finding['better']].label} over "
                f"{rows[finding['worse']].label}, mAP {finding['map_difference']:+.3f} "
                f"{_interval(finding['interval'], '{:+.3f}')}"
                + ("" if papers is None else f" (paper {papers:+.3f})")
            )
    return "\n".join(lines) + "\n"


def _beside(ours: float | None, paper: float | None, written: Callable[[float], str]) -> str:
    return " / ".join("-" if number is None else written(number) for number in (ours, paper))


def _figure(number: float) -> str:
    return f"{number:.3f}"


def _interval(ends: Sequence[float] | None, layout: str) -> str:
    return "" if ends is None else f"[{', '.join(layout.format(end) for end in ends)}]"


def _rounded(number: float) -> str:
    """Three digits, in millions or billions where there are so many."""
    for unit, name in ((1e9, "B"), (1e6, "M")):
        if number >= 0.9995 * unit:
            return f"{number / unit:.3g}{name}"
    return f"{number:,}"


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.0f} h" if seconds > 10 * 3600 else f"{seconds / 60:.1f} min"
