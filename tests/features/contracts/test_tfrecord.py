"""TFRecord files against TensorFlow's own reader and writer, and against damage."""

import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from features.contracts import tfrecord
from features.contracts.tfrecord import CorruptRecordError

RECORDS = [b"", b"a", b"\x00" * 7, np.random.default_rng(0).bytes(100_000), "é".encode() * 12]
SHORT_RECORDS = [b"first", b"second one", b"third"]


def file_of(records: list[bytes]) -> bytes:
    file = io.BytesIO()
    for data in records:
        tfrecord.write_record(file, data)
    return file.getvalue()


def read_all(content: bytes) -> list[bytes]:
    return list(tfrecord.read_records(io.BytesIO(content), "shard-7"))


def test_writes_the_bytes_of_tensorflow(tmp_path: Path) -> None:
    path = tmp_path / "theirs"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for data in RECORDS:
            writer.write(data)
    assert file_of(RECORDS) == path.read_bytes()
    assert read_all(path.read_bytes()) == RECORDS


def test_is_read_by_tensorflow(tmp_path: Path) -> None:
    path = tmp_path / "ours"
    path.write_bytes(file_of(RECORDS))
    assert list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()) == RECORDS


@pytest.mark.parametrize("data", RECORDS, ids=len)
def test_says_how_many_bytes_it_wrote(data: bytes) -> None:
    file = io.BytesIO()
    assert tfrecord.write_record(file, data) == len(file.getvalue()) == len(data) + 16


def test_an_empty_file_has_no_records() -> None:
    assert read_all(b"") == []


def ends_of_records(records: list[bytes]) -> list[int]:
    return [len(file_of(records[:count])) for count in range(len(records) + 1)]


def test_every_flipped_byte_is_found_in_its_record() -> None:
    content = file_of(SHORT_RECORDS)
    ends = ends_of_records(SHORT_RECORDS)
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        number = sum(end <= position for end in ends[1:])
        records = tfrecord.read_records(io.BytesIO(damaged), "shard-7")
        assert [next(records) for _ in range(number)] == SHORT_RECORDS[:number]
        with pytest.raises(CorruptRecordError, match=rf"^shard-7: .*record {number} is damaged"):
            next(records)


def test_every_cut_within_a_record_is_found() -> None:
    content = file_of(SHORT_RECORDS)
    ends = ends_of_records(SHORT_RECORDS)
    for size in range(len(content)):
        if size in ends:
            assert read_all(content[:size]) == SHORT_RECORDS[: ends.index(size)]
            continue
        number = sum(end <= size for end in ends[1:])
        with pytest.raises(CorruptRecordError, match=rf"record {number} is damaged or cut"):
            read_all(content[:size])


def test_a_cut_header_is_told_from_a_cut_record() -> None:
    content = file_of(SHORT_RECORDS)
    _, first_end, *_ = ends_of_records(SHORT_RECORDS)
    with pytest.raises(CorruptRecordError, match="the length of record 1"):
        read_all(content[: first_end + 11])
    with pytest.raises(CorruptRecordError, match=r"shard-7: record 1 is"):
        read_all(content[: first_end + 12])
