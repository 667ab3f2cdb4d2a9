"""A web server on loopback: files in memory with ranges, faults, and counts of its requests."""

import contextlib
import dataclasses
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http import server
from urllib.parse import unquote

import pytest
import trustme

from features.storage import web

Answer = tuple[int, Mapping[str, str], bytes]


@dataclasses.dataclass
class Host:
    """What the server has, and what it saw.

    Attributes:
      url: of its root.
      files: path -> content, in ranges.
      answers: answers to the next requests, whatever they ask for; None for a broken connection.
      has_ranges: whether the server gives parts of files.
      seconds: time that an answer takes.
      requests: path and range of each request.
      most_at_once: largest number of requests at a time.
    """

    url: str = ""
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    answers: list[Answer | None] = dataclasses.field(default_factory=list)
    has_ranges: bool = True
    seconds: float = 0.0
    requests: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    most_at_once: int = 0
    _at_once: int = 0
    _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    def answer(self, path: str, asked: str) -> Answer | None:
        """The answer to a request for a range of a file."""
        with self._at_work():
            time.sleep(self.seconds)
            self.requests.append((path, asked))
            if self.answers:
                return self.answers.pop(0)
            content = self.files.get(path)
            if content is None:
                return 404, {}, b""
            if not self.has_ranges:
                return 200, {}, content
            start, _, end = asked.removeprefix("bytes=").partition("-")
            if not content:
                return 416, {"Content-Range": "bytes */0"}, b""
            part = content[int(start) : int(end) + 1]
            place = f"bytes {start}-{int(start) + len(part) - 1}/{len(content)}"
            return 206, {"Content-Range": place, "ETag": f'"{hash(content)}"'}, part

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1


def _handler(host: Host) -> Callable[..., server.BaseHTTPRequestHandler]:
    class Handler(server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = host.answer(unquote(self.path), self.headers.get("Range", ""))
            if answer is None:
                return
            status, headers, body = answer
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    return Handler


@contextlib.contextmanager
def _serve(host: Host, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve on a port of its own."""
    served = server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(host))
    served.daemon_threads = True
    if tls is not None:
        served.socket = tls.wrap_socket(served.socket, server_side=True)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    try:
        yield served.server_port
    finally:
        served.shutdown()
        served.server_close()


@contextlib.contextmanager
def start(monkeypatch: pytest.MonkeyPatch, folder: str) -> Iterator[Host]:
    """Serve, and let this process and its children ask the server, with short pauses.

    Args:
      monkeypatch: of the test.
      folder: for the slots and pauses of hosts.
    """
    host = Host()
    with _serve(host) as port:
        host.url = f"http://127.0.0.1:{port}"
        monkeypatch.setenv(web.PRIVATE_HOSTS, "1")
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr("tempfile.tempdir", None)
        monkeypatch.setattr(web, "_FIRST_PAUSE_SECONDS", 0.01)
        web._folder.cache_clear()
        try:
            yield host
        finally:
            web._folder.cache_clear()


@contextlib.contextmanager
def start_https(host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve the same files by https too, on what this process takes for its usual port."""
    authority = trustme.CA()
    served, asked = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(served)
    authority.configure_trust(asked)
    with _serve(host, served) as port:
        monkeypatch.setitem(web._PORTS, "https", port)
        monkeypatch.setattr(web, "_tls", lambda: asked)
        yield f"https://127.0.0.1:{port}"
