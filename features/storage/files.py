"""Files on local disks, object stores and Beam's filesystems, with the same functions for all.

A reader never sees half a file: files are written under a temporary name beside the target and
renamed. Objects need no rename, because they appear when they are complete. This module and those
of the stores add what Beam's wrappers lack: typed errors, atomic writes, and one listing instead of
a stat per file. Files under http:// and https:// can only be read.
"""

import contextlib
import errno
import fcntl
import functools
import hashlib
import io
import os
import pathlib
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from typing import IO, Any

# Beam's CompressionTypes.UNCOMPRESSED. Beam would decompress by the suffix, also media named x.gz.
_UNCOMPRESSED = "uncompressed"
# Regular expression of paths and URIs that are not relative.
ABSOLUTE = r"^(/|[a-zA-Z][a-zA-Z0-9+.-]*://)"
_SCHEME = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*://")
_FILE_SCHEME = "file://"
_GOOGLE_SCHEME = "gs://"
_CLOUD_SCHEMES = ("s3://", "az://", "abfs://", "abfss://")
_WEB_SCHEMES = ("http://", "https://")
# Of URIs whose parts are divided by slashes and nothing else.
_OWN_SCHEMES = (_GOOGLE_SCHEME, *_CLOUD_SCHEMES, *_WEB_SCHEMES)
_WILDCARD = r"[\[\]*?]"
# Temporary names start with this prefix and end in a random tag; listings leave them out.
_PARTIAL = ".partial-"
_WRITE_BYTES = 1 << 20
# Of a filesystem without locks, such as NFS without its lock service.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
# HTTP statuses of a missing file, and of one that may not be read.
_NOT_FOUND, _DENIED = 404, {401, 403}


def _filesystems() -> Any:
    """Import Beam's filesystems on first use.

    Importing Beam takes 1 s and 160 MB, which processes that only read local files save.
    """
    from apache_beam.io.filesystems import FileSystems

    return FileSystems


def _objects(path: str) -> Any:
    """The module of the object store that a path is on, else None; imported on first use."""
    if path.startswith(_GOOGLE_SCHEME):
        from features.storage import google_objects

        return google_objects
    if path.startswith(_CLOUD_SCHEMES):
        from features.storage import cloud_objects

        return cloud_objects
    return None


def _remote(path: str) -> Any:
    """The module that reads a path of an object store or a web server, else None."""
    if is_on_web(path):
        from features.storage import web

        return web
    return _objects(path)


def opens_in_tensorflow(path: str) -> bool:
    """Whether TensorFlow opens a path by itself: on a local disk, or under gs://."""
    return not path.startswith((*_CLOUD_SCHEMES, *_WEB_SCHEMES))


def is_on_web(path: str) -> bool:
    """Whether a file is on a web server, which lists nothing."""
    return path.startswith(_WEB_SCHEMES)


def join(folder: str, *names: str) -> str:
    """Join path parts, for local paths and URIs alike."""
    if folder.startswith(_OWN_SCHEMES):
        return functools.reduce(lambda path, name: f"{path.rstrip('/')}/{name}", names, folder)
    return _filesystems().join(folder, *names)


def resolve(uri: str, base: str) -> str:
    """Make a relative `uri` absolute against the folder `base`; others are returned unchanged."""
    if uri.startswith(_FILE_SCHEME):
        return uri.removeprefix(_FILE_SCHEME)
    return uri if re.match(ABSOLUTE, uri) else join(base, uri)


def parent(path: str) -> str:
    """The folder of a file."""
    return _split(path)[0]


def _split(path: str) -> tuple[str, str]:
    """Split a path into the folder and the name."""
    if path.startswith(_OWN_SCHEMES):
        folder, _, name = path.rpartition("/")
        return folder, name
    return _filesystems().split(path)


def absolute(path: str) -> str:
    """Make local paths absolute, so that a path means the same in every process."""
    path = path.removeprefix(_FILE_SCHEME)
    return path if _SCHEME.match(path) else os.path.abspath(path)  # noqa: PTH100 - not a Path


def open_read(path: str) -> IO[bytes]:
    """Open a file for binary reading, seekable.

    Raises:
      FileNotFoundError, PermissionError: on every filesystem, as for a local file.
      StoreRefusalError: a store refuses this process, whatever the file.
      OSError: any other error of the filesystem.
    """
    if remote := _remote(path):
        return remote.open_read(path)
    if _SCHEME.match(path):
        return _open_read_by_beam(path)
    try:
        return open(path, "rb")  # noqa: PTH123 - the caller closes it
    except ValueError as error:  # a NUL in the name
        raise OSError(f"{path!r}: {error}") from error


