"""Patch records against the `tf.train.Example` that TensorFlow itself writes and reads."""

import numpy as np
import pytest
import tensorflow as tf

from features.contracts import record
from features.contracts.record import PatchRecord

PATCH = np.random.default_rng(1).integers(0, 256, (96, 64), np.uint8)
RECORDS = [
    PatchRecord("video/1.mp4", PATCH.tobytes(), 0.96, (0, 7, 3_086)),
    PatchRecord("日本語 ☃", b"\x00\xff" * 3, 12_345.678, (2**40,)),
    PatchRecord("no labels", b"", 0.0, ()),
]


def example_of_tensorflow(patch_record: PatchRecord) -> tf.train.Example:
    def of_bytes(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    feature = {
        "labels": tf.train.Feature(int64_list=tf.train.Int64List(value=patch_record.labels)),
        "patch": of_bytes(patch_record.patch),
        "start_seconds": tf.train.Feature(
            float_list=tf.train.FloatList(value=[patch_record.start_seconds])
        ),
        "video_id": of_bytes(patch_record.video_id.encode()),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature))


def with_float32_start(patch_record: PatchRecord) -> PatchRecord:
    start = float(np.float32(patch_record.start_seconds))
    return PatchRecord(patch_record.video_id, patch_record.patch, start, patch_record.labels)


@pytest.mark.parametrize("patch_record", RECORDS, ids=lambda r: r.video_id)
class TestAgainstTensorFlow:
    def test_writes_the_bytes_of_tensorflow(self, patch_record: PatchRecord) -> None:
        expected = example_of_tensorflow(patch_record).SerializeToString(deterministic=True)
        assert record.encode(patch_record) == expected

    def test_reads_what_tensorflow_wrote(self, patch_record: PatchRecord) -> None:
        serialized = example_of_tensorflow(patch_record).SerializeToString()
        assert record.decode(serialized) == with_float32_start(patch_record)

    def test_is_parsed_by_tensorflow(self, patch_record: PatchRecord) -> None:
        parsed = tf.io.parse_single_example(
            record.encode(patch_record),
            {
                "video_id": tf.io.FixedLenFeature([], tf.string),
                "patch": tf.io.FixedLenFeature([], tf.string),
                "start_seconds": tf.io.FixedLenFeature([], tf.float32),
                "labels": tf.io.RaggedFeature(tf.int64),
            },
        )
        assert parsed["video_id"].numpy().decode() == patch_record.video_id
        assert parsed["patch"].numpy() == patch_record.patch
        assert parsed["start_seconds"].numpy() == np.float32(patch_record.start_seconds)
        assert parsed["labels"].numpy().tolist() == list(patch_record.labels)

    def test_reads_back_what_it_wrote(self, patch_record: PatchRecord) -> None:
        assert record.decode(record.encode(patch_record)) == with_float32_start(patch_record)


def test_patch_bytes_are_the_array_row_by_row() -> None:
    decoded = record.decode(record.encode(RECORDS[0]))
    np.testing.assert_array_equal(np.frombuffer(decoded.patch, np.uint8).reshape(96, 64), PATCH)


def test_the_same_record_gives_the_same_bytes() -> None:
    assert len({record.encode(PatchRecord("v", b"p", 1.5, (1, 2))) for _ in range(50)}) == 1


@pytest.mark.parametrize(
    "serialized",
    [
        b"",
        b"not a message",
        record.encode(RECORDS[0])[:-1],
        tf.train.Example().SerializeToString(),
        tf.train.Example(
            features=tf.train.Features(
                feature={"video_id": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"v"]))}
            )
        ).SerializeToString(),
        example_of_tensorflow(PatchRecord("v", b"p", 0.0, ())).SerializeToString()[1:],
        record.encode(RECORDS[0]).replace(b"video/1.mp4", b"\xffideo/1.mp4"),
    ],
    ids=["nothing", "text", "cut", "no features", "no patch", "headless", "id is no text"],
)
def test_anything_else_is_refused_with_its_size(serialized: bytes) -> None:
    with pytest.raises(ValueError, match=rf"not a patch record \({len(serialized)} bytes\)"):
        record.decode(serialized)


@pytest.mark.parametrize("zeros", [0, 1, 122, 123, 127, 128, 16_384, 70_000])
def test_padding_is_skipped_by_readers_and_stripped_exactly(zeros: int) -> None:
    for patch_record in RECORDS:
        serialized = record.encode(patch_record)
        padded = record.pad(serialized, len(serialized) + record.MIN_PADDING + zeros)
        assert len(padded) == len(serialized) + record.MIN_PADDING + zeros
        assert record.decode(padded) == with_float32_start(patch_record)
        assert record.strip_padding(padded) == record.strip_padding(serialized) == serialized
        parsed = tf.io.parse_example([padded], {"patch": tf.io.FixedLenFeature([], tf.string)})
        assert parsed["patch"].numpy()[0] == patch_record.patch
        assert (
            tf.train.Example.FromString(padded).features
            == example_of_tensorflow(patch_record).features
        )


def test_padding_that_does_not_fit_is_refused() -> None:
    serialized = record.encode(RECORDS[0])
    with pytest.raises(ValueError, match=f"{len(serialized)} bytes cannot be padded to 100"):
        record.pad(serialized, 100)
    with pytest.raises(ValueError, match="cannot be padded"):
        record.pad(serialized, len(serialized) + record.MIN_PADDING - 1)
