"""Compare two sets of scores on the videos and the labels that both have: `comparison.json`."""

import dataclasses
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.metrics import jackknife, summary
from evaluation.metrics.passes import Measurement
from evaluation.metrics.selection import SelectedScores, Selection, read_ids, video_hashes
from evaluation.metrics.summary import Headline, finite_or_none
from features import ranking
from features.contracts import folders
from features.contracts.documents import Intervals
from features.contracts.folders import MadeBy
from features.contracts.labels import Vocabulary
from features.errors import InputError
from features.storage import files
from features.typed_json import Document
from pipelines.runtime.failure import fail


@dataclasses.dataclass(frozen=True, kw_only=True)
class Means:
    """Means over the classes; `d_prime` is None for an AUC of 1."""

    mean_auc: float
    d_prime: float | None
    mean_ap: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Overlap:
    """The first fields of `comparison.json`: what two SCORES folders have in common.

    Attributes:
      made_by: the command.
      scores_a, scores_b: the SCORES folders.
      num_videos: videos in both.
      num_videos_only_a, num_videos_only_b: videos in one of the two.
      num_labels: labels in both.
      num_labels_only_a, num_labels_only_b: labels in one of the two.
    """

    made_by: MadeBy
    scores_a: str
    scores_b: str
    num_videos: int
    num_videos_only_a: int
    num_videos_only_b: int
    num_labels: int
    num_labels_only_a: int
    num_labels_only_b: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison(Overlap, Document):
    """`comparison.json` at the root of COMPARISON.

    Attributes:
      num_classes_evaluated: labels with a positive and a negative video.
      a, b: of each.
      difference: a - b.
      intervals: of the difference.
    """

    FILE: ClassVar[str] = folders.COMPARISON
    MAKER: ClassVar[str] = folders.MAKERS[FILE]

    num_classes_evaluated: int
    a: Means
    b: Means
    difference: Means
    intervals: Intervals


@dataclasses.dataclass(frozen=True, eq=False)
class Common:
    """The same videos and labels of two SCORES folders, and the labels in the order of A."""

    a: Selection
    b: Selection
    vocabulary: Vocabulary
    overlap: Overlap


@dataclasses.dataclass(frozen=True, eq=False)
class ComparisonRequest:
    """A checked call of `compare`.

    Attributes:
      overlap: of the folders.
      vocabulary: the common labels.
      allow_two_values: whether scores with at most two values are accepted.
      output: the COMPARISON folder.
    """

    overlap: Overlap
    vocabulary: Vocabulary
    allow_two_values: bool
    output: str


def find_common(a: SelectedScores, b: SelectedScores) -> Common:
    """Find the videos and labels that two SCORES folders both have.

    Raises:
      InputError: there are none.
    """
    columns_a = {label: column for column, label in enumerate(a.vocabulary.ids)}
    columns_b = {label: column for column, label in enumerate(b.vocabulary.ids)}
    ids = [label for label in columns_a if label in columns_b]
    where = f"{a.selection.folder} and {b.selection.folder}"
    if not ids:
        raise InputError(f"{where} have no label in common; compare scores of one vocabulary")
    hashes_a, hashes_b = (np.unique(video_hashes(read_ids(scores.selection))) for scores in (a, b))
    hashes = np.intersect1d(hashes_a, hashes_b, assume_unique=True)
    if not len(hashes):
        raise InputError(f"{where} have no video in common; score the same videos")

    def select(scores: SelectedScores, columns: dict[str, int], present: np.ndarray) -> Selection:
        return dataclasses.replace(
            scores.selection,
            labels=tuple(columns[label] for label in ids),
            # Usually the videos are the same, and no hash has to be looked up.
            video_hashes=None if len(present) == len(hashes) else hashes,
        )

    rows = [columns_a[label] for label in ids]
    return Common(
        a=select(a, columns_a, hashes_a),
        b=select(b, columns_b, hashes_b),
        vocabulary=Vocabulary(
            ids=tuple(ids),
            names=tuple(a.vocabulary.names[row] for row in rows),
            counts=a.vocabulary.counts[rows],
            num_videos=a.vocabulary.num_videos,
        ),
        overlap=Overlap(
            made_by=folders.made_by(),
            scores_a=a.selection.folder,
            scores_b=b.selection.folder,
            num_videos=len(hashes),
            num_videos_only_a=len(hashes_a) - len(hashes),
            num_videos_only_b=len(hashes_b) - len(hashes),
            num_labels=len(ids),
            num_labels_only_a=len(columns_a) - len(ids),
            num_labels_only_b=len(columns_b) - len(ids),
        ),
    )


