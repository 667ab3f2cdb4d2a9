"""A night costs what all processes of its commands take."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.measurement import Lane
from tests.benchmarks.nightly import Meter
from tests.benchmarks.test_measurement import SECONDS, burn


def main(flags: Sequence[str]) -> int:
    """A command that ends before a process that it has started, as a worker and its decoder do."""
    if os.fork() == 0:
        burn(Path(*flags))
        os._exit(0)
    return 0


def run_command() -> float:
    meter = Meter()
    with tempfile.TemporaryDirectory() as folder:
        meter(__name__, [f"{folder}/report"])
        assert Path(folder, "report").exists()
    return sum(meter.cpu_seconds.values())


def test_processes_that_outlive_their_command_are_counted() -> None:
    with Lane() as lane:
        assert lane(run_command)[1] >= SECONDS / 2
