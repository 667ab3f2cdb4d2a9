"""The `soundtrack` command: its table, its list, and the commands that it starts."""

import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from features.commands import COMMANDS, main
from tests.conftest import known_labels

ROOT = Path(__file__).parents[2]
# As the installed script does.
START = "import sys; from features import commands; sys.exit(commands.main())"
COMMAND_FOLDERS = ("pipelines", "training", "evaluation", "evaluation/paper")
RENAMED = {"evaluation.soundtrack": "page"}  # `soundtrack soundtrack` would say nothing


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, "-c", START, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_table_names_every_command_after_its_module() -> None:
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for folder in COMMAND_FOLDERS
        for path in (ROOT / folder).glob("*.py")
        if '__name__ == "__main__"' in path.read_text()
    }
    named = {
        module: RENAMED.get(module, module.rpartition(".")[2].replace("_", "-"))
        for module in modules
    }

    assert {command.module: command.name for command in COMMANDS.values()} == named


def test_list_has_a_line_for_each_command_and_fits_a_terminal(
    capsys: pytest.CaptureFixture,
) -> None:
    assert main([]) == 0
    page = capsys.readouterr().out

    assert re.findall(r"^  (\S+)  +\S.*$", page, re.MULTILINE) == list(COMMANDS)
    assert [line for line in page.splitlines() if len(line) > 80] == []
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == page


def test_list_is_there_at_once() -> None:
    def cpu_seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert statistics.median(cpu_seconds() for _ in range(5)) < 0.3


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("extract-feature", "the nearest: extract-features, "),
        ("tabel2", "the nearest: table2, "),
        ("xyzzy", ""),
        ("--verbose", ""),
    ],
)
def test_unknown_command_is_bad_input_and_names_the_nearest(
    name: str, hint: str, capsys: pytest.CaptureFixture
) -> None:
    assert main([name, "--output", "x"]) == 2
    assert capsys.readouterr().err.startswith(f"error: no command {name!r}; {hint}")


def test_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"soundtrack {project['version']}\n"
    assert project["scripts"] == {"soundtrack": "features.commands:main"}


def test_module_runs_as_python_m_runs_it(tmp_path: Path) -> None:
    by_name = run("status")
    by_module = subprocess.run(
        [sys.executable, "-m", "pipelines.status"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (by_name.returncode, by_name.stderr) == (by_module.returncode, by_module.stderr)
    assert by_name.returncode == 2

    (tmp_path / "m.csv").write_text("id,uri,labels\nv,v.wav,x\n")
    flags = ["--manifest", str(tmp_path / "m.csv"), known_labels(tmp_path / "m.csv")]
    flags += ["--output", str(tmp_path / "dataset")]
    done = run("prepare_dataset", *flags)
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "dataset" / "dataset.json").read_text())
    made = " ".join(["python -m pipelines.prepare_dataset", *flags])
    assert document["made_by"]["command"] == made


def test_bash_completes_commands_and_files(tmp_path: Path) -> None:
    pytest.importorskip("shtab")
    (tmp_path / "videos.csv").touch()
    script = run("--print-completion", "bash").stdout
    ask = """
    COMP_WORDS=(soundtrack extract-f); COMP_CWORD=1; _shtab_soundtrack; echo "${COMPREPLY[@]}"
    COMP_WORDS=(soundtrack train vid); COMP_CWORD=2; _shtab_soundtrack; echo "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "-c", script + ask], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["extract-features", "videos.csv"]
    assert run("--print-completion", "fish").returncode == 2
