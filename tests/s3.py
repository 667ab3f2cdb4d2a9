"""S3 on loopback: moto's server, with faults and a log of its requests."""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from moto.backends import get_backend
from moto.server import create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from features.storage import cloud_objects
from pipelines.runtime import decoder

BUCKET = "bucket"
_REGION = "us-east-1"
# Attempts at the same request that are turned away one after the other.
_BURST = 2


class Emulator:
    """One bucket in memory."""

    def __init__(self) -> None:
        self._requests: list[tuple[str, str]] = []
        self._num_faults = 0
        self._refusal: tuple[int, bytes] | None = None
        self._refused, self._num_allowed = "", 0
        self._every = self._count = 0
        self._bursts: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()
        self._app = create_backend_app("s3")
        self._backend = get_backend("s3")["123456789012"]["aws"]
        self._server = make_server(
            "127.0.0.1", 0, self._answer, threaded=True, request_handler=_Handler
        )
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.wipe()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def requests(self) -> list[tuple[str, str]]:
        """Method, and path with its query, of all that came, also of what was turned away."""
        return self._requests

    def num_faults(self) -> int:
        """Requests that were turned away."""
        return self._num_faults

    def set_faults(self, every: int) -> None:
        """Answer one of so many requests with 429, 503 or a reset, and its next attempts too."""
        self._every = every
        self._bursts.clear()

    def refuse(
        self, status: int, code: str = "", message: str = "", *, pattern: str = "", after: int = 0
    ) -> None:
        """Refuse requests with an error of S3; none for status 0.

        Args:
          status: of HTTP.
          code: of S3.
          message: of S3.
          pattern: of the method and the path of the requests; all without it.
          after: so many more of them are answered.
        """
        body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        self._refusal = (status, body.encode()) if status else None
        self._refused, self._num_allowed = pattern, after

    def forget(self) -> None:
        """Forget the requests and faults so far."""
        self._requests.clear()
        self._num_faults = self._count = 0

    def wipe(self) -> None:
        """Delete all objects."""
        self._backend.reset()
        self._backend.create_bucket(BUCKET, _REGION)

    def put(self, name: str, content: bytes) -> None:
        """Place an object without a request."""
        self._backend.put_object(BUCKET, name, content)

    def put_folder(self, name: str, folder: Path) -> None:
        """Place the files of a folder without a request."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{name}/{path.relative_to(folder)}", path.read_bytes())

    def objects(self, prefix: str) -> dict[str, bytes]:
        """Names after the prefix and contents, read without a request."""
        found = self._backend.buckets[BUCKET].keys
        return {
            name.removeprefix(prefix): found[name].value
            for name in sorted(found)
            if name.startswith(prefix)
        }

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Any:
        query = f"?{environ['QUERY_STRING']}" if environ["QUERY_STRING"] else ""
        request = (environ["REQUEST_METHOD"], environ["PATH_INFO"] + query)
        with self._lock:
            self._requests.append(request)
            if self._refusal and re.search(self._refused, " ".join(request)):
                self._num_allowed -= 1
                if self._num_allowed < 0:
                    return _refuse(environ, start_response, *self._refusal)
            if self._is_turned_away(request):
                self._num_faults += 1
                kind = self._num_faults % 3
                if kind == 0:
                    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
                return _refuse(environ, start_response, (503, 429, 503)[kind], b"")
            return list(self._app(environ, start_response))

    def _is_turned_away(self, request: tuple[str, str]) -> bool:
        if request in self._bursts:
            self._bursts[request] -= 1
            return self._bursts[request] > 0 or self._bursts.pop(request) > 0
        self._count += 1
        if self._every and self._count % self._every == 0:
            self._bursts[request] = _BURST
            return True
        return False


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *args: Any) -> None:
        pass


def _refuse(environ: dict[str, Any], start_response: Any, status: int, body: bytes) -> list[bytes]:
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response(f"{status} {HTTPStatus(status).phrase}", [("Content-Length", str(len(body)))])
    return [body]


@contextlib.contextmanager
def start() -> Iterator[Emulator]:
    """Serve s3:// to this process and its children."""
    served = Emulator()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": served.url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": _REGION,
        }.items():
            patch.setenv(name, value)
        patch.setattr(cloud_objects, "_FIRST_PAUSE_SECONDS", 0.01)
        cloud_objects._store.cache_clear()
        decoder.end_idle()  # decoders that look for the bucket elsewhere
        try:
            yield served
        finally:
            decoder.end_idle()
            cloud_objects._store.cache_clear()
            served.stop()
