"""Hashes, splits and shards: stable, uniform, independent."""

import collections
import hashlib

import pytest

from features.contracts import sharding
from features.front_end.params import LogMelParams


def test_hash_is_the_same_on_every_machine() -> None:
    digest = hashlib.blake2b(b"video 7", digest_size=8, person=b"shard").digest()

    expected = int.from_bytes(digest, "big") / 2**64
    assert sharding.unit_hash("shard", "video 7") == pytest.approx(expected, abs=2**-52)
    assert 0 <= sharding.unit_hash("shard", "video 7") < 1


def test_splits_have_the_papers_shares() -> None:
    counts = collections.Counter(sharding.split_of(f"video-{i}") for i in range(20_000))

    assert counts["train"] / 20_000 == pytest.approx(0.7, abs=0.01)
    assert counts["validation"] / 20_000 == pytest.approx(0.2, abs=0.01)
    assert counts["evaluation"] / 20_000 == pytest.approx(0.1, abs=0.01)


def test_shards_are_even_and_independent_of_the_split() -> None:
    videos = [f"video-{i}" for i in range(20_000)]
    train = [video for video in videos if sharding.split_of(video) == "train"]
    counts = collections.Counter(sharding.shard_of(video, "train", 10).index for video in train)

    assert sorted(counts) == list(range(10))
    expected = len(train) / 10
    # A chi-square with 9 degrees of freedom exceeds 28 once in a thousand draws.
    assert sum((n - expected) ** 2 / expected for n in counts.values()) < 28


@pytest.mark.parametrize(
    ("num_videos", "num_shards"),
    [
        (1, 1),
        (4, 1),
        (5, 2),
        (64, 16),
        (1_000, 16),
        # 4.6 minutes are 287.5 patches of 6,144 bytes: 70M videos are 124 TB.
        (70_000_000, 824_320),
    ],
)
def test_number_of_shards(num_videos: int, num_shards: int) -> None:
    seconds = num_videos * sharding.MEAN_VIDEO_SECONDS

    assert sharding.num_shards(num_videos, seconds, LogMelParams()) == num_shards


def test_short_excerpts_do_not_make_tiny_shards() -> None:
    # Two million excerpts of 10 s are 20.8M patches of 6,144 bytes.
    assert sharding.num_shards(2_000_000, 2e7, LogMelParams()) == 854


@pytest.mark.parametrize(
    ("present", "kept"), [(10, False), (50, True), (100, True), (200, True), (210, False)]
)
def test_a_corpus_that_grows_keeps_its_shards(present: int, kept: bool) -> None:
    seconds = 100 * sharding.SHARD_BYTES / 6_144 * 0.96  # 100 shards

    num_shards = sharding.num_shards(10**6, seconds, LogMelParams(), present)

    assert num_shards == (present if kept else 100)


def test_keys_name_every_shard_of_a_split() -> None:
    keys = list(sharding.keys("train", {"all": 3}))

    assert [key.path("patches") for key in keys] == [
        "train/all/patches-00000-of-00003",
        "train/all/patches-00001-of-00003",
        "train/all/patches-00002-of-00003",
    ]
    assert keys[0].path("scores") == "train/all/scores-00000-of-00003"
