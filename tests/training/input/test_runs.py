"""Epochs as rounds of runs: what is seen after a part of an epoch, and what is damaged."""

import collections
import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from features.contracts import index, record
from features.contracts.folders import ContractError
from training import recipes
from training.input import runs
from training.input.batches import FeatureSet, epoch, open_features
from training.input.shards import Shards, find_damage, names_damage

RECIPE = dataclasses.replace(
    recipes.fully_connected(), shuffle_patches=1, interleaved_shards=2, batch_size=4
)


def opened(folder: Path) -> FeatureSet:
    return open_features(str(folder), num_labels=None)


def video_ids(records: tf.data.Dataset) -> list[str]:
    return [record.decode(serialized).video_id for serialized in records.as_numpy_iterator()]


def made_up(folder: Path, table: np.ndarray) -> Shards:
    """Shards of which only the index exists."""
    index.write_index(index.path_of(str(folder), "train", "all"), table)
    return Shards(folder=str(folder), split="train", num_shards={"all": len(table)}, indexed=True)


def plan(shards: Shards, seed: int = 3) -> np.ndarray:
    planned = runs.plan_epoch(shards, seed=tf.constant(seed, tf.int64)).batch(1_000_000)
    return np.stack(next(iter(planned.as_numpy_iterator())), axis=1)


def test_a_round_has_one_run_of_every_shard_and_an_epoch_every_record_once(tmp_path: Path) -> None:
    table = np.array([[1_000, 50], [8_192, 60], [7, 50], [0, 5], [8_000, 70]])
    rows = plan(made_up(tmp_path, table))
    records = [
        (shard, position)
        for shard, first, size, _ in rows
        for position in range(first, first + size)
    ]
    assert len(records) == len(set(records)) == table[:, 0].sum()
    assert collections.Counter(shard for shard, _ in records) == {
        0: 1_000,
        1: 8_192,
        2: 7,
        4: 8_000,
    }
    # 256 rounds, and the largest shards have a run in each.
    of_largest = np.flatnonzero(rows[:, 0] == 1)
    assert len(of_largest) == len(np.flatnonzero(rows[:, 0] == 4)) == 256
    between = np.add.reduceat(rows[:, 0] == 4, of_largest)
    assert np.abs(np.cumsum(between) - np.arange(1, 257)).max() <= 1
    # After any share of the runs, that share of the records of every shard.
    for share in (0.1, 0.25, 0.8):
        part = rows[: int(len(rows) * share)]
        for shard in (0, 1, 4):
            done = part[part[:, 0] == shard, 2].sum()
            assert abs(done / table[shard, 0] - share) < 0.02
    assert (rows[:, 3] == table[rows[:, 0], 1]).all()


def test_rounds_and_epochs_and_seeds_have_orders_of_their_own(tmp_path: Path) -> None:
    shards = made_up(tmp_path, np.tile([128, 10], (40, 1)))
    epoch_of = runs.plan_epoch(shards, seed=tf.constant(0, tf.int64)).repeat(2).batch(160)
    first, second = (np.stack(rows, axis=1) for rows in epoch_of.as_numpy_iterator())
    orders = [tuple(rows[at : at + 40, 0]) for rows in (first, second) for at in range(0, 160, 40)]
    orders += [tuple(plan(shards, seed)[at : at + 40, 0]) for seed in (1, 2) for at in (0, 40)]
    assert len(set(orders)) == len(orders) == 12
    assert all(sorted(order) == list(range(40)) for order in orders)
    np.testing.assert_array_equal(plan(shards, 5), plan(shards, 5))


