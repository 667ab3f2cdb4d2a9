"""Beam stages of `score_videos`: plan the shards, add up their sidecars, write `scores.json`."""

import collections
import dataclasses
import time
from collections.abc import Collection, Iterable, Mapping, Sequence

import apache_beam as beam

from evaluation.scoring.shard import (
    FeaturesShard,
    MediaShard,
    Network,
    ScorePlan,
    ScoreResult,
    score_shard,
)
from features.contracts import folders
from features.contracts.documents import PatchShard, Scores, ScoringWork
from features.contracts.progress import SHARDS_KEPT, SHARDS_WRITTEN
from features.contracts.scores import SCORES, Account, add_counts, count_shard
from features.contracts.sharding import ShardKey
from features.contracts.shards import PATCHES, read_sidecar
from features.contracts.videos import Video, read_videos
from features.errors import JobFailedError
from features.storage import files
from pipelines.runtime.counters import Counts, cpu_values
from pipelines.runtime.failure import fail, name_place
from pipelines.runtime.rejects import list_rejects


@dataclasses.dataclass(eq=False)
class PlanFromFeatures(beam.PTransform):
    """Shard keys -> `ScorePlan`, from the sidecars of the features.

    Attributes:
      features: the FEATURES folder.
      network: scores the patches.
    """

    features: str
    network: Network

    def expand(self, keys: beam.PCollection) -> beam.PCollection:
        """Distribute the shards over the workers and read the sidecars."""
        return (
            keys
            | "Spread" >> beam.Reshuffle()
            | "Plan" >> beam.Map(plan_from_features, self.features, self.network)
        )


def plan_from_features(key: ShardKey, features: str, network: Network) -> ScorePlan:
    """Plan the scoring of one shard of features."""
    sidecar = read_sidecar(files.join(features, key.path(PATCHES)), PatchShard)
    missing = tuple((reject.id, reject.reason) for reject in list_rejects(sidecar))
    source = FeaturesShard(features, sidecar.sha256, missing, sidecar.num_videos)
    origins = {video.id: video.origins for video in sidecar.videos if video.origins}
    return ScorePlan(key, source, network, origins)


@dataclasses.dataclass(eq=False)
class PlanFromMedia(beam.PTransform):
    """Shard keys -> `ScorePlan`, from the video files of a data set.

    Attributes:
      video_files: Parquet files of the data set.
      groups: split -> groups of the keys.
      timeout_seconds: for one soundtrack.
      network: scores the patches.
      forgotten: ids of the videos that get no scores.
    """

    video_files: Sequence[str]
    groups: Mapping[str, Collection[str]]
    timeout_seconds: float
    network: Network
    forgotten: frozenset[str] = frozenset()

    def expand(self, keys: beam.PCollection) -> beam.PCollection:
        """Group the videos by shard, which also distributes the shards over the workers."""
        # A shard without videos is planned too.
        wanted = keys | "WithoutVideos" >> beam.Map(lambda key: (dataclasses.astuple(key), None))
        videos = (
            keys.pipeline
            | "VideoFiles" >> beam.Create(self.video_files)
            | "SpreadFiles" >> beam.Reshuffle()
            | "ReadVideos" >> beam.FlatMap(read_videos, self.groups)
        )
        return (
            {"wanted": wanted, "videos": videos}
            | "GroupByShard" >> beam.CoGroupByKey()
            | "Plan"
            >> beam.Map(_plan_from_media, self.timeout_seconds, self.network, self.forgotten)
        )


def _plan_from_media(
    keyed: tuple[tuple, Mapping[str, Iterable]],
    timeout_seconds: float,
    network: Network,
    forgotten: frozenset[str],
) -> ScorePlan:
    key, grouped = keyed
    videos = [Video(*row) for rows in grouped["videos"] for row in rows]
    videos.sort(key=lambda video: video.id)
    origins = {video.id: video.origins for video in videos if video.origins}
    source = MediaShard(tuple(videos), timeout_seconds)
    own = forgotten.intersection(video.id for video in videos)
    return ScorePlan(ShardKey(*key), source, network, origins, own)


def score(plan: ScorePlan, output: str) -> ScoreResult:
    """Score a shard; the message of an error that nobody expected names it."""
    with name_place(f"shard {plan.key.path(SCORES)}"):
        return score_shard(plan, output)


def measure_result(result: ScoreResult, hop_seconds: float) -> Counts:
    """What a shard adds to the counters of the runner; nothing but itself if it was kept.

    Args:
      result: of the shard.
      hop_seconds: from the start of a patch to that of the next.
    """
    sidecar, element = result.sidecar, result.key.path(SCORES)
    if result.cpu_seconds is None:
        return Counts(element=element, sums={SHARDS_KEPT: 1})
    missing = collections.Counter(video.outcome for video in sidecar.missing)
    return Counts(
        element=element,
        sums={
            SHARDS_WRITTEN: 1,
            "videos_scored": sidecar.num_videos,
            **{f"videos_{outcome}": count for outcome, count in sorted(missing.items())},
            "patches": sidecar.num_patches,
            "cpu_ms": round(1e3 * result.cpu_seconds),
        },
        values=cpu_values(result.cpu_seconds, sidecar.num_patches * hop_seconds),
    )


def count_result(result: ScoreResult) -> Account:
    """The account of one shard, with the work on it."""
    account = count_shard(result.sidecar)
    if result.cpu_seconds is None:
        return account
    return dataclasses.replace(
        account, num_patches_now=result.sidecar.num_patches, cpu_seconds=result.cpu_seconds
    )


def finish(
    planned: Scores, account: Account, output: str, *, started_at: float, num_workers: int
) -> None:
    """The last stage: check that all shards were scored, and write `scores.json`.

    Args:
      planned: the document, with counts of zero, and the work of the last job.
      account: of all shards.
      output: the SCORES folder.
      started_at: of this job, seconds since the epoch.
      num_workers: its processes on this machine.

    Raises:
      JobFailedError: a shard or all scores are missing.
    """
    num_shards = sum(planned.num_shards.values())
    if account.num_shards != num_shards:
        message = (
            f"{account.num_shards} of {num_shards} shards were scored; run the command again: it "
            "resumes where it stopped"
        )
        fail(output, JobFailedError(message))
    totals = add_counts(account.groups.values())
    if not totals.num_videos:
        reasons = ", ".join(f"{count} {outcome}" for outcome, count in account.missing.items())
        message = (
            f"none of {totals.num_videos_expected} videos could be scored: {reasons or 'no video'}"
        )
        fail(output, JobFailedError(message))
    if account.num_patches_now:
        work = ScoringWork(
            num_patches=account.num_patches_now,
            cpu_seconds=round(account.cpu_seconds, 3),
            wall_seconds=round(time.time() - started_at, 3),
            num_workers=num_workers,
        )
        planned = dataclasses.replace(planned, work=work)
    folders.write_document(output, account.fill(planned))
