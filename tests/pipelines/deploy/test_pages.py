"""The commands on the pages about schedulers."""

import re
import shlex
from pathlib import Path

from tests.pipelines.deploy.commands import parse_command

DOCS = Path(__file__).parents[3] / "docs"


def test_commands_of_the_scheduling_page_are_accepted() -> None:
    page = (DOCS / "scheduling.md").read_text()

    # Up to the end of the line, or of its part in a shell.
    commands = re.findall(r"python -m (pipelines\.[^&'\n]*)", page)

    outputs = [
        parse_command(["python", "-m", *shlex.split(command)]).output for command in commands
    ]
    assert outputs == ["new", "/data/dataset", "/data/features"]
