"""Media under http:// and https://: read in ranges, politely, from the named host alone.

A manifest is not trusted input, and a worker reaches more than its author: the addresses of the
network around it, and the service that gives it credentials. So only public addresses are asked,
unless `--private-hosts` is given, and redirects lead no further than the same host. Proxies are not
used, since a proxy would choose the address.

All processes of a machine share a limit of concurrent requests a host, and its pauses. Other
machines are not known: a host sees at most this number times the number of machines.
"""

import contextlib
import dataclasses
import fcntl
import functools
import http.client
import ipaddress
import os
import random
import re
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO
from urllib.parse import quote, urljoin, urlsplit

from features.storage.ranges import READ_BYTES, open_ranges

# Environment variables that hold the flags of a job, for its decoders.
REQUESTS_PER_HOST, PRIVATE_HOSTS = "SOUNDTRACK_REQUESTS_PER_HOST", "SOUNDTRACK_PRIVATE_HOSTS"
DEFAULT_REQUESTS_PER_HOST = 4
# How long one read waits for a host that has too many requests, and how often it is tried if other
# things go wrong: a manifest may name thousands of files of a host that is gone.
_PATIENCE_SECONDS, _ATTEMPTS = 600.0, 6
# Pauses between attempts, which double.
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 60.0
# Without a byte from the host.
_SILENCE_SECONDS = 60.0
_MAX_REDIRECTS = 5
# A file of a server without ranges is copied to a temporary file, up to this size.
_MAX_COPY_BYTES = 4 << 30
_BLOCK_BYTES = 1 << 20
# IPv6 addresses that carry one of IPv4 (RFC 6052), and those that are in use in the Internet.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_PORTS = {"http": 80, "https": 443}
_THROTTLED = {429, 503}
_RETRIED = {408, 425, 500, 502, 504}
_REDIRECTS = {301, 302, 303, 307, 308}
_ABSENT, _DENIED = {404, 410}, {401, 403, 407, 451}
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)$")
_EMPTY = re.compile(r"bytes \*/0$")
# Characters of a URL that stay as they are; others, such as blanks, are quoted.
_SAFE = "/%:@!$&'()*+,;=~-._?"
_SLOT_SECONDS = 0.05
_ENDED_EARLY = "the connection ended early"


class _ThrottledError(OSError):
    """The host has too many requests.

    Attributes:
      pause: seconds that it asks to wait; None if it says nothing.
    """

    def __init__(self, message: str, pause: float | None):
        super().__init__(message)
        self.pause = pause


def open_read(url: str) -> IO[bytes]:
    """Open a file for reading, seekable.

    Raises:
      FileNotFoundError, PermissionError: the host says so, or its address is not public.
      OSError: any other error, also if the file changes while it is read.
    """
    source = _Source(url)
    first = source.read(0, READ_BYTES)
    if isinstance(first, bytes):

        def read_range(start: int, end: int) -> bytes:
            if end <= len(first):
                return first[start:end]
            rest = source.read(max(start, len(first)), end)
            assert isinstance(rest, bytes)  # else `read` fails: ranges came before
            return first[start:] + rest

        return open_ranges(url, source.num_bytes, read_range)
    return first


def read_bytes(url: str) -> bytes:
    """Read a whole file."""
    with open_read(url) as file:
        return file.read()


def exists(url: str) -> bool:
    """Whether the host has the file."""
    try:
        size_of(url)
    except FileNotFoundError:
        return False
    return True


def size_of(url: str) -> int:
    """The size of a file in bytes."""
    source = _Source(url)
    found = source.read(0, 1)
    if not isinstance(found, bytes):
        found.close()
    return source.num_bytes


@dataclasses.dataclass(frozen=True)
class _Address:
    """Where a request goes."""

    url: str
    scheme: str
    host: str
    port: int
    target: str

    @classmethod
    def parse(cls, url: str) -> "_Address":
        try:
            parts = urlsplit(url)
            port = parts.port or _PORTS[parts.scheme]
        except (ValueError, KeyError) as error:
            raise OSError(f"{url}: is no URL of http or https: {error}") from error
        if not parts.hostname or parts.username is not None:
            raise OSError(f"{url}: write http://HOST/PATH, without a user")
        query = f"?{parts.query}" if parts.query else ""
        target = quote((parts.path or "/") + query, safe=_SAFE)
        return cls(url, parts.scheme, parts.hostname, port, target)

    def may_redirect_to(self, other: "_Address") -> bool:
        """Whether another address is the same host, and no less protected."""
        places = {(self.scheme, self.port), ("https", _PORTS["https"])}
        return self.host == other.host and (other.scheme, other.port) in places

    @property
    def name(self) -> str:
        """Of the host, as a file name."""
        return quote(f"{self.host}:{self.port}", safe="")


