"""Objects under s3://, az:// and abfs:// through obstore, with typed errors and atomic writes.

    s3://BUCKET/NAME                                   AWS, MinIO and other stores of its protocol
    az://CONTAINER/NAME                                Azure Blob Storage
    abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/NAME   the same, and abfs://

Credentials, region and endpoint come from the environment variables of the AWS and Azure command
lines, or from the machine's role; docs/stores.md lists them.
"""

import contextlib
import functools
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import IO, Any

import obstore.exceptions
from obstore.store import AzureStore, S3Store

from features.errors import StoreRefusalError
from features.storage.files import NoExchangeError
from features.storage.ranges import open_ranges

# Retries with growing pauses after 408, 429, 5xx and lost connections.
_PATIENCE_SECONDS, _EXCHANGE_SECONDS = 600.0, 5.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 15.0
# Of one request with its body, and until a connection stands.
_REQUEST_SECONDS, _CONNECT_SECONDS = 300.0, 10.0
# Written data is buffered in memory up to this size, and beyond it on disk; also the size of the
# parts of a larger upload, of which two are on their way.
_WRITE_BYTES, _PARTS_AT_ONCE = 16 << 20, 2
# Without any of these variables a store asks for the role of the machine, in all clouds at one
# address, and how to set them.
_CREDENTIALS = {
    S3Store: ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_", "AWS_SKIP_"),
    AzureStore: ("AZURE_STORAGE_", "AZURE_CLIENT_ID", "AZURE_USE_AZURE_CLI", "AZURE_SKIP_"),
}
# The address of a store that is not in the cloud.
_ENDPOINTS = {
    S3Store: ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    AzureStore: ("AZURE_STORAGE_ENDPOINT",),
}
_LOGIN = {
    S3Store: '`eval "$(aws configure export-credentials --format env)"`, or AWS_SKIP_SIGNATURE='
    "true for a public bucket",
    AzureStore: "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or "
    "AZURE_USE_AZURE_CLI=true after `az login`",
}
_ROLE_HOST = "169.254.169.254"
_ROLES = f"http://{_ROLE_HOST}/"
_ROLE_SECONDS = 2.0
# Of the client's messages.
_PERFORMING = re.compile(r"Error performing \w+ (\S+) in .*? - (.*)")
_STATUS = "Server returned non-2xx status code: "
# Beginnings of what a store or the client says: of trouble that passes, such as a connection that
# was lost in a request that the client does not repeat; and of what the store cannot do.
_PASSING = re.compile("HTTP error|408|429|5")
_NOT_IMPLEMENTED = "501"
_XML_ERROR = re.compile(r"<Code>(.*?)</Code>.*?<Message>(.*?)(?: RequestId:.*?)?</Message>")
# What a store says if it refuses this process and not an object, and the cure.
_RENEW = "renew the credentials in the environment"
_REFUSALS = {
    "ExpiredToken": _RENEW,
    "InvalidToken": _RENEW,
    "TokenRefreshRequired": _RENEW,
    "InvalidAccessKeyId": _RENEW,
    "SignatureDoesNotMatch": _RENEW,
    "Server failed to authenticate": _RENEW,
    "401 Unauthorized": _RENEW,
    "RequestTimeTooSkewed": "set the clock of this machine",
    "AuthorizationHeaderMalformed": "set AWS_REGION to the region of the bucket",
    _ROLES: "set credentials in the environment, or give the machine a role",
    "redirect without LOCATION": "set AWS_REGION to the region of the bucket",
}
_AGAIN = "and run the same command again: it resumes where it stopped"


def open_read(path: str) -> IO[bytes]:
    """Open the present content of an object for reading, seekable."""
    store, name = _object(path)
    num_bytes, tag = _stat(path)

    def read_range(start: int, end: int) -> bytes:
        with _typed_errors(path):
            try:
                found = store.get(name, options={"range": (start, end), "if_match": tag})
                return bytes(found.bytes())
            except obstore.exceptions.PreconditionError as error:
                raise OSError(f"{path}: was replaced while it was read") from error

    return open_ranges(path, num_bytes, read_range)