@pytest.mark.parametrize("share", [0.01, 0.032, 0.1])
def test_a_part_of_an_epoch_sees_the_videos_of_uniform_sampling(
    tmp_path: Path, share: float
) -> None:
    """In the paper's proportions but for the number of shards, by the places of the records."""
    num_shards, num_videos, num_patches = 64, 85, 288
    in_shard = num_videos * num_patches
    rng = np.random.default_rng(0)
    order = [rng.permutation(in_shard) // num_patches for _ in range(num_shards)]
    rows = plan(made_up(tmp_path, np.tile([in_shard, 9], (num_shards, 1))))
    drawn = int(num_shards * in_shard * share)
    part = rows[np.cumsum(rows[:, 2]) <= drawn]
    seen = {
        (shard, video)
        for shard, first, size, _ in part
        for video in order[shard][first : first + size]
    }
    uniform = num_shards * num_videos * (1 - (1 - share) ** num_patches)
    assert len(seen) / uniform > 0.98


def test_a_resumed_run_draws_anew(features_folder: Path) -> None:
    """After half an epoch, half of the next half was seen before: 40 of 80 patches, by chance."""
    features = opened(features_folder)
    shuffled = dataclasses.replace(RECIPE, shuffle_patches=1_000)
    again = []
    for step in range(1, 5):
        halves = [
            {bytes(serialized) for serialized in part.as_numpy_iterator()}
            for part in (epoch(features, shuffled, step=at).take(80) for at in (0, step))
        ]
        again.append(len(halves[0] & halves[1]))
    assert 34 < np.mean(again) < 46  # 40 expected, standard error 1.6


def test_shards_without_an_index_are_read_whole(tmp_path: Path, make_features: Callable) -> None:
    make_features(tmp_path, shards={"train": 3}, indexed=False)
    features = opened(tmp_path)
    assert not features.shards["train"].indexed
    ids = video_ids(epoch(features, dataclasses.replace(RECIPE, interleaved_shards=1), step=0))
    shards_in_order = [video.split("-")[1] for video in ids]
    assert len(ids) == 96
    assert sum(a != b for a, b in itertools.pairwise(shards_in_order)) == 2
    rest = features.without(str(tmp_path / "train/all/patches-00001-of-00003.tfrecord"))
    assert {video.split("-")[1] for video in video_ids(epoch(rest, RECIPE, step=0))} == {"0", "2"}


def test_left_out_shards_are_not_read(tmp_path: Path, make_features: Callable) -> None:
    make_features(tmp_path, shards={"train": 3})
    shard = tmp_path / "train/all/patches-00002-of-00003.tfrecord"
    features = opened(tmp_path)
    shard.unlink()
    rest = features.without(str(shard)).without("/moved/since/patches-00001-of-00003.tfrecord")
    assert len(rest.shards["train"]) == 2
    assert len(video_ids(epoch(rest, RECIPE, step=0))) == 64


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_damage_is_met_when_read_and_found_with_its_file(
    tmp_path: Path, make_features: Callable, damage: str
) -> None:
    make_features(tmp_path, shards={"train": 3})
    shard = tmp_path / "train/all/patches-00001-of-00003.tfrecord"
    features = opened(tmp_path)
    content = bytearray(shard.read_bytes())
    if damage == "missing":
        shard.unlink()
    elif damage == "cut":  # between two records, so that no checksum tells
        shard.write_bytes(content[: len(content) // 32 * 20])
    else:
        content[20_000] ^= 1
        shard.write_bytes(content)
    with pytest.raises(tf.errors.OpError) as caught:
        video_ids(epoch(features, RECIPE, step=0))
    assert names_damage(caught.value)
    path, problem = find_damage(features.shards.values())
    assert path == str(shard)
    assert problem.startswith(str(shard))
    assert find_damage(features.without(path).shards.values()) is None


def test_other_errors_are_no_damage() -> None:
    assert not names_damage(tf.errors.NotFoundError(None, None, "/run/checkpoints/ckpt-5.index"))
    assert not names_damage(tf.errors.FailedPreconditionError(None, None, "not initialized"))
    assert not names_damage(None)


def test_another_index_is_refused(tmp_path: Path, make_features: Callable) -> None:
    make_features(tmp_path, shards={"train": 2})
    path = tmp_path / "train/all/index.bin"
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(ContractError, match=r"indexes of train is .* pipelines.index_features"):
        opened(tmp_path)
    path.unlink()
    with pytest.raises(ContractError, match=r"index.bin is missing; .* pipelines.index_features"):
        opened(tmp_path)


def test_no_graph_holds_the_shards(tmp_path: Path) -> None:
    sizes = []
    for number in (1_000, 200_000):
        shards = made_up(tmp_path / str(number), np.tile([100, 10], (number, 1)))
        sizes.append(size_of_graph(shards))
    assert max(sizes) - min(sizes) < 100
    assert max(sizes) < 50_000


def size_of_graph(shards: Shards) -> int:
    @tf.function
    def planned() -> tf.data.Dataset:
        return runs.epoch_of_runs(shards, seed=tf.constant(0, tf.int64), read_at_once=4)

    return planned.get_concrete_function().graph.as_graph_def().ByteSize()
