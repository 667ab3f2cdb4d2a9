"""Azure Blob Storage on loopback: Microsoft's emulator, where it is installed."""

import base64
import contextlib
import hashlib
import hmac
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from email.utils import formatdate

import pytest

from features.storage import cloud_objects

# Of the account that the emulator always has.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_COMMAND = "azurite-blob"
_LISTENS = " listens on "
_VERSION = "2021-08-06"


@contextlib.contextmanager
def start() -> Iterator[str]:
    """Serve az:// to this process and its children; yields a container.

    The test is skipped where the emulator is not installed.
    """
    command = shutil.which(_COMMAND)
    if command is None:
        pytest.skip(f"no {_COMMAND} on PATH; `npm install -g azurite` installs it")
    flags = ["--silent", "--blobPort=0", "--inMemoryPersistence", "--disableTelemetry"]
    with subprocess.Popen(
        [command, *flags, "--skipApiVersionCheck"], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            line = next(line for line in server.stdout if _LISTENS in line)
            endpoint = f"{line.partition(_LISTENS)[2].strip()}/{ACCOUNT}"
            _make_container(endpoint, "container")
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT)
                patch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
                patch.setenv("AZURE_STORAGE_ENDPOINT", endpoint)
                cloud_objects._store.cache_clear()
                yield "az://container"
        finally:
            cloud_objects._store.cache_clear()
            server.terminate()


def _make_container(endpoint: str, name: str) -> None:
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": _VERSION}
    fields = "".join(f"{field}:{value}\n" for field, value in headers.items())
    signed = "PUT" + 12 * "\n" + fields + f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    signature = hmac.new(base64.b64decode(KEY), signed.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(signature).decode()}"
    request = urllib.request.Request(
        f"{endpoint}/{name}?restype=container", method="PUT", headers=headers
    )
    with urllib.request.urlopen(request) as response:
        assert response.status == 201
