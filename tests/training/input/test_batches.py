import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from features.contracts import folders, index, record
from features.contracts.folders import ContractError
from features.contracts.labels import FILE_NAME, read_vocabulary
from training import recipes
from training.input.batches import (
    decode_patches,
    epoch,
    open_features,
    training_batches,
    validation_batches,
)
from training.input.shards import find_damage
from training.loops.loss import NO_LABEL

RECIPE = dataclasses.replace(
    recipes.fully_connected(), batch_size=16, shuffle_patches=30, interleaved_shards=3
)


def keys(records: tf.data.Dataset) -> list[tuple[str, float]]:
    decoded = [record.decode(serialized) for serialized in records.as_numpy_iterator()]
    return [(example.video_id, example.start_seconds) for example in decoded]


def rows_of(batches: tf.data.Dataset) -> list[tuple[np.ndarray, tuple[int, ...]]]:
    rows = []
    for batch in batches.as_numpy_iterator():
        for patch, ids in zip(batch.patches, batch.label_ids, strict=True):
            rows.append((patch, tuple(int(i) for i in ids if i != NO_LABEL)))
    return rows


def test_an_epoch_has_every_patch_once(features_folder: Path) -> None:
    features = open_features(str(features_folder), num_labels=None, training_subset=None)
    order = keys(epoch(features, RECIPE, step=0))
    assert len(order) == len(set(order)) == features.num_patches["train"] == 160


def test_the_order_follows_from_seed_step_and_epoch(features_folder: Path) -> None:
    features = open_features(str(features_folder), num_labels=None, training_subset=None)
    first = epoch(features, RECIPE, step=0)
    order = keys(first)
    assert keys(epoch(features, RECIPE, step=0)) == order
    assert keys(epoch(features, RECIPE, step=9)) != order
    assert keys(epoch(features, dataclasses.replace(RECIPE, seed=1), step=0)) != order
    second_epoch = keys(first.repeat(2))[len(order) :]
    assert second_epoch != order
    assert sorted(second_epoch) == sorted(order)


