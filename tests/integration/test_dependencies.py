"""Supported versions of Python, the locks, and the environment that `make` installs from them."""

import csv
import datetime
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.release_dates import COLUMNS, TABLE, direct_dependencies

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = ROOT / "requirements.lock"
LOCKS = [LOCK, *(ROOT / "pipelines" / "deploy").glob("*/requirements.lock")]
PYTHONS = ("3.11", "3.12", "3.13")


def locked_releases(lock: str) -> dict[str, str]:
    """The requirement (NAME==VERSION ; MARKER) of each release of a lock -> all its lines."""
    blocks = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)
    return {
        block.split("\n")[0].removesuffix("\\").strip(): block
        for block in blocks
        if "==" in block.split("\n")[0]
    }


def without_hash(lock: str) -> list[str]:
    return [name for name, lines in locked_releases(lock).items() if "--hash=sha256:" not in lines]


def pinned(python: str) -> dict[str, str]:
    """Name -> version of what the lock installs on Linux with a version of Python."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    versions: dict[str, str] = {}
    for text in locked_releases(LOCK.read_text()):
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            assert requirement.name not in versions, f"{requirement.name} twice on {python}"
            versions[requirement.name] = str(requirement.specifier).removeprefix("==")
    return versions


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: str(path.parent.name))
def test_every_locked_release_has_a_hash(lock: Path) -> None:
    assert len(locked_releases(lock.read_text())) > 100

    missing = without_hash(lock.read_text())

    assert not missing, f"`make lock` writes the hashes of {', '.join(missing)}"


def test_a_release_without_a_hash_is_found() -> None:
    text = LOCK.read_text()
    numpy = next(lines for name, lines in locked_releases(text).items() if "numpy==" in name)
    assert without_hash(text.replace(numpy, "numpy==2.4.6\n")) == ["numpy==2.4.6"]


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_satisfies_every_direct_dependency(python: str) -> None:
    versions = pinned(python)
    for lines in direct_dependencies().values():
        for line in lines.splitlines():
            requirement = Requirement(line.split("#")[0])
            if requirement.marker is None or requirement.marker.evaluate(
                {"python_version": python}
            ):
                assert versions[requirement.name] in requirement.specifier


def test_later_pythons_have_the_decoder_that_reads_untrusted_bytes_more_safely() -> None:
    assert pinned("3.11")["av"].startswith("18.")
    assert all(int(pinned(python)["av"].split(".")[0]) >= 19 for python in PYTHONS[1:])


def test_supported_pythons_are_the_same_everywhere() -> None:
    supported = SpecifierSet(PYPROJECT["project"]["requires-python"])
    minors = [f"3.{minor}" for minor in range(20)]
    assert tuple(python for python in minors if python in supported) == PYTHONS
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in PYTHONS


def undocumented(age_limit: datetime.timedelta, direct: Mapping[str, str]) -> list[str]:
    """Direct dependencies whose locked release was older than the limit when it was locked.

    Args:
      age_limit: of a release.
      direct: as `direct_dependencies`.
    """
    with TABLE.open() as file:
        table = list(csv.DictReader(file))
    assert tuple(table[0]) == COLUMNS
    pins = {python: pinned(python) for python in PYTHONS}
    old = []
    for row in table:
        released, locked = (datetime.date.fromisoformat(row[key]) for key in COLUMNS[2:])
        pythons = [python for python in PYTHONS if pins[python][row["name"]] == row["version"]]
        if locked - released > age_limit and not says_why(direct[row["name"]], pythons):
            old.append(f"{row['name']} {row['version']} of {released}")
    return old


def says_why(lines: str, pythons: Sequence[str]) -> bool:
    """Whether each requirement that holds for one of these Pythons has a comment."""
    markers = {line: Requirement(line.split("#")[0]).marker for line in lines.splitlines()}
    return all(
        "#" in line
        for line, marker in markers.items()
        if any(marker is None or marker.evaluate({"python_version": p}) for p in pythons)
    )


def test_dates_are_of_what_is_locked() -> None:
    releases = {Requirement(text) for text in locked_releases(LOCK.read_text())}
    locked = {
        (release.name, str(release.specifier)[2:])
        for release in releases
        if release.name in direct_dependencies()
    }
    with TABLE.open() as file:
        assert {(row["name"], row["version"]) for row in csv.DictReader(file)} == locked


def test_a_direct_dependency_older_than_a_year_has_a_word_why() -> None:
    direct = direct_dependencies()
    assert undocumented(datetime.timedelta(days=0), direct), "all are older than no day"

    old = undocumented(datetime.timedelta(days=365), direct)

    assert not old, f"say why in a comment behind the requirement: {', '.join(old)}"


def test_a_word_about_the_requirement_of_another_python_does_not_count() -> None:
    direct = direct_dependencies()
    lines = direct["av"].replace("  # the last for 3.11", "")
    assert lines.count("\n") == 2
    assert "#" not in lines
    older, later = lines.splitlines()
    age = datetime.timedelta(days=0)

    found = [
        undocumented(age, {**direct, "av": "\n".join(lines)})
        for lines in ([older, f"{later}  # why"], [f"{older}  # why", later])
    ]

    assert [[old.split()[1][:2] for old in some if old.startswith("av ")] for some in found] == [
        ["18"],
        ["19"],
    ]


@pytest.mark.parametrize("arguments", [[], ["PYTHON=/nowhere/python3.12"]])
def test_absence_of_a_supported_python_is_one_clear_line(
    arguments: list[str], tmp_path: Path
) -> None:
    for name in ("python3.13", "python3.12", "python3.11", "python3", "python"):
        other = tmp_path / name
        other.write_text("#!/bin/sh\nexit 1\n")
        other.chmod(0o755)

    done = subprocess.run(
        ["make", "--silent", "test", f"VENV={tmp_path}/venv", *arguments],
        cwd=ROOT,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode != 0
    error, *rest = done.stderr.splitlines()
    assert error.startswith("error: Python 3.11, 3.12 or 3.13 with venv is needed")
    assert ("/nowhere/python3.12" if arguments else "python3.13 python3.12 python3.11") in error
    assert "apt install" in error
    assert all(line.startswith("make") for line in rest)
    assert not (tmp_path / "venv").exists()


@pytest.fixture
def without_install(tmp_path: Path) -> dict[str, str]:
    """The environment of a `make` whose venvs are empty folders, with shims first on PATH."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "venv.py").write_text("import os, sys; os.mkdir(sys.argv[1])\n")
    for name in ("python3.13", "python3.12", "python3.11", "chosen"):
        shim = tmp_path / "shims" / name
        shim.parent.mkdir(exist_ok=True)
        command = "exit 1" if name == "python3.13" else f'exec {sys.executable} "$@"'
        shim.write_text(f"#!/bin/sh\n{command}\n")
        shim.chmod(0o755)
    return {"PATH": f"{tmp_path}/shims:/usr/bin:/bin", "PYTHONPATH": f"{tmp_path}/modules"}


