"""Google Cloud Storage on loopback: the emulator from PyPI, with faults and a log of its requests.

TensorFlow's own client of gs:// cannot be sent to another host. It honours HTTPS_PROXY, as all of
libcurl, and CURL_CA_BUNDLE, so that the server is also a proxy that answers itself, with a
certificate of its own.
"""

import contextlib
import multiprocessing
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from http import HTTPStatus, server
from multiprocessing import managers
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import trustme
from apache_beam.internal.gcp import auth
from apache_beam.io.gcp import gcsio_retry
from gcp_storage_emulator import server as emulator
from gcp_storage_emulator.handlers import objects
from gcp_storage_emulator.handlers.buckets import create_bucket
from gcp_storage_emulator.storage import Storage

from features.storage import google_objects
from pipelines.runtime import decoder

BUCKET = "bucket"
_TENSORFLOW_HOSTS = ("www.googleapis.com", "storage.googleapis.com")
# In place of a status: the connection ends without an answer.
RESET = 0
# Attempts at the same request that are turned away one after the other.
_BURST = 3


class Request:
    """What a client asked for."""

    def __init__(self, method: str, target: str):
        self.method, self.target, url = method, unquote(target), urlsplit(target)
        self.path, self.query = unquote(url.path), parse_qs(url.query)

    @property
    def is_listing(self) -> bool:
        return self.method == "GET" and self.path.endswith("/o")

    @property
    def is_stat(self) -> bool:
        """Of an object, without its content."""
        return (
            self.method == "GET"
            and self.path.startswith("/storage/v1/b/")
            and not self.is_listing
            and self.query.get("alt") != ["media"]
        )


class Emulator(server.ThreadingHTTPServer):
    """One bucket in memory. TensorFlow stops all of its Python: `start` gives it another process.

    Args:
      certificate: the file to write, by which TensorFlow knows the server.
    """

    daemon_threads = True

    def __init__(self, certificate: str):
        super().__init__(("127.0.0.1", 0), _Handler)
        emulator._read_data = _read_data
        objects._resumable_incomplete = _resumable_incomplete
        objects._multipart_upload = _multipart_upload
        authority = trustme.CA()
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*_TENSORFLOW_HOSTS).configure_cert(self.tls)
        authority.cert_pem.write_to_path(certificate)
        self._requests: list[Request] = []
        self._fault_every = self._num_faults = self._num_bytes_sent = 0
        self._fault_statuses: tuple[int, ...] = ()
        self.storage = Storage(use_memory_fs=True)
        self._one_at_a_time = threading.Lock()
        self._num_first = 0  # requests that are no further attempt
        self._bursts: dict[tuple[str, str], int] = {}  # attempts of a burst that are to come
        create_bucket(BUCKET, self.storage)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self) -> str:
        return f"http://localhost:{self.server_port}"

    def requests(self) -> list[Request]:
        """All that came, also those that were turned away."""
        return self._requests

    def set_faults(self, every: int, statuses: tuple[int, ...] = (429, 503, RESET)) -> None:
        """Turn away one of so many requests, and the next attempts at it; none for 0."""
        self._fault_every, self._fault_statuses = every, statuses
        self._bursts.clear()

    def num_bytes_sent(self) -> int:
        """Bytes of all answers to GET."""
        return self._num_bytes_sent

    def count_sent(self, num_bytes: int) -> None:
        """Count the bytes of an answer."""
        self._num_bytes_sent += num_bytes

    def num_faults(self) -> int:
        """Requests that were turned away."""
        return self._num_faults

    def answer(self, handler: "_Handler", method: str) -> None:
        """Turn a request away, or let the emulator answer it."""
        request = Request(method, handler.path)
        with self._one_at_a_time:
            if request.path == f"/storage/v1/b/{BUCKET}":
                # Google's client looks once, in the background, at a bucket that it uses.
                emulator.Router(handler).handle(method)
                return
            if request.path.endswith("/storageLayout"):  # TensorFlow asks, the emulator is older
                response = emulator.Response(handler)
                response.json({"hierarchicalNamespace": {"enabled": False}})
                response.close()
                return
            self._requests.append(request)
            if self._is_turned_away(request):
                emulator._read_raw_data(handler)
                status = self._fault_statuses[self._num_faults % len(self._fault_statuses)]
                if status == RESET:
                    handler.request.shutdown(socket.SHUT_RDWR)
                    handler.close_connection = True
                else:
                    handler.send_response(status)
                    handler.send_header("Content-Length", "0")
                    handler.end_headers()
                self._num_faults += 1
            elif self._is_unmet(request):
                emulator._read_raw_data(handler)
                handler.send_response(HTTPStatus.PRECONDITION_FAILED)
                handler.send_header("Content-Length", "0")
                handler.end_headers()
            else:
                emulator.Router(handler).handle(method)

    def _is_turned_away(self, request: Request) -> bool:
        key = (request.method, request.path)
        if key in self._bursts:
            self._bursts[key] -= 1
            return self._bursts[key] > 0 or self._bursts.pop(key) > 0
        self._num_first += 1
        if self._fault_every and self._num_first % self._fault_every == 0:
            self._bursts[key] = _BURST
            return True
        return False

    def _is_unmet(self, request: Request) -> bool:
        """Whether a precondition on the generation of an object is not met."""
        name = request.path.partition("/o/")[2]
        return bool(name) and _is_unmet(request.query, name, self.storage)

    def forget(self) -> None:
        """Forget the requests and faults so far."""
        self._requests.clear()
        self._bursts.clear()
        self._num_first = self._num_faults = self._num_bytes_sent = 0

    def wipe(self) -> None:
        """Delete all objects."""
        self.storage.wipe(keep_buckets=True)

    def put(self, name: str, content: bytes) -> None:
        """Place an object without a request."""
        kind = "application/octet-stream"
        document = objects._make_object_resource(self.url(), BUCKET, name, kind, str(len(content)))
        self.storage.create_file(BUCKET, name, content, objects._checksums(content, document))

    def objects(self, prefix: str) -> dict[str, bytes]:
        """Names after the prefix and contents, read without a request."""
        found = self.storage.objects.get(BUCKET, {})
        return {
            name.removeprefix(prefix): self.storage.get_file(BUCKET, name)
            for name in sorted(found)
            if name.startswith(prefix)
        }


