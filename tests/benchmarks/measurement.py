"""CPU time and memory of process trees, and the reports of benchmarks.

CPU time is user and system time of a process and all its descendants, because a job may decode in
child processes. Contestants run in lanes, which are processes that live as long as the benchmark.
They run in turn for several rounds and the medians are compared, because the speed of a machine
drifts by more than the differences that matter.

Linux adds the time of a process to that of the parent that waits for it. A process that outlives
its parent, such as the decoder of a worker, goes to init, and its time would be lost. A lane is
therefore the "child subreaper" of all processes below it: orphans become its children.
"""

import argparse
import contextlib
import ctypes
import dataclasses
import io
import json
import math
import os
import platform
import re
import resource
import signal
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
# Of CPU time: 10 ms for each process that is alive at one of the two readings.
_ROUNDING_SECONDS = 0.2
# Two measurements at different moments: the speed of a machine drifts by so much between them.
DRIFT = 0.05
_PACKAGES = ("apache-beam", "av", "librosa", "numpy", "scipy", "soxr", "tensorflow")
_PSS_ANON = re.compile(rb"^Pss_Anon: +(\d+)", re.MULTILINE)
# The place in a file that is mapped (offset, device, inode), kB resident, kB that are no longer the
# file's. Linux, Documentation/filesystems/proc.rst.
_MAPPING = re.compile(
    rb"^[0-9a-f]+-[0-9a-f]+ \S+ (\S+ \S+ [1-9]\d*) .*\n(?:\w+: .*\n)*?Rss: +(\d+) kB\n"
    rb"(?:\w+: .*\n)*?Anonymous: +(\d+) kB\n",
    re.MULTILINE,
)
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


class ImpossibleError(AssertionError):
    """A measurement that cannot be, such as a job that costs less than its own decoder."""


def require_possible(
    name: str, value: float, *, at_least: float, at_most: float = math.inf
) -> float:
    """Check a measurement against its possible values; returns the measurement.

    Raises:
      ImpossibleError: it is lower or higher, so that the benchmark does not measure what it says.
    """
    if not at_least <= value <= at_most:  # also NaN
        bound = f"more than {at_most:.4g}" if value > at_most else f"less than {at_least:.4g}"
        raise ImpossibleError(
            f"{name} is {value:.4g}, which cannot be {bound}: CPU time was not counted, or other "
            "work on the machine disturbed the run; run it again on an idle one"
        )
    return value


