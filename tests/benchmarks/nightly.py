"""Claim: nights of a corpus that changes leave what one clean run writes, at a constant cost.

Every night some videos are new, some have another medium or other labels, some are gone, and one
comes late; data set, features and scores are made again in the same folders. Every third night a
command is killed (extraction, preparation and scoring in turn) and the night ends, as under cron.
At the end, the folders must equal those of a clean run over the last manifest, byte by byte, and
have no temporary file. The table has the nights that are neither killed nor follow such a night:
on a disk, and under an emulated object store, where requests are counted.

    python -m tests.benchmarks.nightly --quick
"""

import collections
import contextlib
import dataclasses
import functools
import importlib
import io
import itertools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from features.storage import files
from tests import nightly, s3
from tests.benchmarks.measurement import (
    DRIFT,
    adopt_orphans,
    descendants,
    is_quick,
    make_table,
    report,
    require_possible,
)

NUM_VIDEOS = 40
NETWORK = ("fully_connected", "--steps=5", "--batch-size=16", "--set=width=0.05")
EXTRACTION = "pipelines.extract_features"
# More than this much of growth from the first nights to the last fails the run.
GROWTH = 1.1


@dataclasses.dataclass(frozen=True)
class Store:
    """Where the folders of the nights are.

    Attributes:
      name: of its kind.
      place: in it.
      count_requests: gives the requests since its last call; None for a disk.
    """

    name: str
    place: nightly.Place
    count_requests: Callable[[], int | None]


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[Store]:
    """A folder of this machine."""
    yield Store("disk", nightly.on_disk(folder / "disk"), lambda: None)


@contextlib.contextmanager
def bucket(folder: Path) -> Iterator[Store]:
    """The emulated s3://, to which this process sends nothing: forks have no threads of clients."""
    del folder
    with s3.start() as served:

        def count() -> int:
            number = len(served.requests())
            served.forget()
            return number

        def objects() -> dict[str, bytes]:
            # A lease that was released is an empty object.
            found = served.objects("nights/")
            return {name: content for name, content in found.items() if content}

        place = nightly.Place(
            f"s3://{s3.BUCKET}/nights",
            lambda name, content: served.put(f"nights/{name}", content),
            objects,
        )
        yield Store("s3://", place, count)


@dataclasses.dataclass(frozen=True)
class Night:
    """What a night costs, and what its folders have then.

    Attributes:
      number: of the night; the first is 0.
      cpu_seconds: of its commands and all their processes.
      peak_mb: resident memory of the largest process.
      num_requests: None on a disk.
      num_files: of its folders.
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
    """Runs commands and adds up what they cost.

    Commands are forks of this process, which has imported them: starts of Python would be most of
    the time of a night. Those that are killed start as a person starts them. What a command leaves,
    such as the decoder of a worker, belongs to it: this process has called `adopt_orphans`.

    Attributes:
      cpu_seconds: by module.
      peak_mb: resident memory of the largest process.
    """

    def __init__(self) -> None:
        self.cpu_seconds: dict[str, float] = collections.defaultdict(float)
        self.peak_mb = 0.0

    def __call__(self, module: str, flags: Sequence[str]) -> None:
        """Run a command to its end."""
        command = importlib.import_module(module).main
        sys.stdout.flush()
        others, before = set(descendants(os.getpid())), seconds_of_children()
        process = os.fork()
        if not process:
            _run_and_exit(command, flags)
        _, status, usage = os.wait4(process, 0)
        code = os.waitstatus_to_exitcode(status)
        assert code == 0, f"{module} {flags} ended with {code}"
        wait_for_all_but(others)
        self.cpu_seconds[module] += seconds_of_children() - before
        self.peak_mb = max(self.peak_mb, usage.ru_maxrss * 1024 / 1e6)


def seconds_of_children() -> float:
    """CPU time of the processes below this one that have ended and been waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def wait_for_all_but(others: set[int]) -> None:
    """Wait for the processes below this one, which end by themselves after their command."""
    while left := set(descendants(os.getpid())) - others:
        for pid in left:
            with contextlib.suppress(ChildProcessError):  # its parent is alive, and waited for here
                os.waitpid(pid, 0)


@functools.cache
def seconds_to_start_a_decoder() -> float:
    """CPU time of the process that decodes, before it has read a soundtrack."""
    before = seconds_of_children()
    subprocess.run([sys.executable, "-c", "import pipelines.runtime.decoder"], check=True)
    return seconds_of_children() - before


def _run_and_exit(command: Callable[[Sequence[str]], int], flags: Sequence[str]) -> NoReturn:
    code = 1
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            code = command(flags)
    finally:
        if code:
            traceback.print_exc()
        os._exit(code)


def run_nights(store: Store, network: str | None, num_nights: int) -> list[Night]:
    """Run the nights in a store, and compare with a clean run.

    Raises:
      AssertionError: the folders differ, or temporary files are left.
    """
    place = store.place
    corpus = nightly.Corpus(place, NUM_VIDEOS)
    night = nightly.commands(corpus, files.join(place.root, "nights"), network)
    stages = itertools.cycle(["extract", "prepare", "score"] if network else ["extract", "prepare"])
    nights = []
    for number in range(num_nights):
        if number:
            corpus.change()
        meter = Meter()
        store.count_requests()
        kill = next(stages) if number % 3 == 2 else ""
        nightly.run_night(night, meter, kill)
        requests = store.count_requests()
        num_files = sum(name.startswith("nights/") for name in place.objects())
        seconds = sum(meter.cpu_seconds.values())
        nights.append(Night(number, seconds, meter.peak_mb, requests, num_files))
        if not kill:  # every night has new soundtracks
            require_possible(
                f"CPU seconds of extraction in night {number}",
                meter.cpu_seconds[EXTRACTION],
                at_least=(1 - DRIFT) * seconds_to_start_a_decoder(),
            )
        ended = f"{kill} killed" if kill else f"{seconds:.1f} s of CPU"
        print(f"{store.name} night {number}: {ended}, {requests} requests", flush=True)
    nightly.run_night(night, Meter())  # the last was killed
    clean = nightly.commands(corpus, files.join(place.root, "clean"), network)
    nightly.run_night(clean, Meter())
    found, expected = nightly.contents(place, "nights"), nightly.contents(place, "clean")
    different = sorted(
        name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)
    )
    assert not different, f"{store.name}: {different} differ from a clean run"
    left = nightly.temporary_names(place.objects())
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
    corpus = nightly.Corpus(nightly.on_disk(folder / "first"), NUM_VIDEOS)
    run = Meter()
    nightly.run_night(nightly.commands(corpus, f"{folder}/first"), run)
    flags = ["--features", f"{folder}/first/features", "--output", f"{folder}/run"]
    run("training.train", [*NETWORK, *flags])
    return f"{folder}/run"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    quick = is_quick(__doc__, argv)
    adopt_orphans()
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
