"""Nights of a corpus that changes: new, changed, relabelled, late and vanished videos, and kills.

The number of videos of each split and of each label stays, and with them the number of shards and
the order of the labels, so that a clean run over the last manifest has to give the same bytes.
"""

import csv
import dataclasses
import io
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from features.storage import files
from pipelines.corpus.encoding import FORMATS, write_media

ROOT = Path(__file__).parents[1]
FOLDERS = ("dataset", "features", "scores")
# What jobs leave while they run, or when they are killed.
_TEMPORARY = (".partial-", "transform_temp-", "probe", "progress/", ".lock")
_TEMPORARY += ("lease.json", "failure.json", "forgetting.json")
# By slot of the corpus: 7 : 1 : 2.
_SPLITS = (*["train"] * 7, "validation", *["evaluation"] * 2)
_LABELS = ("High", "Low", "Middle")
# Fields of JSON files that say where folders lie, and when and at what cost they were made.
_OF_THE_RUN = {"made_by", "dataset", "manifest", "features", "run", "scores", "work"}

Run = Callable[[str, Sequence[str]], None]


@dataclasses.dataclass
class _Slot:
    """A place in the corpus, of one split, whose video changes."""

    split: str
    labels: tuple[str, ...]
    video: int = 0
    version: int = 0


class Corpus:
    """Media of 2 s and their manifest, below a folder.

    Args:
      root: the folder, also under an object store.
      num_videos: a multiple of ten.
    """

    def __init__(self, root: str, num_videos: int):
        self.root = root
        self.manifest = files.join(root, "manifest.csv")
        self._night = 0
        self._slots = [
            _Slot(_SPLITS[index % 10], _LABELS[: index % 3 + 1]) for index in range(num_videos)
        ]
        self._late: set[str] = set()
        files.write_bytes(files.join(root, "media/broken.mp4"), b"this is no medium\n" * 100)
        for index in range(num_videos):
            self._write_medium(index)
        self._write_manifest()

    def change(self) -> None:
        """Make the changes of a night."""
        self._night += 1
        number = len(self._slots)
        places = [(self._night * 7 + offset) % number for offset in range(0, number, number // 5)]
        new, also_new, changed, relabelled, late = places[:5]
        for uri in self._late:  # the upload of the night before
            self._upload(uri)
        self._late.clear()
        for index in (new, also_new):
            files.delete(self._uri(index))
            self._slots[index].video += 1
            self._write_medium(index)
        self._slots[changed].version += 1
        self._write_medium(changed)
        one, other = self._slots[relabelled], self._slots[(relabelled + 1) % number]
        one.labels, other.labels = other.labels, one.labels
        files.delete(self._uri(late))
        self._slots[late].video += 1
        self._late.add(self._uri(late))
        self._write_manifest()

    def _id(self, index: int) -> str:
        return f"video-{index:03d}-{self._slots[index].video}"

    def _uri(self, index: int) -> str:
        suffix = FORMATS[index % len(FORMATS)].suffix
        name = f"media/{self._id(index)}-v{self._slots[index].version}{suffix}"
        return files.join(self.root, name)

    def _write_medium(self, index: int) -> None:
        self._upload(self._uri(index))

    def _upload(self, uri: str) -> None:
        """Write a medium, of noise that is drawn from its name."""
        name = uri.rpartition("/")[2]
        kind = next(kind for kind in FORMATS if uri.endswith(kind.suffix))
        rng = np.random.default_rng(list(name.encode()))
        samples = 0.1 * rng.standard_normal((2 * kind.sample_rate, kind.num_channels))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            write_media(
                path,
                samples.astype(np.float32),
                sample_rate=kind.sample_rate,
                codec=kind.codec,
                video=kind.video,
            )
            files.write_bytes(uri, path.read_bytes())

    def _write_manifest(self) -> None:
        text = io.StringIO()
        rows = [
            (self._id(index), self._uri(index), ";".join(slot.labels), slot.split)
            for index, slot in enumerate(self._slots)
        ]
        broken = ("broken", files.join(self.root, "media/broken.mp4"), "Low", "train")
        csv.writer(text).writerows([("id", "uri", "labels", "split"), *rows, broken])
        files.write_bytes(self.manifest, text.getvalue().encode())


def commands(
    corpus: Corpus, output: str, network: str | None = None
) -> dict[str, tuple[str, list[str]]]:
    """Stage, as the log names it -> module and flags, of the commands of a night, in order.

    Args:
      corpus: the corpus.
      output: the folder of their folders.
      network: the RUN that scores; None to score nothing.
    """
    dataset, features, scores = (files.join(output, name) for name in FOLDERS)
    found = {
        "prepare": (
            "pipelines.prepare_dataset",
            ["--manifest", corpus.manifest, "--output", dataset],
        ),
        "extract": (
            "pipelines.extract_features",
            ["--dataset", dataset, "--output", features],
        ),
    }
    if network is not None:
        flags = ["--features", features, "--run", network, "--output", scores, "--frame-scores"]
        found["score"] = ("evaluation.score_videos", flags)
    return found


def run_night(night: Mapping[str, tuple[str, Sequence[str]]], run: Run, kill: str = "") -> None:
    """Run the commands of a night, until one of them is killed.

    Args:
      night: as `commands` gives it.
      run: runs a command to its end.
      kill: the stage whose command is killed when it has logged its first shard; none if empty.
    """
    for stage, (module, flags) in night.items():
        if stage == kill:
            kill_command(module, flags, stage)
            return
        run(module, flags)


def kill_command(module: str, flags: Sequence[str], stage: str) -> None:
    """Kill a command, and not its workers, as soon as it has logged a line of a stage."""
    command = [sys.executable, "-m", module, *flags, "--verbose"]
    with subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:  # until all that it has started have ended
            said.append(line)
            if f" INFO {stage}" in line:
                process.kill()
    assert process.returncode == -signal.SIGKILL, "".join(said)


def temporary_names(names: Iterable[str]) -> list[str]:
    """The names that finished jobs must not leave."""
    return sorted(name for name in names if any(mark in name for mark in _TEMPORARY))


def contents(output: str) -> dict[str, Any]:
    """What the folders of a night have: the bytes of files, and JSON without what is of a run."""
    found: dict[str, Any] = {}
    for folder in FOLDERS:
        for name in files.list_names(files.join(output, folder)):
            content = files.read_bytes(files.join(output, folder, name))
            if name.endswith(".html") or name.startswith("transform/"):
                continue  # names the command; a graph of TensorFlow, which differs from run to run
            if name.endswith(".json") and "/" not in name:
                document = json.loads(content)
                found[f"{folder}/{name}"] = {
                    key: value for key, value in document.items() if key not in _OF_THE_RUN
                }
            else:
                found[f"{folder}/{name}"] = content
    return found
