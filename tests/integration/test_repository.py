"""The repository itself: import rule, names, commands and their help, and what the pages name."""

import argparse
import importlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from features.commands import COMMANDS as SCRIPT_COMMANDS

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NAMES = ("features", "pipelines", "training", "evaluation")

CHANGELOG = ROOT / "CHANGELOG.md"  # which also names what is gone
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def source(module: str) -> str:
    return (ROOT / module.replace(".", "/")).with_suffix(".py").read_text()


COMMANDS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for name in NAMES
    for path in (ROOT / name).rglob("*.py")
    if "run_command(main)" in path.read_text()
)


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert command is not None
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    arguments = [command, "--no-cache", "--config", str(folder / "pyproject.toml")]
    return subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every module of the product, empty, beside the configuration; the check passes."""
    folder = tmp_path_factory.mktemp("skeleton")
    for name in NAMES:
        for path in (ROOT / name).rglob("*.py"):
            copy = folder / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.touch()
    shutil.copy(ROOT / "pyproject.toml", folder)
    done = lint_imports(folder)
    assert done.returncode == 0, done.stdout
    return folder


# Importing module -> modules that it must not import: against one contract of pyproject.toml each.
FORBIDDEN = {
    "features.errors": ("pipelines", "training", "evaluation", "features.terminal"),
    "features.front_end.params": ("features.sound.medium", "features.storage.files"),
    "features.sound.medium": ("features.contracts.record",),
    "features.storage.files": ("features.contracts.folders", "features.front_end.params"),
    "pipelines.runtime.launch": ("pipelines.dataset.videos", "pipelines.plan", "training"),
    "pipelines.dataset.videos": ("pipelines.adapters.esc50", "pipelines.corpus.clips"),
    "pipelines.extraction.stages": ("pipelines.extract_features", "pipelines.corpus.clips"),
    "pipelines.audit.stages": ("pipelines.audit_features", "pipelines.cost.sample", "evaluation"),
    "training.loops.step": ("training.train", "training.export", "pipelines.runtime.model"),
    "training.input.batches": ("training.loops.step", "training.models.build", "evaluation"),
    "training.config": ("training.recipes",),
    "evaluation.scoring.shard": ("pipelines.extraction.patches", "pipelines.extract_features"),
    "evaluation.metrics.passes": ("evaluation.evaluate", "evaluation.report.write", "training"),
    "evaluation.compare": ("pipelines.audit.stages", "evaluation.paper.table"),
}


def test_imports_against_the_rule_fail_the_check(skeleton: Path) -> None:
    """All are planted at once: the check takes seconds and lists every one of them."""
    for module, imports in FORBIDDEN.items():
        path = (skeleton / module.replace(".", "/")).with_suffix(".py")
        assert path.exists(), module
        path.write_text("".join(f"import {name}\n" for name in imports))

    done = lint_imports(skeleton)

    assert done.returncode == 1
    for module, imports in FORBIDDEN.items():
        for name in imports:
            assert f"{module} -> {name} (l." in done.stdout, (module, name)


def test_every_module_has_its_line_in_the_rule(skeleton: Path) -> None:
    for name in NAMES:
        (skeleton / name / "unplaced.py").touch()

    done = lint_imports(skeleton)

    assert done.returncode == 1
    for name in NAMES:
        assert f"{name}.unplaced" in done.stdout


def test_no_other_distribution_claims_our_names() -> None:
    owners = importlib.metadata.packages_distributions()

    for name in NAMES:
        others = set(owners.get(name, ())) - {"soundtrack-classification"}
        assert not others, f"{', '.join(others)} installs a package named {name} too"


def test_every_package_is_listed_and_never_uploaded() -> None:
    packages = {
        str(path.parent.relative_to(ROOT)).replace("/", ".")
        for name in NAMES
        for path in (ROOT / name).rglob("__init__.py")
    }

    assert packages == set(PYPROJECT["tool"]["setuptools"]["packages"])
    assert "Private :: Do Not Upload" in PYPROJECT["project"]["classifiers"]


def flags_on_pages(module: str) -> set[str]:
    """The flags that the pages give to a command, as `python -m MODULE` or `soundtrack NAME`."""
    names = [name for name, command in SCRIPT_COMMANDS.items() if command.module == module]
    ways = "|".join([re.escape(f"python -m {module}"), *(f"soundtrack {name}" for name in names)])
    flags = set()
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        for words in re.findall(rf"(?:{ways}) ([^`\n|&;']*)", text):
            flags.update(re.findall(r"--[\w-]+", words))
    return flags


def flags_of_runners() -> set[str]:
    parser = argparse.ArgumentParser()
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    return set(parser._option_string_actions)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_terminal_and_has_the_flags_on_the_pages(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(command).main(["--help"])
    assert ended.value.code == 0
    page = capsys.readouterr().out
    assert page.startswith(f"usage: python -m {command}")
    assert [line for line in page.splitlines() if len(line) > 80] == []
    if command != "pipelines.import_dataset":  # each adapter has a help of its own
        runners = flags_of_runners() if "--runner" in page else set()
        assert flags_on_pages(command) <= set(re.findall(r"--[\w-]+", page)) | runners


@pytest.mark.parametrize("command", [name for name in COMMANDS if "launch.parser(" in source(name)])
def test_usage_of_a_job_names_what_it_requires(command: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(command).main([])
    assert ended.value.code == 2
    usage, _, error = capsys.readouterr().err.rpartition("required: ")
    flags = error.strip().split(", ")
    assert flags
    assert [flag for flag in flags if f" {flag} " not in usage] == []


def anchors(page: Path) -> set[str]:
    """Those that GitHub gives to the headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, CHANGELOG], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = page if path == "" else page.parent / path
        if ":" not in path:
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_files_of_a_page_exist(page: Path) -> None:
    text = page.read_text()
    for module in re.findall(r"python -m ((?:features|pipelines|training|evaluation)[\w.]*)", text):
        assert importlib.util.find_spec(module.rstrip(".")) is not None, module
    for name in re.findall(r"`((?:features|pipelines|training|evaluation)\.[\w.]+)`", text):
        # A module, or something in a module.
        holder = name if name.count(".") == 1 else name.rpartition(".")[0]
        is_file = name.endswith((".json", ".yaml"))
        assert is_file or importlib.util.find_spec(holder) is not None, name
    for name in re.findall(r"(?:^|`|  )soundtrack ([a-z][\w-]*)", text, re.MULTILINE):
        assert name in SCRIPT_COMMANDS, name
    for path in re.findall(r"`((?:pipelines|training|evaluation|tests|features)/[\w/.-]+)`", text):
        is_output = path.startswith("features/rejects")
        assert is_output or (ROOT / path).exists(), path


def test_index_has_every_page_and_every_command() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages - set(re.findall(r"\((\w+\.md)\)", index)) == set()

    described = re.findall(
        r"^\| `soundtrack ([\w-]+)`", (ROOT / "docs" / "commands.md").read_text(), re.MULTILINE
    )
    assert described == list(SCRIPT_COMMANDS)


def test_picture_of_the_architecture_has_every_folder() -> None:
    picture = (ROOT / "docs" / "architecture.md").read_text().split("```")[1]
    drawn, package = set(), ""
    for indent, name in re.findall(r"^(  )?(\w+)/ ", picture, re.MULTILINE):
        package = package if indent else name
        drawn.add(f"{package}.{name}" if indent else name)

    assert drawn - {"pipelines.deploy"} == set(PYPROJECT["tool"]["setuptools"]["packages"])
