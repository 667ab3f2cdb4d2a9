"""The index of a training group: where every record of its shards lies, in 8 bytes a shard.

    train/all/index.bin    int32 [shards, 2], little-endian, row by row

Row i is shard i of the group: its number of records, and the bytes of each record with its padding
and without the framing of the file. So record k of a shard starts at byte
k * (bytes + `tfrecord.OVERHEAD`). The trainer reads runs of records of all shards by it, without a
listing of the shards and without opening their sidecars.
"""

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np

from features.contracts import tfrecord
from features.errors import ContractError
from features.fingerprint import fingerprint
from features.storage import files

FILE_NAME = "index.bin"
_DTYPE = np.dtype("<i4")
_CURE = "write it again with `python -m pipelines.index_features`"


def path_of(folder: str, split: str, group: str) -> str:
    """The file of a group."""
    return files.join(folder, split, group, FILE_NAME)


def write_index(path: str, index: np.ndarray) -> str:
    """Write an index, int [shards, 2]; returns its digest."""
    content = np.ascontiguousarray(index, _DTYPE).tobytes()
    files.write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def read_index(path: str) -> tuple[np.ndarray, str]:
    """Read an index; returns int32 [shards, 2] and its digest.

    Raises:
      ContractError: the file is missing, or its size is that of no index.
    """
    try:
        content = files.read_bytes(path)
    except FileNotFoundError as error:
        raise ContractError(f"{path} is missing; {_CURE}") from error
    if len(content) % (2 * _DTYPE.itemsize):
        raise ContractError(f"{path}: {len(content)} bytes are no rows of two int32; {_CURE}")
    return np.frombuffer(content, _DTYPE).reshape(-1, 2), hashlib.sha256(content).hexdigest()


def num_bytes(index: np.ndarray) -> int:
    """The size of all record files of an index."""
    counts, record_bytes = index.astype(np.int64).T
    return int(np.sum(counts * (record_bytes + tfrecord.OVERHEAD)))


def split_fingerprint(digests: Mapping[str, str]) -> str:
    """Fingerprint of the indexes of a split, from the digest of each group's."""
    return fingerprint(dict(sorted(digests.items())))


def require_index(folder: str, split: str, groups: Iterable[str], expected: str) -> None:
    """Check the indexes of a split against `index_fingerprint` of `features.json`.

    Raises:
      ContractError: an index is missing, or is not the one that was written with `features.json`.
    """
    digests = {group: read_index(path_of(folder, split, group))[1] for group in groups}
    received = split_fingerprint(digests)
    if received != expected:
        raise ContractError(
            f"{folder}: the fingerprint of the indexes of {split} is {received!r}, features.json "
            f"says {expected!r}; {_CURE}"
        )
