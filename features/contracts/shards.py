"""The files of one shard: its data, and a sidecar that is written last.

    patches-00007-of-00042.tfrecord    one record a patch
    patches-00007-of-00042.json        plan, counts, digest, outcome of every video

Paths of shards have no suffix. A sidecar exists only beside the data that it describes.
"""

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import IO, TypeVar

from features.contracts import record, tfrecord
from features.contracts.documents import PatchShard, Sidecar
from features.contracts.sharding import ShardKey
from features.errors import ContractError, JobFailedError
from features.storage import files

PATCHES = "patches"
RECORDS_SUFFIX, SIDECAR_SUFFIX = ".tfrecord", ".json"

_Sidecar = TypeVar("_Sidecar", bound=Sidecar)
_Record = TypeVar("_Record")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordFile:
    """The fields of `PatchShard` that describe a record file."""

    num_bytes: int
    record_bytes: int | None
    sha256: str


def find_patch_shard(path: str, listed_bytes: int | None = None) -> PatchShard | None:
    """Find the sidecar of a finished shard of features.

    Args:
      path: of the shard, without suffix.
      listed_bytes: size of the record file in a listing; None if the listing does not have it.

    Returns:
      The sidecar; None if there is no valid one, or the record file is missing or of another size.
    """
    sidecar = find_sidecar(path, PatchShard)
    if sidecar is None or sidecar.num_bytes == listed_bytes:
        return sidecar
    with contextlib.suppress(FileNotFoundError):  # the file may be newer than the listing
        if sidecar.num_bytes == files.size_of(path + RECORDS_SUFFIX):
            return sidecar
    return None


def read_records(path: str) -> Iterator[record.PatchRecord]:
    """Read the records of a shard, in the order of the file.

    Raises:
      JobFailedError: the record file is missing, is damaged or holds something else; the message
        says how to rebuild the shard.
    """
    return _read(path, record.decode)


def _read(path: str, parse: Callable[[bytes], _Record]) -> Iterator[_Record]:
    path += RECORDS_SUFFIX
    try:
        with files.open_read(path) as file:
            for data in tfrecord.read_records(file, path):
                yield parse(data)
    except (FileNotFoundError, ValueError) as error:
        raise JobFailedError(
            f"{error}; delete {path} and run the command that made it again: it rebuilds this shard"
        ) from error


def write_records(
    path: str,
    records: Iterable[record.PatchRecord],
    record_bytes: int | None = None,
    *,
    keep_sidecar: bool = False,
) -> RecordFile:
    """Write the record file of a shard, and remove the sidecar of an earlier record file.

    Args:
      path: of the shard, without suffix.
      records: in the order of the file.
      record_bytes: length that all records are padded to; None for no padding.
      keep_sidecar: leave it, where the records are some of those that it describes. Until it is
        replaced, it has the size of the earlier file, and so is not that of a finished shard.
    """
    with files.atomic_write(path + RECORDS_SUFFIX) as file:
        written = _write(file, map(record.encode, records), record_bytes)
        # Before the new records appear: an old sidecar must never lie beside new records.
        if not keep_sidecar:
            remove_sidecar(path)
    return written


def pad_shard(path: str, sidecar: PatchShard) -> PatchShard:
    """Rewrite the record file of a shard with all records padded to one length.

    The sidecar on disk is left to the caller. Until it is replaced, only its sizes are wrong, and
    padding again makes them right: nothing is lost if the caller dies in between.

    Args:
      path: of the shard, without suffix.
      sidecar: of the records, padded or not.

    Returns:
      The sidecar of the padded records.

    Raises:
      JobFailedError: the record file is missing or damaged, or is not that of the sidecar.
    """
    longest = max(map(len, _read(path, record.strip_padding)), default=0)
    with files.atomic_write(path + RECORDS_SUFFIX) as file:
        records = _read(path, record.strip_padding)
        written = _write(file, records, longest + record.MIN_PADDING)
        if written.sha256 != sidecar.sha256:
            raise JobFailedError(
                f"{path}{RECORDS_SUFFIX}: SHA-256 of the records is {written.sha256}, the sidecar "
                f"says {sidecar.sha256}; repair the shard with "
                "`python -m pipelines.audit_features --repair`"
            )
    return dataclasses.replace(sidecar, **dataclasses.asdict(written))


def _write(file: IO[bytes], records: Iterable[bytes], record_bytes: int | None) -> RecordFile:
    num_bytes, digest = 0, hashlib.sha256()
    for data in records:
        digest.update(data)
        if record_bytes is not None:
            data = record.pad(data, record_bytes)
        num_bytes += tfrecord.write_record(file, data)
    return RecordFile(num_bytes=num_bytes, record_bytes=record_bytes, sha256=digest.hexdigest())


def find_sidecar(path: str, document: type[_Sidecar]) -> _Sidecar | None:
    """Find the sidecar of a shard; its `plan` says which work is done.

    Args:
      path: of the shard, without suffix.
      document: class of the sidecar.

    Returns:
      The sidecar; None if there is no file, or the file is not a valid sidecar: the shard then has
      to be rebuilt.
    """
    try:
        return read_sidecar(path, document)
    except (FileNotFoundError, ContractError):
        return None


def read_sidecar(path: str, document: type[_Sidecar]) -> _Sidecar:
    """Read the sidecar of a shard.

    Args:
      path: of the shard, without suffix.
      document: class of the sidecar.

    Raises:
      FileNotFoundError: there is none.
      ContractError: the file is not a valid sidecar.
    """
    path += SIDECAR_SUFFIX
    return document.from_json(files.read_bytes(path), path)


def write_sidecar(path: str, sidecar: Sidecar) -> None:
    """Declare the work of a shard finished.

    Args:
      path: of the shard, without suffix.
      sidecar: its `plan` is the fingerprint of the work.
    """
    files.write_bytes(path + SIDECAR_SUFFIX, sidecar.to_json())


def remove_sidecar(path: str) -> None:
    """Declare the work of a shard unfinished."""
    files.delete(path + SIDECAR_SUFFIX)


def remove_leftovers(output: str, keys: Iterable[ShardKey], kinds: Iterable[str]) -> None:
    """Remove shards of these kinds that are not in the plan, of the splits that are in the plan.

    Args:
      output: a folder of <split>/<group>/<kind>-00000-of-00000.<suffix>.
      keys: the shards in the plan.
      kinds: of files that the job writes.
    """
    keys, kinds = list(keys), list(kinds)
    wanted = {files.join(output, key.path(kind)) for key in keys for kind in kinds}
    number = "[0-9]" * 5
    for split in {key.split for key in keys}:
        for kind in kinds:
            present = files.list_files(output, f"{split}/*/{kind}-{number}-of-{number}.*")
            files.delete_files([path for path in present if path.rsplit(".", 1)[0] not in wanted])


def remove_partial_files(output: str) -> None:
    """Remove files that killed workers left half written; only after a job has succeeded."""
    files.delete_files(files.list_partial_files(output, "*/*"))
