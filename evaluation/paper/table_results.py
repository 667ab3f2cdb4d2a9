"""The results of a table of the paper: what results.json has of it, and the Markdown."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from evaluation.paper.runs import RunResults
from features.typed_json import to_plain

Outcome = Literal["holds", "does not hold", "open"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Labelled:
    label: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowResults(RunResults, _Labelled):
    """What results.json has of a row, the label first.

    Attributes:
      weights, multiplies: of the network at full width.
      paper: what the paper reports, by field of `Reported`.
    """

    weights: int
    multiplies: int
    paper: Mapping[str, int | float | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FindingResults:
    """What results.json has of a pair of rows.

    Attributes:
      claim: of the paper.
      better, worse: keys of the rows, by the claim.
      map_difference, interval: ours, with its 95 % interval.
      paper_map_difference: of the paper; None if it does not report both rows.
      verdict: whether the claim holds.
    """

    claim: str
    better: str
    worse: str
    map_difference: float
    interval: tuple[float, float] | None
    paper_map_difference: float | None
    verdict: Outcome


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableResults:
    """What results.json has of a table, with the rows by key."""

    scale: str
    rows: Mapping[str, RowResults]
    findings: tuple[FindingResults, ...]

    def to_plain(self) -> dict[str, Any]:
        """The results as in results.json, where the rows lie beside the other fields."""
        return {
            "scale": self.scale,
            **to_plain(self.rows),
            "findings": to_plain(self.findings),
        }


def outcome_of(interval: Sequence[float] | None) -> Outcome:
    """Whether a claim holds by the interval of a difference that is above 0 in the paper."""
    if interval is None or interval[0] <= 0 <= interval[1]:
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
            f"width {row.width:g}, {row.labels_trained:,} labels, {row.videos_trained:,} videos",
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
        f"{first.num_videos:,} videos, {first.num_labels:,} labels; a constant score has mAP "
        f"{first.prior_map:.3f}.",
        "",
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