class _Source:
    """A file of a host.

    Attributes:
      num_bytes: size of the file, known after the first read.
    """

    def __init__(self, url: str):
        self.num_bytes = -1
        self._url = url
        self._address = _Address.parse(url)
        self._content: tuple[str | None, ...] | None = None  # tells two contents apart

    def read(self, start: int, end: int) -> bytes | IO[bytes]:
        """Read a range; or the whole file, as a temporary file, if the host gives no ranges."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        pause, attempts = _FIRST_PAUSE_SECONDS, 0
        while True:
            try:
                with _turn(self._address, deadline):
                    return self._follow(start, end)
            except _ThrottledError as error:
                seconds = pause * (1 + random.random()) if error.pause is None else error.pause
                if time.monotonic() + seconds > deadline:
                    raise OSError(f"{error}, and asks to wait for {seconds:.0f} s") from error
                _pause_host(self._address, seconds)
            except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
                attempts += 1
                if attempts == _ATTEMPTS:
                    raise OSError(f"{self._url}: {error or type(error).__name__}") from error
                time.sleep(pause * (1 + random.random()) / 2)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _follow(self, start: int, end: int) -> bytes | IO[bytes]:
        """Send a request, also to the places that the host redirects to."""
        headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        for _ in range(_MAX_REDIRECTS + 1):
            # One request a connection: most files are read in one.
            with contextlib.closing(_connect(self._url, self._address)) as connection:
                connection.request("GET", self._address.target, headers=headers)
                response = connection.getresponse()
                if response.status not in _REDIRECTS:
                    return self._receive(response, start, end)
                place = response.getheader("Location", "")
            address = _Address.parse(urljoin(self._address.url, place))
            if not self._address.may_redirect_to(address):
                raise OSError(
                    f"{self._url}: redirects to {place}, which is another host or less protected; "
                    "name the last address in the manifest if you trust it"
                )
            self._address = address
        raise OSError(f"{self._url}: more than {_MAX_REDIRECTS} redirects")

    def _receive(
        self, response: http.client.HTTPResponse, start: int, end: int
    ) -> bytes | IO[bytes]:
        status, said = response.status, f"{self._url}: {response.status} {response.reason}"
        if status in _THROTTLED:
            raise _ThrottledError(said, _retry_after(response.getheader("Retry-After", "")))
        if status in _RETRIED:
            raise ConnectionError(f"{status} {response.reason}")
        if status in _ABSENT:
            raise FileNotFoundError(said)
        if status in _DENIED:
            raise PermissionError(said)
        if response.getheader("Content-Encoding", "identity") != "identity":
            raise OSError(f"{self._url}: is sent compressed, though this was not asked for")
        sent_range = response.getheader("Content-Range", "")
        if status == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and _EMPTY.match(sent_range):
            self._require_content(response, 0)
            return b""
        if status == http.HTTPStatus.OK and self._content is None:
            return self._copy(response)
        found = _RANGE.match(sent_range)
        if status >= http.HTTPStatus.BAD_REQUEST:
            raise OSError(said)
        if status != http.HTTPStatus.PARTIAL_CONTENT or not found or int(found[1]) != start:
            raise OSError(f"{said}, and not the range that was asked for")
        num_bytes = int(found[3])
        wanted = min(end, num_bytes) - start
        data = response.read(wanted)
        if len(data) != wanted:
            raise ConnectionError(_ENDED_EARLY)
        self._require_content(response, num_bytes)
        return data

    def _require_content(self, response: http.client.HTTPResponse, num_bytes: int) -> None:
        """Require that all ranges are of the same content."""
        content = (response.getheader("ETag"), response.getheader("Last-Modified"), str(num_bytes))
        if self._content not in (None, content):
            raise OSError(f"{self._url}: changed while it was read")
        self._content, self.num_bytes = content, num_bytes

    def _copy(self, response: http.client.HTTPResponse) -> IO[bytes]:
        """Copy the body of an answer to a temporary file."""
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the reader closes it
        try:
            while block := response.read(_BLOCK_BYTES):
                file.write(block)
                if file.tell() > _MAX_COPY_BYTES:
                    raise OSError(
                        f"{self._url}: the host gives no ranges, and more than "
                        f"{_MAX_COPY_BYTES >> 30} GB; copy it to a store, and name that"
                    )
            if response.length:
                raise ConnectionError(_ENDED_EARLY)
            self.num_bytes = file.tell()
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file


def _retry_after(text: str) -> float | None:
    """Seconds that a host asks to wait: a number, or a date; None if it says nothing."""
    if text.isdecimal():
        return float(text)
    with contextlib.suppress(ValueError):
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    return None


def _connect(url: str, address: _Address) -> http.client.HTTPConnection:
    """Connect to an address of a host that may be asked."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise ConnectionError(str(error)) from error
        raise OSError(f"{url}: {error}") from error
    except UnicodeError as error:
        raise OSError(f"{url}: {error}") from error
    places = [place[0] for *_, place in found]
    if os.environ.get(PRIVATE_HOSTS) != "1" and not all(map(_is_public, places)):
        raise PermissionError(
            f"{url}: {', '.join(map(str, places))} is not a public address; --private-hosts of the "
            f"job allows it, or {PRIVATE_HOSTS}=1"
        )
    # The addresses that were checked: another look-up may give others.
    connection = http.client.HTTPConnection(address.host, address.port)
    connection.default_port = _PORTS[address.scheme]  # it is no part of the header Host
    failure: OSError | None = None
    for place in places:
        try:
            plain = socket.create_connection((str(place), address.port), timeout=_SILENCE_SECONDS)
        except OSError as error:
            failure = error
            continue
        connection.sock = plain
        if address.scheme == "https":
            try:
                connection.sock = _tls().wrap_socket(plain, server_hostname=address.host)
            except BaseException:
                plain.close()
                raise
        return connection
    raise ConnectionError(str(failure))


