"""The stages of `prepare_dataset`, from the files of a manifest to `dataset.json`."""

import dataclasses
from collections.abc import Mapping

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.pvalue import AsSingleton

from features.contracts import labels
from features.contracts.documents import Dataset, DatasetSplit, VocabularyReference
from features.contracts.folders import MadeBy, write_document
from features.contracts.labels import Vocabulary
from features.errors import InputError, JobFailedError
from features.storage import files
from pipelines.dataset import manifest, splits, statistics
from pipelines.dataset.counts import CorpusCounts, CountVideos
from pipelines.dataset.label_names import describe_names
from pipelines.dataset.manifest_format import ManifestFormat
from pipelines.dataset.page import render_page
from pipelines.dataset.splits import CountWithExamples
from pipelines.dataset.subset_request import SubsetRequest
from pipelines.dataset.subsets import SubsetPlan, plan_subsets
from pipelines.dataset.videos import FileSummary, WriteVideos
from pipelines.dataset.vocabulary import LabelRequest, index_labels
from pipelines.runtime import rejects
from pipelines.runtime.failure import fail
from pipelines.runtime.membership import JoinJob

COVERAGE = "coverage.parquet"
PAGE = "dataset.html"
TRANSFORM = "transform"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetJob:
    """What the command knows before any video is read.

    Attributes:
      output: DATASET.
      temp_dir: folder for the analysis of labels.
      made_by: the command.
      manifest: path or pattern of the manifest.
      paths: files of the manifest.
      layout: the columns of the manifest.
      labels: the requested labels.
      subsets: the requested subsets.
      present_shards: split -> group -> shards that an earlier run left in `output`.
    """

    output: str
    temp_dir: str
    made_by: MadeBy
    manifest: str
    paths: tuple[str, ...]
    layout: ManifestFormat
    labels: LabelRequest
    subsets: SubsetRequest
    present_shards: Mapping[str, Mapping[str, int]]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DatasetResults:
    """What the stages found, for `finish`.

    Attributes:
      vocabulary: the labels, whose file is written.
      counts: of all videos.
      plan: groups and shards.
      summary: of the files of `videos/`.
      straddling: origins with videos in more than one split.
      rejects: reason -> rows.
    """

    vocabulary: Vocabulary
    counts: CorpusCounts
    plan: SubsetPlan
    summary: FileSummary
    straddling: CountWithExamples
    rejects: Mapping[str, int]


def build(pipeline: beam.Pipeline, job: DatasetJob) -> None:
    """Add all stages to a pipeline."""
    rows = (
        pipeline
        | "Manifests" >> beam.Create(job.paths)
        | "SpreadFiles" >> beam.Reshuffle()
        | "Divide" >> beam.FlatMap(manifest.divide)
        | "SpreadPieces" >> beam.Reshuffle()
        | JoinJob()
        | "Read" >> beam.ParDo(manifest.ReadManifest(job.layout)).with_outputs(main="videos")
    )
    placed = rows.videos | "AssignSplits" >> beam.FlatMap(splits.assign_splits).with_outputs(
        main="videos"
    )
    if job.labels.known:
        vocabulary = pipeline | "Vocabulary" >> beam.Create([job.labels.known])
    else:
        # TensorFlow takes seconds of the start of a process, and a known vocabulary needs none.
        from pipelines.dataset.label_analysis import BuildVocabulary

        vocabulary = placed.videos | "Vocabulary" >> BuildVocabulary(
            files.join(job.output, TRANSFORM), job.temp_dir, job.labels
        )
    indexed = placed.videos | "IndexLabels" >> beam.FlatMap(
        index_labels, vocabulary=AsSingleton(vocabulary)
    ).with_outputs(main="videos")
    counts = indexed.videos | "Count" >> beam.CombineGlobally(CountVideos(job.subsets))
    plan = counts | "PlanSubsets" >> beam.Map(_plan_subsets, AsSingleton(vocabulary), job)
    results = {
        "vocabulary": vocabulary | "WriteLabels" >> beam.Map(_write_labels, job.output),
        "counts": counts,
        "plan": plan,
        "summary": indexed.videos | "Videos" >> WriteVideos(job.output, plan),
        "straddling": placed[splits.ORIGINS] | splits.FindStraddling(),
        "rejects": (rows[manifest.REJECTED], indexed[manifest.REJECTED])
        | "AllRejects" >> beam.Flatten()
        | "Rejects" >> rejects.WriteRejects(job.output),
    }
    _ = (
        pipeline
        | "Job" >> beam.Create([job])
        | "Finish"
        >> beam.Map(
            lambda job, **found: finish(job, DatasetResults(**found)),
            **{name: AsSingleton(result) for name, result in results.items()},
        )
    )