class _Handler(emulator.RequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else 40 ms a response
    server: Emulator

    def __init__(self, *args: Any):
        super().__init__(args[-1].storage, *args)

    def parse_request(self) -> bool:
        good = super().parse_request()
        if good and self.headers.get("Transfer-Encoding") == "chunked":
            del self.headers["Content-Length"]  # TensorFlow sends both
        if good and isinstance(self.connection, ssl.SSLSocket):
            # The emulator keeps it as the address of an object, for all clients.
            self.headers.replace_header("Host", urlsplit(self.server.url()).netloc)
        return good

    def do_CONNECT(self) -> None:  # noqa: N802
        self.send_response(200)
        self.end_headers()
        self.connection = self.server.tls.wrap_socket(self.connection, server_side=True)  # type: ignore[has-type]
        self.rfile = self.connection.makefile("rb")
        self.wfile = socketserver._SocketWriter(self.connection)  # type: ignore[attr-defined]
        self.close_connection = False

    def finish(self) -> None:
        super().finish()
        if self.connection is not self.request:  # TLS took its place
            self.connection.close()

    def _answer(self) -> None:
        self.server.answer(self, self.command)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815 - http.server's names

    def send_header(self, keyword: str, value: str) -> None:
        if keyword == "Location" and isinstance(self.connection, ssl.SSLSocket):
            value = value.replace(self.server.url(), f"https://{_TENSORFLOW_HOSTS[0]}")
        if keyword == "Content-Length" and self.command == "GET":
            self.server.count_sent(int(value))
        super().send_header(keyword, value)

    def log_message(self, *args: Any) -> None:
        pass


def _resumable_incomplete(response: Any, storage: Storage, upload: str, **_: Any) -> None:
    """As the emulator's own, which says that a byte has come where none has."""
    received = storage.get_resumable_byte_count(upload)
    response.status = objects.GoogleHTTPStatus.RESUME_INCOMPLETE
    if received:
        response["Range"] = f"bytes=0-{received - 1}"


def _is_unmet(query: dict[str, list[str]], name: str, storage: Storage) -> bool:
    """Whether an object is not of the generation asked for; 0 is for no object.

    The emulator knows no preconditions.
    """
    wanted = query.get("ifGenerationMatch")
    present = storage.objects.get(BUCKET, {}).get(name, {})
    return wanted is not None and wanted != [str(present.get("generation", 0))]


def _multipart_upload(request: Any, response: Any, storage: Storage) -> None:
    """As the emulator's own, with preconditions; the name of the object is in the content."""
    if _is_unmet(request.query, request.data["meta"]["name"], storage):
        response.status = HTTPStatus.PRECONDITION_FAILED
    else:
        _MULTIPART_UPLOAD(request, response, storage)


_MULTIPART_UPLOAD = objects._multipart_upload


def _read_data(handler: Any, query: dict) -> Any:
    """As the emulator's own, but that an upload may be empty: TensorFlow marks folders so."""
    data = _READ_DATA(handler, query)
    return b"" if data is None and query.get("uploadType") == ["media"] else data


_READ_DATA = emulator._read_data


class _Manager(managers.BaseManager):
    pass


_Manager.register("Emulator", Emulator)


@contextlib.contextmanager
def start(folder: Path) -> Iterator[Emulator]:
    """Serve gs:// to this process and its children: Google's client, Beam's and TensorFlow's.

    Args:
      folder: for the certificate.
    """
    certificate = str(folder / "authority.pem")
    with (
        _Manager(ctx=multiprocessing.get_context("spawn")) as manager,
        pytest.MonkeyPatch.context() as patch,
    ):
        served = manager.Emulator(certificate)  # type: ignore[attr-defined]
        patch.setenv("STORAGE_EMULATOR_HOST", served.url())
        patch.setenv("HTTPS_PROXY", served.url())
        patch.setenv("CURL_CA_BUNDLE", certificate)
        # Else TensorFlow looks for credentials in the network, and Beam for half a minute.
        patch.setenv("NO_GCE_CHECK", "true")
        patch.setattr(auth._Credentials, "_credentials_init", True)
        # Pauses between attempts grow from 10 ms, not from 1 s; TensorFlow's by tests/conftest.py.
        patch.setattr(google_objects, "_RETRY", google_objects._RETRY.with_delay(initial=0.01))
        beam_retry = gcsio_retry.DEFAULT_RETRY_WITH_THROTTLING_COUNTER.with_delay(initial=0.01)
        patch.setattr(gcsio_retry, "DEFAULT_RETRY_WITH_THROTTLING_COUNTER", beam_retry)
        decoder.end_idle()  # decoders that look for the bucket elsewhere
        yield served
        decoder.end_idle()
