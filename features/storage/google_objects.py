"""Objects under gs:// through Google's client, with typed errors and atomic writes.

Beam's filesystem is not used, because it makes a new client, and so a new TLS connection, for each
request; writes a file in five requests, one of them a copy; completes an upload after an error;
waits half a minute if there are no credentials; and takes 160 MB in every decoder process.
"""

import concurrent.futures
import contextlib
import functools
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO

import google.api_core.exceptions
import google.auth.exceptions
import google.cloud.storage
import google.cloud.storage.exceptions
from google.cloud.storage.retry import DEFAULT_RETRY

from features.errors import StoreRefusalError
from features.storage.ranges import open_ranges

SCHEME = "gs://"
# Retries with growing pauses after 408, 429, 5xx and lost connections. The library's limit of
# 2 minutes is too short for a whole cluster that is throttled.
_RETRY = DEFAULT_RETRY.with_timeout(600.0)
# Written data is buffered in memory up to this size, and beyond it on disk.
_WRITE_BYTES = 16 << 20
# Concurrent requests; the client keeps 10 connections.
_PARALLEL = 8
_CONTENT_TYPE = "application/octet-stream"
_LOGIN = (
    "renew the credentials, as with `gcloud auth application-default login`, and run the same "
    "command again: it resumes where it stopped"
)


def open_read(path: str) -> IO[bytes]:
    """Open the present generation of an object for reading, seekable."""
    blob = _blob(path)
    with _typed_errors(path):
        blob.reload(retry=_RETRY)  # its size and generation

    def read_range(start: int, end: int) -> bytes:
        with _typed_errors(path):
            return blob.download_as_bytes(
                start=start,
                end=end - 1,  # the last byte
                raw_download=True,  # the stored bytes, not decompressed
                checksum=None,  # exists for whole objects only
                retry=_RETRY,
            )

    return open_ranges(path, blob.size, read_range)


def read_bytes(path: str) -> bytes:
    """Read a whole object in one request."""
    with _typed_errors(path):
        return _blob(path).download_as_bytes(raw_download=True, retry=_RETRY)


@contextlib.contextmanager
def atomic_write(path: str) -> Iterator[IO[bytes]]:
    """Buffer what is written, then upload it; the object appears when the upload is complete.

    Objects of up to 8 MB take one request. The upload starts only if the `with` block raises no
    error: the client completes an unfinished upload when it is garbage-collected.
    """
    with tempfile.SpooledTemporaryFile(max_size=_WRITE_BYTES) as file:
        yield file
        size = file.tell()
        blob = _blob(path)
        blob.chunk_size = _WRITE_BYTES  # else 100 MB in memory
        with _typed_errors(path):
            blob.upload_from_file(
                file, rewind=True, size=size, content_type=_CONTENT_TYPE, retry=_RETRY
            )


def exchange(path: str, expected: bytes | None, new: bytes | None) -> bytes | None:
    """Compare and swap an object; see `files.exchange`. Generations make it atomic."""
    while True:
        blob = _blob(path)
        with _typed_errors(path):
            try:
                blob.reload(retry=_RETRY)
                generation = blob.generation
                found = blob.download_as_bytes(
                    if_generation_match=generation, raw_download=True, retry=_RETRY
                )
            except google.api_core.exceptions.NotFound:
                generation, found = 0, None
            except google.api_core.exceptions.PreconditionFailed:
                continue  # it was replaced between the two requests
            # If an answer was lost, a retry finds the new content and not the expected one.
            if found == new or found != expected:
                return found
            with contextlib.suppress(
                google.api_core.exceptions.NotFound, google.api_core.exceptions.PreconditionFailed
            ):
                if new is None:
                    blob.delete(if_generation_match=generation, retry=_RETRY)
                else:
                    blob.upload_from_string(
                        new, _CONTENT_TYPE, if_generation_match=generation, retry=_RETRY
                    )
                return new


def exists(path: str) -> bool:
    """Whether an object exists; folders are no objects."""
    with _typed_errors(path):
        return _blob(path).exists(retry=_RETRY)


def size_of(path: str) -> int:
    """The size of an object in bytes."""
    blob = _blob(path)
    with _typed_errors(path):
        blob.reload(retry=_RETRY)
    return blob.size


def list_sizes(prefix: str, *, recursive: bool) -> dict[str, int]:
    """List objects by the start of their name, and their sizes; one request per thousand objects.

    Args:
      prefix: gs:// and any start of a name.
      recursive: whether to list objects whose name has a slash after the prefix.
    """
    bucket, name = _split(prefix)
    with _typed_errors(prefix):
        blobs = _client().list_blobs(
            bucket,
            prefix=name,
            delimiter=None if recursive else "/",
            fields="items(name,size),nextPageToken",
            retry=_RETRY,
        )
        return {f"{SCHEME}{bucket}/{blob.name}": blob.size for blob in blobs}


def delete(path: str) -> None:
    """Delete an object; a missing object is no error."""
    with contextlib.suppress(FileNotFoundError), _typed_errors(path):
        _blob(path).delete(retry=_RETRY)


def delete_all(paths: Sequence[str]) -> None:
    """Delete objects, several at a time."""
    with concurrent.futures.ThreadPoolExecutor(_PARALLEL) as threads:
        list(threads.map(delete, paths))


def _split(path: str) -> tuple[str, str]:
    """Split gs://bucket/a/b into bucket and a/b."""
    bucket, _, name = path.removeprefix(SCHEME).partition("/")
    return bucket, name


def _blob(path: str) -> google.cloud.storage.Blob:
    bucket, name = _split(path)
    if not bucket or not name:
        raise OSError(f"{path}: names no object; write gs://BUCKET/NAME")
    return _client().bucket(bucket).blob(name)


def _client() -> google.cloud.storage.Client:
    return _client_of(os.environ.get("STORAGE_EMULATOR_HOST"))


@functools.lru_cache(maxsize=1)
def _client_of(emulator: str | None) -> google.cloud.storage.Client:
    """The client of this process, which keeps its connections; an emulator needs no credentials."""
    if emulator:
        return google.cloud.storage.Client.create_anonymous_client()
    try:
        return google.cloud.storage.Client(project=None)
    except google.auth.exceptions.DefaultCredentialsError:  # public buckets need none
        return google.cloud.storage.Client.create_anonymous_client()


@contextlib.contextmanager
def _typed_errors(path: str) -> Iterator[None]:
    """Raise the client's errors as the errors of local files."""
    try:
        yield
    except google.api_core.exceptions.NotFound as error:
        raise FileNotFoundError(f"{path}: {error}") from error
    except google.api_core.exceptions.Forbidden as error:
        raise PermissionError(f"{path}: {error}") from error
    except google.auth.exceptions.TransportError as error:
        raise OSError(f"{path}: {error}") from error
    except google.auth.exceptions.InvalidOperation as error:  # without credentials: not public
        raise PermissionError(f"{path}: {error}") from error
    except (
        google.api_core.exceptions.Unauthorized,
        google.auth.exceptions.GoogleAuthError,
    ) as error:
        raise StoreRefusalError(f"{path}: {error}; {_LOGIN}") from error
    except (
        google.api_core.exceptions.GoogleAPIError,
        google.cloud.storage.exceptions.InvalidResponse,
        google.cloud.storage.exceptions.DataCorruption,
    ) as error:
        raise OSError(f"{path}: {error}") from error
