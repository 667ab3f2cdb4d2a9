"""Claim: the input pipeline delivers 50,000 patches a second on two cores.

Our pipeline shuffles serialized records and parses them in batches, with patches as stored. The
peer is the pipeline of tutorials: it parses each record, casts to float32, shuffles, and pads the
labels of a batch. Both read the same shards of uint8 patches with 3,087 labels in batches of 128,
and must give the same patches with the same labels over an epoch.

    python -m tests.benchmarks.input_pipeline --quick
"""

import dataclasses
import itertools
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from features.contracts import folders, index, record
from features.contracts.documents import Features, FeaturesSplit, VocabularyReference
from features.contracts.labels import FILE_NAME, Vocabulary
from features.contracts.record import PatchRecord
from features.contracts.shards import write_records
from features.front_end.front_end import FrontEnd, PatchStorage
from tests.benchmarks.measurement import (
    Lane,
    is_quick,
    make_table,
    median_of,
    report,
    require_possible,
)

NUM_LABELS, LABELS_PER_VIDEO = 3_087, 5
NUM_SHARDS, PATCHES_PER_SHARD = 16, 2_048
BATCH_SIZE = 128
PATCH_SHAPE = (96, 64)
RECORD_BYTES = 96 * 64 + 128  # of a training record, padded
PATTERN_DEVIATION = 16.0  # of a label, in steps of uint8; that of the noise is 74


def write_features(
    folder: str,
    *,
    splits: Mapping[str, int] = MappingProxyType({"train": NUM_SHARDS}),
    learnable_labels: int | None = None,
) -> None:
    """Write a finished FEATURES folder of noise.

    Args:
      folder: to write.
      splits: number of shards of each split.
      learnable_labels: use only the first labels, this many, and add a pattern for each label of a
        patch.
    """
    rng = np.random.default_rng(0)
    front_end = FrontEnd(resampler="none", storage=PatchStorage(dtype="uint8"))
    names = tuple(f"label {index}" for index in range(NUM_LABELS))
    vocabulary = Vocabulary(names, names, np.ones(NUM_LABELS, np.int64), 1)
    patterns = rng.normal(0, PATTERN_DEVIATION, (learnable_labels or 0, *PATCH_SHAPE))
    for split, num_shards in splits.items():
        shards = Path(folder, split, "all")
        shards.mkdir(parents=True)
        for shard in range(num_shards):
            records = []
            for number in range(PATCHES_PER_SHARD):
                among = learnable_labels or NUM_LABELS
                labels = np.sort(rng.choice(among, LABELS_PER_VIDEO, replace=False))
                patch = rng.integers(0, 256, PATCH_SHAPE, np.uint8)
                if learnable_labels:
                    patch = np.clip(patch + patterns[labels].sum(axis=0), 0, 255)
                example = PatchRecord(
                    f"{split}-{shard:05d}-{number:05d}",
                    patch.astype(np.uint8).tobytes(),
                    0.0,
                    tuple(int(label) for label in labels),
                )
                records.append(example)
            path = str(shards / f"patches-{shard:05d}-of-{num_shards:05d}")
            write_records(path, records, RECORD_BYTES if split == "train" else None)
    Path(folder, FILE_NAME).write_bytes(vocabulary.to_bytes())
    table = np.tile([PATCHES_PER_SHARD, RECORD_BYTES], (splits["train"], 1))
    folders.write_document(
        folder,
        describe_features(
            {split: number * PATCHES_PER_SHARD for split, number in splits.items()},
            splits,
            front_end,
            vocabulary,
            index_fingerprint=write_group_index(folder, table),
        ),
    )


def write_group_index(folder: str, table: np.ndarray) -> str:
    """Write the index of the group `all`, int [shards, 2]; returns `index_fingerprint`."""
    digest = index.write_index(index.path_of(folder, "train", "all"), table)
    return index.split_fingerprint({"all": digest})


def describe_features(
    num_patches: Mapping[str, int],
    num_shards: Mapping[str, int],
    front_end: FrontEnd,
    vocabulary: Vocabulary,
    *,
    index_fingerprint: str,
) -> Features:
    """The document of features with an index, as if every patch were a video; both by split."""
    total = sum(num_patches.values())
    return Features(
        made_by=folders.made_by(),
        dataset="none",
        dataset_fingerprint="none",
        vocabulary=VocabularyReference(num_labels=NUM_LABELS, fingerprint=vocabulary.fingerprint),
        front_end=front_end,
        front_end_fingerprint=front_end.fingerprint,
        seed=0,
        keep_partial=False,
        num_videos_planned=total,
        fingerprint="noise",
        num_videos=total,
        num_written=total,
        num_rejects=0,
        rejects={},
        num_patches=total,
        splits={
            split: FeaturesSplit(
                num_videos=num_patches[split],
                num_patches=num_patches[split],
                num_bytes=0,
                num_shards={"all": num_shards[split]},
                groups={},
                fingerprint="noise",
                index_fingerprint=index_fingerprint if split == "train" else None,
            )
            for split in num_shards
        },
    )


