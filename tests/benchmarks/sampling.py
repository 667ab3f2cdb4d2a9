"""Claim: mini-batches are random patches of all videos, at any share of an epoch, at any scale.

Three folders of features, read by the trainer's own `epoch`:

- the paper's proportions: 512 shards of 85 videos of 288 patches, in records of a few bytes, since
  only the order is looked at. 835,000 such shards hold the paper's 70M videos. After 1, 3.2 and
  10 % of an epoch the videos that were seen are counted, beside those that uniform sampling sees;
- records of real size in shards of real size: patches per second;
- records of real size in small shards, on disk and in an emulated bucket: bytes read to read them
  all, over the bytes of the records.

And the start of an epoch of 800,000 shards, of which only the index exists.

    python -m tests.benchmarks.sampling --quick
"""

import dataclasses
import itertools
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from features.contracts import folders, record, tfrecord
from features.contracts.labels import FILE_NAME, Vocabulary
from features.contracts.record import PatchRecord
from features.contracts.shards import write_records
from features.front_end.front_end import FrontEnd, PatchStorage
from tests import emulator
from tests.benchmarks.input_pipeline import (
    BATCH_SIZE,
    LABELS_PER_VIDEO,
    NUM_LABELS,
    describe_features,
    write_group_index,
)
from tests.benchmarks.measurement import Lane, is_quick, make_table, report, require_possible

NUM_SHARDS, VIDEOS_PER_SHARD, PATCHES_PER_VIDEO = 512, 85, 288
SHARES = {"1": 0.01, "3_2": 0.032, "10": 0.1}
REAL_SHARDS, REAL_FILES = 32, 1  # names, and files of real size that the names are links to
SMALL_SHARDS, SMALL_RECORDS = 4, 512
MANY_SHARDS = 800_000
BUCKET_FOLDER = f"gs://{emulator.BUCKET}/features"


def write_folder(folder: str, num_records: int, num_shards: int, record_bytes: int) -> None:
    """Write all but the shards of a finished FEATURES folder."""
    names = tuple(f"label {number}" for number in range(NUM_LABELS))
    vocabulary = Vocabulary(names, names, np.ones(NUM_LABELS, np.int64), 1)
    table = np.tile([num_records, record_bytes], (num_shards, 1))
    fingerprint = write_group_index(folder, table)
    Path(folder, FILE_NAME).write_bytes(vocabulary.to_bytes())
    front_end = FrontEnd(resampler="none", storage=PatchStorage(dtype="uint8"))
    total = {"train": num_records * num_shards}
    shards = {"train": num_shards}
    features = describe_features(
        total, shards, front_end, vocabulary, index_fingerprint=fingerprint
    )
    folders.write_document(folder, features)


def path_of(folder: str, shard: int, num_shards: int) -> str:
    """The path of a shard, without suffix."""
    return str(Path(folder, "train", "all", f"patches-{shard:05d}-of-{num_shards:05d}"))


# The paper's proportions


def write_order(folder: str) -> None:
    """Shards in the paper's proportions; a record holds nothing but the number of its video."""
    rng = np.random.default_rng(0)
    example = record.encode(PatchRecord("0" * 8, b"", 0.0, ()))
    data = record.pad(example, len(example) + record.MIN_PADDING)
    write_folder(folder, VIDEOS_PER_SHARD * PATCHES_PER_VIDEO, NUM_SHARDS, len(data))
    place = data.index(b"0" * 8)
    framed = np.frombuffer(data, np.uint8)
    header = np.frombuffer(_frame(data)[:12], np.uint8)
    rows = np.empty((VIDEOS_PER_SHARD, len(data) + tfrecord.OVERHEAD), np.uint8)  # one a video
    rows[:, :12], rows[:, 12:-4] = header, framed
    videos = np.arange(VIDEOS_PER_SHARD)
    for shard in range(NUM_SHARDS):
        numbers = videos + VIDEOS_PER_SHARD * shard
        digits = numbers[:, None] // 10 ** np.arange(7, -1, -1) % 10 + ord("0")
        rows[:, 12 + place : 20 + place] = digits
        rows[:, -4:] = masked_checksums(rows[:, 12:-4])
        order = rng.permutation(np.repeat(videos, PATCHES_PER_VIDEO))
        Path(path_of(folder, shard, NUM_SHARDS) + ".tfrecord").write_bytes(rows[order].tobytes())


def _frame(data: bytes) -> bytes:
    file = tempfile.SpooledTemporaryFile()  # noqa: SIM115 - in memory
    tfrecord.write_record(file, data)
    file.seek(0)
    return file.read()


