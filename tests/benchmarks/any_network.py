"""Claim: embedding files by any network costs a job at most 1.2 times what a plain loop costs.

YAMNet over clips of 5 s: `pipelines.extract_embeddings`, and a script that calls `librosa.load` and
the SavedModel for each file. The CPU time is of all processes, with their starts. The job has
shards, accounts, float16 and a decoder in a process of its own, of which the loop has nothing.
`speedup_2_workers` is the time of one worker by the clock over that of two, null with --quick,
where most of the time is that of the starts. Embeddings have to be equal within 1e-3.

The network and the clips are looked for in models/yamnet and data/sounds of any folder beside the
repository; without them all results are null.

    python -m tests.benchmarks.any_network --quick
"""

import csv
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
from tests.benchmarks.measurement import Lane, is_quick, make_table, report, require_possible

LOOP = """
import sys
import librosa, numpy as np, tensorflow as tf
model, output, *paths = sys.argv[1:]
network = tf.saved_model.load(model).signatures["waveform"]
found = {}
for path in paths:
    waveform, _ = librosa.load(path, sr=16_000)
    found[path] = network(waveform=tf.constant(waveform))["embedding"].numpy()
np.savez(output, **found)
"""
HEADER = ["contestant", "files", "CPU s", "s by the clock"]


def write_manifest(folder: Path, num_clips: int) -> dict[str, str]:
    """Write a manifest of clips of ESC-50; returns id -> path."""
    with networks.SOUNDS[0].open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == "esc50"][:num_clips]
    paths = {row["clip_id"]: str(networks.SOUNDS[0].parent / row["path"]) for row in rows}
    with (folder / "manifest.csv").open("w", newline="") as file:
        lines = [
            (row["clip_id"], paths[row["clip_id"]], row["label"], "evaluation") for row in rows
        ]
        csv.writer(file).writerows([("id", "uri", "labels", "split"), *lines])
    return paths


def run(command: Sequence[str]) -> float:
    """Run a command; returns its seconds by the clock."""
    start = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    return time.monotonic() - start


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


def measure(folder: Path, num_clips: int, all_workers: Sequence[int]) -> list[list]:
    """Rows of the table, the first that of the loop."""
    paths = write_manifest(folder, num_clips)
    data, model = f"{folder}/dataset", str(networks.YAMNETS[0].parent)
    prepare_dataset.main(["--manifest", f"{folder}/manifest.csv", "--output", data])
    flags = ["--from-media", data, *networks.yamnet_flags(folder)]
    job = [sys.executable, "-m", "pipelines.extract_embeddings", *flags]
    commands = {"loop": [sys.executable, "-c", LOOP, model, f"{folder}/loop.npz", *paths.values()]}
    for workers in all_workers:
        name = f"job, workers: {workers}"
        commands[name] = [*job, f"--workers={workers}", "--output", f"{folder}/{workers}"]
    rows = []
    with Lane() as lane:
        for name, command in commands.items():
            cpu, wall = lane(run, command)
            rows.append([name, num_clips, cpu, wall])
    difference = compare(folder, f"{folder}/{all_workers[0]}", paths)
    assert difference <= 1e-3, difference
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    quick = is_quick(__doc__, argv)
    result: dict[str, float | None] = {"job_over_loop": None, "speedup_2_workers": None}
    rows: list[list] = []
    if networks.YAMNETS and networks.SOUNDS:
        with tempfile.TemporaryDirectory() as folder:
            rows = measure(Path(folder), *((100, [1]) if quick else (1000, [1, 2])))
        loop, job, *two = rows
        result["job_over_loop"] = require_possible("job over loop", job[2] / loop[2], at_least=0.2)
        if two:
            result["speedup_2_workers"] = job[3] / two[0][3]
    else:
        print("no models/yamnet or no data/sounds beside the repository: nothing is measured")
    report(result, {"any_network": make_table(HEADER, rows)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