def our_batches(folder: str) -> Any:
    """Endless batches of uint8 patches, label ids and video ids."""
    from training import recipes
    from training.input.batches import open_features, training_batches

    features = open_features(folder, num_labels=NUM_LABELS, training_subset=None)
    recipe = dataclasses.replace(recipes.resnet50(), batch_size=BATCH_SIZE)
    return training_batches(features, recipe, step=0)


def naive_batches(folder: str) -> Any:
    """Endless batches of (float32 patches, label ids)."""
    import tensorflow as tf

    paths = sorted(str(path) for path in Path(folder, "train", "all").glob("*.tfrecord"))
    storage = PatchStorage()

    def parse(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        parsed = tf.io.parse_single_example(
            serialized,
            {
                record.PATCH: tf.io.FixedLenFeature([], tf.string),
                record.LABELS: tf.io.VarLenFeature(tf.int64),
            },
        )
        stored = tf.reshape(tf.io.decode_raw(parsed[record.PATCH], tf.uint8), [96, 64])
        patch = tf.cast(stored, tf.float32) * storage.step + storage.minimum
        return patch, tf.sparse.to_dense(parsed[record.LABELS])

    return (
        tf.data.Dataset.from_tensor_slices(paths)
        .shuffle(len(paths))
        .interleave(tf.data.TFRecordDataset, num_parallel_calls=tf.data.AUTOTUNE)
        .map(parse, num_parallel_calls=tf.data.AUTOTUNE)
        .shuffle(16_384)
        .repeat()
        .padded_batch(BATCH_SIZE, padding_values=(None, np.int64(-1)), drop_remainder=True)
        .prefetch(2)
    )


PIPELINES = {"ours": our_batches, "naive": naive_batches}
_kept: dict[str, Iterator[Any]] = {}


def batches_of(name: str, folder: str) -> Iterator[Any]:
    """The iterator of this lane; later calls continue with a filled shuffle buffer."""
    if name not in _kept:
        _kept[name] = iter(PIPELINES[name](folder))
    return _kept[name]


def read(name: str, folder: str, num_batches: int) -> float:
    """Patches per second of wall time."""
    batches = batches_of(name, folder)
    next(batches)
    start = time.monotonic()
    for _ in itertools.islice(batches, num_batches):
        pass
    return num_batches * BATCH_SIZE / (time.monotonic() - start)


def copy_patches(num_batches: int) -> None:
    """Copy as many bytes as so many batches have: no pipeline reads its records for less."""
    patches = np.ones((BATCH_SIZE, *PATCH_SHAPE), np.uint8)
    for _ in range(num_batches):
        patches.copy()


def contents_of_epoch(name: str, folder: str) -> list[int]:
    """The checksums of all patches with their labels, sorted."""
    storage, checksums = PatchStorage(), []
    for batch in itertools.islice(
        PIPELINES[name](folder), NUM_SHARDS * PATCHES_PER_SHARD // BATCH_SIZE
    ):
        patches, label_ids = batch[0].numpy(), batch[1].numpy()
        if patches.dtype != np.uint8:
            patches = storage.encode(patches)
        for patch, labels in zip(patches, label_ids, strict=True):
            content = patch.tobytes() + np.sort(labels[labels >= 0]).astype(np.int32).tobytes()
            checksums.append(zlib.crc32(content))
    return sorted(checksums)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    num_rounds, num_batches = (3, 400) if is_quick(__doc__, argv) else (5, 1_500)
    with tempfile.TemporaryDirectory() as folder, Lane() as lane:
        lane(write_features, folder)
        same = [lane(contents_of_epoch, name, folder)[1] for name in PIPELINES]
        assert same[0] == same[1], "the pipelines do not give the same patches and labels"
        rounds = []
        for number in range(num_rounds + 1):
            measured: dict[str, float] = {}
            for name in PIPELINES:
                cpu, rate = lane(read, name, folder, num_batches)
                require_possible(
                    f"CPU seconds of {name}", cpu, at_least=lane(copy_patches, num_batches)[0]
                )
                measured |= {f"{name} cpu": cpu / num_batches / BATCH_SIZE, f"{name} rate": rate}
            if number:  # the first round fills the buffers
                rounds.append(measured)
    median = median_of(rounds)
    ratios = {name: median[f"{name} cpu"] / median["ours cpu"] for name in PIPELINES}
    rows = [
        [name, median[f"{name} rate"], 1 / median[f"{name} cpu"], ratio]
        for name, ratio in ratios.items()
    ]
    header = ["pipeline", "patches/s, all cores", "patches per CPU second", "CPU over ours"]
    report(
        {
            "patches_per_second": median["ours rate"],
            "naive_over_ours": ratios["naive"],
            "patches_per_cpu_second": 1 / median["ours cpu"],
        },
        {"pipelines": make_table(header, rows)},
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
