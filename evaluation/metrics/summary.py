"""The results of `evaluate`: `metrics.json` and its tables."""

import collections
import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.metrics import jackknife
from evaluation.metrics.class_interval import auc_interval
from evaluation.metrics.jackknife import LeftOut
from evaluation.metrics.origins import MIN_ORIGINS
from evaluation.metrics.passes import Measurement
from evaluation.metrics.selection import SelectedScores
from features import ranking
from features.contracts import folders
from features.contracts.documents import Intervals, Metrics, UndefinedClass
from features.contracts.folders import MadeBy
from features.contracts.labels import Vocabulary
from features.errors import InputError
from features.ranking import ClassMetrics
from features.storage import files
from pipelines.runtime.failure import fail

PER_CLASS, MISSING, LEFT_OUT = "per_class.parquet", "missing.parquet", "left_out.parquet"
_MAX_NAMED = 5  # labels in a message


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluationRequest:
    """A checked call of `evaluate`.

    Attributes:
      made_by: the command.
      scores: what is evaluated.
      subset: of the videos; None for all.
      allow_two_values: whether scores with at most two values are accepted.
      output: the REPORT folder.
    """

    made_by: MadeBy
    scores: SelectedScores
    subset: str | None
    allow_two_values: bool
    output: str


@dataclasses.dataclass(frozen=True)
class Headline:
    """Class-balanced means (section 3.2), over the classes that have metrics."""

    mean_auc: float
    mean_ap: float

    @classmethod
    def of(cls, classes: ClassMetrics) -> "Headline":
        """Average the metrics of the classes, of which at least one is defined."""
        defined = classes.defined
        return cls(float(classes.auc[defined].mean()), float(classes.ap[defined].mean()))

    @property
    def d_prime(self) -> float:
        """The d' of the mean AUC, as in the paper's tables."""
        return float(ranking.d_prime(self.mean_auc))


def finish(measurement: Measurement, request: EvaluationRequest) -> None:
    """The last stage of `evaluate`: write the tables and `metrics.json`.

    Raises:
      InputError: the scores cannot be evaluated.
    """
    selected = request.scores
    try:
        require_rankings(
            measurement,
            selected.vocabulary,
            where=selected.selection.folder,
            allow_two_values=request.allow_two_values,
        )
        metrics = summarise(measurement, request)
    except InputError as error:
        fail(request.output, error)
    for name, table in (
        (PER_CLASS, per_class_table(measurement, selected.vocabulary)),
        (MISSING, missing_table(measurement.coverage.missing)),
        (LEFT_OUT, left_out_table(measurement.left_out)),
    ):
        with files.atomic_write(files.join(request.output, name)) as file:
            pq.write_table(table, file)
    folders.write_document(request.output, metrics)


def require_rankings(
    measurement: Measurement, vocabulary: Vocabulary, *, where: str, allow_two_values: bool
) -> None:
    """Require that AUC and AP are meaningful for the scores.

    Args:
      measurement: of the scores.
      vocabulary: of the scores, for messages.
      where: SCORES, for messages.
      allow_two_values: whether scores with at most two values are accepted.

    Raises:
      InputError: no class has a positive and a negative, or the scores of a class have at most two
        values, probably because of a threshold.
    """
    classes = measurement.classes
    num_videos = measurement.coverage.num_videos
    if not classes.defined.any():
        raise InputError(
            f"{where}: no class has both a positive and a negative among {num_videos} videos; "
            "evaluate a larger set"
        )
    binary = np.flatnonzero(classes.defined & ~measurement.has_between)
    if len(binary) and num_videos > 2 and not allow_two_values:
        named = ", ".join(
            f"{vocabulary.ids[label]!r} "
            f"({measurement.lowest[label]:g}, {measurement.highest[label]:g})"
            for label in binary[:_MAX_NAMED]
        )
        raise InputError(
            f"{where}: the scores of {len(binary)} of {len(vocabulary)} labels have at most two "
            f"values: {named}{', ...' if len(binary) > _MAX_NAMED else ''}; AUC and AP measure a "
            "ranking: pass scores before thresholding, or --allow-two-values if they really are "
            "binary"
        )


def summarise(measurement: Measurement, request: EvaluationRequest) -> Metrics:
    """The content of `metrics.json`.

    Raises:
      InputError: intervals are by origin, and too many pairs of videos share one.
    """
    scores, vocabulary = request.scores.document, request.scores.vocabulary
    coverage, classes = measurement.coverage, measurement.classes
    expected, defined = request.scores.num_videos_expected, classes.defined
    headline = Headline.of(classes)
    class_d_prime = np.asarray(ranking.d_prime(classes.auc[defined]))
    finite = np.isfinite(class_d_prime)
    outcomes = collections.Counter(outcome for _, outcome in coverage.missing)
    return Metrics(
        made_by=request.made_by,
        scores=request.scores.selection.folder,
        recipe=scores.recipe,
        set=scores.split,
        subset=request.subset,
        num_videos_expected=expected,
        fingerprints={
            "features": scores.features_fingerprint,
            "front end": scores.front_end_fingerprint,
            "model": scores.model_fingerprint,
            "vocabulary": vocabulary.fingerprint,
        },
        num_videos=coverage.num_videos,
        num_missing=expected - coverage.num_videos,
        missing=dict(sorted(outcomes.items())),
        num_unlabelled=coverage.num_videos - coverage.num_labelled,
        num_labelled=coverage.num_labelled,
        # A video without an evaluated label has no right answer, as in validation.
        accuracy_1best=coverage.num_top_correct / coverage.num_labelled,
        num_labels=len(vocabulary),
        num_classes_evaluated=int(defined.sum()),
        undefined_classes=tuple(
            UndefinedClass(
                label=int(label),
                name=vocabulary.names[label],
                reason="no positive" if classes.positives[label] == 0 else "no negative",
            )
            for label in np.flatnonzero(~defined)
        ),
        mean_auc=headline.mean_auc,
        d_prime=finite_or_none(headline.d_prime),
        mean_ap=headline.mean_ap,
        intervals=_intervals(headline, measurement),
        # Some papers report this mean instead; it is not comparable with `d_prime`.
        mean_class_d_prime=float(class_d_prime[finite].mean()) if finite.any() else None,
        num_classes_infinite_d_prime=int((~finite).sum()),
        prior_mean_ap=float(classes.priors[defined].mean()),
    )


