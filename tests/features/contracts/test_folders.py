"""Root JSON files: written last, checked first, and clear about what differs."""

import dataclasses
import datetime
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from features.contracts import folders
from features.contracts.documents import Dataset, Features, Metrics, Run, Scores
from features.contracts.folders import ContractError
from features.errors import InputError
from features.fingerprint import canonical_json, fingerprint
from features.typed_json import Document

ROOT = Path(__file__).parents[3]
ROOTS: dict[str, tuple[type[Document], str]] = {
    folders.DATASET: (Dataset, "pipelines.prepare_dataset"),
    folders.FEATURES: (Features, "pipelines.extract_features"),
    folders.RUN: (Run, "training.train"),
    folders.SCORES: (Scores, "evaluation.score_videos"),
    folders.METRICS: (Metrics, "evaluation.evaluate"),
}


@pytest.mark.parametrize("name", ROOTS)
def test_an_unfinished_folder_is_refused_with_the_command_that_finishes_it(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "shard-00000").write_bytes(b"half the work")
    assert folders.find_document(str(tmp_path), ROOTS[name][0]) is None
    with pytest.raises(ContractError) as refusal:
        folders.read_document(str(tmp_path), ROOTS[name][0])
    message = str(refusal.value)
    assert f"{tmp_path} has no {name}" in message
    assert f"python -m {ROOTS[name][1]}`" in message


class TestRequireEqual:
    def test_names_the_field_both_values_the_place_and_the_cure(self) -> None:
        with pytest.raises(ContractError) as refusal:
            folders.require_equal(
                "front end", expected="aa11", received="bb22", where="/data/x", cure="extract again"
            )
        for word in ("front end", "'aa11'", "'bb22'", "/data/x", "extract again"):
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