def _plan_subsets(counts: CorpusCounts, vocabulary: Vocabulary, job: DatasetJob) -> SubsetPlan:
    try:
        return plan_subsets(counts, len(vocabulary), job.subsets, job.present_shards)
    except InputError as error:
        fail(job.output, error)


def _write_labels(vocabulary: Vocabulary, output: str) -> Vocabulary:
    files.write_bytes(files.join(output, labels.FILE_NAME), vocabulary.to_bytes())
    return vocabulary


def finish(job: DatasetJob, results: DatasetResults) -> None:
    """Check the counts and write `dataset.json`, or fail the job.

    Raises:
      InputError: the manifest has an id twice, or an origin in two splits.
      JobFailedError: no row of the manifest could be used.
    """
    if error := find_error(results, job):
        fail(job.output, error)
    coverage = statistics.coverage_table(
        results.vocabulary, results.counts, results.summary.label_videos, job.subsets
    )
    with files.atomic_write(files.join(job.output, COVERAGE)) as file:
        pq.write_table(coverage, file)
    document = describe(job, results, coverage)
    page = render_page(document, coverage)
    files.write_bytes(files.join(job.output, PAGE), page.encode())
    write_document(job.output, document)


def find_error(results: DatasetResults, job: DatasetJob) -> InputError | JobFailedError | None:
    """The reason why the rows of a manifest make no data set, if there is one."""
    if not results.summary.num_videos:
        split = job.labels.count_split
        if split is not None and not results.vocabulary.num_videos:
            return InputError(
                f"--count-split {split}: no row with labels is of this split; leave the flag out, "
                "or see the split column of the manifest"
            )
        return JobFailedError(
            f"none of the {sum(results.rejects.values())} rows can be used: "
            f"{dict(results.rejects)}; see {files.join(job.output, 'rejects')}"
        )
    duplicates, straddling = results.summary.duplicates, results.straddling
    if duplicates.count:
        return InputError(
            f"column id: {duplicates.count} rows repeat an id of another row: {duplicates}; an id "
            "may occur once, since a soundtrack in two splits would be evaluated on what it was "
            "trained on: remove the rows"
        )
    if straddling.count:
        return InputError(
            f"column group: {straddling.count} groups have videos in more than one split: "
            f"{straddling}; the network would be evaluated on what it was trained on: put each "
            "group into one split, or leave the split of all its videos to the hash"
        )
    return None


def describe(job: DatasetJob, results: DatasetResults, coverage: pa.Table) -> Dataset:
    """The content of `dataset.json`."""
    vocabulary, plan = results.vocabulary, results.plan
    num_videos = sum(results.summary.num_videos.values())
    num_rejects = sum(results.rejects.values())
    num_groups = {
        split: {group: results.summary.num_videos.get((split, group), 0) for group in groups}
        for split, groups in plan.num_shards.items()
    }
    names = job.labels.names
    return Dataset(
        made_by=job.made_by,
        manifest=job.manifest,
        fingerprint=f"{results.summary.digest % 2**64:016x}",
        vocabulary=VocabularyReference(
            num_labels=len(vocabulary),
            fingerprint=vocabulary.fingerprint,
            **({} if names is None else describe_names(names, vocabulary.ids)),
        ),
        num_rows=num_videos + num_rejects,
        num_videos=num_videos,
        num_rejects=num_rejects,
        rejects=results.rejects,
        splits={
            split: DatasetSplit(
                num_videos=sum(num_groups[split].values()),
                num_videos_by_group=num_groups[split],
                num_shards=shards,
            )
            for split, shards in sorted(plan.num_shards.items())
        },
        subsets=plan.subsets,
        balanced_sets=statistics.balanced_sets(coverage, job.subsets, plan, num_groups),
        statistics=statistics.describe_corpus(results.counts, vocabulary),
    )