def _open_read_by_beam(path: str) -> IO[bytes]:
    try:
        return _filesystems().open(path, compression_type=_UNCOMPRESSED)
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # filesystems raise their clients' errors, many of no common class
        # Never by the message, which holds the name of the file.
        details = getattr(error, "exception_details", None) or {}
        causes = {_http_status(cause) for cause in (error, *details.values())}
        kind = OSError
        if _NOT_FOUND in causes:
            kind = FileNotFoundError
        elif causes & _DENIED:
            kind = PermissionError
        raise kind(f"{path}: {error}") from error


def _http_status(error: object) -> int | None:
    """The HTTP status that an error carries, as those of Beam's clients of S3 and Azure do."""
    statuses = (getattr(error, name, None) for name in ("code", "status_code"))
    return next((status for status in statuses if isinstance(status, int)), None)


def read_bytes(path: str) -> bytes:
    """Read a whole file; raises the errors of `open_read`."""
    if remote := _remote(path):
        return remote.read_bytes(path)
    with open_read(path) as file:
        return file.read()


def digest(paths: Sequence[str]) -> str:
    """Compute a checksum, 16 hex digits, of the contents of files, in this order."""
    sha256 = hashlib.sha256()
    for path in paths:
        with open_read(path) as file:
            while block := file.read(1 << 24):
                sha256.update(block)
    return sha256.hexdigest()[:16]


def exists(path: str) -> bool:
    """Whether a file or folder exists; an object store has no folders."""
    if remote := _remote(path):
        return remote.exists(path)
    return _filesystems().exists(path)


@contextlib.contextmanager
def atomic_write(path: str) -> Iterator[IO[bytes]]:
    """Open `path` for binary writing; the file appears if the `with` block raises no error.

    After an error nothing is left behind. An existing file is replaced.
    """
    if objects := _objects(path):
        with objects.atomic_write(path) as file:
            yield file
        return
    folder, name = _filesystems().split(path)
    make_folder(folder)
    partial = join(folder, f"{_PARTIAL}{name}-{uuid.uuid4().hex[:12]}")
    try:
        with (
            _filesystems().create(partial, "application/octet-stream", _UNCOMPRESSED) as file,
            # Beam's local files are written in pieces of 8 KB.
            io.BufferedWriter(file, _WRITE_BYTES) as buffered,
        ):
            yield buffered
        _replace(partial, path)
    except BaseException:
        delete(partial)
        raise


def write_bytes(path: str, content: bytes) -> None:
    """Write a whole file atomically."""
    with atomic_write(path) as file:
        file.write(content)


class NoExchangeError(OSError):
    """The filesystem cannot exchange contents atomically."""


def exchange(path: str, expected: bytes | None, new: bytes | None) -> bytes | None:
    """Replace a small file if its content is the expected one, in one step for all processes.

    Args:
      path: of a file that is written by this function alone, and never twice with one content.
      expected: its content; None for no file.
      new: content to write; None to delete the file.

    Returns:
      The content afterwards: `new` if it was written, else what another process wrote.

    Raises:
      NoExchangeError: neither a local filesystem with locks nor an object store with generations.
    """
    if objects := _objects(path):
        return objects.exchange(path, expected, new)
    if _SCHEME.match(path):
        raise NoExchangeError(f"{path}: no conditional writes")
    while True:
        with open(path, "r+b", buffering=0, opener=_open_or_create) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno in _NO_LOCKS:
                    raise NoExchangeError(f"{path}: {error}") from error
                raise
            try:
                if _is_open_file(path, file):
                    return _exchange_locked(path, file, expected, new)
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)  # a forked child may have the file open too


def read_exchanged(path: str) -> bytes | None:
    """The content of a file that `exchange` writes; None if there is no file."""
    try:
        if _SCHEME.match(path):
            return read_bytes(path) or None  # no store deletes on a condition but Google's
        with open(path, "rb") as file:  # noqa: PTH123 - plain strings here
            fcntl.flock(file, fcntl.LOCK_SH)  # else it may be half written
            try:
                return file.read() or None
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)
    except FileNotFoundError:
        return None


def _open_or_create(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o666)


