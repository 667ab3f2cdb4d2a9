"""mAP by decade of training videos, of known APs."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation.metrics.summary import PER_CLASS
from evaluation.paper.decades import map_by_decade
from features.contracts.labels import FILE_NAME, Vocabulary


def test_labels_are_in_the_decade_of_their_training_videos(tmp_path: Path) -> None:
    ids = ("music", "song", "car", "dog", "cat", "unheard")
    counts = np.array([1000, 99, 10, 9, 1, 0])
    (tmp_path / FILE_NAME).write_bytes(Vocabulary(ids, ids, counts, 2_000).to_bytes())
    # A report of some labels, and in another order.
    labels = ["unheard", "cat", "dog", "car", "song"]
    reports = []
    for seed, aps in enumerate(([0.1, None, 0.3, 0.4, 0.6], [0.3, None, 0.5, 0.8, 1.0])):
        report = tmp_path / str(seed)
        report.mkdir()
        pq.write_table(pa.table({"label_id": labels, "ap": aps}), report / PER_CLASS)
        reports.append(str(report))
    assert map_by_decade(reports, str(tmp_path)) == {
        "0": pytest.approx(0.2),
        "1-9": pytest.approx(0.4),
        "10-99": pytest.approx(0.7),
    }
