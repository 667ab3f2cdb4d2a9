"""mAP of the networks against the CPU time of scoring a patch, for print.

python -m evaluation.paper.map_over_cost --results docs --output map_over_cost.pdf
"""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from evaluation.paper import experiment, paper_cost
from evaluation.paper.drawing import COLUMN_WIDTH, check_output, draw
from features.errors import OK, InputError, run_command

_DESCRIPTION = """\
Draw the mAP of each network of Table 2, and of the recipe small, against the
CPU time of scoring a patch in float32: mAP of results.json, CPU time of
benchmarks.json, which is of the network at full width.
"""
# Rows of results.json: experiment, row, network of the benchmarks.
_ROWS = (
    ("table2", "fully_connected", "fully_connected"),
    ("table2", "alexnet", "alexnet"),
    ("table2", "vgg", "vgg"),
    ("table2", "inception_v3", "inception_v3"),
    ("table2", "resnet50", "resnet50"),
    ("modern", "modern", "resnet50"),
    ("modern", "small", "small"),
)
_FLOAT32 = " float32"


@dataclasses.dataclass(frozen=True)
class Point:
    """A network.

    Attributes:
      label: of the row.
      milliseconds: CPU time of a patch, by the runtime that is fastest in float32.
      map: mean over the seeds.
      interval: 95 %, of the mAP; None if it is unknown.
    """

    label: str
    milliseconds: float
    map: float
    interval: tuple[float, float] | None


def points(results: Mapping[str, Any], speeds: Mapping[str, float]) -> list[Point]:
    """The networks that have both been evaluated and measured.

    Args:
      results: as `experiment.read_results` returns them.
      speeds: network -> patches per CPU second.
    """
    found = []
    for name, key, network in _ROWS:
        row = results.get(name, {}).get(key)
        if row is not None and network in speeds:
            low_high = row["intervals"]["map"]
            found.append(
                Point(
                    label=row["label"],
                    milliseconds=1_000 / speeds[network],
                    map=row["map"],
                    interval=None if low_high is None else (low_high[0], low_high[1]),
                )
            )
    return found


def left_out(results: Mapping[str, Any], speeds: Mapping[str, float]) -> list[str]:
    """Why the other networks have no point, a line for each; arguments as for `points`."""
    lines = []
    for name, key, network in _ROWS:
        if results.get(name, {}).get(key) is None:
            lines.append(f"without {key}: {experiment.RESULTS} has no such row of {name}")
        elif network not in speeds:
            lines.append(
                f"without {key}: {paper_cost.BENCHMARKS} has no speed of {network} in float32; run "
                "`python -m tests.benchmarks scoring`"
            )
    return lines


def fastest_in_float32(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Network -> patches per CPU second, of the rows of the benchmark of scoring."""
    speeds: dict[str, float] = {}
    for row in rows:
        if row["runtime"].endswith(_FLOAT32):
            speed = float(row["patches per CPU second"])
            speeds[row["network"]] = max(speed, speeds.get(row["network"], 0.0))
    return speeds


def fill(figure: Figure, networks: Sequence[Point]) -> None:
    """Draw the points, each with its name and interval."""
    axes = figure.subplots()
    for network in networks:
        low, high = network.interval or (network.map, network.map)
        axes.errorbar(
            network.milliseconds,
            network.map,
            yerr=[[network.map - low], [high - network.map]],
            fmt="o",
            markersize=3,
            linewidth=0.8,
            color="#333333",
        )
        axes.annotate(
            network.label,
            (network.milliseconds, network.map),
            xytext=(4, 3),
            textcoords="offset points",
        )
    axes.set_xscale("log")
    axes.set_xlabel("CPU time of scoring a patch at full width, ms")
    axes.set_ylabel("mAP")
    axes.grid(visible=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.paper.map_over_cost",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--results", required=True, type=Path, help="with results.json and benchmarks.json")
    add("--output", required=True, help="the file to write: .pdf, .svg or .png")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code.

    Raises:
      InputError: no network has been both evaluated and measured.
    """
    args = _parser().parse_args(argv)
    check_output(args.output)
    scripts = paper_cost.read_scripts(args.results / paper_cost.BENCHMARKS)
    speeds = fastest_in_float32(scripts["scoring"].tables["networks"].dicts())
    results = experiment.read_results(str(args.results))
    networks = points(results, speeds)
    if not networks:
        raise InputError(
            f"{args.results} has no network with both an mAP and a speed; run "
            "`python -m evaluation.paper.table2` and `python -m evaluation.paper.results` first"
        )
    draw(args.output, (COLUMN_WIDTH, 2.6), lambda figure: fill(figure, networks))
    print("\n".join([f"wrote {args.output}: {len(networks)} networks", *left_out(results, speeds)]))
    return OK


if __name__ == "__main__":
    run_command(main)
