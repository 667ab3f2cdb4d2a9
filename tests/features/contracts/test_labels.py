"""The label vocabulary as a file that other tools read, and what its fingerprint stands for."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.contracts.labels import FILE_NAME, Vocabulary, read_vocabulary
from features.fingerprint import fingerprint

VOCABULARY = Vocabulary(
    ids=("/m/music", "/m/speech", "/m/ukulele"),
    names=("Music", "Speech", "‘Ukulele"),
    counts=np.array([50, 30, 2], np.int64),
    num_videos=64,
)


def assert_equal(received: Vocabulary, expected: Vocabulary) -> None:
    assert received.ids == expected.ids
    assert received.names == expected.names
    assert received.num_videos == expected.num_videos
    np.testing.assert_array_equal(received.counts, expected.counts)
    assert received.counts.dtype == np.int64


def test_reads_back_what_it_wrote(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(VOCABULARY.to_bytes())
    assert_equal(read_vocabulary(str(tmp_path)), VOCABULARY)


def test_is_a_plain_table_to_pandas(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(VOCABULARY.to_bytes())
    expected = pd.DataFrame(
        {
            "index": np.array([0, 1, 2], np.int32),
            "id": VOCABULARY.ids,
            "name": VOCABULARY.names,
            "count": [50, 30, 2],
            "prior": [0.78125, 0.46875, 0.03125],
        }
    )
    pd.testing.assert_frame_equal(pd.read_parquet(path), expected, check_dtype=False)


def test_priors_are_shares_of_videos() -> None:
    assert VOCABULARY.priors.tolist() == [50 / 64, 30 / 64, 2 / 64]
    assert len(VOCABULARY) == 3


def test_a_prefix_is_the_most_frequent_labels_out_of_the_same_videos() -> None:
    expected = Vocabulary(("/m/music", "/m/speech"), ("Music", "Speech"), np.array([50, 30]), 64)
    assert_equal(VOCABULARY.prefix(2), expected)
    assert_equal(VOCABULARY.prefix(99), VOCABULARY)


def test_an_empty_vocabulary_survives_the_file() -> None:
    empty = Vocabulary((), (), np.empty(0, np.int64), 10)
    assert_equal(Vocabulary.from_bytes(empty.to_bytes()), empty)


class TestFingerprint:
    def test_stands_for_the_ids_alone(self) -> None:
        other = Vocabulary(VOCABULARY.ids, ("a", "b", "c"), np.array([9, 8, 7]), 1_000)
        assert other.fingerprint == VOCABULARY.fingerprint
        assert VOCABULARY.fingerprint == fingerprint(["/m/music", "/m/speech", "/m/ukulele"])

    @pytest.mark.parametrize(
        "ids",
        [
            ("/m/speech", "/m/music", "/m/ukulele"),
            ("/m/music", "/m/speech"),
            ("/m/music", "/m/speech", "/m/banjo"),
            ("/m/music/m/speech", "", "/m/ukulele"),
        ],
        ids=["other order", "prefix", "other label", "other borders"],
    )
    def test_changes_with_the_meaning_of_an_index(self, ids: tuple[str, ...]) -> None:
        assert dataclasses.replace(VOCABULARY, ids=ids).fingerprint != VOCABULARY.fingerprint
