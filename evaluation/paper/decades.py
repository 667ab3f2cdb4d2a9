"""mAP of the labels by how many training videos have them.

A mean over all labels is diluted by those that nothing could be learnt of.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow.parquet as pq

from evaluation.metrics.summary import PER_CLASS
from features.contracts.labels import read_vocabulary
from features.storage import files


def map_by_decade(reports: Sequence[str], features: str) -> dict[str, float]:
    """Mean AP of the labels of each decade of training videos.

    Args:
      reports: REPORT folders of the same evaluation set, one a seed.
      features: the folder whose vocabulary counts the videos.

    Returns:
      Decade, such as `10-99` -> mean over its labels and the reports; none without labels.
    """
    vocabulary = read_vocabulary(features)
    counts = dict(zip(vocabulary.ids, vocabulary.counts.tolist(), strict=True))
    found: dict[int, list[float]] = {}
    for report in reports:
        with files.open_read(files.join(report, PER_CLASS)) as file:
            table = pq.read_table(file, columns=["label_id", "ap"])
        for row in table.to_pylist():
            if row["ap"] is not None:
                found.setdefault(_decade(counts[row["label_id"]]), []).append(row["ap"])
    return {_shown(decade): float(np.mean(found[decade])) for decade in sorted(found)}


def _decade(count: int) -> int:
    """The number of digits; 0 for 0."""
    return len(str(count)) if count else 0


def _shown(decade: int) -> str:
    return f"{10 ** (decade - 1)}-{10**decade - 1}" if decade else "0"
