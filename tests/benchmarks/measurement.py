"""CPU time and memory of process trees, and the reports of benchmarks.

CPU time is user and system time of a process and all its descendants, because a job may decode in
child processes. Contestants run in lanes, which are processes that live as long as the benchmark.
They run in turn for several rounds and the medians are compared, because the speed of a machine
drifts by more than the differences that matter.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from types import MappingProxyType
from typing import Any

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PACKAGES = ("apache-beam", "av", "librosa", "numpy", "scipy", "soxr")


def tree_cpu_seconds() -> float:
    """CPU time so far of this process and of its children, finished or alive."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    ticks = sum(sum(_stat(pid)[1:]) for pid in descendants(os.getpid()))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages) + ticks / _TICKS_PER_SECOND


def descendants(pid: int) -> list[int]:
    """The descendants of a process that are alive."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            children.setdefault(_stat(int(path.name))[0], []).append(int(path.name))
    found: list[int] = []
    unseen = [pid]
    while unseen:
        below = children.get(unseen.pop(), [])
        found += below
        unseen += below
    return found


def _stat(pid: int) -> tuple[int, int, int, int, int]:
    """The parent of a process, and its ticks: user, system, the same of finished children."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return (0, 0, 0, 0, 0)
    fields = text[text.rindex(")") + 2 :].split()
    return (int(fields[1]), int(fields[11]), int(fields[12]), int(fields[13]), int(fields[14]))


def peak_memory(command: Sequence[str]) -> float:
    """Run a command; returns the peak over time of the memory of all its processes, in MB.

    Pages that processes share are counted once.
    """
    highest = 0.0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        now = 0.0
        for pid in [process.pid, *descendants(process.pid)]:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, StopIteration):
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                share = next(line for line in lines if line.startswith("Pss:"))
                now += int(share.split()[1]) * 1024 / 1e6
        highest = max(highest, now)
        time.sleep(0.05)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command))
    return highest


def run_and_watch_memory(command: Sequence[str]) -> tuple[float, dict[int, tuple[str, float]]]:
    """Run a command and watch its processes.

    Returns:
      The peak over time of the resident memory of all processes together; and for each process, by
      id, its command line and its own peak. In MB; a page that processes share counts in each.
    """
    highest, together = {}, 0.0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        now = 0.0
        for pid in [process.pid, *descendants(process.pid)]:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, KeyError):
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
                name = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
                highest[pid] = (name, int(status["VmHWM"].split()[0]) * 1024 / 1e6)
                now += int(status["VmRSS"].split()[0]) * 1024 / 1e6
        together = max(together, now)
        time.sleep(0.02)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command))
    return together, highest


class Lane:
    """A process that calls functions, one at a time, and measures the CPU time of each."""

    def __init__(self, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        # One core for each measurement; libraries read these variables when they are loaded.
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        before = dict(os.environ)
        os.environ.update({**threads, **environment})
        self._executor = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        self._executor.submit(os.getpid).result()  # the first task starts the process
        os.environ.clear()
        os.environ.update(before)

    def __call__(self, function: Callable[..., Any], *args: Any, **named: Any) -> tuple[float, Any]:
        """Call a function; returns the CPU seconds of the process tree, and its result."""
        return self._executor.submit(_measured, function, args, named).result()

    def __enter__(self) -> "Lane":
        return self

    def __exit__(self, *exception: object) -> None:
        self._executor.shutdown()


def _measured(
    function: Callable[..., Any], args: Sequence[Any], named: Mapping[str, Any]
) -> tuple[float, Any]:
    # Only the benchmark prints, not the jobs.
    with contextlib.redirect_stdout(io.StringIO()):
        before = tree_cpu_seconds()
        result = function(*args, **named)
        return tree_cpu_seconds() - before, result


def median_of(rounds: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The median of each quantity over the rounds."""
    rounds = list(rounds)
    return {name: statistics.median(measured[name] for measured in rounds) for name in rounds[0]}


def is_quick(description: str | None, argv: Sequence[str] | None) -> bool:
    """Parse the command line of a benchmark; returns whether it has --quick."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="less input and fewer rounds, < 50 s")
    return parser.parse_args(argv).quick


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Format a table, with three significant digits."""

    def cell(value: object) -> str:
        if isinstance(value, float):
            return f"{value:.3g}" if abs(value) < 1_000 else f"{value:,.0f}"
        return str(value)

    lines = [header, ["---"] * len(header), *([cell(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def report(result: Mapping[str, Any]) -> None:
    """Print the machine and, as the last line, the result as JSON."""
    print(f"\n{machine()}")
    rounded = {
        key: float(f"{value:.4g}") if isinstance(value, float) else value
        for key, value in result.items()
    }
    print(json.dumps(rounded))


def machine() -> str:
    """The processor and the versions that a measurement depends on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(": ")[1] for line in lines if line.startswith("model name")), "?")
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"{os.cpu_count()} cores of {model}, load {os.getloadavg()[0]:.1f}; "
        f"Python {platform.python_version()}, {versions}"
    )
