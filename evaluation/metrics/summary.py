"""The figures of an evaluation, from its passes: headline, per class, and what they rest on."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.metrics import jackknife
from evaluation.metrics.jackknife import LeftOut
from evaluation.metrics.passes import FirstPass
from features import ranking
from features.contracts import folders
from features.contracts.labels import Vocabulary
from features.errors import InputError
from features.ranking import ClassMetrics, Ranks
from features.storage import files
from pipelines.runtime.failure import fail

PER_CLASS, MISSING = "per_class.parquet", "missing.parquet"
_NAMED = 5  # of classes or videos in a message


def finish(
    made: Mapping[str, Any],
    first: FirstPass,
    ranks: Ranks,
    left_out: LeftOut,
    vocabulary: Vocabulary,
    output: str,
    *,
    allow_two_values: bool,
) -> None:
    """The last stage of `evaluate`: write the report's tables and `metrics.json`.

    Raises:
      InputError: the scores are none that the figures can be made of.
    """
    figures = ranking.class_metrics(first.positives, ranks)
    try:
        check_figures(
            figures, ranks, vocabulary, where=made["scores"], allow_two_values=allow_two_values
        )
    except InputError as error:
        fail(output, error)
    for name, table in (
        (PER_CLASS, per_class_table(figures, vocabulary)),
        (MISSING, missing_table(first)),
    ):
        with files.atomic_write(files.join(output, name)) as file:
            pq.write_table(table, file)
    document = {
        **made,
        **coverage_fields(first, made["num_videos_expected"]),
        **headline_fields(figures, left_out, vocabulary),
    }
    folders.write_root(output, folders.METRICS, document)


@dataclasses.dataclass(frozen=True)
class Headline:
    """The class-balanced means (section 3.2), over the classes that have figures."""

    mean_auc: float
    mean_ap: float

    @classmethod
    def of(cls, figures: ClassMetrics) -> "Headline":
        """From the figures of each class; at least one has some."""
        defined = figures.defined
        return cls(float(figures.auc[defined].mean()), float(figures.ap[defined].mean()))

    @property
    def d_prime(self) -> float:
        """Of the mean AUC: the definition that the paper's tables follow."""
        return float(ranking.d_prime(self.mean_auc))


def check_figures(
    figures: ClassMetrics,
    ranks: Ranks,
    vocabulary: Vocabulary,
    *,
    where: str,
    allow_two_values: bool,
) -> None:
    """Refuse what has no meaning.

    Raises:
      InputError: no class has a positive and a negative; or a class has decisions and no scores.
    """
    if not figures.defined.any():
        raise InputError(
            f"{where}: no class has both a positive and a negative among {ranks.num_videos} "
            "videos; evaluate a larger set"
        )
    decided = np.flatnonzero(figures.defined & ~ranks.has_between)
    # Two videos have no more than two scores.
    if len(decided) and ranks.num_videos > 2 and not allow_two_values:
        named = ", ".join(
            f"{vocabulary.ids[label]!r} ({ranks.lowest[label]:g}, {ranks.highest[label]:g})"
            for label in decided[:_NAMED]
        )
        raise InputError(
            f"{where}: the scores of {len(decided)} of {len(vocabulary)} labels have at most two "
            f"values: {named}{', ...' if len(decided) > _NAMED else ''}; AUC and AP are figures of "
            "a ranking: give scores as they are before a threshold, or --allow-two-values if they "
            "are"
        )


def headline_fields(
    figures: ClassMetrics, left_out: LeftOut, vocabulary: Vocabulary
) -> dict[str, Any]:
    """The fields of `metrics.json` that the scores decide."""
    defined = figures.defined
    num_videos = int(figures.positives[0] + figures.negatives[0])
    headline = Headline.of(figures)
    auc = jackknife.auc_interval(headline.mean_auc, left_out.mean_auc, num_videos)
    ap = jackknife.ap_interval(headline.mean_ap, left_out.mean_ap, num_videos)
    class_d_prime = np.asarray(ranking.d_prime(figures.auc[defined]))
    finite = np.isfinite(class_d_prime)
    return {
        "num_labels": len(vocabulary),
        "num_classes_evaluated": int(defined.sum()),
        "undefined_classes": [
            {
                "label": int(label),
                "name": vocabulary.names[label],
                "reason": "no positive" if figures.positives[label] == 0 else "no negative",
            }
            for label in np.flatnonzero(~defined)
        ],
        "mean_auc": headline.mean_auc,
        "d_prime": json_number(headline.d_prime),
        "mean_ap": headline.mean_ap,
        "intervals": {
            "mean_auc": auc and list(auc),
            "d_prime": auc and [float(ranking.d_prime(end)) for end in auc],
            "mean_ap": ap and list(ap),
            "confidence": jackknife.CONFIDENCE,
            "num_videos_left_out": len(left_out.video_ids),
        },
        # Another definition, which some papers use: not comparable with `d_prime`.
        "mean_class_d_prime": float(class_d_prime[finite].mean()) if finite.any() else None,
        "num_classes_infinite_d_prime": int((~finite).sum()),
        # What every constant score, such as the label's prior, has for mAP.
        "prior_mean_ap": float(figures.priors[defined].mean()),
    }


def coverage_fields(first: FirstPass, expected: int) -> dict[str, Any]:
    """The fields of `metrics.json` that say which videos the figures are of."""
    outcomes = [outcome for _, outcome in first.missing]
    return {
        "num_videos": first.num_videos,
        "num_videos_expected": expected,
        "num_missing": expected - first.num_videos,
        "missing": {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))},
        "num_unlabelled": first.num_unlabelled,
        "accuracy_1best": first.num_top_correct / first.num_videos,
    }


def per_class_table(figures: ClassMetrics, vocabulary: Vocabulary) -> pa.Table:
    """`per_class.parquet`; null where a figure is undefined."""
    undefined = ~figures.defined
    return pa.table(
        {
            "label": np.arange(len(vocabulary), dtype=np.int32),
            "label_id": list(vocabulary.ids),
            "name": list(vocabulary.names),
            "prior": vocabulary.priors,
            "positives": figures.positives,
            "negatives": figures.negatives,
            "auc": pa.array(figures.auc, mask=undefined),
            "d_prime": pa.array(ranking.d_prime(figures.auc), mask=undefined),
            "ap": pa.array(figures.ap, mask=undefined),
        }
    )


def missing_table(first: FirstPass) -> pa.Table:
    """`missing.parquet`: the videos of the set that have no score."""
    ids, outcomes = zip(*first.missing, strict=True) if first.missing else ((), ())
    return pa.table(
        {"video_id": pa.array(ids, pa.string()), "outcome": pa.array(outcomes, pa.string())}
    )


def json_number(value: float) -> float | None:
    """JSON has no infinity: d' of a perfect AUC is null."""
    return value if np.isfinite(value) else None
