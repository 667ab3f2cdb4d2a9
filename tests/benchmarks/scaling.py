"""Claim: two workers are nearly twice as fast as one, and cost does not grow with the corpus.

Speed-up is the ratio of wall times without the start of a job, which is the slope between a smaller
and a larger job. The best of several rounds counts, because other processes slow two workers more
than one; two idle cores are needed. Growth is the CPU time of a short soundtrack in a corpus of
5,000 over that in a corpus of 100. Memory is the peak of all processes together, in which shared
pages count once.

    python -m tests.benchmarks.scaling --quick
"""

import functools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks import job
from tests.benchmarks.measurement import (
    DRIFT,
    Lane,
    Table,
    is_quick,
    make_table,
    report,
    require_possible,
    run_and_watch_memory,
)
from tests.benchmarks.soundtracks import KINDS, write_soundtrack

KIND = KINDS["mp4/AAC"]
VIDEO_SECONDS = 4.0
NUM_FEW, NUM_SMALL = 10, 100
ONE, TWO = "--workers=1", "--workers=2"


def run(lane: Lane, dataset: Path, output: Path, *flags: str, larger: bool) -> tuple[float, float]:
    """Wall and CPU seconds of a job."""
    start = time.monotonic()
    cpu, code = lane(functools.partial(job.extract, larger=larger), dataset, output, *flags)
    assert code == 0
    return time.monotonic() - start, cpu


def make_datasets(lane: Lane, folder: Path, num_large: int) -> tuple[Path, Path]:
    """Make data sets of the smaller and of the larger corpus."""
    media = folder / f"soundtrack{KIND.suffix}"
    write = functools.partial(write_soundtrack, minutes=VIDEO_SECONDS / 60)
    lane(write, media, KIND)
    small, large = (
        lane(
            functools.partial(job.make_dataset, num_few=NUM_FEW, num_more=size - NUM_FEW),
            folder / str(size),
            media,
        )[1]
        for size in (NUM_SMALL, num_large)
    )
    return small, large


def measure(
    lane: Lane, small: Path, large: Path, output: Path, num_rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """The best wall seconds by workers and size, and the median CPU seconds by size."""
    for workers in (ONE, TWO):  # warm-up
        run(lane, small, output, workers, larger=False)
    walls: dict[str, list[float]] = {"1 few": [], "1 all": [], "2 few": [], "2 all": []}
    cpus: dict[str, list[float]] = {"few": [], "small": [], "large": []}
    for _ in range(num_rounds):
        for _ in range(3):
            cpus["few"].append(run(lane, small, output, ONE, larger=False)[1])
            cpus["small"].append(run(lane, small, output, ONE, larger=True)[1])
        wall, seconds = run(lane, large, output, ONE, larger=True)
        walls["1 all"].append(wall)
        cpus["large"].append(seconds)
        walls["1 few"].append(run(lane, large, output, ONE, larger=False)[0])
        walls["2 all"].append(run(lane, large, output, TWO, larger=True)[0])
        walls["2 few"].append(run(lane, large, output, TWO, larger=False)[0])
    best = {name: min(seconds) for name, seconds in walls.items()}
    return best, {name: statistics.median(seconds) for name, seconds in cpus.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    num_large, num_rounds = (1_000, 1) if is_quick(__doc__, argv) else (5_000, 2)
    with tempfile.TemporaryDirectory() as temporary, Lane() as making, Lane() as lane:
        folder = Path(temporary)
        small, large = make_datasets(making, folder, num_large)
        best, cpu = measure(lane, small, large, folder / "features", num_rounds)
        command = [sys.executable, "-m", "pipelines.extract_features", "--force"]
        command += ["--dataset", str(large), "--output", str(folder / "again"), "--splits", "train"]
        memory = {
            number: run_and_watch_memory([*command, f"--workers={number}"])[0]
            for number in (1, 2, 4)
        }
    report(*summarise(best, cpu, memory, num_large))
    return 0


def summarise(
    best: dict[str, float], cpu: dict[str, float], memory: dict[int, float], num_large: int
) -> tuple[dict[str, float], dict[str, Table]]:
    """The results and their tables."""
    num_more = num_large - NUM_FEW
    # All cores at work, for as much CPU time as one worker takes.
    fastest = (cpu["large"] - cpu["few"]) / (os.cpu_count() or 1)
    wall_slopes = [
        require_possible(
            f"wall seconds of {num_more:,} soundtracks",
            best[f"{workers} all"] - best[f"{workers} few"],
            at_least=(1 - DRIFT) * fastest,
        )
        for workers in (1, 2)
    ]
    speedup = require_possible(
        "speed-up of 2 workers",
        wall_slopes[0] / wall_slopes[1],
        at_least=0,
        at_most=2 * (1 + DRIFT),
    )
    costs = {
        NUM_SMALL: (cpu["small"] - cpu["few"]) / (NUM_SMALL - NUM_FEW),
        num_large: (cpu["large"] - cpu["few"]) / num_more,
    }
    starts = [
        [workers, slope, best[f"{workers} few"] - NUM_FEW * slope / num_more]
        for workers, slope in zip((1, 2), wall_slopes, strict=True)
    ]
    for size, cost in costs.items():
        require_possible(f"CPU seconds a soundtrack of {size:,}", cost, at_least=0)
    rows = [[size, 1e3 * cost, cost * 3_600 / VIDEO_SECONDS] for size, cost in costs.items()]
    tables = {
        "speed": make_table(
            ["workers", f"wall s of {num_more:,} soundtracks", "wall s of the start"], starts
        ),
        "growth": make_table(["soundtracks", "CPU ms a soundtrack", "CPU s per audio hour"], rows),
        "memory": make_table(["workers", "peak MB, all processes together"], memory.items()),
    }
    return {
        "speedup_2_workers": speedup,
        "growth": costs[num_large] / costs[NUM_SMALL],
        "num_large": num_large,
        "cpu_ms_per_video": 1e3 * costs[num_large],
        "mb_per_worker": (memory[4] - memory[2]) / 2,
    }, tables


if __name__ == "__main__":
    sys.exit(main())
