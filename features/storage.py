"""Files on any filesystem that Beam knows: local paths and gs:// are the same to every caller.

Writes go to a temporary name beside the target and are renamed, so a reader never meets half a
file. Beam's own wrappers are used because every runner ships them; this module holds what they
leave open: typed errors, atomic writes, one listing instead of a stat per file.
"""

import contextlib
import hashlib
import io
import os
import pathlib
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from typing import IO, Any

# Beam's CompressionTypes.UNCOMPRESSED: never by the suffix, a medium named x.gz is still a medium.
_UNCOMPRESSED = "uncompressed"
# A regular expression of what is not relative.
ABSOLUTE = r"^(/|[a-zA-Z][a-zA-Z0-9+.-]*://)"
_SCHEME = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*://")
_FILE_SCHEME = "file://"
# Temporary names start with this and end in a random tag; nothing lists them as results.
_PARTIAL = ".partial-"
_WRITE_BYTES = 1 << 20


def _filesystems() -> Any:
    """Beam's filesystems, on first use: a process that only reads local files does without.

    Importing Beam costs 1 s and 160 MB.
    """
    from apache_beam.io.filesystems import FileSystems

    return FileSystems


def join(folder: str, *names: str) -> str:
    """Join path parts, for local paths and URIs alike."""
    return _filesystems().join(folder, *names)


def resolve(uri: str, base: str) -> str:
    """Make a relative `uri` absolute against the folder `base`; others come back as they are."""
    if uri.startswith(_FILE_SCHEME):
        return uri.removeprefix(_FILE_SCHEME)
    return uri if re.match(ABSOLUTE, uri) else join(base, uri)


def parent(path: str) -> str:
    """The folder that a file is in."""
    return _filesystems().split(path)[0]


def absolute(path: str) -> str:
    """A path that means the same in every process: local paths are made absolute."""
    path = path.removeprefix(_FILE_SCHEME)
    return path if _SCHEME.match(path) else os.path.abspath(path)  # noqa: PTH100 - not a Path


def open_read(path: str) -> IO[bytes]:
    """Open a file for binary reading, seekable.

    Raises:
      FileNotFoundError, PermissionError: as for a local file, on every filesystem.
      OSError: anything else that the filesystem says.
    """
    try:
        if not _SCHEME.match(path):
            return open(path, "rb")  # noqa: PTH123 - the caller closes it
        return _filesystems().open(path, compression_type=_UNCOMPRESSED)
    except ValueError as error:  # a scheme that no filesystem serves, a NUL in the name
        raise OSError(f"{path!r}: {error}") from error
    except OSError as error:  # Beam's own error is one
        if not _SCHEME.match(path):
            raise
        words = str(error).replace(path, "").lower()  # a name may hold any number
        if "404" in words or "no such" in words or "not found" in words:
            raise FileNotFoundError(str(error)) from error
        if "403" in words or "401" in words:
            raise PermissionError(str(error)) from error
        raise


def read_bytes(path: str) -> bytes:
    """The whole content of a file; raises as `open_read`."""
    with open_read(path) as file:
        return file.read()


def digest(paths: Sequence[str]) -> str:
    """16 hex digits that stand for the contents of files, in this order."""
    sha256 = hashlib.sha256()
    for path in paths:
        with open_read(path) as file:
            while block := file.read(1 << 24):
                sha256.update(block)
    return sha256.hexdigest()[:16]


def exists(path: str) -> bool:
    """Whether a file or folder is there."""
    return _filesystems().exists(path)


@contextlib.contextmanager
def atomic_write(path: str) -> Iterator[IO[bytes]]:
    """Open `path` for binary writing; it appears under its name only when the block ends well.

    Where the block fails, nothing is left behind. A file that is there already is replaced.
    """
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


def make_folder(folder: str) -> None:
    """Create a folder and its parents where the filesystem has folders at all."""
    if not _SCHEME.match(folder):
        # Not through Beam, which fails where another worker makes the folder at the same moment.
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    elif not _filesystems().exists(folder):
        _filesystems().mkdirs(folder)


def list_files(folder: str, pattern: str) -> list[str]:
    """The files under a folder that match a glob pattern, sorted, without temporary ones.

    One listing, no stat per file. Only `pattern` is a pattern: the folder may hold any character.
    """
    return [path for path in _match(folder, pattern) if not _is_partial(path)]


def list_sizes(folder: str) -> dict[str, int]:
    """Bytes of each file in a folder, by path: one listing, no stat per file."""
    return {
        metadata.path: metadata.size_in_bytes
        for metadata in _match_metadata(_pattern(folder, "*"))
        if metadata.path.startswith(folder)
    }


def list_partial_files(folder: str, subfolders: str = "") -> list[str]:
    """What killed writers left behind in a folder, or in those under it that match `subfolders`."""
    pattern = f"{subfolders}/*".lstrip("/")
    return [path for path in _match(folder, pattern) if _is_partial(path)]


def find_files(pattern: str) -> list[str]:
    """The file of that very name, or else the files that match it as a glob pattern; sorted."""
    if exists(pattern):
        return [pattern]
    return [path for path in _match_all(pattern) if not _is_partial(path)]


def _match(folder: str, pattern: str) -> list[str]:
    return [path for path in _match_all(_pattern(folder, pattern)) if path.startswith(folder)]


def _pattern(folder: str, pattern: str) -> str:
    """A pattern within a folder of any name; what is found must still be in that folder."""
    # Patterns have no escape that all of Beam's filesystems take.
    return join(re.sub(r"[\[\]*?]", "?", folder), pattern)


def _match_all(pattern: str) -> list[str]:
    return sorted(metadata.path for metadata in _match_metadata(pattern))


def _match_metadata(pattern: str) -> Sequence[Any]:
    (match,) = _filesystems().match([pattern])
    return match.metadata_list


def _is_partial(path: str) -> bool:
    return _filesystems().split(path)[1].startswith(_PARTIAL)


def size_of(path: str) -> int:
    """Bytes of a file; raises FileNotFoundError where there is none."""
    (match,) = _filesystems().match([path], [1])
    if not match.metadata_list:
        raise FileNotFoundError(path)
    return match.metadata_list[0].size_in_bytes


def delete(path: str) -> None:
    """Delete one file; that there is none is no error."""
    if exists(path):
        _filesystems().delete([path])


def delete_files(paths: Sequence[str]) -> None:
    """Delete files that a listing has shown, in one request."""
    if paths:
        _filesystems().delete(list(paths))


def delete_folder(folder: str) -> None:
    """Delete a folder of ours with all it holds; that there is none is no error."""
    if _SCHEME.match(folder):
        delete_files(_match(folder, "**"))
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _replace(source: str, target: str) -> None:
    if _SCHEME.match(target):
        # An object store's rename copies over the target in one request.
        _filesystems().rename([source], [target])
    else:
        os.replace(source, target)  # noqa: PTH105 - atomic, and plain strings here
