"""FEATURES to batches of patches and label ids.

A run that goes on draws a fresh order from (seed, step), instead of storing how far it had read.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from features import contract, record, storage
from features.contract import ContractError
from features.front_end import FrontEnd, PatchStorage
from features.labels import Vocabulary, read_vocabulary
from training.config import Recipe
from training.loss import NO_LABEL

TRAIN, VALIDATION = "train", "validation"

# Shards that the validation subset is drawn from hold this many times its patches: enough videos
# for a fair subset, little enough to read.
_VALIDATION_OVERSAMPLING = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """A finished FEATURES folder, and the labels that are learned from it."""

    folder: str
    fingerprint: str
    front_end: FrontEnd
    vocabulary: Vocabulary  # of the label set: a prefix of the folder's
    num_patches: Mapping[str, int]  # split -> patches
    shards: Mapping[str, tuple[str, ...]]  # split -> paths


def open_features(folder: str, *, num_labels: int | None) -> FeatureSet:
    """Read what a FEATURES folder says about itself, and check it.

    Args:
      folder: made by pipelines.extract_features.
      num_labels: the most frequent labels to learn; None for all, and all where there are fewer.

    Raises:
      ContractError: the folder is unfinished, or its parts do not belong together, or there is
        nothing to train on.
    """
    document = contract.read_root(folder, contract.FEATURES)
    vocabulary = read_vocabulary(folder)
    cure = "extract the features anew, with `python -m pipelines.extract_features`"
    contract.require_equal(
        "vocabulary fingerprint of labels.parquet",
        expected=document["vocabulary"]["fingerprint"],
        received=vocabulary.fingerprint,
        where=folder,
        cure=cure,
    )
    splits: Mapping[str, Mapping[str, Any]] = document["splits"]
    shards = {}
    for split in {TRAIN, VALIDATION} & set(splits):
        shards[split] = tuple(storage.list_files(folder, f"{split}/*/patches-*.tfrecord"))
        contract.require_equal(
            f"number of {split} shards",
            expected=sum(splits[split]["num_shards"].values()),
            received=len(shards[split]),
            where=folder,
            cure=cure,
        )
    num_patches = {split: splits[split]["num_patches"] for split in shards}
    if not num_patches.get(TRAIN):
        raise ContractError(
            f"{folder}: split {TRAIN!r} has no patches; "
            f"found { ({split: splits[split]['num_patches'] for split in splits}) }; "
            "put videos of the data set into it, and extract it"
        )
    return FeatureSet(
        folder=folder,
        # Of the training split alone: other splits may be extracted later.
        fingerprint=splits[TRAIN]["fingerprint"],
        front_end=FrontEnd.from_json(document["front_end"]),
        vocabulary=vocabulary.prefix(num_labels or len(vocabulary)),
        num_patches=num_patches,
        shards=shards,
    )


def training_batches(features: FeatureSet, recipe: Recipe, *, step: int) -> tf.data.Dataset:
    """Endless shuffled batches; every epoch holds each patch once, in an order of its own.

    Args:
      features: the data.
      recipe: batch size, seed and shuffling.
      step: the step that the run starts at; other steps give other orders.

    Returns:
      (float32 log-mel [batch, frames, bands], int32 label ids [batch, most labels of a patch],
      padded by NO_LABEL). The batch size is static.
    """
    records = epoch(features, recipe, step=step).repeat()
    return _batches(
        records.batch(recipe.batch_size, drop_remainder=True, num_parallel_calls=tf.data.AUTOTUNE),
        features,
    )


def epoch(features: FeatureSet, recipe: Recipe, *, step: int) -> tf.data.Dataset:
    """Serialized records of one epoch, shuffled; each iteration over it gives another order."""
    paths = features.shards[TRAIN]
    seed = int(contract.fingerprint([recipe.seed, step]), 16) % 2**31
    return (
        tf.data.Dataset.from_tensor_slices(list(paths))
        .shuffle(len(paths), seed=seed)
        .interleave(
            tf.data.TFRecordDataset,
            cycle_length=min(recipe.interleaved_shards, len(paths)),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        .shuffle(min(recipe.shuffle_patches, features.num_patches[TRAIN]), seed=seed)
    )


def validation_batches(features: FeatureSet, recipe: Recipe) -> tf.data.Dataset | None:
    """The validation subset: the same patches in the same order every time.

    Validation shards keep the patches of a video together, so the subset takes every k-th patch of
    a few shards, not the first patches of one.

    Returns:
      As `training_batches`, once; None where no validation patches were extracted.
    """
    total = features.num_patches.get(VALIDATION, 0)
    if not total:
        return None
    paths = features.shards[VALIDATION]
    subset = min(recipe.validation_patches, total)
    share = min(1.0, _VALIDATION_OVERSAMPLING * subset / total)
    paths = paths[: math.ceil(len(paths) * share)]
    every_kth = max(1, int(total * len(paths) / len(features.shards[VALIDATION])) // subset)
    records = (
        tf.data.TFRecordDataset(list(paths))
        .shard(every_kth, 0)
        .take(subset)
        .cache()  # serialized: 6 KB a patch
    )
    return _batches(records.batch(recipe.batch_size), features)


def _batches(records: tf.data.Dataset, features: FeatureSet) -> tf.data.Dataset:
    """Parse batches of serialized records: 4 times faster than parsing them one by one."""
    shape = features.front_end.log_mel.patch_shape
    dtype = tf.as_dtype(features.front_end.storage.dtype)
    num_labels = len(features.vocabulary)

    def parse(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        parsed = tf.io.parse_example(
            serialized,
            {
                record.PATCH: tf.io.FixedLenFeature([], tf.string),
                record.LABELS: tf.io.VarLenFeature(tf.int64),
            },
        )
        stored = tf.io.decode_raw(parsed[record.PATCH], dtype)
        patches = tf.reshape(stored, [-1, *shape])
        label_ids = tf.sparse.to_dense(parsed[record.LABELS], default_value=NO_LABEL)
        label_ids = tf.cast(label_ids, tf.int32)
        # A patch without any label of the set stays: it is a negative of all of them.
        label_ids = tf.where(label_ids < num_labels, label_ids, NO_LABEL)
        return decode_patches(patches, features.front_end.storage), label_ids

    return records.map(parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(2)


def decode_patches(stored: tf.Tensor, patch_storage: PatchStorage) -> tf.Tensor:
    """`PatchStorage.decode` in a graph: stored dtype to float32 log-mel."""
    log_mel = tf.cast(stored, tf.float32)
    if patch_storage.dtype == "float16":
        return log_mel
    return log_mel * patch_storage.step + patch_storage.minimum
