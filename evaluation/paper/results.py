"""Results of the experiments in a folder -> docs/results.json and the tables of docs/results.md.

python -m evaluation.paper.results experiments --output docs
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from evaluation.paper import experiment
from features.errors import OK, InputError, run_command
from features.storage import files

_PAGE = "results.md"
# In the page, around the table of an experiment.
_MARKERS = "<!-- {name} -->", "<!-- end of {name} -->"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.paper.results",
        description="Copy results.json of experiments, and put their tables between the markers\n"
        "<!-- NAME --> and <!-- end of NAME --> of results.md.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("experiments", metavar="FOLDER", help="--output of experiments")
    parser.add_argument("--output", required=True, type=Path, help="folder with results.md")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = _parser().parse_args(argv)
    folder = files.absolute(args.experiments)
    results = experiment.read_results(folder)
    if not results:
        raise InputError(f"{args.experiments} has no {experiment.RESULTS}; run an experiment first")
    page = args.output / _PAGE
    text = page.read_text()
    for name in results:
        table = files.read_bytes(files.join(folder, f"{name}.md")).decode()
        text = put(text, name, table)
    page.write_text(text)
    content = files.read_bytes(files.join(folder, experiment.RESULTS))
    (args.output / experiment.RESULTS).write_bytes(content)
    print(f"wrote {page} and {experiment.RESULTS}: {', '.join(results)}")
    return OK


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


if __name__ == "__main__":
    run_command(main)
