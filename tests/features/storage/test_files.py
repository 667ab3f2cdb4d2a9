"""Files on a local filesystem: atomic writes, typed errors, hidden temporary files."""

import concurrent.futures
import os
from pathlib import Path
from typing import Any, ClassVar

import pytest
from apache_beam.io.aws.clients.s3.messages import S3ClientError
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.localfilesystem import LocalFileSystem

from features.storage import files


class RefusingFileSystem(LocalFileSystem):
    """A filesystem of Beam under its own scheme; its client answers every read with an error."""

    answers: ClassVar[dict[str, Exception]] = {}

    @classmethod
    def scheme(cls) -> str:
        return "refusing"

    def open(self, path: str, *args: Any, **options: Any) -> Any:
        del args, options
        raise self.answers[path]


class TestAtomicWrite:
    def test_file_appears_only_at_the_end(self, tmp_path: Path) -> None:
        target = tmp_path / "deep" / "folder" / "file"
        with files.atomic_write(str(target)) as file:
            file.write(b"half")
            assert not target.exists()
            file.write(b" whole")
        assert target.read_bytes() == b"half whole"
        assert list(target.parent.iterdir()) == [target]

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
    def test_leaves_nothing_behind_after_an_exception(
        self, tmp_path: Path, error: type[BaseException]
    ) -> None:
        def write_half() -> None:
            with files.atomic_write(str(tmp_path / "file")) as file:
                file.write(b"half")
                raise error

        with pytest.raises(error):
            write_half()
        assert list(tmp_path.iterdir()) == []

    def test_failure_keeps_the_file_that_was_there(self, tmp_path: Path) -> None:
        target = tmp_path / "file"
        target.write_bytes(b"old")

        def write_half() -> None:
            with files.atomic_write(str(target)) as file:
                file.write(b"half of the new")
                raise ValueError

        with pytest.raises(ValueError):
            write_half()
        assert target.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [target]

    def test_replaces_a_file(self, tmp_path: Path) -> None:
        target = tmp_path / "file"
        files.write_bytes(str(target), b"a longer first content")
        files.write_bytes(str(target), b"second")
        assert target.read_bytes() == b"second"
        assert list(tmp_path.iterdir()) == [target]

    def test_two_writers_of_a_file_do_not_interfere(self, tmp_path: Path) -> None:
        target = str(tmp_path / "file")
        with files.atomic_write(target) as first, files.atomic_write(target) as second:
            first.write(b"from the first")
            second.write(b"from the second")
        assert (tmp_path / "file").read_bytes() == b"from the first"  # it was closed last

    def test_a_suffix_does_not_compress(self, tmp_path: Path) -> None:
        files.write_bytes(str(tmp_path / "file.gz"), b"plain")
        assert (tmp_path / "file.gz").read_bytes() == b"plain"
        assert files.read_bytes(str(tmp_path / "file.gz")) == b"plain"


class TestListing:
    def test_is_sorted_and_without_partial_files(self, tmp_path: Path) -> None:
        for name in ("b.records", "a.records", "c.json"):
            (tmp_path / name).write_bytes(b"")
        with files.atomic_write(str(tmp_path / "d.records")):
            listed = files.list_files(str(tmp_path), "*")
            records = files.list_files(str(tmp_path), "*.records")
            (partial,) = files.list_partial_files(str(tmp_path))
        assert listed == [str(tmp_path / name) for name in ("a.records", "b.records", "c.json")]
        assert records == listed[:2]
        assert Path(partial).parent == tmp_path
        assert files.list_partial_files(str(tmp_path)) == []

    def test_finds_what_killed_writers_left_in_many_folders(self, tmp_path: Path) -> None:
        writers = [files.atomic_write(str(tmp_path / split / "shard")) for split in "ab"]
        for writer in writers:
            writer.__enter__()
        left_behind = files.list_partial_files(str(tmp_path), "*")
        assert [Path(path).parent.name for path in left_behind] == ["a", "b"]

        files.delete_files(left_behind)
        assert files.list_partial_files(str(tmp_path), "*") == []

    def test_of_a_missing_folder_is_empty(self, tmp_path: Path) -> None:
        assert files.list_files(str(tmp_path / "missing"), "*") == []


