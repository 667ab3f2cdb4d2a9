"""Objects under gs:// on an emulated bucket: atomic writes, few requests, typed errors."""

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from features.storage import files
from tests import emulator

FOLDER = f"gs://{emulator.BUCKET}/folder"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[emulator.Emulator]:
    with emulator.start(tmp_path_factory.mktemp("emulator")) as served:
        yield served


@pytest.fixture
def bucket(started: emulator.Emulator) -> Iterator[emulator.Emulator]:
    started.wipe()
    started.forget()
    yield started
    started.set_faults(0)


class TestAtomicWrite:
    def test_object_appears_at_the_end_in_one_request(self, bucket: emulator.Emulator) -> None:
        with files.atomic_write(f"{FOLDER}/deep/file") as file:
            file.write(b"half")
            file.flush()
            assert bucket.requests() == []
            file.write(b" whole")

        assert bucket.objects("folder/") == {"deep/file": b"half whole"}
        assert len(bucket.requests()) == 1

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
    def test_failure_keeps_the_object_that_was_there(
        self, bucket: emulator.Emulator, error: type[BaseException]
    ) -> None:
        files.write_bytes(f"{FOLDER}/file", b"old")
        bucket.forget()

        def write_half() -> None:
            with files.atomic_write(f"{FOLDER}/file") as file:
                file.write(b"half of the new" * 2_000_000)  # more than is kept in memory
                raise error

        with pytest.raises(error):
            write_half()
        assert bucket.objects("folder/") == {"file": b"old"}
        assert bucket.requests() == []

    def test_large_object_survives_throttling(self, bucket: emulator.Emulator) -> None:
        content = np.random.default_rng(0).bytes(36 << 20)  # three parts
        bucket.set_faults(2)

        with files.atomic_write(f"{FOLDER}/large") as file:
            file.write(content[:1000])
            file.write(content[1000:])

        assert files.read_bytes(f"{FOLDER}/large") == content
        assert bucket.num_faults() >= 6  # four requests of the upload, one of the read


def test_reading_seeks_and_ends(bucket: emulator.Emulator) -> None:
    content = np.random.default_rng(1).bytes(20 << 20)
    files.write_bytes(f"{FOLDER}/medium", content)
    files.write_bytes(f"{FOLDER}/empty", b"")

    with files.open_read(f"{FOLDER}/medium") as file:
        assert file.read(8) == content[:8]
        assert file.seek(-3, os.SEEK_END) == len(content) - 3
        assert file.read() == content[-3:]
        assert file.read() == b""
        assert file.seek(9_000_000) == 9_000_000
        assert file.read(10_000_000) == content[9_000_000:19_000_000]
        with pytest.raises(ValueError, match="before the start"):
            file.seek(-1)
    with files.open_read(f"{FOLDER}/empty") as file:
        assert file.read(8) == b""
    bucket.forget()
    with files.open_read(f"{FOLDER}/medium") as file:
        assert file.read() == content
    assert len(bucket.requests()) == 2  # its size, its content
    bucket.forget()
    with files.open_read(f"{FOLDER}/medium") as file:
        assert b"".join(iter(lambda: file.read(1 << 16), b"")) == content
    assert len(bucket.requests()) == 4  # its size, 8 + 8 + 4 MB


def test_a_small_object_is_read_in_one_request(bucket: emulator.Emulator) -> None:
    files.write_bytes(f"{FOLDER}/file", b"content")
    bucket.forget()

    assert files.read_bytes(f"{FOLDER}/file") == b"content"
    assert len(bucket.requests()) == 1
    with files.open_read(f"{FOLDER}/file") as file:
        assert file.read() == b"content"
    assert len(bucket.requests()) == 3  # its size, its content


