"""A headless Chromium for the tests of the pages, driven by the DevTools protocol."""

import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on PATH (Debian: apt install chromium)"
)
_FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --hide-scrollbars "
    "--disable-background-networking --disable-component-update --disable-sync --disable-quic "
    "--autoplay-policy=no-user-gesture-required --remote-debugging-port=0 about:blank"
)
_START_SECONDS, _CALL_SECONDS = 60, 30


class Tab:
    """One page in the browser.

    Attributes:
      problems: console errors and warnings, uncaught exceptions, requests that left the file.
    """

    def __init__(self, connection: ClientConnection):
        self._connection = connection
        self._calls = 0
        self.problems: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its result."""
        self._calls += 1
        self._connection.send(json.dumps({"id": self._calls, "method": method, "params": params}))
        while True:
            message = json.loads(self._connection.recv(timeout=_CALL_SECONDS))
            if message.get("id") == self._calls:
                assert "error" not in message, message
                return message["result"]
            self._note(message["method"], message["params"])

    def _note(self, event: str, params: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.problems.append(json.dumps(params["args"]))
        elif event == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(json.dumps(params["entry"]))
        elif event == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith(("data:", "file:", "about:")):
                self.problems.append(f"request to {url}")

    def open(self, page: Path, *, width: int = 1440, dark: bool = False) -> None:
        """Load a page and wait until it and its scripts are done."""
        self.problems.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=800,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=page.as_uri())
        self.wait_for(f"document.readyState === 'complete' && location.href === '{page.as_uri()}'")

    def evaluate(self, expression: str) -> Any:
        """The JSON value of a JavaScript expression; promises are awaited."""
        result = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + _CALL_SECONDS
        while not self.evaluate(condition):
            assert time.monotonic() < end, f"never true: {condition}"
            time.sleep(0.02)

    def box(self, selector: str) -> dict[str, float]:
        """Where an element is in the window, scrolled into view: x, y, width, height."""
        return self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const {x, y, width, height} = e.getBoundingClientRect();"
            "return {x, y, width, height}; })()"
        )

    def click(self, selector: str, *, across: float = 0.5) -> None:
        """Click on an element, at a share of its width."""
        box = self.box(selector)
        self.mouse("mousePressed", box["x"] + across * box["width"], box["y"] + box["height"] / 2)
        self.mouse("mouseReleased", box["x"] + across * box["width"], box["y"] + box["height"] / 2)

    def tap(self, selector: str, *, across: float = 0.5) -> None:
        """Touch an element with a finger."""
        box = self.box(selector)
        point = {"x": box["x"] + across * box["width"], "y": box["y"] + box["height"] / 2}
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[point])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def mouse(self, kind: str, x: float, y: float) -> None:
        """Send one mouse event."""
        held = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **held)

    def press(self, key: str) -> None:
        """Press and release a key, named as in `KeyboardEvent.key`."""
        text = {"text": key} if len(key) == 1 else {}
        code = {"Enter": 13, " ": 32}.get(key, 0)
        self.call(
            "Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text
        )
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Write a PNG of the whole page, or of the window."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextlib.contextmanager
def open_browser() -> Iterator[Tab]:
    """Start Chromium and give its tab; ends it at the end."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [CHROMIUM, *_FLAGS.split(), f"--user-data-dir={profile}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with connect(_socket(Path(profile), process), max_size=None) as connection:
                yield Tab(connection)
        finally:
            process.terminate()
            process.wait(timeout=_START_SECONDS)


def _socket(profile: Path, process: subprocess.Popen[bytes]) -> str:
    """The address of the tab; Chromium writes its port into the profile once it listens."""
    file = profile / "DevToolsActivePort"
    end = time.monotonic() + _START_SECONDS
    while not (file.exists() and file.read_text()):
        assert process.poll() is None, "chromium ended"
        assert time.monotonic() < end, "chromium does not listen"
        time.sleep(0.05)
    port = file.read_text().splitlines()[0]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
        targets = json.load(answer)
    return next(one["webSocketDebuggerUrl"] for one in targets if one["type"] == "page")