def _is_open_file(path: str, file: IO[bytes]) -> bool:
    """Whether the path still names the open file, which another process may have deleted."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))  # noqa: PTH116
    return False


def _exchange_locked(
    path: str, file: IO[bytes], expected: bytes | None, new: bytes | None
) -> bytes | None:
    # An empty file was just created, or is of a process that was killed before it wrote.
    found = file.read() or None
    if found == expected:
        found = new
        file.seek(0)
        file.write(new or b"")  # first, since a full disk has room for what it replaces
        file.truncate()
    if found is None:
        os.unlink(path)  # noqa: PTH108
    return found


def make_folder(folder: str) -> None:
    """Create a folder and its parents, unless the filesystem has no folders."""
    if _objects(folder):
        return
    if not _SCHEME.match(folder):
        # Not through Beam, which fails if another worker makes the folder at the same moment.
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    elif not _filesystems().exists(folder):
        _filesystems().mkdirs(folder)


def list_files(folder: str, pattern: str) -> list[str]:
    """List the files under a folder that match a glob pattern, sorted, without temporary files.

    One listing, no stat per file. `folder` is taken literally and may hold any character.
    """
    return list(list_sizes(folder, pattern))


def list_sizes(folder: str, pattern: str) -> dict[str, int]:
    """The files that `list_files` lists, in the same order, and their sizes in bytes."""
    found = _match(folder, pattern)
    return {path: found[path] for path in sorted(found) if _is_file(path)}


def list_names(folder: str) -> set[str]:
    """All files under a folder, relative to it, by one listing and without a stat of each."""
    if _SCHEME.match(folder):
        return {path.removeprefix(join(folder, "")) for path in list_files(folder, "**")}
    found = (
        os.path.join(parent_folder, name)  # noqa: PTH118 - plain strings are faster
        for parent_folder, _, names in os.walk(folder)
        for name in names
        if not name.startswith(_PARTIAL)
    )
    prefix = len(join(folder, ""))
    return {path[prefix:] for path in found}


def list_partial_files(folder: str, subfolders: str = "") -> list[str]:
    """List the temporary files that killed writers left in a folder.

    Args:
      folder: the folder, or the parent of the folders.
      subfolders: glob pattern of folders under `folder`; none for `folder` itself.
    """
    pattern = f"{subfolders}/*".lstrip("/")
    return sorted(path for path in _match(folder, pattern) if _is_partial(path))


def find_files(pattern: str) -> list[str]:
    """The file with exactly this name, or else the files that match the glob pattern, sorted."""
    if exists(pattern):
        return [pattern]
    return sorted(path for path in _match_all(pattern) if _is_file(path))


def _match(folder: str, pattern: str) -> dict[str, int]:
    # No escape of wildcards works on all of Beam's filesystems. "?" matches more, which is dropped.
    found = _match_all(join(re.sub(_WILDCARD, "?", folder), pattern), prefix=join(folder, ""))
    return {path: size for path, size in found.items() if path.startswith(folder)}


def _match_all(pattern: str, prefix: str = "") -> dict[str, int]:
    """Paths that match a pattern, and their sizes; `prefix` is a literal start of the pattern."""
    if is_on_web(pattern):
        return {}
    objects = _objects(pattern)
    if objects is None:
        (match,) = _filesystems().match([pattern])
        return {metadata.path: metadata.size_in_bytes for metadata in match.metadata_list}
    from apache_beam.io.filesystem import FileSystem

    literal = prefix + re.split(_WILDCARD, pattern[len(prefix) :])[0]
    matches = re.compile(FileSystem.translate_pattern(pattern)).match
    rest = pattern[len(literal) :]
    sizes = objects.list_sizes(literal, recursive="/" in rest or "**" in rest)
    return {path: size for path, size in sizes.items() if matches(path)}


def _is_file(path: str) -> bool:
    # TensorFlow and the console mark folders of an object store by objects of their names.
    return not path.endswith("/") and not _is_partial(path)


def _is_partial(path: str) -> bool:
    return _split(path)[1].startswith(_PARTIAL)


def size_of(path: str) -> int:
    """The size of a file in bytes; raises FileNotFoundError if it is missing."""
    if remote := _remote(path):
        return remote.size_of(path)
    (match,) = _filesystems().match([path], [1])
    if not match.metadata_list:
        raise FileNotFoundError(path)
    return match.metadata_list[0].size_in_bytes


def delete(path: str) -> None:
    """Delete a file; a missing file is no error."""
    if objects := _objects(path):
        objects.delete(path)
    elif exists(path):
        _filesystems().delete([path])


def delete_files(paths: Sequence[str]) -> None:
    """Delete existing files, all of one filesystem."""
    if not paths:
        return
    if objects := _objects(paths[0]):
        objects.delete_all(paths)
    else:
        _filesystems().delete(list(paths))


def delete_folder(folder: str) -> None:
    """Delete a folder with its content; a missing folder is no error."""
    if _SCHEME.match(folder):
        delete_files(list(_match(folder, "**")))
    else:
        shutil.rmtree(folder, ignore_errors=True)


def delete_folders(folder: str, prefix: str) -> None:
    """Delete the folders in a folder whose names begin with a prefix, with their content."""
    if _SCHEME.match(folder):
        delete_files(list(_match(folder, f"{prefix}*/**")))
        return
    for path in pathlib.Path(folder).glob(f"{prefix}*/"):
        shutil.rmtree(path, ignore_errors=True)


def _replace(source: str, target: str) -> None:
    if _SCHEME.match(target):
        _filesystems().rename([source], [target])
    else:
        os.replace(source, target)  # noqa: PTH105 - atomic, and plain strings here
