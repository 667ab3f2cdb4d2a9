"""The Beam stages of jobs that write FEATURES.

Only rows of videos (about 200 bytes) are grouped; patches never leave the element that makes them.
"""

import dataclasses
import functools
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import AsDict, AsSingleton

from features import terminal
from features.contracts import folders, labels, progress, sharding, shards
from features.contracts.documents import Features
from features.contracts.forgotten import read_forgotten
from features.contracts.sharding import ShardKey
from features.contracts.shards import PATCHES, RECORDS_SUFFIX
from features.contracts.videos import VIDEO_FILES, Video, read_videos
from features.errors import TooManyRejectsError
from features.sound.decoder_version import describe_mixture
from features.storage import files
from pipelines.extraction.indexing import WriteIndexes
from pipelines.extraction.patches import Mode, Settings, ShardPlan, ShardResult, extract_shard
from pipelines.extraction.totals import (
    FeaturesJob,
    count_result,
    describe_rejects,
    finish,
    measure_result,
)
from pipelines.runtime import launch, rejects
from pipelines.runtime.counters import CountElements
from pipelines.runtime.failure import fail, name_place
from pipelines.runtime.process_pool import MapOnWorkers
from pipelines.runtime.progress import progress_line
from pipelines.runtime.rejects import list_rejects

# Standard deviations that the rejects of a random sample may exceed their limit by.
_SAMPLING_ERROR = 5


def write_features(
    shards_transform: beam.PTransform,
    begin: Callable[[], None],
    job: FeaturesJob,
    options: PipelineOptions,
) -> None:
    """Run a job that writes FEATURES, and print a summary.

    Args:
      shards_transform: the beginning of the pipeline, which gives one `ShardResult` for each shard.
      begin: writes what the shards are planned with, before they are.
      job: what the command knows of the job.
      options: of the pipeline.

    Raises:
      JobFailedError: see `finish`, and the stages of `shards_transform`.
    """
    output = job.output
    keys = [key for split in job.num_shards for key in sharding.keys(split, job.num_shards[split])]

    def clear() -> None:
        progress.begin(output, Features.FILE, total=len(keys), kind=PATCHES)
        begin()
        # The root JSON goes first: from here on the folder is unfinished. Shards of this plan stay:
        # their sidecars decide whether they are kept.
        files.delete(files.join(output, Features.FILE))
        rejects.remove_rejects(output)
        shards.remove_leftovers(output, keys, kinds=(PATCHES,))
        labels.copy_vocabulary(job.source, output)

    measure = functools.partial(measure_result, hop_seconds=job.request.front_end.patch_hop_seconds)

    def build(pipeline: beam.Pipeline) -> None:
        results = (
            pipeline
            | "Extract" >> shards_transform
            | "Counters" >> CountElements("extract", measure, tallies=True)
        )
        totals = (
            results | "Count" >> beam.FlatMap(count_result) | "AddCounts" >> beam.CombinePerKey(sum)
        )
        reject_counts = (
            results
            | "ListRejects" >> beam.FlatMap(lambda result: list_rejects(result.sidecar))
            | "Rejects" >> rejects.WriteRejects(output)
        )
        indexes = (
            results
            | "Sidecars" >> beam.Map(lambda result: result.sidecar)
            | "Index" >> WriteIndexes(output)
        )
        _ = (
            pipeline
            | "Job" >> beam.Create([job])
            | "Finish"
            >> beam.Map(finish, AsDict(totals), AsSingleton(reject_counts), AsDict(indexes))
        )

    with progress_line("shards", len(keys), lambda: progress.find_done(output)):
        launch.run(build, options, output, clear=clear, tidy=lambda: _tidy(output))
    _report(folders.read_document(output, Features), job.shown_output)


def _tidy(output: str) -> None:
    shards.remove_partial_files(output)
    progress.end(output)


def _report(document: Features, shown_output: str) -> None:
    hours = document.num_patches * document.front_end.patch_hop_seconds / 3600
    terminal.report(
        f"{document.num_videos} videos = {document.num_written} written + {document.num_rejects} "
        f"rejected; {document.num_patches} patches, {hours:.2f} hours",
        dict(document.rejects),
        shown_output,
    )
    if note := describe_mixture(document.decoders):
        print(note, file=sys.stderr)
    for name, split in document.splits.items():
        if split.num_drawn_from is not None and split.num_drawn_from <= split.num_patches:
            print(
                f"note: no soundtrack of {name} has more than --patches-per-video "
                f"{document.patches_per_video} patches: all were written; give a smaller number",
                file=sys.stderr,
            )