def finish(request: ComparisonRequest, a: Measurement, b: Measurement) -> None:
    """The last stage of `compare`: write `per_class.parquet` and `comparison.json`.

    Raises:
      InputError: the scores cannot be evaluated, or the labels of the videos differ.
    """
    try:
        require_comparable(request, a, b)
        compared = compare(request, a, b)
    except InputError as error:
        fail(request.output, error)
    with files.atomic_write(files.join(request.output, summary.PER_CLASS)) as file:
        pq.write_table(per_class_table(a, b, request.vocabulary), file)
    folders.write_document(request.output, compared)


def require_comparable(request: ComparisonRequest, a: Measurement, b: Measurement) -> None:
    """Require meaningful scores, and the same labels and origins of the videos in both folders.

    Raises:
      InputError: naming the folder, the label or the video.
    """
    vocabulary, overlap = request.vocabulary, request.overlap
    for measurement, folder in ((a, overlap.scores_a), (b, overlap.scores_b)):
        summary.require_rankings(
            measurement, vocabulary, where=folder, allow_two_values=request.allow_two_values
        )
    differing = np.flatnonzero(a.classes.positives != b.classes.positives)
    if len(differing):
        label = differing[0]
        raise InputError(
            f"{overlap.scores_a} and {overlap.scores_b}: label {vocabulary.ids[label]!r} has "
            f"{a.classes.positives[label]} and {b.classes.positives[label]} of the common videos; "
            "compare scores of videos with the same labels"
        )
    if a.left_out.origins != b.left_out.origins or a.left_out.video_ids != b.left_out.video_ids:
        of_a, of_b = (
            set(zip(part.left_out.video_ids, part.left_out.origins, strict=True)) for part in (a, b)
        )
        video_id = min(name for name, _ in of_a ^ of_b)
        raise InputError(
            f"{overlap.scores_a} and {overlap.scores_b}: video {video_id!r} has other origins in "
            "one than in the other; score the same data set, or give --interval-by video"
        )


def compare(request: ComparisonRequest, a: Measurement, b: Measurement) -> Comparison:
    """The content of `comparison.json`."""
    means_a, means_b = Headline.of(a.classes), Headline.of(b.classes)
    num_videos, shared = a.coverage.num_videos, a.shared_origins()
    with np.errstate(invalid="ignore"):  # infinite d' of two perfect models
        d_prime = float(np.subtract(means_a.d_prime, means_b.d_prime))
        left_out_d_prime = np.subtract(
            ranking.d_prime(a.left_out.mean_auc), ranking.d_prime(b.left_out.mean_auc)
        )
    auc, ap = means_a.mean_auc - means_b.mean_auc, means_a.mean_ap - means_b.mean_ap
    left_out_auc = a.left_out.mean_auc - b.left_out.mean_auc
    left_out_ap = a.left_out.mean_ap - b.left_out.mean_ap
    return Comparison(
        **vars(request.overlap),
        num_classes_evaluated=int(a.classes.defined.sum()),
        a=_means(means_a.mean_auc, means_a.d_prime, means_a.mean_ap),
        b=_means(means_b.mean_auc, means_b.d_prime, means_b.mean_ap),
        difference=_means(auc, d_prime, ap),
        intervals=Intervals(
            mean_auc=jackknife.difference_interval(auc, left_out_auc, num_videos, shared),
            d_prime=jackknife.difference_interval(d_prime, left_out_d_prime, num_videos, shared),
            mean_ap=jackknife.difference_interval(ap, left_out_ap, num_videos, shared),
            **summary.describe_interval(a),
        ),
    )


def _means(auc: float, d_prime: float, ap: float) -> Means:
    return Means(mean_auc=auc, d_prime=finite_or_none(d_prime), mean_ap=ap)


def per_class_table(a: Measurement, b: Measurement, vocabulary: Vocabulary) -> pa.Table:
    """The content of `per_class.parquet`; null where a metric is undefined."""
    columns = {
        "label": np.arange(len(vocabulary), dtype=np.int32),
        "label_id": list(vocabulary.ids),
        "name": list(vocabulary.names),
        "positives": a.classes.positives,
        "negatives": a.classes.negatives,
    }
    for name, classes in (("a", a.classes), ("b", b.classes)):
        columns[f"auc_{name}"] = pa.array(classes.auc, mask=~classes.defined)
        columns[f"ap_{name}"] = pa.array(classes.ap, mask=~classes.defined)
    return pa.table(columns)
