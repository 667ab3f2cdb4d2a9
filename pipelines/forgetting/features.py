"""Removes videos from a folder of features or embeddings, shard by shard."""

import dataclasses
import functools
from collections.abc import Collection

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from features.contracts import folders, forgotten, sharding, shards
from features.contracts.documents import Features, FeaturesRequest, PatchShard
from features.contracts.sharding import ShardKey
from features.contracts.shards import PATCHES, RECORDS_SUFFIX
from features.sound.outcome import Outcome
from features.storage import files
from pipelines.extraction import stages
from pipelines.extraction.patches import Settings, ShardResult, forget_videos
from pipelines.extraction.totals import FeaturesJob
from pipelines.forgetting.shards import Found, NumShards, find_videos
from pipelines.runtime.failure import name_place
from pipelines.runtime.process_pool import MapOnWorkers


def find_in_features(folder: str, features: Features, ids: Collection[str]) -> Found:
    """Find videos in a folder of features."""

    def read(key: ShardKey) -> tuple[list[str], list[str]]:
        sidecar = shards.find_sidecar(files.join(folder, key.path(PATCHES)), PatchShard)
        videos = [] if sidecar is None else sidecar.videos
        removed = [video.id for video in videos if video.outcome == Outcome.FORGOTTEN]
        return [video.id for video in videos if video.outcome != Outcome.FORGOTTEN], removed

    return find_videos(folder, ids, _num_shards(features), (PATCHES,), RECORDS_SUFFIX, read)


def forget_in_features(
    folder: str,
    features: Features,
    ids: frozenset[str],
    num_workers: int,
    options: PipelineOptions,
) -> None:
    """Rewrite the shards that have some of these videos, and all that describes the shards.

    Args:
      folder: the FEATURES folder.
      features: its root document.
      ids: of the videos.
      num_workers: processes of this machine.
      options: of the pipeline.

    Raises:
      JobFailedError: a shard is damaged, or no patch is left.
    """
    job = FeaturesJob(
        source=folder,
        output=folder,
        shown_output=folder,
        request=FeaturesRequest(
            **{
                field.name: getattr(features, field.name)
                for field in dataclasses.fields(FeaturesRequest)
            }
        ),
        num_shards=_num_shards(features),
        present_work=features.work,
        is_removal=True,
    )
    settings = Settings(
        features.front_end,
        features.seed,
        features.keep_partial,
        features.patches_per_video,
        features.sampled_splits,
    )

    def begin() -> None:
        forgotten.begin_removal(folder, features, ids)
        # It has their vectors, and is built again when it is needed.
        files.delete_folder(files.join(folder, folders.SEARCH_FOLDER))

    remove = _ForgetVideos(folder, _num_shards(features), settings, num_workers)
    stages.write_features(remove, begin, job, options)


def _num_shards(features: Features) -> NumShards:
    return {name: split.num_shards for name, split in features.splits.items()}


@dataclasses.dataclass(eq=False)
class _ForgetVideos(beam.PTransform):
    """A `ShardResult` for each shard of a folder, after the removal."""

    folder: str
    num_shards: NumShards
    settings: Settings
    num_workers: int

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        keys = [
            key for split, counts in self.num_shards.items() for key in sharding.keys(split, counts)
        ]
        # Also those of an earlier removal that was killed.
        ids = forgotten.read_forgotten(self.folder)
        forget = functools.partial(_forget, folder=self.folder, settings=self.settings, ids=ids)
        return (
            pipeline
            | "Shards" >> beam.Create(keys)
            | "Spread" >> beam.Reshuffle()
            | "ForgetVideos" >> MapOnWorkers(forget, self.num_workers)
        )


def _forget(key: ShardKey, folder: str, settings: Settings, ids: frozenset[str]) -> ShardResult:
    with name_place(f"shard {key.path(PATCHES)}"):
        return forget_videos(key, folder, settings.for_split(key.split), ids)
