"""Root JSON files: written last, checked first, and clear about what differs."""

import dataclasses
import datetime
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from features.contracts import folders
from features.contracts.folders import ContractError
from features.errors import InputError
from features.fingerprint import canonical_json, fingerprint

ROOT = Path(__file__).parents[3]
ROOTS = {
    folders.DATASET: "pipelines.prepare_dataset",
    folders.FEATURES: "pipelines.extract_features",
    folders.RUN: "training.train",
    folders.SCORES: "evaluation.score_videos",
    folders.METRICS: "evaluation.evaluate",
}


def test_reads_back_what_it_wrote(tmp_path: Path) -> None:
    content = {"labels": 3, "rate": 0.1, "name": "naïve ☃", "nested": {"none": None}}
    folders.write_root(str(tmp_path / "new" / "folder"), folders.FEATURES, content)
    path = tmp_path / "new" / "folder" / "features.json"
    expected = {"format_version": 1, **content}
    assert json.loads(path.read_text(encoding="utf-8")) == expected
    assert folders.read_root(str(path.parent), folders.FEATURES) == expected
    assert folders.find_root(str(path.parent), folders.FEATURES) == expected
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", ROOTS)
def test_an_unfinished_folder_is_refused_with_the_command_that_finishes_it(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "shard-00000").write_bytes(b"half the work")
    assert folders.find_root(str(tmp_path), name) is None
    with pytest.raises(ContractError) as refusal:
        folders.read_root(str(tmp_path), name)
    message = str(refusal.value)
    assert f"{tmp_path} has no {name}" in message
    assert f"python -m {ROOTS[name]}`" in message


def test_a_missing_folder_and_a_file_in_its_place_are_unfinished_too(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    for folder in (tmp_path / "missing", file):
        assert folders.find_root(str(folder), folders.RUN) is None
        with pytest.raises(ContractError, match=r"has no run\.json"):
            folders.read_root(str(folder), folders.RUN)


@pytest.mark.parametrize(
    ("document", "received"), [({"format_version": 2}, "2"), ({}, "None")], ids=["newer", "absent"]
)
@pytest.mark.parametrize("read", [folders.read_root, folders.find_root])
def test_another_format_version_is_refused(
    tmp_path: Path, read: object, document: dict[str, int], received: str
) -> None:
    (tmp_path / folders.SCORES).write_text(json.dumps(document))
    assert callable(read)
    with pytest.raises(ContractError) as refusal:
        read(str(tmp_path), folders.SCORES)
    message = str(refusal.value)
    assert str(tmp_path / folders.SCORES) in message
    assert f"format_version is {received}, this version reads 1" in message
    assert "python -m evaluation.score_videos" in message


class TestRequireEqual:
    def test_names_the_field_both_values_the_place_and_the_cure(self) -> None:
        with pytest.raises(ContractError) as refusal:
            folders.require_equal(
                "front end", expected="aa11", received="bb22", where="/data/x", cure="extract anew"
            )
        for word in ("front end", "'aa11'", "'bb22'", "/data/x", "extract anew"):
            assert word in str(refusal.value)

    def test_says_nothing_where_they_are_equal(self) -> None:
        folders.require_equal("n", expected=[1, 2], received=[1, 2], where="", cure="")

    def test_refusal_is_bad_input(self) -> None:
        assert issubclass(ContractError, InputError)
        assert issubclass(ContractError, ValueError)


@dataclasses.dataclass(frozen=True)
class Pair:
    first: int
    second: str


class TestFingerprint:
    def test_depends_on_values_and_not_on_the_order_of_keys(self) -> None:
        assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
        assert fingerprint([1, 2]) != fingerprint([2, 1])
        assert fingerprint("1") != fingerprint(1)

    def test_of_a_dataclass_is_that_of_its_fields(self) -> None:
        expected = fingerprint({"first": 1, "second": "é"})
        assert fingerprint(Pair(1, "é")) == expected

    def test_does_not_change_from_one_version_to_the_next(self) -> None:
        # `printf '{"first":1,"second":"é"}' | sha256sum`: what is on disk must stay readable.
        assert canonical_json({"second": "é", "first": 1}) == '{"first":1,"second":"é"}'
        assert fingerprint(Pair(1, "é")) == "41a9e98f179dd853"


def test_made_by_names_command_time_and_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train.py", "--recipe", "two words"])
    made_by = folders.made_by()
    assert made_by.command.startswith("python -m ")
    assert made_by.command.endswith(" --recipe 'two words'")
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(made_by.created)
    assert datetime.timedelta(seconds=-1) < age < datetime.timedelta(minutes=1)
    assert made_by.versions["av"] == importlib.metadata.version("av")
    assert made_by.versions["soxr"] == importlib.metadata.version("soxr")


def test_made_by_needs_none_of_the_packages(tmp_path: Path) -> None:
    # A process that sees no distribution but that of msgspec, which reads the documents.
    link = tmp_path / "msgspec"
    link.symlink_to(Path(msgspec.__file__).parent, target_is_directory=True)
    code = "from features.contracts import folders; print(dict(folders.made_by().versions))"
    environment = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    printed = subprocess.run(
        [sys.executable, "-S", "-c", code], env=environment, capture_output=True, text=True
    )
    assert (printed.stdout, printed.stderr) == ("{}\n", "")
