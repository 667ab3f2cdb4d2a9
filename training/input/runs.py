"""An epoch as random runs of records: after any share of it, that share of every shard was read.

A shard holds the patches of some 85 videos in random order. Were shards read to their ends, a short
training would see all patches of few videos. So every shard is cut into the same number of runs,
and an epoch goes in rounds: one run of every shard, in random order, before a second run of any.
A run is a random sample of its shard, so the runs of a shard follow each other cyclically, from a
random one on. docs/sampling.md has the arithmetic and what was measured.

The order follows from numbers, in the graph: a round of 800,000 shards is three int64 vectors.
"""

import functools

import tensorflow as tf

from features.contracts import tfrecord
from training.input.shards import Shards

# Runs that a shard is cut into, unless they would have fewer records than `_MIN_RUN_RECORDS`. More
# runs follow uniform sampling more closely at the very start of an epoch, and cost more to read.
_RUNS_A_SHARD = 256
_MIN_RUN_RECORDS = 32
# Arithmetic on one run at a time takes longer than reading it.
_RUNS_PLANNED_TOGETHER = 256
# Read size of shards without an index: an object is read in one request a piece.
_OBJECT_READ_BYTES, _LOCAL_READ_BYTES = 8 << 20, 1 << 18


def epoch_of_runs(shards: Shards, *, seed: tf.Tensor, read_at_once: int) -> tf.data.Dataset:
    """All serialised records of shards that have an index; each iteration gives another order.

    The records of a run follow each other, to be shuffled with those of other runs.

    Args:
      shards: to read.
      seed: int64; other seeds give other orders.
      read_at_once: runs that are read at the same time.
    """
    return (
        plan_epoch(shards, seed=seed)
        .batch(_RUNS_PLANNED_TOGETHER)
        .map(functools.partial(_locate, shards))
        .unbatch()
        .interleave(
            _read_run,
            cycle_length=read_at_once,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        .unbatch()
    )


def plan_epoch(shards: Shards, *, seed: tf.Tensor) -> tf.data.Dataset:
    """The runs of an epoch in order: (place of the shard, first record, records, record bytes)."""
    return _epoch_seeds(seed).flat_map(lambda epoch_seed: _rounds(shards.read_index(), epoch_seed))


def epoch_of_shards(shards: Shards, *, seed: tf.Tensor, read_at_once: int) -> tf.data.Dataset:
    """All serialised records of shards that have no index, as far as possible in random order."""
    left_out = tf.constant(shards.numbers_left_out, tf.int64)
    total = sum(shards.num_shards.values())
    return (
        _epoch_seeds(seed)
        .flat_map(
            lambda epoch_seed: tf.data.Dataset.from_tensor_slices(
                tf.random.experimental.stateless_shuffle(
                    tf.range(total, dtype=tf.int64), epoch_seed
                )
            )
        )
        .filter(lambda number: tf.reduce_all(number != left_out))
        .map(shards.paths_of)
        .interleave(
            read_whole,
            cycle_length=min(read_at_once, len(shards)),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
    )


def read_whole(paths: tf.Tensor) -> tf.data.Dataset:
    """All serialised records of record files, one file after the other."""
    is_object = tf.strings.regex_full_match(tf.reshape(paths, [-1])[0], "[a-z0-9]+://.*")
    read_bytes = tf.where(is_object, _OBJECT_READ_BYTES, _LOCAL_READ_BYTES)
    return tf.data.TFRecordDataset(paths, buffer_size=tf.cast(read_bytes, tf.int64))


def _epoch_seeds(seed: tf.Tensor) -> tf.data.Dataset:
    """One element, a seed int64 [2]: another at each iteration."""
    numbers = tf.data.Dataset.random(seed=1, rerandomize_each_iteration=True)
    return numbers.take(1).map(lambda number: tf.stack([tf.cast(seed, tf.int64), number]))


def _rounds(index: tf.Tensor, seed: tf.Tensor) -> tf.data.Dataset:
    """As `plan_epoch`.

    Args:
      index: int64 [shards, 2], as `Shards.read_index` gives it.
      seed: int64 [2].
    """
    counts, record_bytes = tf.unstack(index, axis=1)
    num_shards = tf.size(counts, tf.int64)
    longest = tf.reduce_max(counts)
    num_runs = tf.clip_by_value(longest // _MIN_RUN_RECORDS, 1, _RUNS_A_SHARD)
    first_runs = tf.random.stateless_uniform(
        tf.shape(counts), seed, minval=0, maxval=num_runs, dtype=tf.int64
    )

    def runs_of(number: tf.Tensor) -> tf.data.Dataset:
        run = (first_runs + number) % num_runs
        first, end = run * counts // num_runs, (run + 1) * counts // num_runs
        round_seed = tf.random.experimental.stateless_fold_in(seed, number)
        order = tf.random.experimental.stateless_shuffle(tf.range(num_shards), round_seed)
        order = tf.boolean_mask(order, tf.gather(end > first, order))
        columns = (tf.range(num_shards), first, end - first, record_bytes)
        return tf.data.Dataset.from_tensor_slices(
            tuple(tf.gather(column, order) for column in columns)
        )

    return tf.data.Dataset.range(num_runs).flat_map(runs_of)


def _locate(
    shards: Shards,
    number: tf.Tensor,
    first: tf.Tensor,
    num_records: tf.Tensor,
    record_bytes: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Runs, as vectors, to (path, first byte, bytes, records)."""
    framed = record_bytes + tfrecord.OVERHEAD
    return shards.paths_of(number), first * framed, num_records * framed, num_records


def _read_run(
    path: tf.Tensor, first_byte: tf.Tensor, num_bytes: tf.Tensor, num_records: tf.Tensor
) -> tf.data.Dataset:
    """One element, the serialised records of a run, string [records]; read in one piece.

    Raises:
      tf.errors.FailedPreconditionError: when read, if the file ends before the run does.
    """
    records = tf.raw_ops.TFRecordDatasetV2(
        filenames=path[tf.newaxis],
        compression_type="",
        buffer_size=num_bytes,
        byte_offsets=first_byte[tf.newaxis],
    )
    return (
        tf.data.experimental.from_variant(records, tf.TensorSpec([], tf.string))
        .take(num_records)
        .apply(tf.data.experimental.assert_cardinality(num_records))
        .batch(num_records)
    )
