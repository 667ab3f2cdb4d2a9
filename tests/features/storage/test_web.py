"""Media under http://: ranges, limits and pauses of a host, and what a manifest cannot reach."""

import datetime
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from email.utils import format_datetime
from pathlib import Path

import numpy as np
import pytest

from features.sound.medium import open_medium
from features.sound.outcome import AudioError, Outcome
from features.storage import files, web
from tests import web as servers
from tests.web import Host

CONTENT = np.random.default_rng(0).bytes(20 << 20)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Host]:
    with servers.start(monkeypatch, str(tmp_path)) as served:
        served.files["/a film.mp4"] = CONTENT
        served.files["/small"] = b"content"
        served.files["/empty"] = b""
        yield served


def test_reading_seeks_and_ends(host: Host) -> None:
    with files.open_read(f"{host.url}/a film.mp4") as file:
        assert file.read(8) == CONTENT[:8]
        assert file.seek(-3, os.SEEK_END) == len(CONTENT) - 3
        assert file.read() == CONTENT[-3:]
        assert file.seek(9_000_000) == 9_000_000
        assert file.read(10_000_000) == CONTENT[9_000_000:19_000_000]
    assert files.read_bytes(f"{host.url}/a film.mp4") == CONTENT
    assert files.size_of(f"{host.url}/a film.mp4") == len(CONTENT)
    assert files.read_bytes(f"{host.url}/empty") == b""
    assert files.exists(f"{host.url}/small")
    assert not files.exists(f"{host.url}/absent")


def test_a_small_file_is_one_request(host: Host) -> None:
    assert files.read_bytes(f"{host.url}/small") == b"content"
    assert host.requests == [("/small", "bytes=0-8388607")]


def test_a_server_without_ranges(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.has_ranges = False
    with files.open_read(f"{host.url}/a film.mp4") as file:
        file.seek(-3, os.SEEK_END)
        assert file.read() == CONTENT[-3:]
    assert len(host.requests) == 1
    assert files.size_of(f"{host.url}/small") == 7

    monkeypatch.setattr(web, "_MAX_COPY_BYTES", 10 << 20)
    with pytest.raises(OSError, match="gives no ranges"):
        files.open_read(f"{host.url}/a film.mp4")


def test_a_file_that_changes_is_refused(host: Host) -> None:
    with files.open_read(f"{host.url}/a film.mp4") as file:
        file.read(8)
        host.files["/a film.mp4"] = CONTENT[::-1]
        file.seek(9_000_000)
        with pytest.raises(OSError, match="changed while it was read"):
            file.read(8)


class TestFaults:
    def test_are_tried_again(self, host: Host) -> None:
        throttled = (503, {"Retry-After": "0"}, b"")
        half = (206, {"Content-Range": "bytes 0-6/7", "Content-Length": "7"}, b"con")
        host.answers = [(429, {}, b""), throttled, None, (500, {}, b""), half]
        assert files.read_bytes(f"{host.url}/small") == b"content"
        assert len(host.requests) == 6

    def test_end(self, host: Host) -> None:
        host.answers = [(500, {}, b"")] * 100
        with pytest.raises(OSError, match="500"):
            files.open_read(f"{host.url}/small")
        assert len(host.requests) == web._ATTEMPTS
        with pytest.raises(OSError, match="refused"):
            files.open_read("http://127.0.0.1:1/file")

    def test_that_are_final(self, host: Host) -> None:
        for status, error in ((404, FileNotFoundError), (403, PermissionError), (400, OSError)):
            host.answers = [(status, {}, b"")]
            with pytest.raises(error, match=str(status)):
                files.open_read(f"{host.url}/small")

    @pytest.mark.parametrize(
        "url", ["http://", "http://a:b@host/x", "http://[::1/x", "http://h:x/"]
    )
    def test_no_address(self, url: str) -> None:
        with pytest.raises(OSError, match=r"http"):
            files.open_read(url)


class TestPauses:
    def test_are_those_that_the_host_asks_for(self, host: Host) -> None:
        """By all readers of the host, as another thread is here."""
        host.answers = [(429, {"Retry-After": "1"}, b"")]
        threads = [
            threading.Thread(target=files.read_bytes, args=[f"{host.url}/small"]) for _ in range(2)
        ]
        start = time.monotonic()
        threads[0].start()
        while not host.requests:
            time.sleep(0.01)
        time.sleep(0.05)
        threads[1].start()
        for thread in threads:
            thread.join()
        assert time.monotonic() - start > 1
        assert len(host.requests) == 3
        assert host.most_at_once <= 2

    def test_longer_than_our_patience_are_not_waited_for(self, host: Host) -> None:
        soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=2)
        host.answers = [(503, {"Retry-After": format_datetime(soon, usegmt=True)}, b"")]
        with pytest.raises(OSError, match="503"):
            files.open_read(f"{host.url}/small")
        assert len(host.requests) == 1

    def test_are_never_shortened(self, host: Host) -> None:
        address = web._Address.parse(host.url)
        web._pause_host(address, 300)
        web._pause_host(address, 1)
        assert web._pause_of(address) == pytest.approx(300, abs=10)


