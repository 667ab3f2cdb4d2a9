"""Claim: embedding files by any network costs a job at most 1.2 times what a plain loop costs.

YAMNet over clips of 5 s: `pipelines.extract_embeddings`, and a script that calls `librosa.load` and
the SavedModel for each file. The CPU time is of all processes, with their starts. The job has
shards, accounts, float16 and a decoder in a process of its own, of which the loop has nothing.
`speedup_2_workers` is the time by the clock of one worker on one core over that of two on two, null
with --quick, where most of the time is that of the starts. Embeddings have to be equal within 1e-3.

The network and the clips are looked for in models/yamnet and data/sounds of any folder beside the
repository; without them all results are null.

    python -m tests.benchmarks.any_network --quick
"""

import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from features.contracts import shards
from pipelines import prepare_dataset
from tests import networks
from tests.benchmarks.measurement import (
    DRIFT,
    Lane,
    is_quick,
    make_table,
    report,
    require_possible,
)

LOOP = """
import sys, time
import librosa, numpy as np, tensorflow as tf
model, output, *paths = sys.argv[1:]
network = tf.saved_model.load(model).signatures["waveform"]
found, cpu = {}, 0.0
for path in paths:
    waveform, _ = librosa.load(path, sr=16_000)
    before = time.process_time()
    found[path] = network(waveform=tf.constant(waveform))["embedding"].numpy()
    cpu += time.process_time() - before
np.savez(output, network_seconds=cpu, **found)
"""
# Of the CPU time of the network in the loop: the job may have a faster runtime, and larger batches.
LEAST_SHARE = 0.5
HEADER = ["contestant", "files", "cores", "CPU s", "s by the clock"]


def write_manifest(folder: Path, num_clips: int) -> dict[str, str]:
    """Write a manifest of the first clips; returns id -> path."""
    with networks.SOUNDS[0].open(newline="") as file:
        rows = list(csv.DictReader(file))[:num_clips]
    paths = {row["clip_id"]: str(networks.SOUNDS[0].parent / row["path"]) for row in rows}
    with (folder / "manifest.csv").open("w", newline="") as file:
        lines = [
            (row["clip_id"], paths[row["clip_id"]], row["label"], "evaluation") for row in rows
        ]
        csv.writer(file).writerows([("id", "uri", "labels", "split"), *lines])
    return paths


def run(command: Sequence[str], num_cores: int) -> float:
    """Run a command on so many cores; returns its seconds by the clock."""
    all_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(all_cores)[:num_cores])  # which the command inherits
    start = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.monotonic() - start
    os.sched_setaffinity(0, all_cores)
    return seconds


def compare(folder: Path, embeddings: str, paths: dict[str, str]) -> float:
    """The largest difference between the embeddings of the job and of the loop.

    Relative to values above 1, since those of the job are stored in float16.
    """
    found: dict[str, dict[float, np.ndarray]] = {name: {} for name in paths}
    for shard in Path(embeddings).glob("*/*/*.tfrecord"):
        for record in shards.read_records(str(shard.with_suffix(""))):
            found[record.video_id][record.start_seconds] = np.frombuffer(record.patch, np.float16)
    expected = np.load(folder / "loop.npz")
    differences = []
    for name, path in paths.items():
        ours = np.stack([found[name][start] for start in sorted(found[name])])
        scale = np.maximum(np.abs(expected[path]), 1)
        differences.append(float((np.abs(ours - expected[path]) / scale).max()))
    return max(differences)


def prepare(folder: Path, num_clips: int) -> tuple[dict[str, str], list[str]]:
    """Prepare a data set of clips; returns their paths by id, and the command of the job."""
    paths = write_manifest(folder, num_clips)
    data = f"{folder}/dataset"
    prepare_dataset.main(["--manifest", f"{folder}/manifest.csv", "--output", data])
    flags = ["--from-media", data, *networks.yamnet_flags(folder)]
    return paths, [sys.executable, "-m", "pipelines.extract_embeddings", *flags]


def compare_with_loop(folder: Path, num_clips: int) -> list[list]:
    """Rows of the loop and of a job with one worker, both on all cores."""
    paths, job = prepare(folder, num_clips)
    model, cores = str(networks.YAMNETS[0].parent), len(os.sched_getaffinity(0))
    commands = {
        "loop": [sys.executable, "-c", LOOP, model, f"{folder}/loop.npz", *paths.values()],
        "job, workers: 1": [*job, "--workers=1", "--output", f"{folder}/1"],
    }
    with Lane() as lane:
        rows = [
            [name, num_clips, cores, *lane(run, command, cores)]
            for name, command in commands.items()
        ]
    difference = compare(folder, f"{folder}/1", paths)
    assert difference <= 1e-3, difference
    network = float(np.load(folder / "loop.npz")["network_seconds"])
    require_possible("CPU seconds of the job", rows[1][3], at_least=LEAST_SHARE * network)
    return rows


def compare_workers(folder: Path, num_clips: int) -> list[list]:
    """Rows of the job with one worker on one core, and with two on two."""
    _, job = prepare(folder, num_clips)
    rows = []
    with Lane() as lane:
        for workers in (1, 2):
            command = [*job, f"--workers={workers}", "--output", f"{folder}/{workers}"]
            rows.append(
                [f"job, workers: {workers}", num_clips, workers, *lane(run, command, workers)]
            )
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    quick = is_quick(__doc__, argv)
    result: dict[str, float | None] = {"job_over_loop": None, "speedup_2_workers": None}
    rows: list[list] = []
    if networks.YAMNETS and networks.SOUNDS:
        with tempfile.TemporaryDirectory() as folder:
            rows = compare_with_loop(Path(folder), 100 if quick else 1000)
        loop, job = rows
        result["job_over_loop"] = job[3] / loop[3]
        if not quick:
            with tempfile.TemporaryDirectory() as folder:
                one, two = compare_workers(Path(folder), 4000)
            rows += [one, two]
            result["speedup_2_workers"] = require_possible(
                "speed-up of 2 workers", one[4] / two[4], at_least=0, at_most=2 * (1 + DRIFT)
            )
    else:
        print("no models/yamnet or no data/sounds beside the repository: nothing is measured")
    report(result, {"any_network": make_table(HEADER, rows)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
