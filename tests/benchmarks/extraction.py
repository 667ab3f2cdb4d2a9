"""Claim: extraction costs little more than decoding, and a third of the usual pipeline.

The whole job (`pipelines.extract_features` on FnApiRunner) runs on an mp4 with AAC and a webm with
Opus, both with a video stream of 500 kbit/s. The CPU time per hour of sound is the slope between a
smaller and a larger job, and the start of a job is reported separately. The lower bound is a bare
PyAV loop over the same audio stream. The usual pipeline is a Beam job of `librosa.load`, librosa's
mel spectrogram and a list of floats in each `tf.train.Example`, also measured by its slope. If
librosa cannot decode mp4, because the `ffmpeg` command is missing, this pipeline decodes with PyAV,
which is cheaper; `naive_decoder` names the decoder. Soundtracks have 5 minutes; without --quick,
also 60. A job or a usual pipeline that costs less than the bare loop fails the run.

    python -m tests.benchmarks.extraction --quick
"""

import dataclasses
import functools
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import av
import librosa
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions
from audioread.exceptions import NoBackendError

from features.front_end.logmel import cut_patches
from features.front_end.params import LogMelParams
from features.quiet import import_tensorflow
from features.sound.waveform import read_waveform
from tests.benchmarks import job
from tests.benchmarks.log_mel import of_librosa
from tests.benchmarks.measurement import (
    Lane,
    is_quick,
    make_table,
    median_of,
    report,
    require_possible,
)
from tests.benchmarks.soundtracks import KINDS, Kind, write_soundtrack

PARAMS = LogMelParams()
# Half a step of uint8 is 0.022; librosa's triangles in hertz and its resampler add to it.
MAX_RMS_DIFFERENCE, MAX_MEDIAN_DIFFERENCE = 0.03, 0.02
MAX_GAPS = 1e-4  # share of the samples
# Minutes; the start is less than the error of the cost of a longer soundtrack.
LONGEST_FOR_START = 5
COLUMNS = {
    "decode": "bare decode loop",
    "ours": "whole job",
    "over_decode": "over the loop",
    "naive": "usual pipeline",
    "naive_over_ours": "over ours",
    "start": "start of the job, s",
}


def load(path: str) -> tuple[np.ndarray, str]:
    """Decode a whole file as 16 kHz mono; returns also the name of the decoder."""
    rate = PARAMS.sample_rate_hz
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # soundfile fails; audioread is deprecated
        try:
            return librosa.load(path, sr=rate, mono=True)[0], "librosa.load"
        except NoBackendError:
            pass
    with av.open(path) as container:
        stream = container.streams.audio[0]
        whole = np.concatenate([frame.to_ndarray() for frame in container.decode(stream)], axis=1)
    mono = librosa.to_mono(whole)
    return librosa.resample(mono, orig_sr=stream.rate, target_sr=rate), "PyAV"


def naive_examples(keyed: tuple[str, str]) -> Iterator[bytes]:
    """The patches of a soundtrack as serialised `tf.train.Example`s."""
    import tensorflow as tf

    video_id, path = keyed
    waveform, _ = load(path)
    for index, patch in enumerate(cut_patches(of_librosa(waveform), PARAMS)):
        feature = {
            "video_id": tf.train.Feature(bytes_list=tf.train.BytesList(value=[video_id.encode()])),
            "patch": tf.train.Feature(float_list=tf.train.FloatList(value=patch.ravel().tolist())),
            "start_seconds": tf.train.Feature(
                float_list=tf.train.FloatList(value=[index * PARAMS.patch_hop_seconds])
            ),
            "labels": tf.train.Feature(int64_list=tf.train.Int64List(value=[0])),
        }
        yield tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def naive_job(media: Path, output: Path, num_videos: int) -> None:
    """Run the usual pipeline."""
    import_tensorflow()
    options = PipelineOptions(["--runner=FnApiRunner"])
    # Beam warns that it replaces the files of the round before.
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    with beam.Pipeline(options=options) as pipeline:
        _ = (
            pipeline
            | beam.Create([(f"{index:06d}", str(media)) for index in range(num_videos)])
            | beam.Reshuffle()
            | beam.FlatMap(naive_examples)
            | beam.io.WriteToTFRecord(str(output / "naive"), num_shards=1)
        )


def compare(output: Path, naive_output: Path) -> dict[str, float]:
    """Differences between the patches of the two pipelines, over one soundtrack."""
    import_tensorflow()
    import tensorflow as tf

    (path,) = naive_output.glob("naive-*")
    patches = {}
    for data in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        feature = tf.train.Example.FromString(data).features.feature
        if feature["video_id"].bytes_list.value[0] == b"000000":
            start = feature["start_seconds"].float_list.value[0]
            patches[start] = np.array(feature["patch"].float_list.value, np.float32)
    theirs = np.stack([patches[start] for start in sorted(patches)]).reshape(
        -1, *PARAMS.patch_shape
    )
    mine = job.log_mel_by_video(output)["000000"]
    assert abs(len(mine) - len(theirs)) <= 1, (len(mine), len(theirs))
    num_common = min(len(mine), len(theirs))
    difference = np.abs(mine[:num_common] - theirs[:num_common])
    return {
        "rms_difference": float(np.sqrt(np.mean(difference**2))),
        "median_difference": float(np.median(difference)),
        "max_difference": float(difference.max()),
    }


