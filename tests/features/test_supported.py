"""Machines and versions of Python that are refused, each in one line."""

import subprocess
import sys
from pathlib import Path

import pytest

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
