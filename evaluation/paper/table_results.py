"""The results of a table of the paper: what results.json has of it, and the Markdown."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from evaluation.metrics.origins import MIN_ORIGINS
from evaluation.paper.runs import RunResults
from evaluation.paper.steps import Making
from features.typed_json import OMIT_NONE, to_plain

Outcome = Literal["holds", "does not hold", "open"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Labelled:
    label: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeedResults:
    """What results.json has of one seed: metrics, fingerprint of the network, and its training.

    Attributes:
      command: None in results of versions without.
    """

    auc: float
    d_prime: float | None
    map: float
    run: str | None
    command: str | None = dataclasses.field(default=None, metadata=OMIT_NONE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepResults:
    """What results.json has of a sweep: its command, and learning rate -> fingerprint of a network.

    A network that diverged has None.
    """

    command: str
    runs: Mapping[str, str | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowResults(RunResults, _Labelled):
    """What results.json has of a row, the label first; metrics and times are means over the seeds.

    Attributes:
      weights, multiplies: of the network at full width.
      paper: what the paper reports, by field of `Reported`.
      learning_rate: chosen by --learning-rates; None for that of the recipe, and in results of
        versions without that flag.
      learning_rate_of: another run, whose learning rate this row has; None for a choice of its own.
      validation_map: by learning rate, None for one that diverged; None without a choice.
      sweep: that the rate was chosen by; None without a choice.
      diverged_seeds: by higher learning rate, after which all seeds have a lower one; None if no
        seed diverged.
      option: chosen of several; None without options.
      option_map: mAP of the validation split by option; None without options.
      map_by_training_videos: means over the labels of a decade of training videos, such as `10-99`;
        None in results of versions without.
      num_origins: that the intervals are by; None for intervals by video.
      seeds: results of each; None in results of versions that trained one.
    """

    weights: int
    multiplies: int
    paper: Mapping[str, int | float | None]
    learning_rate: str | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    learning_rate_of: str | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    validation_map: Mapping[str, float | None] | None = dataclasses.field(
        default=None, metadata=OMIT_NONE
    )
    sweep: SweepResults | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    diverged_seeds: Mapping[str, tuple[int, ...]] | None = dataclasses.field(
        default=None, metadata=OMIT_NONE
    )
    option: str | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    option_map: Mapping[str, float | None] | None = dataclasses.field(
        default=None, metadata=OMIT_NONE
    )
    map_by_training_videos: Mapping[str, float] | None = dataclasses.field(
        default=None, metadata=OMIT_NONE
    )
    num_origins: int | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    seeds: tuple[SeedResults, ...] | None = dataclasses.field(default=None, metadata=OMIT_NONE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FindingResults:
    """What results.json has of a pair of rows.

    Attributes:
      claim: of the paper.
      better, worse: keys of the rows, by the claim.
      map_difference, interval: ours, of the means over the seeds, with its 95 % interval.
      paper_map_difference: of the paper; None if it does not report both rows.
      verdict: whether the claim holds.
      num_seeds: of both rows, of which the interval holds the choice if there are several; None in
        results of versions that trained one.
      margin: by which the mAP of the better may be lower; None for 0.
    """

    claim: str
    better: str
    worse: str
    map_difference: float
    interval: tuple[float, float] | None
    paper_map_difference: float | None
    verdict: Outcome
    num_seeds: int | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    margin: float | None = dataclasses.field(default=None, metadata=OMIT_NONE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableResults:
    """What results.json has of a table, with the rows by key.

    Attributes:
      scale: of the runs.
      making: of the results; None in results of versions without.
      rows: by key.
      findings: of the pairs of rows.
    """

    scale: str
    making: Making | None = None
    rows: Mapping[str, RowResults]
    findings: tuple[FindingResults, ...]

    def to_plain(self) -> dict[str, Any]:
        """The results as in results.json, where the rows lie beside the other fields."""
        return {
            "scale": self.scale,
            **({} if self.making is None else {"making": to_plain(self.making)}),
            **to_plain(self.rows),
            "findings": to_plain(self.findings),
        }


def outcome_of(interval: Sequence[float] | None, num_seeds: int) -> Outcome:
    """Whether a claim holds by the interval of a difference that is above 0 in the paper.

    One seed leaves it open, as its interval does not hold the choice of the seed.
    """
    if num_seeds < 2 or interval is None or interval[0] <= 0 <= interval[1]:
        return "open"
    return "holds" if interval[0] > 0 else "does not hold"


def render(results: TableResults) -> str:
    """Markdown: a line for each row and for each finding.

    A cell is ours / the paper's.
    """
    lines = [
        "| | weights | multiplies | here | steps | time | AUC | d' | mAP | 95 % |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in results.rows.values():
        paper, hours = row.paper, row.paper["hours"]
        cells = [
            row.label,
            _beside(row.weights, paper.get("weights"), rounded),
            _beside(row.multiplies, paper.get("multiplies"), rounded),
            f"width {row.width:g}, {row.labels_trained:,} labels, {row.videos_trained:,} videos"
            + ("" if row.staleness is None else f", staleness {row.staleness:.2f}"),
            _beside(row.steps, paper["steps"], rounded),
            _beside(row.seconds, hours and hours * 3600, _time),
            _beside(row.auc, paper.get("auc"), _metric),
            _beside(row.d_prime, paper.get("d_prime"), _metric),
            _beside(row.map, paper.get("map"), _metric),
            _interval(row.intervals.map, "{:.3f}"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    first = next(iter(results.rows.values()))
    lines += [
        "",
        f"{first.num_videos:,} videos{_of_origins(first.num_origins)}, {first.num_labels:,} "
        f"labels; a constant score has mAP {first.prior_map:.3f}."
        + describe_making(results.making),
        "",
        *_choices(results),
    ]
    for claim, findings in itertools.groupby(results.findings, lambda finding: finding.claim):
        lines.append(f"- {claim}:")
        for finding in findings:
            of_paper = finding.paper_map_difference
            lines.append(
                f"  - **{finding.verdict}** for {results.rows[finding.better].label} over "
                f"{results.rows[finding.worse].label}, mAP {finding.map_difference:+.3f} "
                f"{_interval(finding.interval, '{:+.3f}')}"
                + ("" if of_paper is None else f" (paper {of_paper:+.3f})")
            )
    return "\n".join(lines) + "\n"


def describe_making(making: Making | None) -> str:
    """A sentence on the time and the place of results, after others; empty if it is not known."""
    if making is None:
        return ""
    return (
        f" All commands took {making.hours:.1f} hours, those that experiments share included, on "
        f"{making.machine}, until {making.date}."
    )


def _of_origins(number: int | None) -> str:
    if number is None:
        return ""
    return f" of {number:,} origins" + " (too few for intervals)" * (number < MIN_ORIGINS)


def _choices(results: TableResults) -> list[str]:
    """A line for each row: its learning rate, and the mAP of each seed."""
    lines = []
    for row in results.rows.values():
        parts = []
        if row.validation_map is not None:
            found = _candidates(row.validation_map, row.learning_rate)
            is_edge = row.learning_rate in _edges(row.validation_map)
            parts.append(
                f"validation mAP by learning rate {found}"
                + " (the best is the last on its side: one beyond may be better)" * is_edge
            )
        elif row.learning_rate is not None:
            of = "" if row.learning_rate_of is None else f" of {row.learning_rate_of}"
            parts.append(f"learning rate {row.learning_rate}{of}")
        for rate, seeds in (row.diverged_seeds or {}).items():
            parts.append(
                f"with {rate} training diverged for seed {', '.join(map(str, seeds))}, so all "
                f"seeds have {row.learning_rate}"
            )
        if row.option_map is not None:
            parts.append(f"validation mAP by option {_candidates(row.option_map, row.option)}")
        if row.seeds is not None:
            parts.append(f"mAP by seed {', '.join(_metric(seed.map) for seed in row.seeds)}")
        if row.map_by_training_videos is not None:
            found = ", ".join(
                f"{_metric(value)} of {decade}"
                for decade, value in row.map_by_training_videos.items()
            )
            parts.append(f"mAP of labels by their training videos {found}")
        lines += [f"- {row.label}: {'; '.join(parts)}"] if parts else []
    return [*lines, ""] if lines else []


def _edges(validation_map: Mapping[str, float | None]) -> set[str]:
    """The least and the greatest of the rates that were tried, diverged ones included."""
    return {side(validation_map, key=float) for side in (min, max)}


def _candidates(maps: Mapping[str, float | None], chosen: str | None) -> str:
    return ", ".join(
        f"{'**' * (name == chosen)}{name}{'**' * (name == chosen)} "
        + ("diverged" if value is None else _metric(value))
        for name, value in maps.items()
    )


def _beside(ours: float | None, paper: float | None, layout: Callable[[float], str]) -> str:
    return " / ".join("-" if number is None else layout(number) for number in (ours, paper))


def _metric(number: float) -> str:
    return f"{number:.3f}"


def _interval(ends: Sequence[float] | None, layout: str) -> str:
    return "" if ends is None else f"[{', '.join(layout.format(end) for end in ends)}]"


def rounded(number: float) -> str:
    """Three digits, in millions or billions if the number is so large."""
    for unit, name in ((1e9, "B"), (1e6, "M")):
        if number >= 0.9995 * unit:
            return f"{number / unit:.3g}{name}"
    return f"{number:,}"


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.0f} h" if seconds > 10 * 3600 else f"{seconds / 60:.1f} min"
