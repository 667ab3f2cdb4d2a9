"""Exit codes and messages of a command, through real processes."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(body: str) -> subprocess.CompletedProcess[str]:
    script = f"""
from features import errors

class OtherInputError(errors.InputError):
    pass

def main(argv):
    assert argv is None
    {body}

errors.run_command(main)
"""
    return subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("return 0", 0, ""),
        ("return 1", 1, ""),
        ("raise errors.JobFailedError('3 of 4 failed')", 1, "error: 3 of 4 failed\n"),
        ("raise errors.InputError('no such file: x')", 2, "error: no such file: x\n"),
        ("raise OtherInputError('two front ends')", 2, "error: two front ends\n"),
    ],
)
def test_exit_code_and_message(body: str, code: int, message: str) -> None:
    finished = run(body)
    assert finished.returncode == code
    assert finished.stderr == message
    assert finished.stdout == ""


def test_a_bug_keeps_its_traceback() -> None:
    finished = run("raise ValueError('not the fault of the user')")
    assert finished.returncode == 1
    assert "Traceback" in finished.stderr
    assert "ValueError: not the fault of the user" in finished.stderr


def test_bad_input_has_the_exit_code_of_argparse() -> None:
    finished = run("import argparse; argparse.ArgumentParser().parse_args(['--unknown'])")
    assert finished.returncode == 2
