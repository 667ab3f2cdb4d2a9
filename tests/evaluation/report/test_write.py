"""Which classes the report shows as the best and the worst."""

import numpy as np
import pyarrow as pa

from evaluation.metrics.class_interval import auc_interval
from evaluation.report.write import best_and_worst


def table(
    auc: list[float], positives: list[int], origins: list[float | None] | None = None
) -> pa.Table:
    counts = np.array(positives)
    low, high = auc_interval(np.array(auc), counts, 1_000 - counts)
    of_origins = pa.array(origins or [None] * len(auc), pa.float64())
    return pa.table(
        {
            **{"auc": auc, "ap": auc, "auc_low": low, "auc_high": high},
            **{"positives": positives, "effective_origins": of_origins},
        }
    )


def test_a_class_of_one_video_does_not_lead() -> None:
    #          one video, certain, certain, chance, certain, undefined
    per_class = table([1.0, 0.9, 0.8, 0.55, 0.2, np.nan], [1, 40, 40, 40, 40, 0])
    assert best_and_worst(per_class, 2) == ([1], [4], True)
    assert best_and_worst(per_class, 0) == ([], [], True)


def test_a_class_of_one_recording_does_not_lead() -> None:
    per_class = table([1.0, 0.9, 0.2, 0.1], [40] * 4, [1.0, 5.0, 20.0, 4.9])
    assert best_and_worst(per_class, 2) == ([1], [2], True)


def test_a_set_too_small_for_certainty_has_no_best_classes() -> None:
    per_class = table([1.0, 0.9, 0.6, 0.1, np.nan], [1, 9, 3, 2, 0])
    assert best_and_worst(per_class, 2) == ([1, 2], [], False)
    # One certain class is no order.
    assert best_and_worst(table([1.0, 0.9], [1, 40]), 2) == ([1, 0], [], False)
