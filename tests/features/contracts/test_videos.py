"""Counts of videos by label."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from features.contracts.videos import VIDEO_SCHEMA, count_labels


def test_a_video_counts_once_for_two_labels_that_match_the_same(tmp_path: Path) -> None:
    parts = [[[0, 1], [1], [2, 3], []], [], [[0, 1, 2], [3]]]
    for number, rows in enumerate(parts):
        table = pa.table({"labels": pa.array(rows, VIDEO_SCHEMA.field("labels").type)})
        pq.write_table(table, tmp_path / f"{number}.parquet")
    paths = [str(path) for path in sorted(tmp_path.iterdir())]

    counts = count_labels(paths, {0: 2, 1: 2, 2: 0}, 4)

    assert counts.tolist() == [2, 0, 3, 0]
