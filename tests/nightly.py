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
_FILES = ("lease.json", "failure.json", "forgetting.json")
_TEMPORARY = (".partial-", "transform_temp-", "probe", "progress/", *_FILES)
# By slot of the corpus: 7 : 1 : 2.
_SPLITS = (*["train"] * 7, "validation", *["evaluation"] * 2)
_LABELS = ("High", "Low", "Middle")
# Fields of JSON files that say where folders lie, and when and at what cost they were made.
_OF_THE_RUN = {"made_by", "dataset", "manifest", "features", "run", "scores", "work"}

Run = Callable[[str, Sequence[str]], None]


@dataclasses.dataclass(frozen=True)
class Place:
    """A folder in which the nights happen, on a disk or in an emulated store.

    Attributes:
      root: the folder.
      put: writes a file by its name below the root, without a request.
      objects: gives all files below the root, temporary ones too.
    """

    root: str
    put: Callable[[str, bytes], None]
    objects: Callable[[], Mapping[str, bytes]]


def on_disk(folder: Path) -> Place:
    """A folder of this machine."""

    def put(name: str, content: bytes) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    def objects() -> dict[str, bytes]:
        paths = [path for path in folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in paths}

    return Place(str(folder), put, objects)


@dataclasses.dataclass
class _Slot:
    """A place in the corpus, of one split, whose video changes."""

    split: str
    labels: tuple[str, ...]
    video: int = 0
    version: int = 0


class Corpus:
    """Media of 2 s and their manifest. Media that have vanished from the manifest stay.

    Args:
      place: where they are.
      num_videos: a multiple of ten.
    """

    def __init__(self, place: Place, num_videos: int):
        self._place = place
        self.manifest = files.join(place.root, "manifest.csv")
        self._night = 0
        self._slots = [
            _Slot(_SPLITS[index % 10], _LABELS[: index % 3 + 1]) for index in range(num_videos)
        ]
        self._late: str | None = None
        place.put("media/broken.mp4", b"this is no medium\n" * 100)
        for index in range(num_videos):
            self._upload(self._medium(index))
        self._write_manifest()

    def change(self) -> None:
        """Make the changes of a night."""
        self._night += 1
        number = len(self._slots)
        places = [(self._night * 7 + offset) % number for offset in range(0, number, number // 5)]
        new, also_new, changed, relabelled, late = places[:5]
        if self._late is not None:  # of the night before
            self._upload(self._late)
        for index in (new, also_new, late):
            self._slots[index].video += 1
        self._slots[changed].version += 1
        for index in (new, also_new, changed):
            self._upload(self._medium(index))
        self._late = self._medium(late)
        one, other = self._slots[relabelled], self._slots[(relabelled + 1) % number]
        one.labels, other.labels = other.labels, one.labels
        self._write_manifest()

    def _id(self, index: int) -> str:
        return f"video-{index:03d}-{self._slots[index].video}"

    def _medium(self, index: int) -> str:
        suffix = FORMATS[index % len(FORMATS)].suffix
        return f"media/{self._id(index)}-v{self._slots[index].version}{suffix}"

    def _upload(self, name: str) -> None:
        """Write a medium, of noise that is drawn from its name."""
        kind = next(kind for kind in FORMATS if name.endswith(kind.suffix))
        rng = np.random.default_rng(list(name.encode()))
        samples = 0.1 * rng.standard_normal((2 * kind.sample_rate, kind.num_channels))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"medium{kind.suffix}")
            write_media(
                path,
                samples.astype(np.float32),
                sample_rate=kind.sample_rate,
                codec=kind.codec,
                video=kind.video,
            )
            self._place.put(name, path.read_bytes())

    def _write_manifest(self) -> None:
        text = io.StringIO()
        rows = [
            (self._id(index), self._medium(index), ";".join(slot.labels), slot.split)
            for index, slot in enumerate(self._slots)
        ]
        broken = ("broken", "media/broken.mp4", "Low", "train")
        csv.writer(text).writerows([("id", "uri", "labels", "split"), *rows, broken])
        self._place.put("manifest.csv", text.getvalue().encode())


def commands(
    corpus: Corpus, output: str, network: str | None = None
) -> dict[str, tuple[str, list[str]]]:
    """Stage, as the log names it -> module and flags, of the commands of a night, in order.

    Args:
      corpus: the corpus.
      output: the folder of their folders.
      network: the RUN that scores, whose labels the videos get; None for the labels of the
        manifest, and no scores.
    """
    dataset, features, scores = (files.join(output, name) for name in FOLDERS)
    vocabulary = [] if network is None else ["--vocabulary", files.join(network, "export/assets")]
    found = {
        "prepare": (
            "pipelines.prepare_dataset",
            ["--manifest", corpus.manifest, "--output", dataset, *vocabulary],
        ),
        "extract": (
            "pipelines.extract_features",
            ["--dataset", dataset, "--output", features, "--workers=1"],
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
            # Workers that outlive their command for a moment.
            more = ["--workers=2"] if stage == "extract" else []
            kill_command(module, [*flags, *more], stage)
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


def contents(place: Place, output: str) -> dict[str, Any]:
    """What a folder of a night has: the bytes of files, and JSON without what is of a run.

    Args:
      place: where it is.
      output: its name below the root.
    """
    found: dict[str, Any] = {}
    for path, content in place.objects().items():
        name = path.removeprefix(f"{output}/")
        inner = name.partition("/")[2]
        # A page names the command; TensorFlow's graph differs from run to run.
        if name == path or inner.endswith(".html") or inner.startswith("transform/"):
            continue
        if inner.endswith(".json") and "/" not in inner:
            document = json.loads(content)
            found[name] = {key: document[key] for key in document.keys() - _OF_THE_RUN}
        else:
            found[name] = content
    return found
