"""Results of the experiments -> docs/results.json, and what docs/results.md has of them.

python -m evaluation.paper.results experiments --output docs
"""

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.paper import experiment, paper_cost
from features.errors import OK, InputError, run_command
from features.storage import files

_PAGE = "results.md"
# In the page, around the table of an experiment.
_MARKERS = "<!-- {name} -->", "<!-- end of {name} -->"
_TABLE = re.compile(r"<!-- (?P<name>\w+) -->\n.*?<!-- end of (?P=name) -->", re.DOTALL)
# In a line, around a number of results.json: `<!-- value esc50.from_scratch.accuracy percent -->`.
_VALUE = re.compile(
    r"(?P<start><!-- value (?P<path>\S+) (?P<layout>\w+) -->).*?<!-- end -->", re.DOTALL
)
_LAYOUTS = {"percent": "{:.1%}", "metric": "{:.3f}", "count": "{:,}"}
# Parts of the page that are of no single experiment.
_COST, _FINDINGS = "paper_cost", "findings"
# In the order of the page: a finding that does not hold is said first.
_VERDICTS = ("does not hold", "open", "holds")
NOT_RUN = "Not run yet: `make results` runs it."
_NO_VALUE = "(not run yet)"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.paper.results",
        description="Copy results.json of experiments, put their tables between the markers\n"
        "<!-- NAME --> and <!-- end of NAME --> of results.md, and numbers between\n"
        "<!-- value PATH LAYOUT --> and <!-- end -->. The paper's cost is computed from\n"
        "benchmarks.json beside the page. Without FOLDER, numbers and cost are renewed.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("experiments", nargs="?", metavar="FOLDER", help="--output of experiments")
    parser.add_argument("--output", required=True, type=Path, help="folder with results.md")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = _parser().parse_args(argv)
    source = files.absolute(args.experiments or str(args.output))
    results = experiment.read_results(source)
    if args.experiments is not None and not results:
        raise InputError(f"{args.experiments} has no {experiment.RESULTS}; run an experiment first")
    page = args.output / _PAGE
    text = page.read_text()
    if args.experiments is not None:
        text = _put_tables(text, source, results)
        content = files.read_bytes(files.join(source, experiment.RESULTS))
        (args.output / experiment.RESULTS).write_bytes(content)
    text = fill_values(text, results)
    if _MARKERS[0].format(name=_FINDINGS) in text:
        text = put(text, _FINDINGS, list_findings(results))
    benchmarks = args.output / paper_cost.BENCHMARKS
    if benchmarks.exists() and _MARKERS[0].format(name=_COST) in text:
        text = put(text, _COST, paper_cost.render(benchmarks))
    page.write_text(text)
    print(f"wrote {page}: {', '.join(results) or 'no experiment has been run'}")
    return OK


def _put_tables(page: str, folder: str, results: Mapping[str, Any]) -> str:
    """Put the tables of all experiments into a page, and a note for those that were not run."""
    names = {match["name"] for match in _TABLE.finditer(page)} - {_COST, _FINDINGS}
    for name in names - results.keys():
        page = put(page, name, NOT_RUN)
    for name in results:
        page = put(page, name, files.read_bytes(files.join(folder, f"{name}.md")).decode())
    return page


def put(page: str, name: str, table: str) -> str:
    """Put a table between the markers of an experiment in a page.

    Raises:
      InputError: the page has no markers of this name.
    """
    first, last = (marker.format(name=name) for marker in _MARKERS)
    pattern = re.compile(f"{re.escape(first)}.*?{re.escape(last)}", re.DOTALL)
    if not pattern.search(page):
        raise InputError(f"{_PAGE} has no markers of {name}; write {first} and {last} into it")
    return pattern.sub(lambda _: f"{first}\n{table.rstrip()}\n{last}", page)


def fill_values(page: str, results: Mapping[str, Any]) -> str:
    """Put numbers of results.json between their markers, and a note where there is none.

    Raises:
      InputError: a layout is unknown, or a path leads to what is not a number.
    """

    def fill(match: re.Match[str]) -> str:
        value: Any = results
        for key in match["path"].split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if match["layout"] not in _LAYOUTS or not isinstance(value, int | float | None):
            raise InputError(
                f"{_PAGE}: {match['start']} is not the path of a number in {experiment.RESULTS} "
                f"and a layout of {', '.join(_LAYOUTS)}"
            )
        shown = _NO_VALUE if value is None else _LAYOUTS[match["layout"]].format(value)
        return f"{match['start']}{shown}<!-- end -->"

    return _VALUE.sub(fill, page)


def list_findings(results: Mapping[str, Any]) -> str:
    """Markdown: the findings of all tables by verdict, as they are in results.json."""
    lines: dict[str, list[str]] = {verdict: [] for verdict in _VERDICTS}
    for table in results.values():
        for finding in table.get("findings", ()):
            verdict, difference = finding["verdict"], finding["map_difference"]
            better, worse = (table[finding[key]]["label"] for key in ("better", "worse"))
            lines[verdict].append(
                f"- **{verdict}**: {finding['claim']} "
                f"({better} over {worse}, mAP {difference:+.3f})"
            )
    found = [line for verdict in _VERDICTS for line in lines[verdict]]
    if not found:
        return NOT_RUN
    # A verdict is by a two-sided test at 5 %, and is not corrected for their number.
    by_chance = (
        f"Each of these {len(found)} verdicts has an interval of its own: if no row differed from "
        f"another, about {len(found) / 20:.1f} would not be open by chance."
    )
    return "\n".join([*found, "", by_chance])


if __name__ == "__main__":
    run_command(main)