def _intervals(headline: Headline, measurement: Measurement) -> Intervals:
    left_out, num_videos = measurement.left_out, measurement.coverage.num_videos
    shared = measurement.shared_origins()
    auc = jackknife.auc_interval(headline.mean_auc, left_out.mean_auc, num_videos, shared)
    return Intervals(
        mean_auc=auc,
        d_prime=auc and (float(ranking.d_prime(auc[0])), float(ranking.d_prime(auc[1]))),
        mean_ap=jackknife.ap_interval(headline.mean_ap, left_out.mean_ap, num_videos, shared),
        **describe_interval(measurement),
    )


def describe_interval(measurement: Measurement) -> dict[str, Any]:
    """The fields of `Intervals` that say how the intervals were made."""
    by_origin = bool(measurement.num_origins)
    return {
        "confidence": jackknife.CONFIDENCE,
        "num_videos_left_out": len(measurement.left_out.video_ids),
        "by": "origin" if by_origin else "video",
        "num_origins": measurement.num_origins if by_origin else None,
        "num_without_origin": measurement.coverage.num_without_origin if by_origin else None,
    }


def explain_interval(intervals: Intervals) -> tuple[str, str | None]:
    """In words: what the intervals are by, and a warning if there are too few origins."""
    if intervals.num_origins is None:
        return "by video, as if all videos were independent", None
    without = f"{intervals.num_without_origin} videos without an origin count as their own"
    found = f"by origin: {intervals.num_origins} origins; {without}"
    if intervals.num_origins >= MIN_ORIGINS:
        return found, None
    return found, (
        f"{intervals.num_origins} origins are too few for reliable intervals, which need "
        f"{MIN_ORIGINS}: evaluate videos of more origins"
    )


def per_class_table(measurement: Measurement, vocabulary: Vocabulary) -> pa.Table:
    """The content of `per_class.parquet`; null where a metric is undefined."""
    classes, origins = measurement.classes, measurement.effective_origins
    undefined = ~classes.defined
    low, high = auc_interval(classes.auc, classes.positives, classes.negatives)
    return pa.table(
        {
            "label": np.arange(len(vocabulary), dtype=np.int32),
            "label_id": list(vocabulary.ids),
            "name": list(vocabulary.names),
            "prior": vocabulary.priors,
            "positives": classes.positives,
            "negatives": classes.negatives,
            "effective_origins": pa.array(origins, mask=np.isnan(origins)),
            "auc": pa.array(classes.auc, mask=undefined),
            "auc_low": pa.array(low, mask=undefined),
            "auc_high": pa.array(high, mask=undefined),
            "d_prime": pa.array(ranking.d_prime(classes.auc), mask=undefined),
            "ap": pa.array(classes.ap, mask=undefined),
        }
    )


def missing_table(missing: tuple[tuple[str, str], ...]) -> pa.Table:
    """The content of `missing.parquet`, from (id, outcome) of the videos without scores."""
    return pa.table(
        {
            "video_id": pa.array([video_id for video_id, _ in missing], pa.string()),
            "outcome": pa.array([outcome for _, outcome in missing], pa.string()),
        }
    )


def left_out_table(left_out: LeftOut) -> pa.Table:
    """The content of `left_out.parquet`: the means over the classes without each of some videos."""
    return pa.table(
        {
            "video_id": pa.array(left_out.video_ids, pa.string()),
            "origins": pa.array(left_out.origins, pa.list_(pa.string())),
            "mean_auc": left_out.mean_auc,
            "mean_ap": left_out.mean_ap,
        }
    )


def read_left_out(report: str) -> LeftOut:
    """Read `left_out.parquet` of a REPORT, for intervals of sums and differences of reports."""
    with files.open_read(files.join(report, LEFT_OUT)) as file:
        table = pq.read_table(file)
    return LeftOut(
        tuple(table["video_id"].to_pylist()),
        tuple(map(tuple, table["origins"].to_pylist())),
        table["mean_auc"].to_numpy(),
        table["mean_ap"].to_numpy(),
    )


def finite_or_none(value: float) -> float | None:
    """None for a number that JSON does not have, such as the infinite d' of AUC 1."""
    return value if np.isfinite(value) else None
