"""TensorFlow's own lines at its start: held back where all is well, shown where it is not."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIKELY_SET = ("TF_CPP_MIN_LOG_LEVEL", "TF_USE_LEGACY_KERAS")  # by other tests in this process
BROKEN_TENSORFLOW = """
import os
os.write(2, b"a line of the C++ runtime\\n")
raise ImportError("libcuda is not what it was")
"""


def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if key not in LIKELY_SET}
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_real_import_prints_nothing_and_leaves_stderr_as_it_was() -> None:
    finished = run(
        "import os, sys\n"
        "from features.quiet import import_tensorflow\n"
        "import_tensorflow()\n"
        "assert 'tensorflow' in sys.modules\n"
        "assert not {'keras', 'sklearn', 'matplotlib'} & sys.modules.keys()\n"
        "import_tensorflow()\n"
        "os.write(2, b'ours')\n"
    )
    assert finished.returncode == 0
    assert finished.stderr == "ours"
    assert finished.stdout == ""


def test_failing_import_shows_what_was_held_back(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text(BROKEN_TENSORFLOW)
    finished = run(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from features.quiet import import_tensorflow\n"
        "import_tensorflow()\n"
    )
    assert finished.returncode == 1
    assert finished.stderr.startswith("a line of the C++ runtime\n")
    assert "ImportError: libcuda is not what it was" in finished.stderr


def test_nothing_is_held_back_where_the_log_level_is_set(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text(BROKEN_TENSORFLOW)
    finished = run(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from features.quiet import import_tensorflow\n"
        "import_tensorflow()\n"
        "print('tensorflow' in sys.modules)\n",
        TF_CPP_MIN_LOG_LEVEL="0",
    )
    assert finished.stderr == ""
    assert finished.stdout == "False\n"


def test_commands_that_run_no_network_in_their_own_process_do_not_import_tensorflow() -> None:
    """TensorFlow costs 5 s of CPU at every start of a command."""
    modules = (
        "pipelines.prepare_dataset",  # imports it to analyse labels that are not known
        "pipelines.extract_features",
        "pipelines.audit_features",
        "evaluation.score_videos",
        "evaluation.evaluate",
        "evaluation.compare",
        "evaluation.paper.table2",
    )
    script = f"import sys, {', '.join(modules)}; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