def _stat(path: str) -> tuple[int, str | None]:
    """The size of an object and the tag of its content.

    By a read of one byte: a store does not say why it refuses a request for metadata alone.
    """
    store, name = _object(path)
    with _typed_errors(path):
        try:
            meta = store.get(name, options={"range": (0, 1)}).meta
        except obstore.exceptions.GenericError:
            # An empty object has no first byte, which stores say in several ways.
            with contextlib.suppress(obstore.exceptions.BaseError):
                if not store.head(name)["size"]:
                    return 0, None
            raise
    return meta["size"], meta["e_tag"]


def read_bytes(path: str) -> bytes:
    """Read a whole object in one request."""
    store, name = _object(path)
    with _typed_errors(path):
        return bytes(store.get(name).bytes())


@contextlib.contextmanager
def atomic_write(path: str) -> Iterator[IO[bytes]]:
    """Buffer what is written, then upload it; the object appears when the upload is complete.

    Objects of up to 16 MB take one request. The upload starts only if the `with` block raises no
    error.
    """
    store, name = _object(path)
    with tempfile.SpooledTemporaryFile(max_size=_WRITE_BYTES) as file:
        yield file
        file.seek(0)
        with _typed_errors(path):
            store.put(name, file, chunk_size=_WRITE_BYTES, max_concurrency=_PARTS_AT_ONCE)


def exchange(path: str, expected: bytes | None, new: bytes | None) -> bytes | None:
    """Compare and swap an object; see `files.exchange`. Tags of the content make it atomic.

    The stores cannot delete an object on a condition. An empty object takes the place of none.
    """
    # By a client that gives up soon: it would repeat for ten minutes what a store cannot do.
    store, name = _object(path, patience_seconds=_EXCHANGE_SECONDS)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with _typed_errors(path):
        while True:
            try:
                return _exchange(store, name, expected, new)
            except (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError):
                continue  # it was replaced between the two requests
            except obstore.exceptions.GenericError as error:
                _, said = _read_error(error)
                if said.startswith(_NOT_IMPLEMENTED):
                    raise NoExchangeError(f"{path}: {said}") from error
                # If an answer was lost, the next round finds the new content.
                if not _PASSING.match(said) or time.monotonic() > deadline:
                    raise


def _exchange(store: Any, name: str, expected: bytes | None, new: bytes | None) -> bytes | None:
    mode: Any = "create"
    found = None
    with contextlib.suppress(FileNotFoundError):
        present = store.get(name)
        mode = {"e_tag": present.meta["e_tag"]}
        found = bytes(present.bytes()) or None
    if found == new or found != expected:
        return found
    store.put(name, new or b"", mode=mode)
    return new


def exists(path: str) -> bool:
    """Whether an object exists; folders are no objects."""
    try:
        _stat(path)
    except FileNotFoundError:
        return False
    return True


def size_of(path: str) -> int:
    """The size of an object in bytes."""
    return _stat(path)[0]


def list_sizes(prefix: str, *, recursive: bool) -> dict[str, int]:
    """List objects by the start of their name, and their sizes; one request per thousand objects.

    Args:
      prefix: the scheme, the bucket and any start of a name.
      recursive: whether to list objects whose name has a slash after the prefix.
    """
    store, start = _split(prefix)
    folder = start.rpartition("/")[0]
    with _typed_errors(prefix):
        if recursive:
            found: Sequence[Mapping[str, Any]] = store.list(folder or None).collect()
            folders: set[str] = set()
            if not all(meta["size"] for meta in found):
                folders = {parent for meta in found for parent in _parents(meta["path"])}
        else:
            listing = store.list_with_delimiter(folder or None)
            found, folders = listing["objects"], set(listing["common_prefixes"])
    root = prefix.removesuffix(start)
    return {
        root + meta["path"]: meta["size"]
        for meta in found
        # The console marks folders by empty objects.
        if meta["path"].startswith(start) and (meta["size"] or meta["path"] not in folders)
    }


def _parents(name: str) -> Iterator[str]:
    while name := name.rpartition("/")[0]:
        yield name


def delete(path: str) -> None:
    """Delete an object; a missing object is no error."""
    delete_all([path])


def delete_all(paths: Sequence[str]) -> None:
    """Delete objects of one bucket, up to a thousand in a request; a missing one is no error."""
    (store, _), names = _object(paths[0]), [_object(path)[1] for path in paths]
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with _typed_errors(paths[0]), contextlib.suppress(FileNotFoundError):
        while True:
            try:
                store.delete(names)
                return
            except obstore.exceptions.GenericError as error:
                if not _PASSING.match(_read_error(error)[1]) or time.monotonic() > deadline:
                    raise


