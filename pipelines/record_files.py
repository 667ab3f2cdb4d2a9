"""The files of one shard of features: a record file, and its sidecar, which is written last.

    patches-00007-of-00042.tfrecord    one record a patch
    patches-00007-of-00042.json        plan, counts, digest, outcome of every video

Paths are without suffix. A sidecar stands only beside the record file that it describes.
"""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from features import record, storage, tfrecord
from features.errors import JobFailedError
from pipelines import resume

PATCHES = "patches"
RECORDS_SUFFIX = ".tfrecord"


def find_shard(path: str, listed_bytes: int | None = None) -> dict[str, Any] | None:
    """The sidecar that is there, if its record file is too and has the right size.

    Args:
      path: of the shard.
      listed_bytes: of the record file, as a listing has shown; None where it showed none.
    """
    sidecar = resume.find_sidecar(path)
    if sidecar is None or sidecar["num_bytes"] == listed_bytes:
        return sidecar
    with contextlib.suppress(FileNotFoundError):  # it may be newer than the listing
        if sidecar["num_bytes"] == storage.size_of(path + RECORDS_SUFFIX):
            return sidecar
    return None


def read_records(path: str) -> Iterator[record.PatchRecord]:
    """The records of a shard, in the order of the file.

    Raises:
      JobFailedError: the record file is not there, is damaged or holds something else; the message
        says how to make it anew.
    """
    path += RECORDS_SUFFIX
    try:
        with storage.open_read(path) as file:
            for data in tfrecord.read_records(file, path):
                yield record.decode(data)
    except (FileNotFoundError, ValueError) as error:
        raise JobFailedError(
            f"{error}; delete {path} and run the job that made it again: it makes this shard anew"
        ) from error


def write_records(path: str, records: Iterable[record.PatchRecord]) -> dict[str, Any]:
    """Write the record file of a shard, and remove the sidecar of an earlier one.

    Returns:
      `num_bytes` of the file and `sha256` of the records, for the sidecar to be written.
    """
    num_bytes, digest = 0, hashlib.sha256()
    with storage.atomic_write(path + RECORDS_SUFFIX) as file:
        for one in records:
            data = record.encode(one)
            digest.update(data)
            num_bytes += tfrecord.write_record(file, data)
        # Before the new records appear: an old sidecar must never stand beside them.
        resume.remove_sidecar(path)
    return {"num_bytes": num_bytes, "sha256": digest.hexdigest()}