def test_requests_at_once_are_limited_for_all_processes(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(web.REQUESTS_PER_HOST, "2")
    host.seconds = 0.05
    script = (
        "import sys\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "from features.storage import web\n"
        "list(ThreadPoolExecutor(4).map(web.read_bytes, sys.argv[1:] * 4))\n"
    )
    command = [sys.executable, "-c", script, f"{host.url}/small"]
    children = [subprocess.Popen(command) for _ in range(2)]
    assert [child.wait() for child in children] == [0, 0]
    assert len(host.requests) == 8
    assert host.most_at_once == 2


class TestTrust:
    def test_private_addresses_are_refused(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv(web.PRIVATE_HOSTS)
        for url in (f"{host.url}/small", host.url.replace("127.0.0.1", "localhost") + "/small"):
            with pytest.raises(PermissionError, match="--private-hosts"):
                files.open_read(url)
        assert host.requests == []

    @pytest.mark.parametrize(
        ("address", "is_public"),
        [
            ("8.8.8.8", True),
            ("2001:4860:4860::8888", True),
            ("10.1.2.3", False),
            ("169.254.169.254", False),  # credentials of the machine
            ("100.64.0.1", False),
            ("0.0.0.0", False),
            ("::1", False),
            ("fe80::1%eth0", False),
            ("::ffff:127.0.0.1", False),
            # IPv6 that carries IPv4: NAT64, 6to4, NAT64 of a network, and the compatible form.
            ("64:ff9b::8.8.8.8", True),
            ("64:ff9b::10.1.2.3", False),
            ("64:ff9b::169.254.169.254", False),
            ("2002:0a01:0203::1", False),
            ("64:ff9b:1::10.1.2.3", False),
            ("::10.1.2.3", False),
            ("224.0.0.1", False),
        ],
    )
    def test_public_addresses(self, address: str, is_public: bool) -> None:
        assert web._is_public(address) == is_public

    def test_redirects_stay_with_the_host(self, host: Host) -> None:
        host.answers = [(302, {"Location": "/small"}, b"")]
        assert files.read_bytes(f"{host.url}/moved") == b"content"
        # The second place is relative to the first.
        host.files["/folder/last"] = b"last"
        host.answers = [(302, {"Location": place}, b"") for place in ("/folder/next", "last")]
        assert files.read_bytes(f"{host.url}/moved") == b"last"
        for place in (
            "http://127.0.0.2/x",
            "http://localhost/x",
            "http://127.0.0.1:1/x",
            "file:///x",
        ):
            host.answers = [(301, {"Location": place}, b"")]
            with pytest.raises(OSError, match=r"another host|no URL"):
                files.open_read(f"{host.url}/moved")
        host.answers = [(307, {"Location": "/moved"}, b"")] * 100
        with pytest.raises(OSError, match="redirects"):
            files.open_read(f"{host.url}/moved")

    def test_redirects_to_the_https_of_the_host(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        host.files["/folder/last"] = b"last"
        with servers.start_https(host, monkeypatch) as secure:
            places = (f"{secure}/folder/next", "last")
            host.answers = [(302, {"Location": place}, b"") for place in places]
            assert files.read_bytes(f"{host.url}/moved") == b"last"

    def test_a_secure_host_is_not_left_for_an_open_one(self) -> None:
        secure, plain = (web._Address.parse(f"{scheme}://host/x") for scheme in ("https", "http"))
        assert plain.may_redirect_to(secure)
        assert not secure.may_redirect_to(plain)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (404, Outcome.NOT_FOUND),
        (403, Outcome.PERMISSION_DENIED),
        (400, Outcome.UNREADABLE),
        (206, Outcome.CORRUPT),
    ],
)
def test_outcomes_of_media(host: Host, status: int, outcome: Outcome) -> None:
    if status != 206:
        host.answers = [(status, {}, b"")]
    with pytest.raises(AudioError) as error, open_medium(f"{host.url}/small"):
        pass
    assert error.value.outcome == outcome
