"""FEATURES to batches of stored patches, label ids and video ids.

A resumed run draws a new order from (seed, step), instead of storing how far it had read. Patches
stay in their stored dtype until the step decodes them: a quarter of the bytes to move.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from features.contracts import folders, index, record
from features.contracts.documents import BandStatistics, Features
from features.contracts.labels import Vocabulary, read_vocabulary
from features.errors import ContractError
from features.fingerprint import fingerprint
from features.front_end.front_end import FrontEnd, PatchStorage
from features.storage import files, tensorflow_paths
from training.config import Recipe
from training.input.augmentation import draw
from training.input.label_balance import balanced, copies_of_labels
from training.input.normalisation import read_band_statistics
from training.input.runs import epoch_of_runs, epoch_of_shards, read_whole
from training.input.shards import Shards

TRAIN, VALIDATION = "train", "validation"
# Pads the rows of label ids to the longest row of a batch.
NO_LABEL = -1

# More shards than this are not listed when a folder is opened: a missing one is found when read.
_MAX_LISTED = 10_000
_EXTRACT_AGAIN = "extract the features again, with `python -m pipelines.extract_features`"
# The validation subset is drawn from shards with this many times its patches: enough videos for a
# fair subset, few enough to read.
_VALIDATION_OVERSAMPLING = 8


class Batch(NamedTuple):
    """A mini-batch, of tensors or of their specs.

    Attributes:
      patches: [batch, frames, bands] or [batch, units], of the stored dtype.
      label_ids: int32 [batch, most labels of a patch], padded by NO_LABEL.
      video_ids: string [batch].
      draws: float32 [batch, numbers] from `augmentation.draw`; no numbers without augmentation.
    """

    patches: tf.Tensor
    label_ids: tf.Tensor
    video_ids: tf.Tensor
    draws: tf.Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """A finished FEATURES folder, and the labels that are learned from it.

    Attributes:
      folder: the folder.
      fingerprint: of the training split.
      front_end: of the patches.
      vocabulary: the labels to learn, a prefix of the vocabulary of the folder.
      num_patches: by split, of all groups.
      shards: by split.
      band_statistics: for normalisation; None without it.
    """

    folder: str
    fingerprint: str
    front_end: FrontEnd
    vocabulary: Vocabulary
    num_patches: Mapping[str, int]
    shards: Mapping[str, Shards]
    band_statistics: BandStatistics | None

    def without(self, shard: str) -> "FeatureSet":
        """The same features without one shard of the training split."""
        rest = self.shards[TRAIN].without(shard)
        return dataclasses.replace(self, shards={**self.shards, TRAIN: rest})


def open_features(
    folder: str,
    *,
    num_labels: int | None,
    training_subset: str | None = None,
    normalise: bool = False,
) -> FeatureSet:
    """Open a FEATURES folder, and check that it is complete.

    Args:
      folder: made by pipelines.extract_features.
      num_labels: learn the most frequent labels; None for all, also if there are fewer.
      training_subset: a nested subset of the training split; None for the whole split.
      normalise: whether to read the statistics of the bands.

    Raises:
      ContractError: the folder is unfinished, its parts do not belong together, or it has nothing
        to train on.
      InputError: the folder has no statistics of the bands, or TensorFlow cannot open it.
    """
    tensorflow_paths.require_opens("--features", folder)
    document = folders.read_document(folder, Features)
    vocabulary = read_vocabulary(folder)
    folders.require_equal(
        "vocabulary fingerprint of labels.parquet",
        expected=document.vocabulary.fingerprint,
        received=vocabulary.fingerprint,
        where=folder,
        cure=_EXTRACT_AGAIN,
    )
    splits = document.splits
    shards = {
        split: _open_shards(folder, split, document, training_subset if split == TRAIN else None)
        for split in (TRAIN, VALIDATION)
        if split in splits
    }
    num_patches = {split: splits[split].num_patches for split in shards}
    if not num_patches.get(TRAIN) or not len(shards[TRAIN]):
        raise ContractError(
            f"{folder}: split {TRAIN!r} has no patches; "
            f"found { ({split: entry.num_patches for split, entry in splits.items()}) }; "
            "assign videos of the data set to this split, and extract it"
        )
    # Only of the training split: other splits may be extracted later.
    fingerprint = splits[TRAIN].fingerprint
    return FeatureSet(
        folder=folder,
        fingerprint=fingerprint,
        front_end=document.front_end,
        vocabulary=vocabulary.prefix(num_labels or len(vocabulary)),
        num_patches=num_patches,
        shards=shards,
        band_statistics=(
            read_band_statistics(folder, features_fingerprint=fingerprint) if normalise else None
        ),
    )


def _open_shards(folder: str, split: str, document: Features, subset: str | None) -> Shards:
    """The shards of a split, or of a training subset, without opening or listing many files."""
    entry = document.splits[split]
    groups = (
        list(entry.num_shards) if subset is None else _groups_of_subset(document, subset, folder)
    )
    num_shards = {group: entry.num_shards[group] for group in groups}
    if entry.index_fingerprint is not None:
        index.require_index(folder, split, entry.num_shards, entry.index_fingerprint)
    if sum(num_shards.values()) <= _MAX_LISTED:
        found = [
            files.list_files(folder, f"{split}/{group}/patches-*.tfrecord") for group in groups
        ]
        folders.require_equal(
            f"number of {split} shards",
            expected=sum(num_shards.values()),
            received=sum(map(len, found)),
            where=folder,
            cure=f"{_EXTRACT_AGAIN}",
        )
    return Shards(
        folder=folder,
        split=split,
        num_shards=num_shards,
        indexed=entry.index_fingerprint is not None,
    )


def _groups_of_subset(document: Features, name: str, folder: str) -> Sequence[str]:
    subsets = document.subsets.get(TRAIN, {})
    if name not in subsets:
        raise ContractError(
            f"{folder} has no training subset {name!r}; it has {', '.join(subsets) or 'none'}; "
            "make them with `python -m pipelines.prepare_dataset`"
        )
    return subsets[name]


# Nothing here branches on a tensor: rewriting the functions of the pipeline, and all that they
# call, for AutoGraph would take seconds of every start.
_without_autograph = tf.autograph.experimental.do_not_convert


@_without_autograph
def training_batches(
    features: FeatureSet,
    recipe: Recipe,
    *,
    step: int,
    stream: int | tf.Tensor = 0,
    part: tuple[int, int] = (0, 1),
    parts_a_batch: int = 1,
) -> tf.data.Dataset:
    """Endless shuffled batches; every epoch has each patch once, in an order of its own.

    With label balancing, an epoch has each patch as often as its labels demand.

    Args:
      features: the data.
      recipe: batch size, seed and shuffling.
      step: steps done before; other steps give other orders.
      stream: number of the stream; every asynchronous worker reads a stream in its own order.
      part: (index, number) of this process among those that share each batch. It gets its parts of
        the same batches that a single process would get.
      parts_a_batch: parts that a batch is divided into, one for each device of each process.

    Returns:
      `Batch`es of the recipe's size, or parts of them. The size is static.
    """
    index, number = part
    records = epoch(features, recipe, step=step, stream=stream).repeat()
    if recipe.options.augments:
        seed = _seed(recipe, step, stream)
        draws = tf.data.Dataset.counter().map(
            lambda place: draw(recipe.options, tf.stack([seed, place])),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        records = tf.data.Dataset.zip(records, draws)
    records = records.batch(recipe.batch_size // parts_a_batch, drop_remainder=True)
    if number > 1:
        # The devices of a process take consecutive parts.
        of_process = parts_a_batch // number
        records = records.batch(of_process).shard(number, index).unbatch()
    return _batches(records, features)


@_without_autograph
def epoch(
    features: FeatureSet, recipe: Recipe, *, step: int, stream: int | tf.Tensor = 0
) -> tf.data.Dataset:
    """Shuffled serialized records of an epoch; each iteration gives another order."""
    shards = features.shards[TRAIN]
    seed = _seed(recipe, step, stream)
    read = epoch_of_runs if shards.indexed else epoch_of_shards
    records = read(shards, seed=seed, read_at_once=recipe.interleaved_shards)
    if recipe.options.label_balance:
        copies = copies_of_labels(features.vocabulary.counts, recipe.options.label_balance)
        records = balanced(records, copies, seed)
    return records.shuffle(min(recipe.shuffle_patches, features.num_patches[TRAIN]), seed=seed)


def _seed(recipe: Recipe, step: int, stream: int | tf.Tensor) -> tf.Tensor:
    return int(fingerprint([recipe.seed, step]), 16) % 2**31 + tf.cast(stream, tf.int64)


@_without_autograph
def validation_batches(features: FeatureSet, recipe: Recipe) -> tf.data.Dataset | None:
    """The validation subset: the same patches in the same order every time.

    Validation shards keep the patches of a video together, so the subset takes every k-th patch of
    a few shards, not the first patches of a single shard.

    Returns:
      Batches as those of `training_batches`, not repeated; None without validation patches.
    """
    total = features.num_patches.get(VALIDATION, 0)
    if not total:
        return None
    num_shards = len(features.shards[VALIDATION])
    subset = min(recipe.validation_patches, total)
    share = min(1.0, _VALIDATION_OVERSAMPLING * subset / total)
    paths = list(itertools.islice(features.shards[VALIDATION], math.ceil(num_shards * share)))
    every_kth = max(1, int(total * len(paths) / num_shards) // subset)
    records = (
        read_whole(tf.constant(paths))
        .shard(every_kth, 0)
        .take(subset)
        .cache()  # serialized: 6 KB a patch
    )
    return _batches(records.batch(recipe.batch_size), features)


def _batches(records: tf.data.Dataset, features: FeatureSet) -> tf.data.Dataset:
    """Parse batches of serialized records, 4 times faster than one by one."""
    shape = features.front_end.patch_shape
    dtype = tf.as_dtype(features.front_end.storage.dtype)
    num_labels = len(features.vocabulary)

    def parse(serialized: tf.Tensor, draws: tf.Tensor | None = None) -> Batch:
        parsed = tf.io.parse_example(
            serialized,
            {
                record.PATCH: tf.io.FixedLenFeature([], tf.string),
                record.LABELS: tf.io.VarLenFeature(tf.int64),
                record.VIDEO_ID: tf.io.FixedLenFeature([], tf.string),
            },
        )
        stored = tf.io.decode_raw(parsed[record.PATCH], dtype)
        patches = tf.reshape(stored, [-1, *shape])
        label_ids = tf.sparse.to_dense(parsed[record.LABELS], default_value=NO_LABEL)
        label_ids = tf.cast(label_ids, tf.int32)
        # A patch without a label of the set stays: it is a negative of every label.
        label_ids = tf.where(label_ids < num_labels, label_ids, NO_LABEL)
        if draws is None:
            draws = tf.zeros([tf.shape(serialized)[0], 0])
        return Batch(patches, label_ids, parsed[record.VIDEO_ID], draws)

    # `AUTOTUNE` is then a thread for each core, from the start. Choosing the number of threads by
    # measuring every element took a tenth of the CPU time.
    options = tf.data.Options()
    options.autotune.enabled = False
    parsed = records.map(parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return parsed.prefetch(2).with_options(options)


def decode_patches(stored: tf.Tensor, patch_storage: PatchStorage) -> tf.Tensor:
    """`PatchStorage.decode` in a graph: from the stored dtype to float32."""
    log_mel = tf.cast(stored, tf.float32)
    if patch_storage.dtype == "float16":
        return log_mel
    return log_mel * patch_storage.step + patch_storage.minimum