@dataclasses.dataclass(eq=False)
class ExtractShards(beam.PTransform):
    """A `ShardResult` for each shard of a job.

    Attributes:
      dataset: the DATASET folder.
      output: the FEATURES folder.
      num_shards: split -> group -> number of shards.
      settings, mode: of the extraction.
      num_workers: processes of this machine.
    """

    dataset: str
    output: str
    num_shards: Mapping[str, Mapping[str, int]]
    settings: Settings
    mode: Mode
    num_workers: int

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Group rows by shard; the grouping also spreads the shards over the workers."""
        videos = (
            pipeline
            | "Files" >> beam.Create(files.list_files(self.dataset, VIDEO_FILES))
            | "SpreadFiles" >> beam.Reshuffle()
            | "ReadVideos" >> beam.FlatMap(read_videos, self.num_shards)
        )
        # The hash may leave a shard of a small corpus without a video; it gets a file all the same.
        every_shard = (
            pipeline
            | "Splits" >> beam.Create(list(self.num_shards.items()))
            | "EveryShard" >> beam.FlatMap(_list_shards, self.output)
        )
        # Here, within the lease of the folder, since a removal may have ended just before.
        mode = dataclasses.replace(self.mode, forgotten=read_forgotten(self.output))
        extract = functools.partial(_extract, output=self.output, mode=mode)
        return (
            {"videos": videos, "listed_bytes": every_shard}
            | "GroupByShard" >> beam.CoGroupByKey()
            | "Plan" >> beam.Map(_plan, self.settings)
            | "ExtractShard" >> MapOnWorkers(extract, self.num_workers)
            | "CountRejects" >> beam.ParDo(_LimitRejects(self.output, self.mode))
        )


def _list_shards(
    split_and_shards: tuple[str, Mapping[str, int]], output: str
) -> Iterator[tuple[tuple, int | None]]:
    """Shards of a split and the bytes of their record files, by one listing for all of them."""
    split, num_shards = split_and_shards
    present = files.list_sizes(output, f"{split}/*/{PATCHES}-*{RECORDS_SUFFIX}")
    for key in sharding.keys(split, num_shards):
        path = files.join(output, key.path(PATCHES)) + RECORDS_SUFFIX
        yield dataclasses.astuple(key), present.get(path)


def _plan(
    keyed: tuple[tuple, Mapping[str, Iterable]], settings: Settings
) -> tuple[ShardPlan, int | None]:
    """The plan of a shard, and the bytes of its record file in the listing."""
    key, grouped = keyed
    shard = ShardKey(*key)
    rows = (row for rows in grouped["videos"] for row in rows)
    videos = sorted((Video(*row) for row in rows), key=lambda video: video.id)
    (listed_bytes,) = grouped["listed_bytes"]
    return ShardPlan(shard, tuple(videos), settings.for_split(shard.split)), listed_bytes


def _extract(planned: tuple[ShardPlan, int | None], output: str, mode: Mode) -> ShardResult:
    plan, listed_bytes = planned
    with name_place(f"shard {plan.key.path(PATCHES)}"):
        return extract_shard(plan, output, mode, listed_bytes)


@dataclasses.dataclass(eq=False)
class _LimitRejects(beam.DoFn):
    """Passes results on, and fails the job as soon as too many videos are surely rejected."""

    output: str
    mode: Mode
    num_videos: int = 0
    num_rejects: int = 0

    def process(self, result: ShardResult) -> Iterator[ShardResult]:
        self.num_videos += result.sidecar.num_videos
        self.num_rejects += sum(1 for _ in list_rejects(result.sidecar))
        # The shards so far are a random sample of the videos.
        limit = self.mode.max_reject_fraction
        expected = limit * self.num_videos
        margin = _SAMPLING_ERROR * math.sqrt(expected * (1 - limit)) + _SAMPLING_ERROR
        if self.num_rejects > expected + margin:
            message = describe_rejects(self.num_rejects, self.num_videos, limit, self.output)
            fail(self.output, TooManyRejectsError(f"stopped early: {message}"))
        yield result
