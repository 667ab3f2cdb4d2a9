"""Videos that are removed, against extractions that never had them."""

import csv
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from features.contracts import folders
from features.contracts.documents import Features
from features.contracts.forgotten import Forgotten
from features.errors import ContractError, InputError, JobFailedError
from pipelines import audit_features, extract_features, forget, prepare_dataset
from tests.conftest import Corpus


@pytest.fixture(scope="module")
def ids(corpus: Corpus) -> list[str]:
    """A training and an evaluation video, a reject, and an id that is not in the data set."""
    with corpus.manifest.open() as file:
        rows = list(csv.DictReader(file))
    train, evaluation = (
        next(row["id"] for row in rows if row["split"] == split)
        for split in ("train", "evaluation")
    )
    return [train, evaluation, "broken", "nowhere"]


@pytest.fixture(scope="module")
def root(dataset: Path, ids: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ids.txt; `expected`, an extraction in which they were forgotten before."""
    root = tmp_path_factory.mktemp("forget")
    (root / "ids.txt").write_text("\n".join(ids))
    tombstones = Forgotten(videos=dict.fromkeys(ids, "2026-01-31T03:00:00+00:00"))
    folders.write_document(str(root / "expected"), tombstones)
    extract(dataset, root / "expected")
    return root


@pytest.fixture
def features(features: Path, tmp_path: Path) -> Path:
    """A copy of the features of all videos."""
    return Path(shutil.copytree(features, tmp_path / "features"))


def extract(dataset: Path, output: Path, *flags: str) -> None:
    folders_of = ["--dataset", str(dataset), "--output", str(output)]
    assert extract_features.main([*folders_of, *flags]) == 0


def remove(root: Path, folder: Path, *flags: str) -> None:
    assert forget.main(["--ids", f"{root}/ids.txt", "--features", str(folder), *flags]) == 0


def contents(folder: Path, pattern: str = "*/*/*") -> dict[str, bytes]:
    """Records, sidecars and indexes."""
    paths = [path for path in folder.glob(pattern) if path.parts[-3] in _SPLITS]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


_SPLITS = ("train", "validation", "evaluation")


def root_document(folder: Path) -> Features:
    """`features.json` without what is of a run."""
    found = folders.read_document(str(folder), Features)
    made_by = dataclasses.replace(found.made_by, command="", created="")
    return dataclasses.replace(found, made_by=made_by, work=None)


def test_shards_are_those_of_an_extraction_without_the_videos(
    root: Path, features: Path, capsys: pytest.CaptureFixture
) -> None:
    (features / "search").mkdir()
    (features / "search/vectors.parquet").write_bytes(b"of all videos")
    before = contents(features)
    remove(root, features)

    assert not (features / "search").exists()
    assert contents(features) == contents(root / "expected")
    assert root_document(features) == root_document(root / "expected")
    assert not list(features.glob("forgetting.json"))
    changed = sum(before[name] != data for name, data in contents(features).items())
    assert 4 <= changed <= 7  # two or three shards and the index
    account = capsys.readouterr().out
    assert ": 4 ids = 3 to remove, from " in account
    assert " + 0 forgotten before + 1 not in the folder" in account
    found = folders.read_document(str(features), Features)
    assert found.num_videos == found.num_written + sum(found.rejects.values())
    assert found.rejects == {"forgotten": 3, "not_found": 1}
    rejects = [
        row for path in features.glob("rejects/*") for row in pq.read_table(path).to_pylist()
    ]
    assert sum(row["reason"] == "forgotten" for row in rejects) == 3
    assert audit_features.main(["--features", str(features)]) == 0


def test_records_are_those_of_a_manifest_without_the_videos(
    root: Path, corpus: Corpus, dataset: Path, ids: list[str], tmp_path: Path
) -> None:
    with corpus.manifest.open() as file:
        header, *rows = csv.reader(file)
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        left = [[row[0], str(corpus.manifest.parent / row[1]), *row[2:]] for row in rows]
        csv.writer(file).writerows([header, *(row for row in left if row[0] not in ids)])
    shutil.copytree(dataset, tmp_path / "dataset")  # for the number of its shards
    flags = ["--vocabulary", str(dataset), "--output", f"{tmp_path}/dataset"]
    prepare_dataset.main(["--manifest", f"{tmp_path}/manifest.csv", *flags])
    extract(tmp_path / "dataset", tmp_path / "features")

    expected = contents(tmp_path / "features", "*/*/*.tfrecord")
    assert contents(root / "expected", "*/*/*.tfrecord") == expected


def test_no_extraction_brings_them_back(root: Path, dataset: Path, features: Path) -> None:
    remove(root, features)
    before = {path: path.stat().st_mtime_ns for path in features.glob("*/*/patches-*")}

    for flags in ((), ("--only-rejects",), ("--force",)):
        extract(dataset, features, *flags)

        assert contents(features) == contents(root / "expected")
        is_kept = {path: path.stat().st_mtime_ns for path in before} == before
        assert is_kept == (flags != ("--force",))


def test_a_second_removal_finds_them_forgotten(
    root: Path, features: Path, capsys: pytest.CaptureFixture
) -> None:
    remove(root, features)
    first = folders.read_document(str(features), Forgotten)
    capsys.readouterr()

    remove(root, features)

    assert ": 4 ids = 0 to remove, from 0 shards + 3 forgotten before + 1 not" in (
        capsys.readouterr().out
    )
    assert folders.read_document(str(features), Forgotten) == first
    assert contents(features) == contents(root / "expected")


def kill_in_the_middle(root: Path, features: Path) -> None:
    """Kill a removal that waits for the records of one shard, and may have rewritten the others."""
    expected = contents(root / "expected", "*/*/*.tfrecord")
    before = contents(features, "*/*/*.tfrecord")
    path = features / next(name for name in before if before[name] != expected[name])
    data = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    command = ["-m", "pipelines.forget", "--ids", f"{root}/ids.txt", "--features", str(features)]
    process = subprocess.Popen([sys.executable, *command])
    try:
        deadline = time.monotonic() + 120
        while (features / "features.json").exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert process.poll() is None
        with path.open("wb"):  # waits until the removal reads the shard
            process.send_signal(signal.SIGKILL)
            process.wait()
    finally:
        process.kill()
        process.wait()
    path.unlink()
    path.write_bytes(data)
    assert not (features / "features.json").exists()


def test_a_killed_removal_goes_on(
    root: Path, dataset: Path, features: Path, tmp_path: Path
) -> None:
    kill_in_the_middle(root, features)
    other = Path(shutil.copytree(features, tmp_path / "other"))

    remove(root, features)
    extract(dataset, other)  # which finishes the removal too

    for folder in (features, other):
        assert contents(folder) == contents(root / "expected")
        assert root_document(folder) == root_document(root / "expected")
        assert not (folder / "forgetting.json").exists()


def test_a_shard_whose_sidecar_was_not_replaced_is_rewritten(root: Path, features: Path) -> None:
    before = contents(features)
    remove(root, features)
    # As if the process had died between the two files of each shard, and before the document.
    for name, data in before.items():
        if name.endswith(".json"):
            (features / name).write_bytes(data)

    remove(root, features)

    assert contents(features) == contents(root / "expected")


def test_a_shard_is_read_once(root: Path, features: Path) -> None:
    """Labels and patches are of the same records, also if the file changes meanwhile."""
    expected = contents(root / "expected")
    name = next(name for name in expected if (features / name).read_bytes() != expected[name])
    path = (features / name).with_suffix(".tfrecord")
    data = path.read_bytes()
    path.unlink()
    os.mkfifo(path)

    # Gives the records to one reader; another would wait for ever.
    threading.Thread(target=path.write_bytes, args=(data,), daemon=True).start()
    removal = threading.Thread(target=remove, args=(root, features), daemon=True)
    removal.start()
    removal.join(60)

    assert not removal.is_alive()
    assert contents(features) == expected


def test_a_damaged_shard_is_named(root: Path, dataset: Path, features: Path) -> None:
    expected = contents(root / "expected", "train/*/*.tfrecord")
    name = next(name for name in expected if (features / name).read_bytes() != expected[name])
    (features / name).write_bytes((features / name).read_bytes()[:-5])

    with pytest.raises(JobFailedError, match=f"{Path(name).stem}: some records are missing"):
        remove(root, features)

    extract(dataset, features)  # decodes that shard again
    assert contents(features) == contents(root / "expected")


def test_a_dry_run_changes_nothing(root: Path, features: Path) -> None:
    before = contents(features)
    with pytest.raises(SystemExit) as ended:
        remove(root, features, "--dry-run")
    assert ended.value.code == 0
    assert contents(features) == before
    assert not (features / "forgotten.json").exists()


@pytest.mark.parametrize(
    ("before", "after"), [("\ufeff", "\r\n"), ("", "  \n"), ("\t", "\r"), ("\n", "\n\n")]
)
def test_ids_of_any_editor_are_found(
    before: str,
    after: str,
    ids: list[str],
    features: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    text = before + "".join(name + after for name in ids)
    (tmp_path / "ids.txt").write_bytes(text.encode())
    with pytest.raises(SystemExit):
        remove(tmp_path, features, "--dry-run")
    assert ": 4 ids = 3 to remove, from " in capsys.readouterr().out


def test_bad_input(root: Path, features: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(InputError, match=r"empty.txt: has no ids"):
        forget.main(["--ids", f"{tmp_path}/empty.txt", "--features", str(features)])
    with pytest.raises(InputError, match=r"--ids .*absent.txt"):
        forget.main(["--ids", f"{tmp_path}/absent.txt", "--features", str(features)])
    with pytest.raises(InputError, match="--features or --scores"):
        forget.main(["--ids", f"{root}/ids.txt"])
    with pytest.raises(ContractError, match=r"has no features.json"):
        remove(root, tmp_path)
