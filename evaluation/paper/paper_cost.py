"""What the paper's scale costs on this machine: core-hours, computed from docs/benchmarks.json."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from features import typed_json
from features.paper import REPORTED

BENCHMARKS = "benchmarks.json"
_BATCH_SIZE = 128  # section 3.1
_ROWS = ("fully_connected", "alexnet", "vgg", "inception_v3", "resnet50", "resnet50_17m")
_ROW_OF_TABLE_4 = "resnet50_70m_videos"
# Recipe -> the network that `tests.benchmarks.networks` measures, where the names differ.
_NETWORKS = {"resnet50_17m": "resnet50", _ROW_OF_TABLE_4: "resnet50"}
# Name of a soundtrack in `tests.benchmarks.codecs` -> in the values of `tests.benchmarks.sparse`.
_SOUNDTRACKS = {"mp4/AAC 5 min": "mp4_aac", "webm/Opus 5 min": "webm_opus"}


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of a benchmark."""

    header: tuple[str, ...]
    rows: tuple[tuple[str | float | None, ...], ...]

    def dicts(self) -> list[dict[str, Any]]:
        """The rows by column."""
        return [dict(zip(self.header, row, strict=True)) for row in self.rows]


@dataclasses.dataclass(frozen=True)
class Script:
    """What a benchmark measured, as far as experiments need it."""

    date: str
    processor: str
    quick: bool
    values: Mapping[str, Any]
    tables: Mapping[str, Table]


@dataclasses.dataclass(frozen=True)
class _Benchmarks:
    scripts: Mapping[str, Script]


def read_scripts(path: Path) -> Mapping[str, Script]:
    """Read benchmarks.json: what each benchmark measured, by name.

    Raises:
      ContractError: the file is not what `make benchmark` writes.
    """
    return typed_json.convert(
        json.loads(path.read_bytes()), _Benchmarks, where=str(path), cure="run make benchmark"
    ).scripts


def render(path: Path) -> str:
    """Markdown: the core-hours of extraction, of training a row of a table, and of scoring.

    Args:
      path: of benchmarks.json.

    Raises:
      ContractError: the file is not what `make benchmark` writes.
    """
    scripts = read_scripts(path)
    rows = [*_extraction(scripts), *_training(scripts), *_scoring(scripts)]
    used = {name: scripts[name] for name in ("codecs", "sparse", "networks", "scoring")}
    measured = sorted({f"{script.date} on {script.processor}" for script in used.values()})
    quick = any(script.quick for script in used.values())
    return "\n".join(
        [
            f"Measured {'; '.join(measured)}{', with --quick' if quick else ''}.",
            "",
            "| work | core-hours | the paper, GPUs x hours |",
            "|---|---|---|",
            *(f"| {name} | {round(hours):,} | {reported} |" for name, hours, reported in rows),
        ]
    )


def _extraction(scripts: Mapping[str, Script]) -> list[tuple[str, float, str]]:
    """Of the training input: 5.24 million hours."""
    codecs, sparse = scripts["codecs"].values, scripts["sparse"].values
    rows = []
    for name, key in _SOUNDTRACKS.items():
        hours = codecs[name]["core_hours"]
        codec = name.partition(" ")[0]
        rows.append((f"extraction of 5.24M hours, {codec}, all patches", hours, ""))
        share = sparse[f"{key}_over_dense"]
        rows.append((f"extraction, {codec}, 9 patches a video", hours * share, ""))
    return rows


def _training(scripts: Mapping[str, Script]) -> list[tuple[str, float, str]]:
    """Of one run: with rates and seeds to try, a row takes several."""
    script = scripts["networks"]
    num_cores = int(script.processor.partition(" ")[0])
    fastest: dict[str, tuple[float, str]] = {}
    for row in script.tables["speeds"].dicts():
        found = float(row["trains, patches/s"]), str(row["precision"])
        fastest[row["network"]] = max(fastest.get(row["network"], found), found)
    rows = []
    for recipe in (*_ROWS, _ROW_OF_TABLE_4):
        reported = REPORTED[recipe]
        speed, precision = fastest[_NETWORKS.get(recipe, recipe)]
        hours = reported.steps * _BATCH_SIZE / speed * num_cores / 3_600
        of_paper = f"{reported.gpus} x {reported.hours:g}" if reported.gpus else ""
        name = f"training {recipe}, {reported.steps / 1e6:g}M steps, {precision}"
        rows.append((name, hours, of_paper))
    return rows


def _scoring(scripts: Mapping[str, Script]) -> list[tuple[str, float, str]]:
    """Of the evaluation set of all labels, by the network that the paper scores it with."""
    rows: Sequence[Mapping[str, Any]] = scripts["scoring"].tables["networks"].dicts()
    return [
        (f"scoring 1M videos, {row['network']}, {row['runtime']}", row["of 1M videos"], "")
        for row in rows
        if row["network"] == "resnet50"
    ]
