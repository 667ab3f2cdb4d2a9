"""`prediction.json`: the cost of an extraction, predicted from a sample."""

import dataclasses
from typing import ClassVar

from features.contracts import sharding
from features.contracts.folders import MadeBy
from features.front_end.params import LogMelParams
from features.typed_json import OMIT_NONE, Document
from pipelines.cost.estimate import Range, estimate_total, scale
from pipelines.cost.sample import Sample

# The paper's corpus (section 2): 70M videos, 5.24M hours, 30,871 labels.
PAPER_VIDEOS, PAPER_HOURS, PAPER_LABELS = 70_000_000, 5_240_000.0, 30_871
# Standard deviation of a machine's speed between the measurement and the job. The virtual machines
# of the benchmarks drifted by 20 % within an hour.
_DRIFT = 0.10
_HOURS_PER_PATCH = LogMelParams().patch_hop_seconds / 3600


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedJob:
    """What a prediction is about: the first fields of `prediction.json`.

    Attributes:
      made_by: the command.
      dataset_fingerprint: of the data set.
      patches_per_video, sampled_splits: as in `Features`.
      num_videos: of the data set.
      num_workers: processes that the wall time is for.
      num_shards: of all splits.
    """

    made_by: MadeBy
    dataset_fingerprint: str
    patches_per_video: int | None
    sampled_splits: tuple[str, ...] | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    num_videos: int
    num_workers: int
    num_shards: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction(PlannedJob, Document):
    """`prediction.json` in DATASET; a range is lower end, best estimate and upper end.

    Attributes:
      cpu_seconds: range, of decoders and workers.
      wall_seconds: range.
      audio_hours: range, of the patches.
      num_bytes: range, of the record files.
    """

    FILE: ClassVar[str] = "prediction.json"
    MAKER: ClassVar[str] = "python -m pipelines.plan"
    VERSION: ClassVar[int | None] = None
    END: ClassVar[str] = ""

    cpu_seconds: Range
    wall_seconds: Range
    audio_hours: Range
    num_bytes: Range


def predict(sample: Sample, job: PlannedJob) -> Prediction:
    """Predict the totals of a corpus from a sample of it."""
    cpu_seconds = estimate_total(sample.strata, sample.cpu_seconds, _DRIFT)
    num_patches = estimate_total(sample.strata, sample.num_patches)
    return Prediction(
        **vars(job),
        cpu_seconds=cpu_seconds,
        wall_seconds=_predict_wall(cpu_seconds, job.num_shards, job.num_workers),
        audio_hours=scale(num_patches, _HOURS_PER_PATCH),
        num_bytes=scale(num_patches, sample.bytes_per_patch),
    )


def scale_to_paper(prediction: Prediction) -> Prediction:
    """Predict the cost of the paper's corpus, if it had the same mix of files as this corpus."""
    hours = prediction.audio_hours[1]
    cpu_seconds = scale(prediction.cpu_seconds, PAPER_HOURS / hours)
    num_shards = sharding.num_shards(PAPER_VIDEOS, PAPER_HOURS * 3600, LogMelParams())
    num_bytes = prediction.num_bytes[1] * PAPER_HOURS / hours
    return dataclasses.replace(
        prediction,
        num_videos=PAPER_VIDEOS,
        num_shards=num_shards,
        cpu_seconds=cpu_seconds,
        wall_seconds=_predict_wall(cpu_seconds, num_shards, prediction.num_workers),
        audio_hours=(PAPER_HOURS,) * 3,
        num_bytes=(num_bytes,) * 3,
    )


def _predict_wall(cpu_seconds: Range, num_shards: int, num_workers: int) -> Range:
    """Workers take shards as they become free; at the end most of them wait for the last shard."""
    return scale(cpu_seconds, 1 / num_workers + (1 - 1 / num_workers) / num_shards)