def _object(path: str, patience_seconds: float = _PATIENCE_SECONDS) -> tuple[Any, str]:
    """The store and the name of an object."""
    store, name = _split(path, patience_seconds)
    if not name or name.endswith("/"):
        raise OSError(f"{path}: names no object; write {path.partition('://')[0]}://BUCKET/NAME")
    return store, name


def _split(path: str, patience_seconds: float = _PATIENCE_SECONDS) -> tuple[Any, str]:
    """The store of the bucket in a path, and what follows the bucket."""
    scheme, _, rest = path.partition("://")
    bucket, _, name = rest.partition("/")
    if not bucket:
        raise OSError(f"{path}: names no bucket; write {scheme}://BUCKET/NAME")
    if _forked:
        raise RuntimeError(
            f"{path}: this process was forked from one that used the store, whose threads it has "
            "not: start processes by a fork server or by spawning"
        )
    with _typed_errors(path):
        return _store(scheme, bucket, patience_seconds), name


@functools.cache
def _store(scheme: str, bucket: str, patience_seconds: float) -> Any:
    """A client of a bucket, which keeps its connections."""
    kind = S3Store if scheme == "s3" else AzureStore
    _require_credentials(kind, bucket)
    _used.append(bucket)
    options: dict[str, Any] = {
        "client_options": {
            "timeout": timedelta(seconds=_REQUEST_SECONDS),
            "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
            "allow_http": any(
                os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS[kind]
            ),
        },
        "retry_config": {
            "max_retries": 10_000,  # the time decides
            "retry_timeout": timedelta(seconds=patience_seconds),
            "backoff": {
                "init_backoff": timedelta(seconds=_FIRST_PAUSE_SECONDS),
                "max_backoff": timedelta(seconds=_LONGEST_PAUSE_SECONDS),
            },
        },
    }
    if kind is S3Store:
        return S3Store(bucket, **options)
    container, _, host = bucket.rpartition("@")
    if container:
        return AzureStore(container, account_name=host.partition(".")[0], **options)
    return AzureStore(bucket, **options)


def _require_credentials(kind: type, bucket: str) -> None:
    """Look for credentials; else each request would wait ten minutes for the role of a machine.

    Raises:
      StoreRefusalError: the environment has none, and the machine is none of a cloud.
    """
    if any(name.startswith(_CREDENTIALS[kind]) for name in os.environ):
        return
    try:
        socket.create_connection((_ROLE_HOST, 80), timeout=_ROLE_SECONDS).close()
    except OSError as error:
        raise StoreRefusalError(
            f"{bucket}: the environment has no credentials, and this machine has no role; set "
            f"them, for example by {_LOGIN[kind]}, {_AGAIN}"
        ) from error


# Buckets that this process has used; the client has threads, which a forked process has not.
_used: list[str] = []
_forked = False


def _mark_fork() -> None:
    global _forked
    _forked = bool(_used)


os.register_at_fork(after_in_child=_mark_fork)


def _read_error(error: Exception) -> tuple[str, str]:
    """The address that gave an error, and what it said, which is the same at every attempt.

    The client's message has the time that it took, and repeats everything in the syntax of Rust.
    """
    text = " ".join(str(error).partition("\n\nDebug source:")[0].split())
    found = _PERFORMING.search(text)
    if found is None:
        return "", text
    address, said = found.groups()
    body = _XML_ERROR.search(said)
    status = said.removeprefix(_STATUS).partition(":")[0]
    return address, f"{status}: {body[1]}: {body[2]}" if body else said.removeprefix(_STATUS)


@contextlib.contextmanager
def _typed_errors(path: str) -> Iterator[None]:
    """Raise the client's errors as the errors of local files."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: {_read_error(error)[1]}") from error
    except ValueError as error:  # a name with an empty part
        raise OSError(f"{path}: {error}") from error
    except obstore.exceptions.BaseError as error:
        address, said = _read_error(error)
        if address.startswith(_ROLES):
            said += f" by {_ROLES}, which gives this machine a role"
        for refusal, cure in _REFUSALS.items():
            if refusal in said:
                raise StoreRefusalError(f"{path}: {said}; {cure}, {_AGAIN}") from error
        is_denied = isinstance(error, obstore.exceptions.PermissionDeniedError)
        raise (PermissionError if is_denied else OSError)(f"{path}: {said}") from error