def masked_checksums(rows: np.ndarray) -> np.ndarray:
    """The checksums that TFRecord has for the rows, uint8 [rows, 4]: CRC-32C, masked."""
    table: np.ndarray = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = table >> 1 ^ np.where(table & 1, np.uint32(0x82F63B78), np.uint32(0))
    crc = np.full(len(rows), 0xFFFFFFFF, np.uint32)
    for column in np.ascontiguousarray(rows.T):
        crc = table[(crc ^ column) & 255] ^ crc >> 8
    crc = ~crc
    masked = (crc >> 15 | crc << 17) + np.uint32(0xA282EAD8)
    return masked.astype("<u4").view(np.uint8).reshape(-1, 4)


def _epoch(folder: str) -> Any:
    from training import recipes
    from training.input.batches import epoch, open_features

    features = open_features(folder, num_labels=NUM_LABELS)
    return epoch(features, recipes.resnet50(), step=0)


def measure_order(folder: str) -> dict[str, float]:
    """Videos seen over those of uniform sampling, and pairs of one video in a mini-batch."""
    num_videos = NUM_SHARDS * VIDEOS_PER_SHARD
    total = num_videos * PATCHES_PER_VIDEO
    videos = _videos(folder, int(total * max(SHARES.values())) // BATCH_SIZE)
    found = {}
    for name, share in SHARES.items():
        drawn = int(total * share)
        unseen = 1.0  # the probability that none of a video's patches is among those drawn
        for patch in range(PATCHES_PER_VIDEO):
            unseen *= (total - drawn - patch) / (total - patch)
        seen = len(np.unique(videos[:drawn]))
        found[f"videos_seen_over_uniform_{name}"] = seen / num_videos / (1 - unseen)
    batches = np.sort(videos.reshape(-1, BATCH_SIZE), axis=1)
    # The pairs of a run of k equal numbers: each with those after it.
    pairs = sum(
        np.sum(batches[:, distance:] == batches[:, :-distance]) for distance in range(1, 32)
    )
    return {**found, "same_video_pairs_a_batch": float(pairs / len(batches))}


def _videos(folder: str, num_batches: int) -> np.ndarray:
    """The numbers of the videos of the first mini-batches, in order."""
    parts = []
    batches = _epoch(folder).batch(BATCH_SIZE * 64).as_numpy_iterator()
    for batch in itertools.islice(batches, -(-num_batches // 64)):
        rows = np.frombuffer(b"".join(batch), np.uint8).reshape(len(batch), -1)
        place = batch[0].index(b"video_id") + len(b"video_id") + 6
        digits = rows[:, place : place + 8].astype(np.int64) - ord("0")
        parts.append(digits @ 10 ** np.arange(7, -1, -1))
    videos = np.concatenate(parts)[: num_batches * BATCH_SIZE]
    assert videos.min() >= 0
    assert videos.max() < NUM_SHARDS * VIDEOS_PER_SHARD
    return videos


# Records of real size


def noise(rng: np.random.Generator, number: int) -> Iterator[PatchRecord]:
    """Records of real size."""
    patches = rng.integers(0, 256, (256, 96 * 64), np.uint8)
    for place in range(number):
        labels = np.sort(rng.integers(0, NUM_LABELS // LABELS_PER_VIDEO, LABELS_PER_VIDEO))
        labels = labels + np.arange(LABELS_PER_VIDEO)  # each once
        yield PatchRecord(
            f"video-{place % VIDEOS_PER_SHARD:06d}"[: 8 + place % 5],
            patches[place % 256].tobytes(),
            0.96 * (place // VIDEOS_PER_SHARD),
            tuple(labels.tolist()),
        )


def write_real(folder: str, num_records: int, num_shards: int, num_files: int) -> int:
    """Shards of real records; returns the bytes of the records, without padding and framing."""
    rng = np.random.default_rng(1)
    lengths = [len(record.encode(patch)) for patch in noise(rng, 1_000)]
    record_bytes = max(lengths) + 4 + record.MIN_PADDING
    write_folder(folder, num_records, num_shards, record_bytes)
    total = 0
    for shard in range(num_shards):
        path = path_of(folder, shard, num_shards)
        if shard < num_files:
            records = list(noise(rng, num_records))
            total += sum(len(record.encode(patch)) for patch in records)
            write_records(path, records, record_bytes)
        else:
            source = path_of(folder, shard % num_files, num_shards)
            os.link(source + ".tfrecord", path + ".tfrecord")
    return total


def measure_rate(folder: str, num_batches: int, num_rounds: int) -> dict[str, float]:
    """The best of several rounds, as other work on the machine only slows a round down."""
    from training import recipes
    from training.input.batches import open_features, training_batches

    features = open_features(folder, num_labels=NUM_LABELS)
    whole = dataclasses.replace(features.shards["train"], indexed=False)
    ways = {"runs": features, "whole": dataclasses.replace(features, shards={"train": whole})}
    recipe = dataclasses.replace(recipes.resnet50(), batch_size=BATCH_SIZE)
    batches = {way: iter(training_batches(of, recipe, step=0)) for way, of in ways.items()}
    rates: dict[str, list[float]] = {f"{way}{what}": [] for way in ways for what in ("", " cpu")}
    for number in range(num_rounds + 1):
        for way, iterator in batches.items():
            next(iterator)
            start, cpu = time.monotonic(), time.process_time()
            for _ in range(num_batches):
                next(iterator)
            if number:  # the first round fills the buffers
                rates[way].append(num_batches * BATCH_SIZE / (time.monotonic() - start))
                rates[f"{way} cpu"].append(num_batches * BATCH_SIZE / (time.process_time() - cpu))
    return {
        "patches_per_second": max(rates["runs"]),
        "patches_per_cpu_second": max(rates["runs cpu"]),
        "cpu_over_that_of_whole_shards": max(rates["whole cpu"]) / max(rates["runs cpu"]),
        "shuffle_buffer_megabytes": recipe.shuffle_patches * 96 * 64 / 1e6,
    }


def read_all(folder: str) -> tuple[int, int]:
    """Read an epoch; returns its records, and the bytes that this process read meanwhile."""
    from training import train  # noqa: F401 - sets how TensorFlow reads objects

    epoch = _epoch(folder)
    before = _bytes_read()
    number = sum(1 for _ in epoch.batch(BATCH_SIZE).unbatch().as_numpy_iterator())
    return number, _bytes_read() - before


def _bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


def measure_bucket(folder: str, record_data: int) -> float:
    """Bytes read over bytes used, for the same folder in an emulated bucket."""
    with tempfile.TemporaryDirectory() as scratch, emulator.start(Path(scratch)) as bucket:
        for path in Path(folder).rglob("*"):
            if path.is_file():
                name = path.relative_to(folder)
                bucket.put(f"features/{name}", path.read_bytes())
        with Lane() as lane:
            _, (number, _) = lane(read_all, BUCKET_FOLDER)
        assert number == SMALL_SHARDS * SMALL_RECORDS
        return bucket.num_bytes_sent() / record_data


# The start


def measure_start(folder: str) -> dict[str, float]:
    """Open a folder of very many shards and plan the first runs of an epoch."""
    import tensorflow as tf

    from training.input import runs
    from training.input.batches import open_features

    tf.constant(0) + 1  # what a worker pays once for TensorFlow itself
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.monotonic()
    shards = open_features(folder, num_labels=NUM_LABELS).shards["train"]

    @tf.function
    def planned() -> tf.data.Dataset:
        return runs.plan_epoch(shards, seed=tf.constant(0, tf.int64))

    graph = planned.get_concrete_function().graph.as_graph_def().ByteSize()
    runs_of_epoch = iter(runs.plan_epoch(shards, seed=tf.constant(0, tf.int64)))
    drawn = {int(next(runs_of_epoch)[0]) for _ in range(1_000)}
    assert len(drawn) == 1_000  # no shard twice in a round
    return {
        "start_seconds": time.monotonic() - start,
        "start_megabytes": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3,
        "graph_kilobytes": graph / 1e3,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; only what is timed runs alone."""
    num_rounds, num_batches = (2, 250) if is_quick(__doc__, argv) else (5, 1_500)
    scratch = Path(tempfile.mkdtemp())
    order, real, small, many = (str(scratch / name) for name in ("order", "real", "small", "many"))
    in_shard = VIDEOS_PER_SHARD * PATCHES_PER_VIDEO
    try:
        with Lane() as writing, Lane() as reading, ThreadPoolExecutor(1) as beside:
            _, used = writing(write_real, small, SMALL_RECORDS, SMALL_SHARDS, SMALL_SHARDS)
            writing(write_folder, many, in_shard, MANY_SHARDS, 6_250)
            written = beside.submit(writing, write_order, order)
            found = reading(measure_start, many)[1]  # before anything else takes memory
            written.result()
            from_bucket = beside.submit(measure_bucket, small, used)
            found |= reading(measure_order, order)[1]
            writing(write_real, real, in_shard, REAL_SHARDS, REAL_FILES)
            found["bucket_bytes_read_over_bytes_used"] = from_bucket.result()
            found |= reading(measure_rate, real, num_batches, num_rounds)[1]
            _, (number, on_disk) = reading(read_all, small)
            found["bytes_read_over_bytes_used"] = on_disk / used
    finally:
        shutil.rmtree(scratch)
    assert number == SMALL_SHARDS * SMALL_RECORDS
    assert max(found[f"videos_seen_over_uniform_{name}"] for name in SHARES) <= 1.01
    for name in ("bytes_read_over_bytes_used", "bucket_bytes_read_over_bytes_used"):
        require_possible(name, found[name], at_least=1)
    header = [
        f"{NUM_SHARDS} shards of {VIDEOS_PER_SHARD} videos of {PATCHES_PER_VIDEO} patches",
        "",
    ]
    rows = [[name.replace("_", " "), value] for name, value in found.items()]
    report(found, {"order": make_table(header, rows)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
