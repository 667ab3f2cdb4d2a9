"""`prediction.json`: the cost of an extraction and of what follows, predicted from a sample."""

import dataclasses
from typing import ClassVar

from features.contracts import sharding
from features.contracts.folders import MadeBy
from features.front_end.params import LogMelParams
from features.typed_json import OMIT_NONE, Document
from pipelines.cost.estimate import DRIFT, Range, estimate_total, predict_wall, scale
from pipelines.cost.networks import NetworkPrediction, scale_scoring
from pipelines.cost.sample import Sample

# The paper's corpus (section 2): 70M videos, 5.24M hours, 30,871 labels.
PAPER_VIDEOS, PAPER_HOURS, PAPER_LABELS = 70_000_000, 5_240_000.0, 30_871
_HOURS_PER_PATCH = LogMelParams().patch_hop_seconds / 3600


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedJob:
    """What a prediction is about: the first fields of `prediction.json`.

    Attributes:
      made_by: the command.
      dataset_fingerprint: of the data set.
      patches_per_video, sampled_splits: as in `Features`.
      num_videos: of the data set.
      num_workers: processes, cores or GPUs that wall times are for.
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
      scoring, training: of these jobs; None if they were not asked for.
    """

    FILE: ClassVar[str] = "prediction.json"
    MAKER: ClassVar[str] = "python -m pipelines.plan"
    VERSION: ClassVar[int | None] = None
    END: ClassVar[str] = ""

    cpu_seconds: Range
    wall_seconds: Range
    audio_hours: Range
    num_bytes: Range
    scoring: NetworkPrediction | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    training: NetworkPrediction | None = dataclasses.field(default=None, metadata=OMIT_NONE)

    @property
    def network_jobs(self) -> tuple[NetworkPrediction, ...]:
        """Scoring and training, as far as they were asked for."""
        return tuple(job for job in (self.scoring, self.training) if job is not None)


def predict(sample: Sample, job: PlannedJob) -> Prediction:
    """Predict the totals of a corpus from a sample of it."""
    cpu_seconds = estimate_total(sample.strata, sample.cpu_seconds, DRIFT)
    num_patches = estimate_total(sample.strata, sample.num_patches)
    return Prediction(
        **vars(job),
        cpu_seconds=cpu_seconds,
        wall_seconds=predict_wall(cpu_seconds, job.num_shards, job.num_workers),
        audio_hours=scale(num_patches, _HOURS_PER_PATCH),
        num_bytes=scale(num_patches, sample.bytes_per_patch),
    )


def scale_to_paper(prediction: Prediction) -> Prediction:
    """Predict the cost of the paper's corpus, if it had the same mix of files as this corpus.

    The scored split is the same share of the corpus; the length of a training does not change.
    """
    factor = PAPER_HOURS / prediction.audio_hours[1]
    cpu_seconds = scale(prediction.cpu_seconds, factor)
    num_shards = sharding.num_shards(PAPER_VIDEOS, PAPER_HOURS * 3600, LogMelParams())
    num_bytes = prediction.num_bytes[1] * factor
    scoring = prediction.scoring
    if scoring is not None:
        more_videos = PAPER_VIDEOS / prediction.num_videos
        scoring = scale_scoring(scoring, factor, more_videos, prediction.num_workers)
    return dataclasses.replace(
        prediction,
        num_videos=PAPER_VIDEOS,
        num_shards=num_shards,
        cpu_seconds=cpu_seconds,
        wall_seconds=predict_wall(cpu_seconds, num_shards, prediction.num_workers),
        audio_hours=(PAPER_HOURS,) * 3,
        num_bytes=(num_bytes,) * 3,
        scoring=scoring,
    )
