"""The JSON files that one package writes and another reads, one frozen dataclass each.

A file that only one package reads is declared beside the code that owns it, in the same way: a
frozen, keyword-only dataclass of `typed_json.Document` with FILE and MAKER, the keys of the file as
fields in the order of the file, and a table in docs/data_contracts.md that
tests/features/contracts/test_documents.py compares with the fields.

`read_document`, `find_document` and `write_document` of `folders` read and write the files at the
root of a folder; `shards` reads and writes sidecars.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from features.contracts import folders
from features.contracts.folders import MadeBy
from features.contracts.sharding import ShardKey
from features.front_end.front_end import FrontEnd
from features.sound.decoder_version import UNKNOWN_DECODER, DecoderVersion
from features.sound.outcome import Outcome
from features.typed_json import OMIT_DEFAULT, OMIT_NONE, Document


@dataclasses.dataclass(frozen=True, kw_only=True)
class VocabularyReference:
    """Which labels a folder is about; `labels.parquet` beside the document has the labels.

    Attributes:
      num_labels: number of labels.
      fingerprint: of their ids in order.
      num_unnamed_labels: labels that `--label-names` has no name for; None without that file.
      num_unused_names: names of `--label-names` without a label; None without that file.
    """

    num_labels: int
    fingerprint: str
    num_unnamed_labels: int | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    num_unused_names: int | None = dataclasses.field(default=None, metadata=OMIT_NONE)


# DATASET


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetSplit:
    """A split of a data set; `num_videos_by_group` and `num_shards` are by group."""

    num_videos: int
    num_videos_by_group: Mapping[str, int]
    num_shards: Mapping[str, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExamplesPerClass:
    """How many videos of a balanced set have a label, over its labels."""

    min: int
    median: float
    mean: float
    max: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class BalancedSet:
    """How close a balanced set comes to the requested number of examples of each class.

    Attributes:
      num_videos: videos of the set.
      num_labels: number of labels, the most frequent ones.
      examples_per_class: requested examples of each label.
      num_short: labels with fewer examples than requested.
      num_without_example: labels without any.
      examples: how many the labels have.
      num_double: labels with at least twice as many as requested.
      most: label id -> videos, of the labels with the most.
    """

    num_videos: int
    num_labels: int
    examples_per_class: int
    num_short: int
    num_without_example: int
    examples: ExamplesPerClass
    num_double: int
    most: Mapping[str, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelsPerVideo:
    """The mean, and number of labels -> number of videos."""

    mean: float
    histogram: Mapping[str, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitStatistics:
    """Durations and labels of a split.

    Attributes:
      hours: of all videos; a video of unknown length counts as the paper's average.
      num_known_lengths: videos whose length the manifest gives.
      known_hours: of those videos.
      num_labels: labels that occur.
      num_absent_labels: labels that do not.
    """

    hours: float
    num_known_lengths: int
    known_hours: float
    num_labels: int
    num_absent_labels: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class LengthHistogram:
    """Videos of known length by upper end of the bin; the last bin, None, has no end."""

    upper_seconds: tuple[int | None, ...]
    num_videos: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CoOccurrence:
    """Videos that have both of two labels: the most frequent labels, and a square matrix."""

    labels: tuple[str, ...]
    num_videos: tuple[tuple[int, ...], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetStatistics:
    """Statistics of all videos of a data set; `splits` is by split."""

    labels_per_video: LabelsPerVideo
    splits: Mapping[str, SplitStatistics]
    lengths: LengthHistogram
    co_occurrence: CoOccurrence


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset(Document):
    """`dataset.json` at the root of DATASET.

    Attributes:
      made_by: the command.
      manifest: path or pattern of the manifest.
      fingerprint: of all rows of `videos/`.
      vocabulary: of the labels.
      num_rows: rows of the manifest: `num_videos` + `num_rejects`.
      num_videos: usable rows.
      num_rejects: rejected rows.
      rejects: reason -> rows.
      splits: by split.
      subsets: split -> subset -> its groups, in order.
      balanced_sets: by name, the number of labels.
      statistics: of all videos.
    """

    FILE: ClassVar[str] = folders.DATASET
    MAKER: ClassVar[str] = folders.MAKERS[FILE]

    made_by: MadeBy
    manifest: str
    fingerprint: str
    vocabulary: VocabularyReference
    num_rows: int
    num_videos: int
    num_rejects: int
    rejects: Mapping[str, int]
    splits: Mapping[str, DatasetSplit]
    subsets: Mapping[str, Mapping[str, tuple[str, ...]]]
    balanced_sets: Mapping[str, BalancedSet]
    statistics: DatasetStatistics


# FEATURES


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchCounts:
    """Videos (the rejected ones included), patches, and bytes of the record files."""

    num_videos: int
    num_patches: int
    num_bytes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeaturesSplit(PatchCounts):
    """A split of features.

    Attributes:
      num_drawn_from: patches of the soundtracks that the patches were drawn from; None if all
        patches were taken, and in older folders.
      num_shards: by group.
      groups: by group.
      fingerprint: of the records, without their padding.
      index_fingerprint: of the indexes of the groups; None for a split without indexes, as all
        splits but that of training, and of older folders also that.
    """

    num_drawn_from: int | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    num_shards: Mapping[str, int]
    groups: Mapping[str, PatchCounts]
    fingerprint: str
    index_fingerprint: str | None = dataclasses.field(default=None, metadata=OMIT_NONE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """The cost of the last extraction that decoded anything.

    Attributes:
      num_decoded: decoded videos.
      cpu_seconds: of workers and decoders.
      wall_seconds: of the whole job.
      num_workers: processes of this machine.
    """

    num_decoded: int
    cpu_seconds: float
    wall_seconds: float
    num_workers: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeaturesRequest:
    """The first fields of `features.json`, which are known before any shard is made.

    Attributes:
      made_by: the command.
      features, features_fingerprint: the embedded features; None for log-mel patches.
      run: of the network that made the embeddings; None for log-mel patches.
      network: folder of the network that made the embeddings of media; None for other features.
      card: `--card` of the command, a name or an absolute path; None for the card in `network`.
      dataset, dataset_fingerprint: the data set.
      vocabulary: of the labels.
      front_end, front_end_fingerprint: from a waveform to stored patches.
      seed: of the order of records and of the choice of patches.
      keep_partial: whether the good part of a truncated soundtrack is kept.
      patches_per_video: patches drawn of each soundtrack; None for all.
      sampled_splits: the splits that patches are drawn in; None for all.
      only_subset: `--subset` of the command; older folders do not have it.
      subsets: split -> subset -> its groups, the complete ones; older folders do not have it.
      num_videos_planned: videos of the extracted groups.
    """

    made_by: MadeBy
    features: str | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    features_fingerprint: str | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    run: str | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    network: str | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    card: str | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    dataset: str
    dataset_fingerprint: str
    vocabulary: VocabularyReference
    front_end: FrontEnd
    front_end_fingerprint: str
    seed: int
    keep_partial: bool
    patches_per_video: int | None = None
    sampled_splits: tuple[str, ...] | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    only_subset: tuple[str, ...] = ()
    subsets: Mapping[str, Mapping[str, tuple[str, ...]]] = dataclasses.field(default_factory=dict)
    num_videos_planned: int

    def is_sampled(self, split: str) -> bool:
        """Whether a split has only a few patches of each soundtrack."""
        return self.patches_per_video is not None and (
            self.sampled_splits is None or split in self.sampled_splits
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Features(FeaturesRequest, Document):
    """`features.json` at the root of FEATURES, of log-mel patches or of embeddings.

    Attributes:
      fingerprint: of the records of all splits.
      num_videos: `num_written` + `num_rejects`.
      num_written: videos with patches.
      num_rejects: videos without.
      rejects: outcome -> videos.
      num_patches: patches of all splits.
      splits: by split.
      decoders: what the soundtracks of all shards were decoded with; older folders do not say it.
      work: what the extraction took; None if unknown, as in older folders and for embeddings.
    """

    FILE: ClassVar[str] = folders.FEATURES
    MAKER: ClassVar[str] = folders.MAKERS[FILE]

    fingerprint: str
    num_videos: int
    num_written: int
    num_rejects: int
    rejects: Mapping[str, int]
    num_patches: int
    splits: Mapping[str, FeaturesSplit]
    decoders: tuple[DecoderVersion, ...] = dataclasses.field(default=(), metadata=OMIT_DEFAULT)
    work: Work | None = None

    def _to_plain(self) -> dict[str, Any]:
        document = super()._to_plain()
        if self.run is None:
            return document
        # Format version 1 has the front end of embeddings after the subsets.
        moved = {key: document.pop(key) for key in ("front_end", "front_end_fingerprint")}
        place = list(document).index("num_videos_planned")
        items = list(document.items())
        return dict([*items[:place], *moved.items(), *items[place:]])


Precision = Literal["float32", "bfloat16", "int8"]
Device = Literal["cpu", "gpu"]
RuntimeName = Literal["openvino", "tensorflow", "ai-edge-litert", "onnxruntime"]


@dataclasses.dataclass(frozen=True)
class InferenceRuntime:
    """What applies a network; outputs of two that differ are not equal to the last bit.

    Attributes:
      name: package.
      version: of the package.
      precision: of the layers between the input and the outputs.
      weights: fingerprint of int8 weights, which depend on their calibration; None for those of the
        export.
      device: that computes the layers.
    """

    name: RuntimeName
    version: str
    precision: Precision
    weights: str | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    device: Device = dataclasses.field(default="cpu", metadata=OMIT_DEFAULT)

    def __str__(self) -> str:
        weights = f" of weights {self.weights}" if self.weights else ""
        device = " on a GPU" if self.device == "gpu" else ""
        return f"{self.name} {self.version} in {self.precision}{weights}{device}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbeddingsPlan(Document):
    """`plan.json` of embeddings: what their shards were planned with, finished or not.

    Attributes:
      front_end_fingerprint: as in `Features`.
      runtime: what applies the network; older folders do not have it.
    """

    FILE: ClassVar[str] = "plan.json"
    MAKER: ClassVar[str] = "python -m pipelines.extract_embeddings"
    VERSION: ClassVar[int | None] = None
    END: ClassVar[str] = ""

    front_end_fingerprint: str
    runtime: InferenceRuntime | None = dataclasses.field(default=None, metadata=OMIT_NONE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchesPlan(EmbeddingsPlan):
    """`plan.json` of log-mel patches.

    The defaults are for reading the plan of embeddings, which another front end already tells
    apart.

    Attributes:
      front_end_fingerprint, runtime: as in `EmbeddingsPlan`; log-mel has no runtime.
      keep_partial, patches_per_video, sampled_splits, seed,
        dataset_fingerprint: as in `Features`.
    """

    MAKER: ClassVar[str] = folders.MAKERS[folders.FEATURES]

    keep_partial: bool = False
    patches_per_video: int | None = None
    sampled_splits: tuple[str, ...] | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    seed: int | None = None
    dataset_fingerprint: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class BandStatistics(Document):
    """`band_statistics.json` in FEATURES: statistics over a sample of the training patches.

    Attributes:
      made_by: the command.
      features_fingerprint: of the training split.
      front_end_fingerprint: of the patches.
      num_patches: size of the sample.
      mean: of each mel band, or of each unit of an embedding.
      standard_deviation: the same; 1 for a band that never changes.
    """

    FILE: ClassVar[str] = folders.BAND_STATISTICS
    MAKER: ClassVar[str] = folders.MAKERS[FILE]

    made_by: MadeBy
    features_fingerprint: str
    front_end_fingerprint: str
    num_patches: int
    mean: tuple[float, ...]
    standard_deviation: tuple[float, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sidecar(Document):
    """Base class of the JSON beside the data of a shard, which says that the shard is finished."""

    INDENT: ClassVar[int | None] = None
    END: ClassVar[str] = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtractedVideo:
    """What became of a video.

    Attributes:
      id, uri: as in the data set.
      outcome: whether there are patches, or why not.
      detail: words of the library about a reject; else empty.
      num_patches: of the video.
      drawn_from: patches of the whole soundtrack, if patches were drawn; else None. Older folders
        do not have it.
      source: fingerprint of everything that decides the patches of the video.
      timeout_seconds: time limit that a reject of the outcome `timeout` exceeded; else None. Older
        folders do not have it.
      origins: what the video was taken from, as in the data set; older folders do not have it.
    """

    id: str
    uri: str
    outcome: Outcome
    detail: str
    num_patches: int
    drawn_from: int | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    source: str
    timeout_seconds: float | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    origins: tuple[str, ...] = dataclasses.field(default=(), metadata=OMIT_DEFAULT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchShard(Sidecar):
    """The sidecar of a shard of features.

    Attributes:
      plan: fingerprint of everything that decides the bytes of the shard.
      key: split, group, index and number of shards.
      num_videos: videos, the rejected ones included.
      num_patches: records.
      num_bytes: size of the record file.
      record_bytes: length of each record, with its padding and without the framing of the file;
        None where records are not padded.
      sha256: of the records, without padding and framing.
      decoders: what the soundtracks were decoded with; older folders do not have it.
      videos: in order of id.
    """

    FILE: ClassVar[str] = "patches-*.json"
    MAKER: ClassVar[str] = folders.MAKERS[folders.FEATURES]

    plan: str
    key: ShardKey
    num_videos: int
    num_patches: int
    num_bytes: int
    record_bytes: int | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    sha256: str
    decoders: tuple[DecoderVersion, ...] = dataclasses.field(default=(), metadata=OMIT_DEFAULT)
    videos: tuple[ExtractedVideo, ...]

    def list_decoders(self) -> tuple[DecoderVersion, ...]:
        """What the soundtracks were decoded with; `UNKNOWN_DECODER` if the sidecar is older."""
        is_decoded = any(video.outcome != Outcome.FORGOTTEN for video in self.videos)
        return self.decoders or ((UNKNOWN_DECODER,) if is_decoded else ())


# RUN


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run(Document):
    """`run.json` at the root of RUN.

    Attributes:
      made_by: the last command.
      recipe: the fields of `training.config.Recipe`.
      recipe_fingerprint: of the recipe.
      features, features_fingerprint: what the network was trained on; the fingerprint is that of
        the training split.
      front_end_fingerprint: of the patches that the network takes.
      vocabulary: the labels of the outputs, a prefix of the features' vocabulary.
      skipped_shards: paths of damaged shards that were left out.
      steps: mini-batches of all commands together.
      metrics: of the last command, by name; None where there was nothing to measure.
    """

    FILE: ClassVar[str] = folders.RUN
    MAKER: ClassVar[str] = folders.MAKERS[FILE]

    made_by: MadeBy
    recipe: Mapping[str, Any]
    recipe_fingerprint: str
    features: str
    features_fingerprint: str
    front_end_fingerprint: str
    vocabulary: VocabularyReference
    skipped_shards: tuple[str, ...]
    steps: int
    metrics: Mapping[str, int | float | None]


VALIDATION_MAP = "validation_mean_average_precision"  # in `Run.metrics`


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweptRun:
    """A run of a sweep.

    Attributes:
      folder: of the run.
      values: of the swept fields and flags, as given.
      steps: of the run; None if it failed.
      metrics: of run.json; empty if the run failed.
      error: None if the run did not fail.
    """

    folder: str
    values: Mapping[str, str]
    steps: int | None
    metrics: Mapping[str, int | float | None]
    error: str | None

    @property
    def mean_average_precision(self) -> float:
        """The mAP of the validation subset; NaN if there is none."""
        value = self.metrics.get(VALIDATION_MAP)
        return math.nan if value is None else value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep(Document):
    """`sweep.json` beside the runs of a sweep.

    Attributes:
      made_by: the command.
      features, features_fingerprint: what the runs were trained on.
      recipe: name of the recipe.
      runs: in the order of the grid.
    """

    FILE: ClassVar[str] = folders.SWEEP
    MAKER: ClassVar[str] = folders.MAKERS[FILE]

    made_by: MadeBy
    features: str
    features_fingerprint: str
    recipe: str
    runs: tuple[SweptRun, ...]

    @property
    def best(self) -> SweptRun | None:
        """The first run with the highest validation mAP; None if no run has one."""
        measured = [run for run in self.runs if not math.isnan(run.mean_average_precision)]
        return max(measured, key=lambda run: run.mean_average_precision, default=None)


# SCORES


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreCounts:
    """Videos of the set, videos that have scores, their patches, and how many have an origin.

    Older folders do not have `num_with_origin`.
    """

    num_videos_expected: int
    num_videos: int
    num_patches: int
    num_with_origin: int = dataclasses.field(default=0, metadata=OMIT_DEFAULT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantisation(Document):
    """`quantisation.json` beside an int8 network: how it was calibrated, and the check.

    Attributes:
      made_by: the command.
      model_fingerprint: of the weights in float32.
      features, features_fingerprint: folder of the patches, and its training split.
      seed: of the draw of patches.
      num_patches: training patches of the calibration.
      num_validation_patches: patches of the check.
      max_map_loss: `--max-map-loss` of the command.
      map_float32, map_int8: mean average precision over the videos of these patches.
    """

    FILE: ClassVar[str] = "quantisation.json"
    MAKER: ClassVar[str] = "python -m evaluation.quantise"

    made_by: MadeBy
    model_fingerprint: str
    features: str
    features_fingerprint: str
    seed: int
    num_patches: int
    num_validation_patches: int
    max_map_loss: float
    map_float32: float
    map_int8: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoresPlan(Document):
    """`plan.json` of scores: what applies the network to their shards, finished or not."""

    FILE: ClassVar[str] = "plan.json"
    MAKER: ClassVar[str] = folders.MAKERS[folders.SCORES]

    runtime: InferenceRuntime


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoringWork:
    """The cost of the last job that scored anything.

    Attributes:
      num_patches: scored patches, without those of shards that were kept.
      cpu_seconds: of the processes that scored, without decoders.
      wall_seconds: of the whole job.
      num_workers: processes of this machine.
    """

    num_patches: int
    cpu_seconds: float
    wall_seconds: float
    num_workers: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores(Document):
    """`scores.json` at the root of SCORES, of a network or of tables of another model.

    Attributes:
      made_by: the command.
      scores_file, labels_file: the tables of another model; None for a network.
      features, features_fingerprint: what was scored; None for media and for tables.
      dataset, dataset_fingerprint: where the videos are from; None for tables.
      num_shards: by group.
      run: of the network; None for tables and for `network`.
      network: folder of a network that was not trained here; else None.
      model_fingerprint: of the weights, or of the table of scores.
      runtime: what applied the network; None for tables, and in older folders.
      recipe: the fields of `training.config.Recipe`; empty for tables.
      vocabulary: of the videos.
      num_labels: labels that have scores, the first ones of the vocabulary.
      front_end_fingerprint, patch_seconds: of the patches; None for tables.
      split: of the videos.
      subset: `--subset` of the command.
      subsets: subset -> its groups, the complete ones.
      dtype: of the scores.
      frame_scores, embeddings: whether scores and embeddings of every patch are kept.
      num_videos_expected, num_videos, num_patches, num_with_origin: as in `ScoreCounts`, of all
        groups.
      groups: by group.
      missing: outcome -> videos without scores.
      work: what the scoring took; None for tables and in older folders.
    """

    FILE: ClassVar[str] = folders.SCORES
    MAKER: ClassVar[str] = folders.MAKERS[FILE]

    made_by: MadeBy
    scores_file: str | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    labels_file: str | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    features: str | None
    features_fingerprint: str | None
    dataset: str | None
    dataset_fingerprint: str | None
    num_shards: Mapping[str, int]
    run: str | None
    network: str | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    model_fingerprint: str
    runtime: InferenceRuntime | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    recipe: Mapping[str, Any]
    vocabulary: VocabularyReference
    num_labels: int
    front_end_fingerprint: str | None
    patch_seconds: float | None
    split: str
    subset: str | None
    subsets: Mapping[str, tuple[str, ...]]
    dtype: Literal["float32", "float16"]
    frame_scores: bool
    embeddings: bool
    num_videos_expected: int
    num_videos: int
    num_patches: int
    num_with_origin: int = dataclasses.field(default=0, metadata=OMIT_DEFAULT)
    groups: Mapping[str, ScoreCounts]
    missing: Mapping[str, int]
    work: ScoringWork | None = dataclasses.field(default=None, metadata=OMIT_NONE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MissingVideo:
    """A video without scores; `outcome` is an `Outcome`, or `no_score` for tables."""

    id: str
    outcome: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreShard(Sidecar):
    """The sidecar of a shard of scores.

    Attributes:
      plan: fingerprint of everything that decides the scores of the shard; None for tables.
      group: of the shard.
      num_videos: videos that have scores.
      num_patches: of these videos.
      missing: the other videos.
      origins: id -> origins, of the videos that have scores and an origin; older folders do not
        have it.
    """

    FILE: ClassVar[str] = "scores-*.json"
    MAKER: ClassVar[str] = folders.MAKERS[folders.SCORES]

    plan: str | None
    group: str
    num_videos: int
    num_patches: int
    missing: tuple[MissingVideo, ...]
    origins: Mapping[str, tuple[str, ...]] = dataclasses.field(
        default_factory=dict, metadata=OMIT_DEFAULT
    )


# REPORT


@dataclasses.dataclass(frozen=True, kw_only=True)
class UndefinedClass:
    """A label without a positive or without a negative video, and which of the two."""

    label: int
    name: str
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Intervals:
    """Lower and upper ends of confidence intervals; None where there is no interval.

    Attributes:
      mean_auc, d_prime, mean_ap: of the metrics of these names.
      confidence: probability that an interval holds the value.
      num_videos_left_out: videos of the jackknife.
      by: what is taken to be independent: videos, or the origins that videos were taken from. Older
        folders do not have it: theirs are by video.
      num_origins: origins of the videos; a video without any counts as one. None by video.
      num_without_origin: videos without any. None by video.
    """

    mean_auc: tuple[float, float] | None
    d_prime: tuple[float, float] | None
    mean_ap: tuple[float, float] | None
    confidence: float
    num_videos_left_out: int
    by: Literal["video", "origin"] = dataclasses.field(default="video", metadata=OMIT_DEFAULT)
    num_origins: int | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    num_without_origin: int | None = dataclasses.field(default=None, metadata=OMIT_NONE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metrics(Document):
    """`metrics.json` at the root of REPORT.

    Attributes:
      made_by: the command.
      scores: the SCORES folder.
      recipe: the fields of `training.config.Recipe`; empty for tables.
      set: the split.
      subset: `--subset` of the command.
      num_videos_expected: videos of the set.
      fingerprints: of `features`, `front end`, `model` and `vocabulary`.
      num_videos: videos with scores.
      num_missing: videos without.
      missing: outcome -> videos without scores.
      num_unlabelled: videos with scores and without an evaluated label.
      num_labelled: videos with scores and an evaluated label, which `accuracy_1best` is over; None
        in older folders, where it is over all videos with scores.
      accuracy_1best: share of the videos whose highest score belongs to a label of the video.
      num_labels: evaluated labels.
      num_classes_evaluated: labels with a positive and a negative video, which the means are over.
      undefined_classes: the other labels.
      mean_auc, mean_ap: means over classes.
      d_prime: of `mean_auc`, as the paper defines it; None for an AUC of 1.
      intervals: of the metrics.
      mean_class_d_prime: mean of the d-prime of each class, without those of AUC 1.
      num_classes_infinite_d_prime: classes of AUC 1.
      prior_mean_ap: mean AP of constant scores.
    """

    FILE: ClassVar[str] = folders.METRICS
    MAKER: ClassVar[str] = folders.MAKERS[FILE]

    made_by: MadeBy
    scores: str
    recipe: Mapping[str, Any]
    set: str
    subset: str | None
    num_videos_expected: int
    fingerprints: Mapping[str, str | None]
    num_videos: int
    num_missing: int
    missing: Mapping[str, int]
    num_unlabelled: int
    num_labelled: int | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    accuracy_1best: float
    num_labels: int
    num_classes_evaluated: int
    undefined_classes: tuple[UndefinedClass, ...]
    mean_auc: float
    d_prime: float | None
    mean_ap: float
    intervals: Intervals
    mean_class_d_prime: float | None
    num_classes_infinite_d_prime: int
    prior_mean_ap: float
