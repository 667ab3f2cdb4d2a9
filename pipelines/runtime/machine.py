"""Checks of this machine: memory and disk for its workers."""

import os
import shutil
import tempfile
from pathlib import Path

from pipelines.runtime.finding import Finding, ok, problem, warning

# Measured on a soundtrack of 3 hours (docs/benchmarks.md, "Memory"): 386 MB.
MB_PER_WORKER = 400
# A shard has 150 MB on average; a shard of long videos has gigabytes.
_SPOOL_MB, _AMPLE_SPOOL_MB = 150, 2000


def memory(num_workers: int, root: Path = Path("/")) -> Finding:
    """Check that the free memory of this machine, or container, is enough for the workers."""
    name = "memory"
    available = available_memory_mb(root)
    if available is None:
        return warning(
            name,
            f"unknown on this system; {num_workers} workers need {num_workers * MB_PER_WORKER} MB",
            "compare with the memory of the machine",
        )
    needed = num_workers * MB_PER_WORKER
    found = f"{available} MB available, {num_workers} workers need {needed}"
    if available < needed:
        fitting = available // MB_PER_WORKER
        cure = f"--workers={fitting}" if fitting else "more memory"
        return problem(name, found, f"{cure}; a worker and its decoder need {MB_PER_WORKER} MB")
    return ok(name, found)


def available_memory_mb(root: Path = Path("/")) -> int | None:
    """Free memory of the system, or of the control group of this container if that is less."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except FileNotFoundError:  # not Linux
        return None
    available = (
        next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) >> 10
    )
    group = root / "sys/fs/cgroup"
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except FileNotFoundError:  # no control groups, or version 1
        return available
    if limit == "max":
        return available
    return min(available, (int(limit) - used + int(stat["inactive_file"])) >> 20)


def spool_disk(num_workers: int) -> Finding:
    """Check the room for temporary files: a worker keeps the patches of a shard in such a file."""
    name = "temporary files"
    wanted = os.environ.get("TMPDIR")
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError as error:
        return problem(name, str(error), "set TMPDIR to a folder that can be written")
    free = shutil.disk_usage(folder).free // 10**6
    found = f"{free:,} MB free in {folder}"
    cure = "make room, or set TMPDIR to a folder on a larger local disk"
    if free < _SPOOL_MB * num_workers:
        return problem(
            name, f"{found}; {num_workers} workers need {_SPOOL_MB * num_workers} at least", cure
        )
    if wanted and Path(wanted).absolute() != Path(folder).absolute():
        return warning(
            name,
            f"{found}; TMPDIR is {wanted}, which cannot be written and is ignored",
            "create that folder, or set TMPDIR to one that can be written",
        )
    if free < _AMPLE_SPOOL_MB * num_workers:
        return warning(
            name,
            f"{found}; shards of long videos take up to {_AMPLE_SPOOL_MB} MB a worker",
            cure,
        )
    return ok(name, found)
