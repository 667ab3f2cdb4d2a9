"""The extraction job in benchmarks, and a bare decode loop, whose cost no job can undercut."""

import csv
import functools
import shutil
from collections.abc import Mapping
from pathlib import Path

import av
import numpy as np
from av.stream import Discard

from features.contracts import record, tfrecord
from features.front_end.front_end import PatchStorage
from features.front_end.params import LogMelParams
from pipelines import extract_features
from tests.benchmarks.measurement import Lane

# The splits of the smaller and of the larger job.
_FEW, _MORE = "validation", "train"


def make_dataset(folder: Path, media: Path, *, num_few: int, num_more: int) -> Path:
    """Make a data set in which every soundtrack is the same file.

    Args:
      folder: to make the data set in.
      media: the file.
      num_few: soundtracks of the smaller job.
      num_more: soundtracks that the larger job has in addition.
    """
    from pipelines import prepare_dataset  # imports TensorFlow

    manifest = folder / "manifest.csv"
    folder.mkdir(parents=True)
    # A split for each job. Up to four soundtracks are in one shard, so that the jobs differ only in
    # their number of soundtracks.
    splits = [_MORE] * (num_few + num_more) + [_FEW] * num_few
    rows = [(f"{index:06d}", str(media), "Any", split) for index, split in enumerate(splits)]
    with manifest.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "uri", "labels", "split"), *rows])
    output = folder / "dataset"
    prepare_dataset.main(["--manifest", str(manifest), "--output", str(output)])
    return output


def extract(dataset: Path, output: Path, *flags: str, larger: bool = True) -> int:
    """Run the job in this process, into a new folder; returns its exit code."""
    shutil.rmtree(output, ignore_errors=True)
    split = _MORE if larger else _FEW
    command = ["--dataset", str(dataset), "--output", str(output), "--splits", split, *flags]
    return extract_features.main(command)


def steady_cpu_seconds(lane: Lane, dataset: Path, output: Path) -> tuple[float, float]:
    """CPU seconds of the additional soundtracks of the larger job, and of the smaller job.

    One worker: the start of others would be most of a short job, and vary more than a soundtrack
    costs.
    """
    few, _ = lane(functools.partial(extract, larger=False), dataset, output, "--workers=1")
    all_of_them, _ = lane(extract, dataset, output, "--workers=1")
    return all_of_them - few, few


def decode_only(media: Path, times: int = 1) -> int:
    """Decode the audio stream with PyAV several times; returns its number of samples."""
    num_samples = 0
    for _ in range(times):
        with av.open(str(media)) as container:
            stream = container.streams.audio[0]
            for other in container.streams:
                if other is not stream:
                    other.discard = Discard.all
            stream.codec_context.thread_count = 1
            num_samples += sum(frame.samples for frame in container.decode(stream))
    return num_samples // times


def log_mel_by_video(output: Path) -> Mapping[str, np.ndarray]:
    """The patches of each video in order of time: float32 [patches, patch frames, bands]."""
    stored = stored_by_video(output)
    return {video: PatchStorage().decode(patches) for video, patches in stored.items()}


def stored_by_video(output: Path) -> Mapping[str, np.ndarray]:
    """The stored patches of each video in order of time: uint8 [patches, patch frames, bands]."""
    found: dict[str, list[tuple[float, np.ndarray]]] = {}
    for path in output.glob("*/*/*.tfrecord"):
        with path.open("rb") as file:
            for data in tfrecord.read_records(file, str(path)):
                example = record.decode(data)
                patch = np.frombuffer(example.patch, np.uint8).reshape(LogMelParams().patch_shape)
                found.setdefault(example.video_id, []).append((example.start_seconds, patch))
    return {
        video: np.stack([patch for _, patch in sorted(patches, key=lambda item: item[0])])
        for video, patches in found.items()
    }
