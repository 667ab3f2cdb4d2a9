"""Run all benchmarks, one after the other, and render docs/benchmarks.md from what they measure.

    python -m tests.benchmarks           in full
    python -m tests.benchmarks --quick   the quick ones; docs/ stays without --write

--quick leaves out plan, scoring, any_network, sampling and nightly, unless --only names them.

Each result is written to docs/benchmarks.json when its script ends, so that a run that is
interrupted keeps what it has measured. A script that fails is named and keeps its older result, the
others still run, and the exit code is 1.
"""

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from tests.benchmarks.measurement import (
    Table,
    adopt_orphans,
    descendants,
    descendants_cpu_seconds,
    processor,
    versions,
)
from tests.benchmarks.results import ScriptResult, read_results, write_results

# A machine may take four times as long as expected.
LIMIT_SECONDS, LIMIT_FACTOR = 900.0, 4
# Expected seconds on two idle cores: with `--quick`, and in full.
SCRIPTS = {
    "log_mel": (30, 40),
    "extraction": (45, 360),
    "codecs": (60, 500),
    "sparse": (40, 210),
    "memory": (35, 75),
    "scaling": (45, 270),
    "plan": (150, 500),
    "dataset": (50, 330),
    "networks": (50, 240),
    "batch_norm": (50, 240),
    "scoring": (210, 1100),
    "any_network": (50, 180),
    "search": (40, 1500),
    "input_pipeline": (30, 120),
    "sampling": (50, 180),
    "training": (80, 330),
    "metrics": (40, 400),
    "intervals": (40, 200),
    "nightly": (110, 1800),
}
# Left out with `--quick`: they are long, or need what is not in the repository.
LONG = ("plan", "scoring", "any_network", "sampling", "nightly")


class ScriptFailedError(Exception):
    """A script that did not end well; the message says how."""


def run_script(command: Sequence[str], limit_seconds: float) -> dict:
    """Run a script and print what it prints; returns the JSON object of its last line.

    Raises:
      ScriptFailedError: it failed, took too long, or its last line is no such object.
    """
    last = ""
    others = set(descendants(os.getpid()))
    is_late = threading.Event()

    def end() -> None:
        is_late.set()
        end_descendants(others)

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        timer = threading.Timer(limit_seconds, end)
        timer.start()
        for line in process.stdout:
            print(last, end="", flush=True)
            last = line
    if is_late.is_set():
        raise ScriptFailedError(f"it was ended after {limit_seconds:g} s")
    timer.cancel()
    end_descendants(others)  # what is left of a script must not disturb the next
    with contextlib.suppress(ValueError):
        result = json.loads(last)
        if process.returncode == 0 and isinstance(result, dict):
            return result
    print(last, end="", flush=True)
    if process.returncode:
        raise ScriptFailedError(f"exit code {process.returncode}, see above")
    raise ScriptFailedError(f"its last line is not a JSON object: {last[:80]!r}")


def end_descendants(others: set[int]) -> None:
    """Kill all processes below this one, but for others."""
    for pid in set(descendants(os.getpid())) - others:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def measure(name: str, *, quick: bool) -> ScriptResult:
    """Run the script of a name.

    Raises:
      ScriptFailedError: see `run_script`.
    """
    command = [sys.executable, "-m", f"tests.benchmarks.{name}", *(["--quick"] if quick else [])]
    load, start, cpu = os.getloadavg()[0], time.monotonic(), descendants_cpu_seconds()
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    values = run_script(
        command, max(LIMIT_SECONDS, LIMIT_FACTOR * SCRIPTS[name][0 if quick else 1])
    )
    tables = values.pop("tables")
    return ScriptResult(
        date=date,
        processor=processor(),
        versions=tuple(versions()),
        load=round(load, 2),
        quick=quick,
        seconds=round(time.monotonic() - start, 1),
        cpu_seconds=round(descendants_cpu_seconds() - cpu, 1),
        values=values,
        tables={key: Table(**table) for key, table in tables.items()},
    )


def run(names: Sequence[str], *, quick: bool, write: bool) -> dict[str, str]:
    """Run scripts, with a line of progress before each; returns the failures by name."""
    failures: dict[str, str] = {}
    expected = [SCRIPTS[name][0 if quick else 1] for name in names]
    start = time.monotonic()
    for index, name in enumerate(names):
        elapsed = time.monotonic() - start
        slowness = elapsed / sum(expected[:index]) if index else 1.0
        left = slowness * sum(expected[index:]) / 60
        print(
            f"\n[{index + 1} of {len(names)}] {name}: about {slowness * expected[index]:.0f} s; "
            f"{elapsed / 60:.0f} min so far, {left:.0f} min left",
            flush=True,
        )
        try:
            result = measure(name, quick=quick)
        except ScriptFailedError as error:
            failures[name] = str(error)
            print(f"{name} failed: {error}", flush=True)
            continue
        print(f"{name} took {result.seconds:.0f} s, {result.cpu_seconds:.0f} s of CPU", flush=True)
        if write:
            results = read_results()
            scripts = {**results.scripts, name: result}
            write_results(dataclasses.replace(results, scripts=scripts))
    minutes = (time.monotonic() - start) / 60
    print(f"\n{len(names) - len(failures)} of {len(names)} scripts in {minutes:.1f} min")
    return failures


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="less input and fewer rounds")
    add("--only", nargs="+", choices=SCRIPTS, metavar="NAME", help="of " + ", ".join(SCRIPTS))
    add("--write", action="store_true", help="write docs/ also with --quick")
    add("--render", action="store_true", help="render docs/benchmarks.md, and measure nothing")
    args = parser.parse_args(argv)
    if args.render:
        write_results(read_results())
        return 0
    names = args.only or [name for name in SCRIPTS if not (args.quick and name in LONG)]
    failures = run(names, quick=args.quick, write=args.write or not args.quick)
    for name, failure in failures.items():
        print(f"error: {name} failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    adopt_orphans()
    sys.exit(main())
