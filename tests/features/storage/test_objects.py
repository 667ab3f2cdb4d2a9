"""Objects on emulated stores: atomic writes, few requests, typed errors."""

import contextlib
import dataclasses
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.errors import InputError, StoreRefusalError
from features.sound.medium import open_medium
from features.sound.outcome import AudioError
from features.storage import cloud_objects, files, tensorflow_paths
from tests import azurite, emulator, s3, web

GOOGLE = f"gs://{emulator.BUCKET}/folder"
S3 = f"s3://{s3.BUCKET}/folder"


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[emulator.Emulator]:
    with emulator.start(tmp_path_factory.mktemp("emulator")) as served:
        yield served


@pytest.fixture(scope="module")
def amazon() -> Iterator[s3.Emulator]:
    with s3.start() as served:
        yield served


@pytest.fixture(scope="module")
def azure() -> Iterator[str]:
    with azurite.start() as container:
        yield f"{container}/folder"


@dataclasses.dataclass(frozen=True)
class Store:
    """A folder of an emulated bucket."""

    folder: str
    bucket: Any


@contextlib.contextmanager
def emptied(folder: str, bucket: Any) -> Iterator[Store]:
    bucket.wipe()
    bucket.forget()
    yield Store(folder, bucket)
    bucket.set_faults(0)