def num_samples_read(media: Path, rate: int) -> int:
    """Number of samples that our reader decodes, at the sample rate of the file."""
    return sum(len(block) for block in read_waveform(str(media), sample_rate_hz=rate))


@dataclasses.dataclass(frozen=True)
class Lanes:
    """A process for each contestant; that of the usual pipeline also makes the input of all."""

    decoding: Lane
    extracting: Lane
    usual: Lane


def measure(
    kind: Kind,
    folder: Path,
    lanes: Lanes,
    *,
    minutes: float,
    num_more: int,
    num_rounds: int,
    naive: bool,
) -> dict[str, float]:
    """CPU seconds per hour of sound of a kind of file, and of the start of a job."""
    folder.mkdir()
    media = folder / f"soundtrack{kind.suffix}"
    output, naive_output = folder / "features", folder / "naive"
    naive_output.mkdir()
    write = functools.partial(write_soundtrack, minutes=minutes, base_seconds=15.0)
    lanes.usual(write, media, kind)
    make = functools.partial(job.make_dataset, num_few=1, num_more=num_more)
    _, dataset = lanes.usual(make, folder / "data", media)
    # Warm-up: the first job of a process imports and fills caches; likewise the usual pipeline.
    lanes.extracting(functools.partial(job.extract, larger=False), dataset, output, "--workers=1")
    _, num_read = lanes.extracting(num_samples_read, media, kind.sample_rate)
    _, num_samples = lanes.decoding(job.decode_only, media)
    # Repeated packets have rounded timestamps; the reader fills the gaps, which add up in an hour.
    assert abs(num_read - num_samples) <= MAX_GAPS * num_samples, (num_samples, num_read)
    hours = num_samples / kind.sample_rate / 3_600

    if naive:
        lanes.usual(naive_job, media, naive_output, 1)
    rounds = []
    for _ in range(num_rounds):
        before, _ = lanes.decoding(job.decode_only, media, num_more)
        more, few = job.steady_cpu_seconds(lanes.extracting, dataset, output)
        after, _ = lanes.decoding(job.decode_only, media, num_more)
        measured = {
            "decode": (before + after) / 2 / num_more / hours,
            "ours": more / num_more / hours,
            "start": few - more / num_more,
        }
        # Ratios are taken within a round, in which a slower machine slows both.
        measured["over_decode"] = measured["ours"] / measured["decode"]
        if naive:
            double, _ = lanes.usual(naive_job, media, naive_output, 2)
            single, _ = lanes.usual(naive_job, media, naive_output, 1)
            measured["naive"] = (double - single) / hours
            measured["naive_over_ours"] = measured["naive"] / measured["ours"]
        rounds.append(measured)
    result = median_of(rounds)
    name = f"{kind.name}, {minutes:g} minutes"
    if minutes <= LONGEST_FOR_START:
        require_possible(f"{name}: CPU seconds of the start", result["start"], at_least=0)
    else:
        del result["start"]
    require_possible(f"{name}: job over bare decode loop", result["over_decode"], at_least=1)
    if naive:
        over_decode = result["naive"] / result["decode"]
        require_possible(f"{name}: usual pipeline over decode loop", over_decode, at_least=1)
        result |= lanes.usual(compare, output, naive_output)[1]
        assert result["rms_difference"] <= MAX_RMS_DIFFERENCE, result
        assert result["median_difference"] <= MAX_MEDIAN_DIFFERENCE, result
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    sizes: dict[str, dict[str, Any]] = {"": {"minutes": 5, "num_more": 3, "num_rounds": 2}}
    if not is_quick(__doc__, argv):
        sizes[""] |= {"num_more": 6, "num_rounds": 3}
        sizes["_60_minutes"] = {"minutes": 60, "num_more": 2, "num_rounds": 2}
    rows = []
    result: dict[str, float | str] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        Lane() as decoding,
        Lane() as extracting,
        Lane() as usual,
    ):
        lanes = Lanes(decoding, extracting, usual)
        for suffix, size in sizes.items():
            for name, kind in (("aac", KINDS["mp4/AAC"]), ("opus", KINDS["webm/Opus"])):
                place = Path(folder, name + suffix)
                measured = measure(kind, place, lanes, naive=name == "aac", **size)
                soundtrack = f"{kind.name} with a picture, {size['minutes']} minutes"
                rows.append([soundtrack, *map(measured.get, COLUMNS)])
                result |= {f"{key}_{name}{suffix}": value for key, value in measured.items()}
        sample = Path(folder, "sample.mp4")
        usual(functools.partial(write_soundtrack, minutes=0.1), sample, KINDS["mp4/AAC"])
        result["naive_decoder"] = usual(load, str(sample))[1][1]
    header = ["CPU s per audio hour", *COLUMNS.values()]
    report(result, {"cost": make_table(header, rows)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