def adopt_orphans() -> None:
    """Make this process the parent of all processes below it whose parent ends.

    Raises:
      OSError: the system refuses it, as Linux before 3.4 does.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")
    # Where it is ignored, as below some shells, the time of children that end is lost.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def tree_cpu_seconds() -> float:
    """CPU time so far of this process and of all processes below it, finished or alive.

    Exact to the 10 ms of the system's clock for each process that is alive, if this process has
    called `adopt_orphans` and no process below it ignores SIGCHLD.
    """
    return time.process_time() + descendants_cpu_seconds()


def descendants_cpu_seconds() -> float:
    """`tree_cpu_seconds` without this process itself."""
    while True:
        pids = descendants(os.getpid())
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        ticks = sum(sum(_stat(pid)[1:]) for pid in pids)
        # A process that ended meanwhile may have been counted twice, or not at all.
        if descendants(os.getpid()) == pids:
            return usage.ru_utime + usage.ru_stime + ticks / _TICKS_PER_SECOND


def descendants(pid: int) -> list[int]:
    """The descendants of a process that are alive, or that no parent has waited for."""
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


def run_and_watch_memory(command: Sequence[str]) -> tuple[float, dict[int, tuple[str, float]]]:
    """Run a command and watch its processes.

    Returns:
      The peak over time of the memory of all processes together (see `memory_mb`); and for each
      process, by id, its command line and the peak of its resident memory, in which shared pages
      count in full. In MB.
    """
    highest, together = {}, 0.0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        pids = [process.pid, *descendants(process.pid)]
        for pid in pids:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, KeyError):
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
                name = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
                highest[pid] = (name, int(status["VmHWM"].split()[0]) * 1024 / 1e6)
        together = max(together, memory_mb(pids))
        time.sleep(0.05)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command))
    return together, highest


def memory_mb(pids: Iterable[int]) -> float:
    """Resident memory of some processes together, in which shared pages count once.

    A mapped file, such as a library, counts as in the process that holds most of it, and in full:
    other processes of the machine that map it too change nothing. Memory of no file, which forks
    share until they write to it, counts by the share of each process (Pss). Processes that have
    ended count nothing.
    """
    anonymous, files = 0, dict[bytes, int]()
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            anonymous += int(_PSS_ANON.findall(Path(f"/proc/{pid}/smaps_rollup").read_bytes())[0])
            for file, resident, private in _MAPPING.findall(
                Path(f"/proc/{pid}/smaps").read_bytes()
            ):
                files[file] = max(files.get(file, 0), int(resident) - int(private))
    return (anonymous + sum(files.values())) * 1024 / 1e6


class Lane:
    """A process that calls functions, one at a time, and measures the CPU time of each."""

    def __init__(self, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        # One core for each measurement; libraries read these variables when they are loaded.
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        before = dict(os.environ)
        os.environ.update({**threads, **environment})
        self._executor = ProcessPoolExecutor(1, get_context("spawn"), adopt_orphans)
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
        start, before = time.monotonic(), tree_cpu_seconds()
        result = function(*args, **named)
        cpu = tree_cpu_seconds() - before
    # No more than all cores can give, or something was counted twice.
    most = (os.cpu_count() or 1) * (time.monotonic() - start) + _ROUNDING_SECONDS
    return require_possible(f"CPU time of {function}", cpu, at_least=0, at_most=most), result


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


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of results; a cell is text, a number or nothing."""

    header: tuple[str, ...]
    rows: tuple[tuple[str | int | float | None, ...], ...]

    def to_markdown(self) -> str:
        """The table, its floating point numbers with three significant digits."""
        lines = [self.header, ["---"] * len(self.header)]
        lines += [[_format(value) for value in row] for row in self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _format(value: str | int | float | None) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int) or abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value == 0 or abs(value) >= 1e-4 else f"{value:.1e}"


def make_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """Make a table of any sequences; numbers are rounded to six significant digits."""
    return Table(tuple(header), tuple(tuple(_round(value) for value in row) for row in rows))


def _round(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def report(result: Mapping[str, Any], tables: Mapping[str, Table]) -> None:
    """Print the tables, the machine and, as the last line, all results as JSON."""
    for table in tables.values():
        print(f"{table.to_markdown()}\n")
    print(f"{processor()}; {', '.join(versions())}; load {os.getloadavg()[0]:.1f}")
    rounded = {key: _round(value) for key, value in result.items()}
    plain = {name: dataclasses.asdict(table) for name, table in tables.items()}
    print(json.dumps({**rounded, "tables": plain}, allow_nan=False))


def processor() -> str:
    """The processor, with its family and model, as virtual machines shorten the name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    found = dict(reversed([re.split(r"\s*: ?", line, maxsplit=1) for line in lines if ":" in line]))
    family, model = found.get("cpu family", "?"), found.get("model", "?")
    return (
        f"{os.cpu_count()} cores of {found.get('model name', '?')} (family {family}, model {model})"
    )


def computes_bfloat16() -> bool:
    """Whether the processor has products of bfloat16, which are emulated at an eighth of the speed.

    On a processor without them a benchmark of bfloat16 says nothing about those that have them.
    """
    flags = set(re.findall(r"\w+", Path("/proc/cpuinfo").read_text()))
    return bool(flags & {"avx512_bf16", "amx_bf16"})


def versions() -> list[str]:
    """Python and the packages that a measurement depends on, with their versions."""
    packages = [f"{name} {version(name)}" for name in _PACKAGES]
    return [f"Python {platform.python_version()}", *packages]