@pytest.fixture(params=["gs", "s3"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    is_google = request.param == "gs"
    served = request.getfixturevalue("google" if is_google else "amazon")
    with emptied(GOOGLE if is_google else S3, served) as found:
        yield found


@pytest.fixture
def bucket(google: emulator.Emulator) -> Iterator[emulator.Emulator]:
    with emptied(GOOGLE, google):
        yield google


@pytest.fixture
def aws(amazon: s3.Emulator) -> Iterator[s3.Emulator]:
    with emptied(S3, amazon):
        yield amazon
        amazon.refuse(0)


class TestAtomicWrite:
    def test_object_appears_at_the_end_in_one_request(self, store: Store) -> None:
        with files.atomic_write(f"{store.folder}/deep/file") as file:
            file.write(b"half")
            file.flush()
            assert store.bucket.requests() == []
            file.write(b" whole")

        assert store.bucket.objects("folder/") == {"deep/file": b"half whole"}
        assert len(store.bucket.requests()) == 1

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
    def test_failure_keeps_the_object_that_was_there(
        self, store: Store, error: type[BaseException]
    ) -> None:
        files.write_bytes(f"{store.folder}/file", b"old")
        store.bucket.forget()

        def write_half() -> None:
            with files.atomic_write(f"{store.folder}/file") as file:
                file.write(b"half of the new" * 2_000_000)  # more than is kept in memory
                raise error

        with pytest.raises(error):
            write_half()
        assert store.bucket.objects("folder/") == {"file": b"old"}
        assert store.bucket.requests() == []

    def test_large_object_survives_throttling(self, store: Store) -> None:
        content = np.random.default_rng(0).bytes(36 << 20)  # three parts
        store.bucket.set_faults(2)

        with files.atomic_write(f"{store.folder}/large") as file:
            file.write(content[:1000])
            file.write(content[1000:])

        assert files.read_bytes(f"{store.folder}/large") == content
        assert store.bucket.num_faults() >= 6  # four requests of the upload, one of the read


def test_reading_seeks_and_ends(store: Store) -> None:
    content = np.random.default_rng(1).bytes(20 << 20)
    files.write_bytes(f"{store.folder}/medium", content)
    files.write_bytes(f"{store.folder}/empty", b"")

    with files.open_read(f"{store.folder}/medium") as file:
        assert file.read(8) == content[:8]
        assert file.seek(-3, os.SEEK_END) == len(content) - 3
        assert file.read() == content[-3:]
        assert file.read() == b""
        assert file.seek(9_000_000) == 9_000_000
        assert file.read(10_000_000) == content[9_000_000:19_000_000]
        with pytest.raises(ValueError, match="before the start"):
            file.seek(-1)
    with files.open_read(f"{store.folder}/empty") as file:
        assert file.read(8) == b""
    store.bucket.forget()
    with files.open_read(f"{store.folder}/medium") as file:
        assert file.read() == content
    assert len(store.bucket.requests()) == 2  # its size, its content
    store.bucket.forget()
    with files.open_read(f"{store.folder}/medium") as file:
        assert b"".join(iter(lambda: file.read(1 << 16), b"")) == content
    assert len(store.bucket.requests()) == 4  # its size, 8 + 8 + 4 MB


def test_a_small_object_is_read_in_one_request(store: Store) -> None:
    files.write_bytes(f"{store.folder}/file", b"content")
    store.bucket.forget()

    assert files.read_bytes(f"{store.folder}/file") == b"content"
    assert len(store.bucket.requests()) == 1
    with files.open_read(f"{store.folder}/file") as file:
        assert file.read() == b"content"
    assert len(store.bucket.requests()) == 3  # its size, its content


def test_listing_is_one_request(store: Store) -> None:
    for name in ("b", "a/2.json", "a/1.json", "a/deep/1.json", "a/1.txt", "ab/3.json"):
        files.write_bytes(f"{store.folder}/{name}", name.encode())
    for name in ("a/", "a/deep/"):  # as the console marks folders
        store.bucket.put(f"folder/{name}", b"")
    store.bucket.forget()

    assert files.list_files(f"{store.folder}/a", "*.json") == [
        f"{store.folder}/a/1.json",
        f"{store.folder}/a/2.json",
    ]
    assert files.list_sizes(store.folder, "*/*/*") == {f"{store.folder}/a/deep/1.json": 13}
    assert files.list_files(f"{store.folder}/absent", "*") == []
    assert len(files.list_files(f"{store.folder}/a", "*")) == 3
    assert len(files.list_files(f"{store.folder}/a", "**")) == 4
    assert len(store.bucket.requests()) == 5


def test_only_the_pattern_is_a_pattern(store: Store) -> None:
    folder = f"{store.folder}/set [v1] *?"
    files.write_bytes(f"{folder}/a [1].csv", b"")
    files.write_bytes(f"{store.folder}/set 1 ab/b.csv", b"")

    assert files.list_files(folder, "*.csv") == [f"{folder}/a [1].csv"]
    assert files.find_files(f"{folder}/a [1].csv") == [f"{folder}/a [1].csv"]
    assert len(files.find_files(f"{store.folder}/set*/*.csv")) == 2


def test_deleting(store: Store) -> None:
    names = [f"{store.folder}/{index // 10}/{index}" for index in range(30)]
    for name in names:
        files.write_bytes(name, b"")

    store.bucket.put("folder/2/deep/", b"")
    files.write_bytes(f"{store.folder}/2/deep/file", b"")
    files.delete(names[0])
    files.delete(names[0])
    assert not files.exists(names[0])
    store.bucket.set_faults(5)
    files.delete_files(names[:10])
    files.delete_folder(f"{store.folder}/2")
    files.delete_folder(f"{store.folder}/2")

    left = [name for name in store.bucket.objects("folder/") if not name.endswith("/")]
    assert left == [name.removeprefix(f"{store.folder}/") for name in names][10:20]


class TestExchange:
    def test_replaces_what_is_expected(self, store: Store) -> None:
        path = f"{store.folder}/lease.json"
        for expected, new, found in (
            (b"b", b"x", None),
            (None, b"a", b"a"),
            (None, b"b", b"a"),
            (b"a", b"b", b"b"),
            (b"a", None, b"b"),
            (b"b", None, None),
            (None, b"c", b"c"),
        ):
            assert files.exchange(path, expected, new) == found
            assert files.read_exchanged(path) == found

    def test_one_of_many_wins(self, store: Store) -> None:
        path = f"{store.folder}/lease.json"
        store.bucket.set_faults(3)
        found: list[bytes | None] = []
        threads = [
            threading.Thread(
                target=lambda name: found.append(files.exchange(path, None, name)),
                args=[f"{number}".encode()],
            )
            for number in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 8
        assert set(found) == {files.read_exchanged(path)}


class TestErrors:
    def test_absent(self, store: Store) -> None:
        scheme = store.folder.partition("://")[0]
        for path in (f"{store.folder}/absent", f"{scheme}://absent/file"):
            for read in (files.open_read, files.read_bytes, files.size_of):
                with pytest.raises(FileNotFoundError, match=path):
                    read(path)

    @pytest.mark.parametrize("path", ["", "bucket", "bucket/", "/file"])
    def test_no_object(self, store: Store, path: str) -> None:
        scheme = store.folder.partition("://")[0]
        with pytest.raises(OSError, match=f"write {scheme}://BUCKET/NAME"):
            files.open_read(f"{scheme}://{path}")

    @pytest.mark.parametrize(("status", "said"), [(401, "Anonymous credentials"), (403, "403")])
    def test_forbidden(self, bucket: emulator.Emulator, status: int, said: str) -> None:
        bucket.set_faults(1, (status,))
        with pytest.raises(PermissionError, match=f"{GOOGLE}/file: {said}"):
            files.open_read(f"{GOOGLE}/file")
        with pytest.raises(PermissionError, match=f"{GOOGLE}/file: {said}"):
            files.write_bytes(f"{GOOGLE}/file", b"")

    def test_errors_that_are_not_retried(self, bucket: emulator.Emulator) -> None:
        bucket.set_faults(1, (400,))
        with pytest.raises(OSError, match="400") as refusal:
            files.read_bytes(f"{GOOGLE}/file")
        assert not isinstance(refusal.value, FileNotFoundError | PermissionError)
        assert len(bucket.requests()) == 1


def test_reading_needs_no_beam(store: Store) -> None:
    """A decoder process would take 160 MB more."""
    files.write_bytes(f"{store.folder}/file", b"content")
    script = (
        "import sys; from features.storage import files\n"
        f"assert files.open_read('{store.folder}/file').read() == b'content'\n"
        "assert not {'apache_beam', 'boto3', 'tensorflow'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


class TestS3:
    def test_an_object_that_is_replaced_is_not_read_as_one(self, aws: s3.Emulator) -> None:
        files.write_bytes(f"{S3}/file", b"a" * (9 << 20))
        with files.open_read(f"{S3}/file") as file:
            assert file.read(1) == b"a"
            files.write_bytes(f"{S3}/file", b"b" * (9 << 20))
            file.seek(-1, os.SEEK_END)
            with pytest.raises(OSError, match="was replaced while it was read"):
                file.read()

    @pytest.mark.parametrize(
        ("status", "code", "cure"),
        [
            (400, "ExpiredToken", "renew the credentials"),
            (403, "InvalidAccessKeyId", "renew the credentials"),
            (403, "RequestTimeTooSkewed", "set the clock"),
            (400, "AuthorizationHeaderMalformed", "set AWS_REGION"),
            (301, "PermanentRedirect", "set AWS_REGION"),  # the bucket is in another region
        ],
    )
    def test_refusals_of_the_process_are_no_rejects_of_media(
        self, aws: s3.Emulator, status: int, code: str, cure: str
    ) -> None:
        aws.refuse(status, code, "the message of the store")
        with pytest.raises(StoreRefusalError, match=f"{S3}/file: .*{cure}.*run the same command"):
            files.write_bytes(f"{S3}/file", b"")
        with pytest.raises(StoreRefusalError, match=cure), open_medium(f"{S3}/file"):
            pass

    def test_refusals_of_an_object_are_rejects_of_media(self, aws: s3.Emulator) -> None:
        """Also of one whose name is that of a refusal."""
        aws.refuse(403, "AccessDenied", "Access Denied")
        with (
            pytest.raises(AudioError, match=r"permission_denied: .*AccessDenied: Access Denied$"),
            open_medium(f"{S3}/ExpiredToken.wav"),
        ):
            pass

    def test_messages_are_the_same_at_every_attempt(self, aws: s3.Emulator) -> None:
        """Sidecars hold them."""
        messages = set()
        for _ in range(3):
            with pytest.raises(FileNotFoundError) as error:
                files.open_read(f"{S3}/absent")
            messages.add(str(error.value))
        assert len(messages) == 1

    def test_a_store_without_conditions(
        self, aws: s3.Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cloud_objects, "_EXCHANGE_SECONDS", 0.1)
        aws.refuse(501, "NotImplemented", "no conditions", pattern="^PUT")
        with pytest.raises(files.NoExchangeError, match="no conditions"):
            files.exchange(f"{S3}/file", None, b"a")

    def test_a_process_without_credentials_does_not_wait(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_"))]:
            monkeypatch.delenv(name)
        monkeypatch.setattr(cloud_objects, "_ROLE_HOST", "127.0.0.1")  # no cloud answers here
        for path, cure in (("s3://other/x", "aws configure"), ("az://other/x", "az login")):
            with pytest.raises(StoreRefusalError, match=f"has no credentials.*{cure}"):
                files.open_read(path)

    def test_a_fork_of_a_process_that_used_a_store_says_so(self, aws: s3.Emulator) -> None:
        """Without its threads it would wait for ever."""
        files.write_bytes(f"{S3}/file", b"content")
        script = (
            "import os\nfrom features.storage import files\n"
            f"assert files.read_bytes('{S3}/file') == b'content'\n"
            "child = os.fork()\n"
            "if child == 0:\n"
            "    try:\n"
            f"        files.read_bytes('{S3}/file')\n"
            "    except RuntimeError as error:\n"
            "        os._exit(7 if 'was forked' in str(error) else 1)\n"
            "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7"
        )
        subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


class TestAzure:
    def test_objects(self, azure: str) -> None:
        content = np.random.default_rng(0).bytes(36 << 20)
        for name, written in (("a/large", content), ("small", b"small"), ("empty", b"")):
            files.write_bytes(f"{azure}/{name}", written)
            assert files.read_bytes(f"{azure}/{name}") == written
            with files.open_read(f"{azure}/{name}") as file:
                file.seek(-min(5, len(written)), os.SEEK_END)
                assert file.read() == written[-5:]
        assert files.list_sizes(azure, "*") == {f"{azure}/empty": 0, f"{azure}/small": 5}
        assert files.exchange(f"{azure}/lease.json", None, b"a") == b"a"
        assert files.exchange(f"{azure}/lease.json", None, b"b") == b"a"
        assert files.exchange(f"{azure}/lease.json", b"a", None) is None
        assert files.exchange(f"{azure}/lease.json", None, b"c") == b"c"
        files.delete(f"{azure}/absent")
        files.delete_folder(azure)
        assert not files.exists(f"{azure}/small")
        with pytest.raises(FileNotFoundError, match=r"specified blob does not exist\.$"):
            files.open_read(f"{azure}/small")

    def test_a_wrong_key(self, azure: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", azurite.KEY.replace("Eby8", "Aby8"))
        cloud_objects._store.cache_clear()
        with pytest.raises(StoreRefusalError, match="renew the credentials"):
            files.open_read(f"{azure}/file")
        cloud_objects._store.cache_clear()


def test_two_stores_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One of them without TLS."""
    with web.start(monkeypatch, str(tmp_path)) as host:
        for name, value in {
            "AWS_ENDPOINT_URL": "https://minio",
            "AZURE_STORAGE_ENDPOINT": f"{host.url}/account",
            "AZURE_STORAGE_ACCOUNT_NAME": "account",
            "AZURE_STORAGE_ACCOUNT_KEY": azurite.KEY,
        }.items():
            monkeypatch.setenv(name, value)
        cloud_objects._store.cache_clear()
        headers = {"ETag": '"1"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        host.answers = [(200, headers, b"content")]
        assert files.read_bytes("az://container/file") == b"content"
        assert [path for path, _ in host.requests] == ["/account/container/file"]
    cloud_objects._store.cache_clear()


class TestTensorFlow:
    @pytest.mark.parametrize("folder", ["relative", "/absolute", "gs://bucket/folder"])
    def test_opens(self, folder: str) -> None:
        tensorflow_paths.require_opens("--features", folder)

    @pytest.mark.parametrize(
        ("folder", "is_written", "command"),
        [
            ("s3://b/a/features", False, "`aws s3 sync s3://b/a/features features`"),
            ("s3://b/a/run", True, "`aws s3 sync run s3://b/a/run`"),
            (
                "az://c/a/features",
                False,
                "`az storage blob download-batch --source c --pattern 'a/features/*' "
                "--destination . && mv a/features features`",
            ),
            (
                "az://c/features",
                False,
                "`az storage blob download-batch --source c --pattern 'features/*' "
                "--destination .`",
            ),
            (
                "az://c",
                False,
                "`mkdir c && az storage blob download-batch --source c --destination c`",
            ),
            ("az://c", True, "`az storage blob upload-batch --source c --destination c`"),
            (
                "abfss://c@account.dfs.core.windows.net/a/run",
                True,
                "`az storage blob upload-batch --source run --destination c "
                "--destination-path a/run`",
            ),
        ],
    )
    def test_does_not_open(self, folder: str, is_written: bool, command: str) -> None:
        with pytest.raises(InputError) as error:
            tensorflow_paths.require_opens("--flag", folder, is_written=is_written)
        assert command in str(error.value)
