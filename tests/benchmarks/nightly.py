"""Claim: nights of a corpus that changes leave what one clean run writes, at a constant cost.

Every night some videos are new, some have another medium or other labels, some are gone, and one
comes late; data set, features and scores are made again in the same folders. Every third night a
command is killed (extraction, preparation and scoring in turn) and the night ends, as under cron.
At the end, the folders must equal those of a clean run over the last manifest, byte by byte, and
have no temporary file. The table has the nights that are neither killed nor follow such a night:
on a disk, and under an emulated object store, where requests are counted.

    python -m tests.benchmarks.nightly --quick
"""

import contextlib
import dataclasses
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from features.storage import files
from tests import emulator, nightly
from tests.benchmarks.measurement import is_quick, make_table, report

NUM_VIDEOS = 40
NETWORK = ("fully_connected", "--steps=5", "--batch-size=16", "--set=width=0.05")
# More than this much of growth from the first nights to the last fails the run.
GROWTH = 1.1


@dataclasses.dataclass(frozen=True)
class Store:
    """Where the folders of the nights are.

    Attributes:
      name: of its kind.
      root: a folder in it.
      names: gives all files below the root, temporary ones too.
      count_requests: gives the requests since its last call; None for a disk.
    """

    name: str
    root: str
    names: Callable[[], set[str]]
    count_requests: Callable[[], int | None]


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[Store]:
    """A folder of this machine."""
    root = folder / "disk"
    root.mkdir()

    def names() -> set[str]:
        return {str(path.relative_to(root)) for path in root.rglob("*")}

    yield Store("disk", str(root), names, lambda: None)


@contextlib.contextmanager
def bucket(folder: Path) -> Iterator[Store]:
    """The emulated gs://."""
    with emulator.start(folder) as served:

        def names() -> set[str]:
            return set(served.objects("nights/"))

        def count() -> int:
            number = len(served.requests())
            served.forget()
            return number

        yield Store("gs://", f"gs://{emulator.BUCKET}/nights", names, count)


@dataclasses.dataclass(frozen=True)
class Night:
    """What a night costs, and what its folders have then.

    Attributes:
      number: of the night; the first is 0.
      cpu_seconds: of its commands.
      peak_mb: resident memory of the largest process.
      num_requests: None on a disk.
      num_files: of all folders and media.
    """

    number: int
    cpu_seconds: float
    peak_mb: float
    num_requests: int | None
    num_files: int

    @property
    def is_usual(self) -> bool:
        """Whether it is neither killed nor follows such a night, nor has to make everything."""
        return self.number % 3 == 1 and self.number > 1


class Meter:
    """Runs commands and adds up what they cost."""

    def __init__(self) -> None:
        self.cpu_seconds, self.peak_mb = 0.0, 0.0

    def __call__(self, module: str, flags: Sequence[str]) -> None:
        """Run a command to its end."""
        command = [sys.executable, "-m", module, *flags]
        process = subprocess.Popen(
            command, cwd=nightly.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert process.stderr is not None
        said = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command, stderr=said)
        self.cpu_seconds += usage.ru_utime + usage.ru_stime
        self.peak_mb = max(self.peak_mb, usage.ru_maxrss * 1024 / 1e6)


def run_nights(store: Store, network: str, num_nights: int) -> list[Night]:
    """Run the nights in a store, and compare with a clean run.

    Raises:
      AssertionError: the folders differ, or temporary files are left.
    """
    corpus = nightly.Corpus(store.root, NUM_VIDEOS)
    output = files.join(store.root, "nights")
    night = nightly.commands(corpus, output, network)
    stages = itertools.cycle(["extract", "prepare", "score"])
    nights = []
    for number in range(num_nights):
        if number:
            corpus.change()
        meter = Meter()
        store.count_requests()
        kill = next(stages) if number % 3 == 2 else ""
        nightly.run_night(night, meter, kill)
        requests, num_files = store.count_requests(), len(store.names())
        nights.append(Night(number, meter.cpu_seconds, meter.peak_mb, requests, num_files))
        ended = f"{kill} killed" if kill else f"{meter.cpu_seconds:.1f} s of CPU"
        print(f"{store.name} night {number}: {ended}, {requests} requests", flush=True)
    nightly.run_night(night, Meter())  # the last was killed
    clean = files.join(store.root, "clean")
    nightly.run_night(nightly.commands(corpus, clean, network), Meter())
    found, expected = nightly.contents(output), nightly.contents(clean)
    different = sorted(
        name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)
    )
    assert not different, f"{store.name}: {different} differ from a clean run"
    assert any(name.startswith("scores/") for name in found)
    left = nightly.temporary_names(store.names())
    assert not left, f"{store.name}: {left} are left"
    return nights


def summarise(store: str, nights: Sequence[Night]) -> list[tuple]:
    """Rows of the table: the usual nights of each third."""
    usual = [night for night in nights if night.is_usual] or list(nights)
    third = max(1, len(usual) // 3)
    rows = []
    for start in range(0, third * (len(usual) // third), third):
        part = usual[start : start + third]
        requests = [night.num_requests for night in part if night.num_requests is not None]
        rows.append(
            (
                store,
                ", ".join(str(night.number) for night in part),
                statistics.median(night.cpu_seconds for night in part),
                statistics.median(night.peak_mb for night in part),
                statistics.median(requests) if requests else None,
                statistics.median(night.num_files for night in part),
            )
        )
    return rows


def require_no_growth(rows: Sequence[tuple]) -> None:
    """Make sure that the last nights take as much memory, requests and files as the first.

    Raises:
      AssertionError: they take more.
    """
    for first, last, name in zip(
        rows[0][3:], rows[-1][3:], ("MB", "requests", "files"), strict=True
    ):
        assert first is None or last <= GROWTH * first, f"{name} grew from {first} to {last}"


def train(folder: Path) -> str:
    """Train a network whose labels are those of all nights; returns its folder."""
    corpus = nightly.Corpus(str(folder / "first"), NUM_VIDEOS)
    run = Meter()
    nightly.run_night(nightly.commands(corpus, f"{folder}/first"), run)
    flags = ["--features", f"{folder}/first/features", "--output", f"{folder}/run"]
    run("training.train", [*NETWORK, *flags])
    return f"{folder}/run"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    quick = is_quick(__doc__, argv)
    num_nights = 3 if quick else 30
    result: dict[str, float] = {"num_nights": num_nights, "num_kills": num_nights // 3}
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tmpdir = folder / "tmp"
        tmpdir.mkdir()
        os.environ["TMPDIR"] = str(tmpdir)
        network = train(folder)
        for place in (disk,) if quick else (disk, bucket):
            with place(folder) as store:
                nights = run_nights(store, network, num_nights)
            found = summarise(store.name, nights)
            require_no_growth(found)
            rows += found
        result["num_temporary"] = len(list(tmpdir.iterdir()))
        print(*sorted(path.name for path in tmpdir.iterdir()))
    header = ["store", "nights", "CPU s", "largest process, MB", "requests", "files"]
    report(result, {"nights": make_table(header, rows)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