@pytest.mark.parametrize("dtype", ["uint8", "float16"])
def test_batches_hold_the_patches_and_labels_that_were_written(
    tmp_path: Path, make_features: Callable, dtype: str
) -> None:
    written = make_features(tmp_path, shards={"train": 2}, dtype=dtype)["train"]
    features = open_features(str(tmp_path), num_labels=None, training_subset=None)
    batches = training_batches(features, RECIPE, step=0).take(len(written) // 16)
    storage = features.front_end.storage
    remaining = {storage.encode(patch).tobytes(): (patch, labels) for _, patch, labels in written}
    rows = rows_of(batches)
    assert len(rows) == len(written)
    for stored, labels in rows:
        expected, expected_labels = remaining.pop(stored.tobytes())
        np.testing.assert_allclose(decode_patches(stored, storage), expected, atol=1e-6)
        assert labels == expected_labels


def test_label_set_is_a_prefix_and_keeps_patches_without_labels(features_folder: Path) -> None:
    small = open_features(str(features_folder), num_labels=2, training_subset=None)
    assert small.vocabulary.ids == ("/m/0", "/m/1")
    whole = open_features(str(features_folder), num_labels=3_087, training_subset=None)
    batches = [validation_batches(features, RECIPE) for features in (small, whole)]
    pairs = list(zip(*map(rows_of, batches), strict=True))
    assert len(pairs) == 64
    for (_, labels), (_, all_labels) in pairs:
        assert labels == tuple(label for label in all_labels if label < 2)
    assert any(not labels and all_labels for (_, labels), (_, all_labels) in pairs)


def test_validation_subset_is_spread_and_always_the_same(features_folder: Path) -> None:
    features = open_features(str(features_folder), num_labels=None, training_subset=None)
    recipe = dataclasses.replace(RECIPE, validation_patches=16)
    subset = validation_batches(features, recipe)
    first, again = rows_of(subset), rows_of(subset)
    whole = rows_of(validation_batches(features, RECIPE))
    assert len(first) == len(again) == 16
    for place, (patch, _) in enumerate(first):
        np.testing.assert_array_equal(patch, again[place][0])
        np.testing.assert_array_equal(patch, whole[4 * place][0])  # one patch of each video


def test_parts_of_a_batch_make_the_batch_that_one_process_gets(features_folder: Path) -> None:
    features = open_features(str(features_folder), num_labels=None, training_subset=None)
    (whole,) = training_batches(features, RECIPE, step=0).take(1)
    parts = [
        part
        for process in range(2)
        for part in training_batches(
            features, RECIPE, step=0, part=(process, 2), parts_a_batch=4
        ).take(2)
    ]
    assert [len(part.patches) for part in parts] == [4, 4, 4, 4]
    np.testing.assert_array_equal(np.concatenate([part.patches for part in parts]), whole.patches)
    ids = np.concatenate([part.video_ids for part in parts])
    np.testing.assert_array_equal(ids, whole.video_ids)


def test_streams_of_workers_differ(features_folder: Path) -> None:
    features = open_features(str(features_folder), num_labels=None, training_subset=None)
    orders = [keys(epoch(features, RECIPE, step=0, stream=stream)) for stream in (0, 1)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


@pytest.mark.parametrize("indexed", [True, False])
def test_training_subset_reads_its_groups_alone(
    tmp_path: Path, make_features: Callable, indexed: bool
) -> None:
    make_features(tmp_path, shards={"train": 3, "validation": 1}, indexed=indexed)
    # As an extraction with nested subsets leaves it: one group for each step of the nesting.
    shards = sorted((tmp_path / "train" / "all").glob("*.tfrecord"))
    document = json.loads((tmp_path / folders.FEATURES).read_text())
    rows = {"23": slice(0, 1), "230": slice(1, 3)}
    for group, of_group in rows.items():
        (tmp_path / "train" / group).mkdir()
        for number, path in enumerate(shards[of_group]):
            name = f"patches-{number:05d}-of-{len(shards[of_group]):05d}.tfrecord"
            path.rename(tmp_path / "train" / group / name)
    if indexed:
        whole, _ = index.read_index(index.path_of(str(tmp_path), "train", "all"))
        digests = {
            group: index.write_index(index.path_of(str(tmp_path), "train", group), whole[of_group])
            for group, of_group in rows.items()
        }
        document["splits"]["train"]["index_fingerprint"] = index.split_fingerprint(digests)
    document["splits"]["train"]["num_shards"] = {"23": 1, "230": 2}
    document["subsets"] = {"train": {"23": ["23"], "230": ["23", "230"]}}
    (tmp_path / folders.FEATURES).write_text(json.dumps(document))
    videos = {}
    for name in ("23", "230", None):
        features = open_features(str(tmp_path), num_labels=None, training_subset=name)
        videos[name] = {video for video, _ in keys(epoch(features, RECIPE, step=0))}
    assert videos["23"] == {f"train-0-{video}" for video in range(8)}
    assert videos["230"] == videos[None] == {f"train-{s}-{v}" for s in range(3) for v in range(8)}
    with pytest.raises(ContractError, match="no training subset '7'; it has 23, 230"):
        open_features(str(tmp_path), num_labels=None, training_subset="7")


def test_damage_is_found(tmp_path: Path, make_features: Callable) -> None:
    make_features(tmp_path, shards={"train": 3})
    features = open_features(str(tmp_path), num_labels=None, training_subset=None)
    train = features.shards["train"]
    paths = list(train)
    assert find_damage([train]) is None
    content = bytearray(Path(paths[1]).read_bytes())
    content[20_000] ^= 1
    Path(paths[1]).write_bytes(content)
    assert find_damage([train]) == (paths[1], f"{paths[1]}: record 3 is damaged or cut")
    assert list(features.without(paths[1]).shards["train"]) == [paths[0], paths[2]]


def test_batch_larger_than_the_data(tmp_path: Path, make_features: Callable) -> None:
    make_features(tmp_path, shards={"train": 1})
    features = open_features(str(tmp_path), num_labels=None, training_subset=None)
    recipe = dataclasses.replace(RECIPE, batch_size=100)
    (batch,) = training_batches(features, recipe, step=0).take(1)
    assert batch[0].shape == (100, 96, 64)
    assert validation_batches(features, recipe) is None


def test_folder_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"has no features.json: .* pipelines.extract_features"):
        open_features(str(tmp_path), num_labels=None, training_subset=None)


def test_other_labels_are_refused(tmp_path: Path, make_features: Callable) -> None:
    make_features(tmp_path, shards={"train": 1})
    other = read_vocabulary(str(tmp_path)).prefix(3)
    (tmp_path / FILE_NAME).write_bytes(other.to_bytes())
    with pytest.raises(ContractError, match=f"vocabulary fingerprint .* '{other.fingerprint}'"):
        open_features(str(tmp_path), num_labels=None, training_subset=None)


def test_missing_shard_is_refused(tmp_path: Path, make_features: Callable) -> None:
    make_features(tmp_path, shards={"train": 2})
    next(tmp_path.glob("train/all/*-00001-*")).unlink()
    with pytest.raises(ContractError, match="number of train shards is 1, expected 2"):
        open_features(str(tmp_path), num_labels=None, training_subset=None)


@pytest.mark.parametrize("splits", [{"validation": 1}, {"train": 0, "validation": 1}])
def test_nothing_to_train_on_is_refused(
    tmp_path: Path, make_features: Callable, splits: dict[str, int]
) -> None:
    make_features(tmp_path, shards=splits)
    with pytest.raises(ContractError, match="split 'train' has no patches; found"):
        open_features(str(tmp_path), num_labels=None, training_subset=None)


def test_newer_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / folders.FEATURES).write_text('{"format_version": 99}')
    with pytest.raises(ContractError, match="format_version is 99"):
        open_features(str(tmp_path), num_labels=None, training_subset=None)
