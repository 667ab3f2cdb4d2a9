"""The TFRecord file format: length, checksum of the length, data, checksum of the data.

Beam's own sink numbers shards by random uuids and needs every record to cross a shuffle;
TensorFlow's writer needs TensorFlow. The format is 16 bytes around each record.
"""

import struct
from collections.abc import Iterator
from typing import IO

import google_crc32c

# Its pure Python fallback runs at 8 MB/s and would dominate a whole extraction.
if google_crc32c.implementation != "c":
    raise ImportError(
        "google_crc32c has no compiled implementation here: install its binary wheel "
        f"(found {google_crc32c.implementation!r})"
    )

# Bytes around each record.
OVERHEAD = 16


class CorruptRecordError(ValueError):
    """A TFRecord file is truncated or a checksum does not match."""


def write_record(file: IO[bytes], data: bytes) -> int:
    """Append a record; returns the number of bytes written."""
    length = struct.pack("<Q", len(data))
    file.write(length + _masked_crc(length) + data + _masked_crc(data))
    return len(data) + OVERHEAD


def read_records(file: IO[bytes], name: str) -> Iterator[bytes]:
    """Read the records of a file and verify their checksums.

    Raises:
      CorruptRecordError: names the damaged record of the file `name`.
    """
    index = 0
    while header := file.read(12):
        if len(header) < 12 or header[8:] != _masked_crc(header[:8]):
            raise CorruptRecordError(f"{name}: the length of record {index} is damaged or cut")
        (length,) = struct.unpack("<Q", header[:8])
        data, crc = file.read(length), file.read(4)
        if len(data) < length or crc != _masked_crc(data):
            raise CorruptRecordError(f"{name}: record {index} is damaged or cut")
        yield data
        index += 1


def _masked_crc(data: bytes) -> bytes:
    # The format masks checksums, because a checksum of data with embedded checksums is weak.
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
