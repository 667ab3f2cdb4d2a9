"""Dates of the locked releases of direct dependencies: `make lock` writes them, a test reads them.

The tests have no network, and a lock has no dates. `python -m tests.release_dates PYLOCK` reads
them from a lock in the format of PEP 751, which has.
"""

import csv
import datetime
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "requirements.dates"
COLUMNS = ("name", "version", "released", "locked")


def direct_dependencies() -> dict[str, str]:
    """Name -> its lines in requirements.txt or pyproject.toml, with their comments."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    project = (ROOT / "pyproject.toml").read_text()
    extras = tomllib.loads(project)["project"]["optional-dependencies"]
    lines += [line for name, extra in extras.items() if name != "dev" for line in extra]
    tools = re.search(r"^dev = \[\n(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    assert tools is not None
    lines += [re.sub(r'[",]', "", line).strip() for line in tools[1].splitlines()]
    # The package itself with its extras, which are in the lock too.
    lines = [line for line in lines if not line.startswith("soundtrack-classification")]
    found: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith("#"):
            name = re.split(r"[\[<>=;]", line)[0]
            found[name] = f"{found.get(name, '')}{line}\n"
    return found


def rows(pylock: Path, locked: datetime.date) -> list[tuple[str, ...]]:
    """The rows of the table; a release is as old as its first file."""
    direct = direct_dependencies()
    found = []
    for package in tomllib.loads(pylock.read_text())["packages"]:
        if package["name"] in direct:
            files = [*package.get("wheels", ()), *filter(None, [package.get("sdist")])]
            released = min(file["upload-time"] for file in files).date()
            found.append((package["name"], package["version"], str(released), str(locked)))
    return found


def main(pylock: str) -> None:
    with TABLE.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(rows(Path(pylock), datetime.date.today()))


if __name__ == "__main__":
    main(*sys.argv[1:])