def _is_public(place: str | int) -> bool:
    found = ipaddress.ip_address(str(place).partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        carried = found.ipv4_mapped or found.sixtofour
        if found in _NAT64:
            carried = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if carried is None and found not in _GLOBAL_UNICAST:
            return False
        found = carried or found
    return found.is_global and not found.is_multicast


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


@functools.cache
def _folder() -> Path:
    """For the slots and pauses of hosts, shared by the processes of this user."""
    folder = Path(tempfile.gettempdir(), f"soundtrack-hosts-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} is another user's; remove it, or set TMPDIR")
    return folder


def _pause_host(address: _Address, seconds: float) -> None:
    """Let no process of this machine ask a host for some seconds."""
    with (_folder() / f"{address.name}.pause").open("a") as file:  # which keeps its time
        fcntl.flock(file, fcntl.LOCK_EX)
        until = time.time() + max(seconds, _pause_of(address))  # a longer pause stays
        os.utime(file.fileno(), (until, until))


def _pause_of(address: _Address) -> float:
    """Seconds until a host may be asked."""
    try:
        until = (_folder() / f"{address.name}.pause").stat().st_mtime
    except FileNotFoundError:
        return 0.0
    return min(until - time.time(), _PATIENCE_SECONDS)  # the clock may have been set


@contextlib.contextmanager
def _turn(address: _Address, deadline: float) -> Iterator[None]:
    """Wait for the end of a host's pause and for one of its slots, and hold it for the block.

    A slot is a locked file, which the system unlocks if its process is killed.
    """
    num_slots = int(os.environ.get(REQUESTS_PER_HOST) or DEFAULT_REQUESTS_PER_HOST)
    with contextlib.ExitStack() as stack:
        while True:
            pause = _pause_of(address)
            if pause > 0:
                if time.monotonic() + pause > deadline:
                    raise OSError(f"{address.host} asks to wait for {pause:.0f} s")
            elif any(_lock(stack, address, slot) for slot in range(num_slots)):
                break
            time.sleep(max(pause, _SLOT_SECONDS) * (1 + random.random() / 10))
        yield


def _lock(stack: contextlib.ExitStack, address: _Address, slot: int) -> bool:
    file = (_folder() / f"{address.name}.{slot}").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return False
    stack.enter_context(file)
    return True