def test_listing_is_one_request(bucket: emulator.Emulator) -> None:
    for name in ("b", "a/", "a/2.json", "a/1.json", "a/deep/1.json", "a/1.txt", "ab/3.json"):
        files.write_bytes(f"{FOLDER}/{name}", name.encode())
    bucket.forget()

    assert files.list_files(f"{FOLDER}/a", "*.json") == [
        f"{FOLDER}/a/1.json",
        f"{FOLDER}/a/2.json",
    ]
    assert files.list_sizes(FOLDER, "*/*/*") == {f"{FOLDER}/a/deep/1.json": 13}
    assert files.list_files(f"{FOLDER}/absent", "*") == []
    assert len(files.list_files(f"{FOLDER}/a", "*")) == 3
    assert [request.is_listing for request in bucket.requests()] == [True] * 4


def test_only_the_pattern_is_a_pattern(bucket: emulator.Emulator) -> None:
    folder = f"{FOLDER}/set [v1] *?"
    files.write_bytes(f"{folder}/a [1].csv", b"")
    files.write_bytes(f"{FOLDER}/set 1 ab/b.csv", b"")

    assert files.list_files(folder, "*.csv") == [f"{folder}/a [1].csv"]
    assert files.find_files(f"{folder}/a [1].csv") == [f"{folder}/a [1].csv"]
    assert len(files.find_files(f"{FOLDER}/set*/*.csv")) == 2


def test_deleting(bucket: emulator.Emulator) -> None:
    names = [f"{FOLDER}/{index // 10}/{index}" for index in range(30)]
    for name in names:
        files.write_bytes(name, b"")

    files.write_bytes(f"{FOLDER}/2/deep/", b"")
    files.write_bytes(f"{FOLDER}/2/deep/file", b"")
    files.delete(names[0])
    files.delete(names[0])
    assert not files.exists(names[0])
    bucket.set_faults(5)
    files.delete_files(names[:10])
    files.delete_folder(f"{FOLDER}/2")
    files.delete_folder(f"{FOLDER}/2")

    assert (
        list(bucket.objects("folder/"))
        == [name.removeprefix(f"{FOLDER}/") for name in names][10:20]
    )


class TestErrors:
    def test_absent(self, bucket: emulator.Emulator) -> None:
        for path in (f"{FOLDER}/absent", "gs://absent/file"):
            for read in (files.open_read, files.read_bytes, files.size_of):
                with pytest.raises(FileNotFoundError, match=path):
                    read(path)

    @pytest.mark.parametrize("path", ["gs://", "gs://bucket", "gs://bucket/", "gs:///file"])
    def test_no_object(self, bucket: emulator.Emulator, path: str) -> None:
        with pytest.raises(OSError, match="write gs://BUCKET/NAME"):
            files.open_read(path)

    @pytest.mark.parametrize(("status", "said"), [(401, "Anonymous credentials"), (403, "403")])
    def test_forbidden(self, bucket: emulator.Emulator, status: int, said: str) -> None:
        bucket.set_faults(1, (status,))
        with pytest.raises(PermissionError, match=f"{FOLDER}/file: {said}"):
            files.open_read(f"{FOLDER}/file")
        with pytest.raises(PermissionError, match=f"{FOLDER}/file: {said}"):
            files.write_bytes(f"{FOLDER}/file", b"")

    def test_errors_that_are_not_retried(self, bucket: emulator.Emulator) -> None:
        bucket.set_faults(1, (400,))
        with pytest.raises(OSError, match="400") as refusal:
            files.read_bytes(f"{FOLDER}/file")
        assert not isinstance(refusal.value, FileNotFoundError | PermissionError)
        assert len(bucket.requests()) == 1


def test_reading_needs_no_beam(bucket: emulator.Emulator) -> None:
    """A decoder process would take 160 MB more."""
    files.write_bytes(f"{FOLDER}/file", b"content")
    script = (
        "import sys; from features.storage import files\n"
        f"assert files.open_read('{FOLDER}/file').read() == b'content'\n"
        "assert 'apache_beam' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
