"""The cost of applying and of training a network, from the speed of a core or a GPU."""

import dataclasses
from collections.abc import Collection

from features.contracts.speeds import CPU, NetworkJob, Speed, Speeds
from features.errors import InputError
from features.typed_json import OMIT_DEFAULT, OMIT_NONE
from pipelines.cost.estimate import DRIFT, Range, add, estimate_total, predict_wall, scale
from pipelines.cost.network_speed import MeasuredNetwork
from pipelines.cost.sample import Sample

# A speed of the table is of another machine: processors of one year differ by up to this factor.
_OTHER_MACHINE = 2.0
_SCORE_BYTES = 4  # of a label, as float32


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkPrediction:
    """Part of `prediction.json`: the cost of scoring or training.

    Attributes:
      speed: that the prediction is made from.
      num_patches: range.
      device_seconds: range, of cores or GPUs.
      wall_seconds: range, on `num_workers` cores or GPUs.
      num_bytes: range: scores that are written, or records that training reads.
      load_seconds: part of `device_seconds` for loading the network and filling up batches.
      split: that is scored; None for training.
      model_fingerprint: of the weights that were measured; None for a speed of the table.
    """

    speed: Speed
    num_patches: Range
    device_seconds: Range
    wall_seconds: Range
    num_bytes: Range
    load_seconds: float = dataclasses.field(default=0.0, metadata=OMIT_DEFAULT)
    split: str | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    model_fingerprint: str | None = dataclasses.field(default=None, metadata=OMIT_NONE)

    @property
    def is_on_cpu(self) -> bool:
        """Whether `device_seconds` are of cores."""
        return self.speed.device == CPU

    @property
    def is_measured(self) -> bool:
        """Whether the speed was measured on this machine, now."""
        return self.model_fingerprint is not None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoredSplit:
    """The videos that are to be scored.

    Attributes:
      name: of the split.
      kinds: of its files, as in `Corpus`.
      num_videos: videos that have a file.
      num_shards: of the split.
      num_labels: of the data set.
    """

    name: str
    kinds: Collection[str]
    num_videos: int
    num_shards: int
    num_labels: int


def find_speed(speeds: Speeds, job: NetworkJob, where: str) -> Speed:
    """Look up a speed in a table.

    Raises:
      InputError: the table does not have it; the message says how to measure it.
    """
    found = speeds.find(job)
    if found is not None:
        return found
    same = (row for row in speeds.rows if (row.job, row.network) == (job.job, job.network))
    known = "; ".join(map(str, same)) or f"nothing about {job.job} with {job.network}"
    no_gpu = "" if job.device == CPU else " No GPU has been measured for the table of this package."
    cure = (
        "--run RUN measures it here"
        if job.job == "scoring"
        else (f"measure it on the machine: `{Speeds.MAKER} RECIPE --speed --speeds FILE`")
    )
    raise InputError(
        f"{where} has no speed of {job}, but: {known}.{no_gpu} For the speed of your machine: "
        f"{cure}, or add a row to a copy of the table and give it with --speeds"
    )


def predict_scoring(
    sample: Sample, split: ScoredSplit, network: Speed | MeasuredNetwork, num_workers: int
) -> NetworkPrediction:
    """Predict the cost of scoring the features of a split.

    Args:
      sample: of the corpus; the kinds of the split are strata of their own.
      split: to be scored.
      network: measured here, or a speed of the table.
      num_workers: cores or GPUs.
    """
    strata = {kind: stratum for kind, stratum in sample.strata.items() if kind in split.kinds}
    num_patches = estimate_total(strata, sample.num_patches)
    if isinstance(network, Speed):
        speed, load_seconds = network, 0.0
        num_labels, fingerprint = split.num_labels, None
        seconds = _on_another_machine(num_patches, speed)
    else:
        speed = network.speed
        # On average the last patches of a shard are filled up by half of the rows.
        padding = split.num_shards * network.padded_rows / 2
        load_seconds = network.load_seconds + padding / speed.patches_per_second
        num_labels, fingerprint = network.num_labels, network.fingerprint
        costs = {kind: sample.num_patches[kind] / speed.patches_per_second for kind in strata}
        seconds = add([estimate_total(strata, costs, DRIFT), (load_seconds,) * 3])
    return NetworkPrediction(
        speed=speed,
        num_patches=num_patches,
        device_seconds=seconds,
        wall_seconds=predict_wall(seconds, split.num_shards, num_workers),
        num_bytes=(float(split.num_videos * num_labels * _SCORE_BYTES),) * 3,
        load_seconds=load_seconds,
        split=split.name,
        model_fingerprint=fingerprint,
    )


def scale_scoring(
    scoring: NetworkPrediction, factor: float, more_videos: float, num_workers: int
) -> NetworkPrediction:
    """Scale the scoring of a corpus to one of many shards.

    Args:
      scoring: of the corpus.
      factor: patches of the other corpus over those of this one.
      more_videos: the same of videos.
      num_workers: cores or GPUs.
    """
    load = (scoring.load_seconds,) * 3
    work = add([scoring.device_seconds, scale(load, -1)])
    seconds = add([scale(work, factor), load])
    return dataclasses.replace(
        scoring,
        num_patches=scale(scoring.num_patches, factor),
        device_seconds=seconds,
        wall_seconds=scale(seconds, 1 / num_workers),
        num_bytes=scale(scoring.num_bytes, more_videos),
    )


def predict_training(
    speed: Speed, num_patches: int, bytes_per_patch: float, num_workers: int
) -> NetworkPrediction:
    """Predict the cost of training on a number of patches.

    Args:
      speed: of the table.
      num_patches: mini-batches times their size.
      bytes_per_patch: of the records that are read.
      num_workers: cores or GPUs, which are taken to share the work without loss.
    """
    patches = (float(num_patches),) * 3
    seconds = _on_another_machine(patches, speed)
    return NetworkPrediction(
        speed=speed,
        num_patches=patches,
        device_seconds=seconds,
        wall_seconds=scale(seconds, 1 / num_workers),
        num_bytes=scale(patches, bytes_per_patch),
    )


def _on_another_machine(num_patches: Range, speed: Speed) -> Range:
    low, best, high = scale(num_patches, 1 / speed.patches_per_second)
    return low / _OTHER_MACHINE, best, high * _OTHER_MACHINE
