"""docs/benchmarks.json, and docs/benchmarks.md, whose tables are rendered from it.

A single value of a script stands between `<!-- value NAME.KEY -->` and `<!-- end -->`. Text between
`<!-- benchmark: NAME -->` and `<!-- end -->` is replaced by the tables of `tests.benchmarks.NAME`,
below a line that says when and on what machine they were measured.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from features.typed_json import Document
from tests.benchmarks.measurement import Table

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "benchmarks.md"
# In a line, around a number: `<!-- value training.narrow_over_one_replica -->`.
_VALUE = re.compile(r"(<!-- value (\w+)\.(\w+) -->).*?(<!-- end -->)", re.DOTALL)
_PLACE = re.compile(r"(<!-- benchmark: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class ScriptResult:
    """What a script measured.

    Attributes:
      date: of the start, as YYYY-MM-DD.
      processor: cores and processor of the machine.
      versions: Python and packages.
      load: load average of the machine before the start.
      quick: whether it ran with --quick.
      seconds: wall time of the script.
      cpu_seconds: CPU time of all its processes.
      values: results by name.
      tables: results as they are printed, by name.
    """

    date: str
    processor: str
    versions: tuple[str, ...]
    load: float
    quick: bool
    seconds: float
    cpu_seconds: float
    values: Mapping[str, Any]
    tables: Mapping[str, Table]

    def caption(self, name: str) -> str:
        """The command, and where and when it ran."""
        flag = " --quick" if self.quick else ""
        return (
            f"`python -m tests.benchmarks.{name}{flag}`, {self.date}, {self.processor}, load "
            f"{self.load:.1f} before the start:"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results(Document):
    """The last result of each script, by its name."""

    FILE: ClassVar[str] = "benchmarks.json"
    MAKER: ClassVar[str] = "make benchmark"
    INDENT: ClassVar[int | None] = 1

    scripts: Mapping[str, ScriptResult]


def read_results() -> Results:
    """Read docs/benchmarks.json; no results if there is none.

    Raises:
      ContractError: it is not such a document.
    """
    path = DOCS / Results.FILE
    if not path.exists():
        return Results(scripts={})
    return Results.from_json(path.read_bytes(), str(path))


def write_results(results: Results) -> None:
    """Write docs/benchmarks.json, and the tables of docs/benchmarks.md."""
    (DOCS / Results.FILE).write_bytes(results.to_json())
    PAGE.write_text(render(PAGE.read_text(), results))


def render(page: str, results: Results) -> str:
    """The page with the tables and the values of the results."""

    def replace(place: re.Match[str]) -> str:
        start, name, end = place.groups()
        script = results.scripts.get(name)
        if script is None:
            return f"{start}Not measured yet.\n{end}"
        parts = [script.caption(name), *(table.to_markdown() for table in script.tables.values())]
        return start + "\n\n".join(parts) + f"\n\n{end}"

    def fill(place: re.Match[str]) -> str:
        start, name, key, end = place.groups()
        script = results.scripts.get(name)
        value = script.values.get(key) if script else None
        return f"{start}{'not measured' if value is None else f'{value:.3g}'}{end}"

    return _VALUE.sub(fill, _PLACE.sub(replace, page))
