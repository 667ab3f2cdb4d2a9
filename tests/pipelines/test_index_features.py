"""Folders as older versions wrote them, from those of this version, and their renewal."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from features.contracts import folders, index, record, shards, tfrecord
from features.contracts.documents import Features, PatchShard
from features.errors import JobFailedError
from pipelines import audit_features, extract_features, index_features


@pytest.fixture(scope="module")
def renewed(dataset: Path, features: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of this version, beside their data set."""
    root = tmp_path_factory.mktemp("renewed")
    shutil.copytree(dataset, root / "dataset")
    shutil.copytree(features, root / "features")
    return root


@pytest.fixture
def older(renewed: Path, tmp_path: Path) -> Path:
    """The same features as an older version wrote them: no padding and no index."""
    root = tmp_path / "older"
    shutil.copytree(renewed, root)
    folder = root / "features"
    (folder / "train/all/index.bin").unlink()
    for path in folder.glob("train/all/*.json"):
        strip(path)
    features = folders.read_document(str(folder), Features)
    train = features.splits["train"]
    num_bytes = sum(path.stat().st_size for path in folder.glob("train/all/*.tfrecord"))
    groups = {"all": dataclasses.replace(train.groups["all"], num_bytes=num_bytes)}
    train = dataclasses.replace(train, num_bytes=num_bytes, groups=groups, index_fingerprint=None)
    features = dataclasses.replace(features, splits={**features.splits, "train": train})
    folders.write_document(str(folder), features)
    return root


def strip(path: Path) -> None:
    """Take the padding from a shard, by the path of its sidecar."""
    records_path = path.with_suffix(".tfrecord")
    with records_path.open("rb") as file:
        records = list(map(record.strip_padding, tfrecord.read_records(file, "")))
    with records_path.open("wb") as file:
        num_bytes = sum(tfrecord.write_record(file, data) for data in records)
    sidecar = json.loads(path.read_text())
    del sidecar["record_bytes"]
    path.write_text(json.dumps({**sidecar, "num_bytes": num_bytes}, ensure_ascii=False))


def extract(root: Path, *flags: str) -> int:
    folders_of = ["--dataset", str(root / "dataset"), "--output", str(root / "features")]
    return extract_features.main([*folders_of, *flags])


def renew(root: Path) -> int:
    return index_features.main(["--features", str(root / "features")])


def contents(root: Path) -> dict[str, bytes]:
    """All files of the features but what says where and at what cost they were made."""
    found = {
        str(path.relative_to(root / "features")): path.read_bytes()
        for path in (root / "features").rglob("*")
        if path.is_file() and path.name not in ("audit.json", "features.json")
    }
    features = json.loads((root / "features/features.json").read_text())
    places = dict.fromkeys(("made_by", "dataset", "work"))
    found["features.json"] = json.dumps({**features, **places}).encode()
    return found


def test_an_index_says_where_each_record_lies(renewed: Path) -> None:
    folder = renewed / "features"
    table, _ = index.read_index(str(folder / "train/all/index.bin"))
    paths = sorted(folder.glob("train/all/*.tfrecord"))
    assert len(table) == len(paths) > 1
    for path, (number, size) in zip(paths, table.tolist(), strict=True):
        content = path.read_bytes()
        assert len(content) == number * (size + 16)
        starts = range(0, len(content), size + 16)
        assert all(content[at : at + 8] == size.to_bytes(8, "little") for at in starts)
    train = folders.read_document(str(folder), Features).splits["train"]
    assert train.num_bytes == index.num_bytes(table)
    assert train.num_patches == table[:, 0].sum()
    assert not list(folder.glob("validation/*/index.bin"))


def test_an_older_folder_becomes_what_this_version_writes(older: Path, renewed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in older.rglob("validation/*/patches-*")}
    assert contents(older) != contents(renewed)
    assert renew(older) == 0
    assert contents(older) == contents(renewed)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert audit_features.main(["--features", str(older / "features")]) == 0


def test_an_interrupted_renewal_goes_on(older: Path, renewed: Path) -> None:
    folder = older / "features"
    first, second, *_ = (
        str(path.with_suffix("")) for path in sorted(folder.glob("train/all/*.json"))
    )
    # One shard is done, and the process was killed between the two files of the next.
    shards.write_sidecar(first, shards.pad_shard(first, shards.read_sidecar(first, PatchShard)))
    shards.pad_shard(second, shards.read_sidecar(second, PatchShard))
    done = Path(first + ".tfrecord").stat().st_mtime_ns
    assert renew(older) == 0
    assert Path(first + ".tfrecord").stat().st_mtime_ns == done
    assert contents(older) == contents(renewed)


def test_a_damaged_shard_stays_as_it_is_and_is_named(older: Path) -> None:
    paths = sorted(
        older.glob("features/train/all/*.tfrecord"), key=lambda path: path.stat().st_size
    )
    with paths[-1].open("rb") as file:
        records = list(tfrecord.read_records(file, ""))
    with paths[-1].open("wb") as file:
        for data in records[1:]:
            tfrecord.write_record(file, data)
    before = paths[-1].read_bytes()
    with pytest.raises(JobFailedError, match=f"{paths[-1].name}: SHA-256 .* --repair"):
        renew(older)
    assert paths[-1].read_bytes() == before


def test_a_shard_of_an_older_version_is_kept_by_extraction(older: Path, renewed: Path) -> None:
    """The folder grows without decoding again, has no index until all shards have padding."""
    before = {path: path.read_bytes() for path in older.glob("features/train/all/patches-*")}
    assert extract(older) == 0
    assert {path: path.read_bytes() for path in before} == before
    train = folders.read_document(str(older / "features"), Features).splits["train"]
    assert train.index_fingerprint is None
    assert renew(older) == 0
    assert contents(older) == contents(renewed)


def test_a_wrong_index_is_audited_and_repaired(renewed: Path, tmp_path: Path) -> None:
    root = tmp_path / "damaged"
    shutil.copytree(renewed, root)
    path = root / "features/train/all/index.bin"
    table, _ = index.read_index(str(path))
    good = path.read_bytes()
    digest = index.write_index(str(path), np.roll(table, 1, axis=0))
    document = root / "features/features.json"
    features = json.loads(document.read_text())
    features["splits"]["train"]["index_fingerprint"] = index.split_fingerprint({"all": digest})
    features["dataset"] = str(root / "dataset")
    document.write_text(json.dumps(features))
    assert audit_features.main(["--features", str(root / "features")]) == 1
    audit = json.loads((root / "features/audit.json").read_text())
    (damage,) = audit["damages"]
    assert (damage["path"], damage["problem"]) == ("train/all/index.bin", "wrong_index")
    assert "differs from the sidecars of" in damage["detail"]
    assert audit_features.main(["--features", str(root / "features"), "--repair"]) == 0
    assert path.read_bytes() == good
