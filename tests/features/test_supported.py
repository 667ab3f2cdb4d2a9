"""Machines and versions of Python that are refused, each in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from features import supported
from features.errors import BAD_INPUT
from features.quiet import import_tensorflow
from features.supported import require_avx2, require_python

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_supported_pythons_pass(version: tuple[int, int]) -> None:
    require_python(version)


@pytest.mark.parametrize("version", [(3, 10), (3, 14)])
def test_any_command_refuses_another_python(version: tuple[int, int]) -> None:
    pretend = f"import sys; sys.version_info = ({version[0]}, {version[1]}, 0); import features"
    done = subprocess.run(
        [sys.executable, "-c", pretend], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: this is Python 3.{version[1]}, and Python 3.11, 3.12 or 3.13")
    assert "make PYTHON=" in line


def other_pythons() -> list[Path]:
    """Interpreters from 3.7 on that pyenv has installed and that are not supported."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    minors = {
        path: int(path.parts[-3].split(".")[1]) for path in root.glob("versions/3.*/bin/python")
    }
    return sorted(path for path, minor in minors.items() if 7 <= minor < 11 or minor > 13)


@pytest.mark.parametrize("module", ["pipelines.doctor", "evaluation.tag", "training.train"])
def test_commands_refuse_another_python_before_they_look_for_packages(module: str) -> None:
    pythons = other_pythons()
    if not pythons:
        pytest.skip("pyenv has installed no other Python from 3.7 on")
    for python in pythons:
        done = subprocess.run(
            [python, "-B", "-m", module], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == BAD_INPUT, python
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: this is Python 3."), python


@pytest.mark.parametrize("level", ["0", None])
def test_tensorflow_needs_avx2_whatever_its_log_level(
    level: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text("flags\t\t: fpu avx\n")
    monkeypatch.setattr(supported, "_PROCESSORS", tmp_path / "cpuinfo")
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    if level is None:
        monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    else:
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", level)

    with pytest.raises(SystemExit) as ended:
        import_tensorflow()

    assert ended.value.code == BAD_INPUT


def test_a_processor_without_avx2_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        require_avx2("processor\t: 0\nflags\t\t: fpu sse4_2 avx\n")
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: this processor has no AVX2")
    assert "run on an x86-64 machine" in line


@pytest.mark.parametrize("text", ["flags\t\t: fpu avx avx2 fma\n", "Features\t: fp asimd\n", ""])
def test_other_processors_pass(text: str) -> None:
    require_avx2(text)