@pytest.mark.parametrize("named", [None, "chosen"])
def test_newest_python_that_runs_is_taken_unless_one_is_named(
    named: str | None, tmp_path: Path, without_install: dict[str, str]
) -> None:
    venv = tmp_path / "venv"
    python = f"PYTHON={tmp_path}/shims/{named}" if named else "PYTHON="
    command = [
        "make",
        "--silent",
        f"{venv}/.installed",
        f"VENV={venv}",
        "PIP_INSTALL=false",
        python,
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=without_install, capture_output=True, text=True, check=False
    )

    expected = f"{tmp_path}/shims/chosen" if named else "python3.12"
    assert done.stdout == f"installing into {venv} with {expected} from requirements.lock\n"
    assert venv.exists(), done.stderr
    assert done.returncode == 2  # there is no pip


def test_activated_environment_is_made_again(
    tmp_path: Path, without_install: dict[str, str]
) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    python = f"python3.{sys.version_info.minor}"
    (venv / ".installed").write_text("of another lock\n")
    environment = {**without_install, "PATH": f"{venv}/bin:/usr/bin:/bin"}

    command = ["make", "--silent", f"{venv}/.installed", f"VENV={venv}", "PIP_INSTALL=false"]
    done = subprocess.run(
        [*command, f"PYTHONS={python}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == f"installing into {venv} with {python} from requirements.lock\n"
    assert venv.is_dir(), done.stderr  # it was removed, and made again
    assert not list(venv.iterdir())


def test_checks_pass_where_no_python_has_a_name(tmp_path: Path) -> None:
    """What `.ci/run` does after its own tests, which a `make` that does nothing stands for."""
    (tmp_path / "make").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/made\n')
    (tmp_path / "make").chmod(0o755)
    dirname = shutil.which("dirname")
    assert dirname is not None
    (tmp_path / "dirname").symlink_to(dirname)

    subprocess.run(
        ["/bin/bash", ROOT / ".ci" / "run"],
        env={"PATH": str(tmp_path), "PYENV_ROOT": str(tmp_path)},
        check=True,
    )

    assert (tmp_path / "made").read_text().split() == ["check", "test", "demo"]


def test_environment_of_another_lock_or_python_is_made_again(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    with LOCK.open() as lock:
        checksum = subprocess.check_output(["cksum"], stdin=lock, text=True)
    python = f"{sys.version_info[:2]}\n"

    for stamp, is_kept in [
        (python + checksum, True),
        ("(3, 10)\n" + checksum, False),
        (python + "1 2\n", False),
        ("", False),
    ]:
        (venv / ".installed").write_text(stamp)
        # Without a Python to make it with, making it again ends with an error.
        command = ["make", "--silent", f"{venv}/.installed", f"VENV={venv}", "PYTHONS=/nowhere"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == is_kept, done.stderr
        assert ("/nowhere" in done.stderr) != is_kept