class TestPaths:
    @pytest.mark.parametrize(
        ("uri", "base", "expected"),
        [
            ("a/b.mp4", "/data", "/data/a/b.mp4"),
            ("b.mp4", "gs://bucket/media", "gs://bucket/media/b.mp4"),
            ("b.mp4", "gs://bucket/media/", "gs://bucket/media/b.mp4"),
            ("/abs/b.mp4", "/data", "/abs/b.mp4"),
            ("/abs/b.mp4", "gs://bucket/media", "/abs/b.mp4"),
            ("gs://other/b.mp4", "/data", "gs://other/b.mp4"),
            ("s3://other/b.mp4", "gs://bucket", "s3://other/b.mp4"),
            ("odd:name.mp4", "/data", "/data/odd:name.mp4"),
        ],
    )
    def test_resolve(self, uri: str, base: str, expected: str) -> None:
        assert files.resolve(uri, base) == expected

    @pytest.mark.parametrize(
        ("path", "expected"),
        [("/data/run/run.json", "/data/run"), ("gs://bucket/run/run.json", "gs://bucket/run")],
    )
    def test_parent_and_join_are_inverse(self, path: str, expected: str) -> None:
        assert files.parent(path) == expected
        assert files.join(expected, "run.json") == path

    def test_absolute(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert files.absolute("a/../b") == str(tmp_path / "b")
        assert files.absolute("gs://bucket/b") == "gs://bucket/b"


class TestErrors:
    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            files.open_read(str(tmp_path / "missing"))
        with pytest.raises(FileNotFoundError):
            files.read_bytes(str(tmp_path / "missing"))
        with pytest.raises(FileNotFoundError):
            files.size_of(str(tmp_path / "missing"))

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(IsADirectoryError):
            files.open_read(str(tmp_path))

    @pytest.mark.parametrize(
        "path", ["gopher://host/file", "a\0b", "x" * 300], ids=["scheme", "NUL", "long name"]
    )
    def test_a_name_that_no_filesystem_takes(self, path: str) -> None:
        with pytest.raises(OSError) as refusal:
            files.open_read(path)
        assert not isinstance(refusal.value, FileNotFoundError | PermissionError)

    @pytest.mark.parametrize(
        ("name", "answer", "expected"),
        [
            ("a", S3ClientError("gone", 404), FileNotFoundError),
            ("a", S3ClientError("private", 403), PermissionError),
            ("a", S3ClientError("who are you", 401), PermissionError),
            ("a", S3ClientError("busy", 503), OSError),
            ("a", BeamIOError("no", {"a": S3ClientError("gone", 404)}), FileNotFoundError),
            ("a", FileNotFoundError("gone"), FileNotFoundError),
            # A name may hold anything, and a message may hold another form of the name.
            ("clip 404", S3ClientError("timeout reading bucket=b, key=clip%20404", 503), OSError),
            ("404", BeamIOError("timeout", {"404": OSError("404: timeout")}), OSError),
            ("not found", OSError("cannot read 'NOT FOUND'"), OSError),
            ("403", OSError("cannot read b/403"), OSError),
        ],
    )
    def test_errors_of_other_filesystems_are_typed_by_their_status(
        self, name: str, answer: Exception, expected: type[OSError]
    ) -> None:
        path = f"refusing://bucket/{name}"
        RefusingFileSystem.answers = {path: answer}
        with pytest.raises(OSError) as refusal:
            files.open_read(path)
        assert isinstance(refusal.value, FileNotFoundError) == (expected is FileNotFoundError)
        assert isinstance(refusal.value, PermissionError) == (expected is PermissionError)
        assert str(answer) in str(refusal.value)

    def test_deleting_a_missing_file_is_no_error(self, tmp_path: Path) -> None:
        present = tmp_path / "folder" / "file"
        files.write_bytes(str(present), b"")
        files.delete(str(present))
        files.delete(str(present))
        files.delete_files([])
        files.delete_folder(str(present.parent))
        files.delete_folder(str(present.parent))
        assert list(tmp_path.iterdir()) == []

    def test_only_the_pattern_is_a_pattern(self, tmp_path: Path) -> None:
        folder = tmp_path / "set [v1] *?"
        path = str(folder / "a [1].csv")
        files.write_bytes(path, b"")
        assert files.list_files(str(folder), "*.csv") == [path]
        assert files.find_files(path) == [path]
        assert files.find_files(str(tmp_path / "*" / "a*.csv")) == [path]


def test_size_and_existence(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    assert not files.exists(path)
    files.write_bytes(path, b"12345")
    assert files.exists(path)
    assert files.exists(str(tmp_path))
    assert files.size_of(path) == 5


def test_opened_files_can_seek(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with files.open_read(str(path)) as file:
        file.seek(-3, os.SEEK_END)
        assert file.read() == b"789"
        assert file.seek(2) == 2
        assert file.read(2) == b"23"


def test_making_a_folder_twice_is_no_error(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    files.make_folder(str(folder))
    files.make_folder(str(folder))
    assert folder.is_dir()


def test_many_workers_may_make_a_folder_at_the_same_moment(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i // 8}" / "deep" / f"{i}" for i in range(400)]

    with concurrent.futures.ThreadPoolExecutor(8) as workers:
        list(workers.map(lambda path: files.write_bytes(str(path), b"x"), paths))

    assert all(path.read_bytes() == b"x" for path in paths)
