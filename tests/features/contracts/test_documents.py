"""The documents on disk: what older commands wrote stays readable, and every mistake is named."""

import dataclasses
import enum
import json
import math
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from evaluation.metrics.comparison import Comparison
from evaluation.metrics.localisation import Localisation
from evaluation.neighbours import SearchIndex
from features.contracts import documents, folders, shards
from features.contracts.documents import (
    BandStatistics,
    Dataset,
    EmbeddingsPlan,
    Features,
    Metrics,
    PatchesPlan,
    PatchShard,
    Quantisation,
    Run,
    Scores,
    ScoreShard,
    ScoresPlan,
    Sweep,
)
from features.contracts.forgotten import Forgotten
from features.contracts.leases import Lease
from features.contracts.network_card import NetworkCard
from features.contracts.progress import JobProgress, Tally
from features.contracts.speeds import Speeds
from features.errors import ContractError
from features.sound.outcome import Outcome
from features.typed_json import Document, to_plain
from pipelines.audit.document import Audit
from pipelines.cost.prediction import Prediction

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "data_contracts.md"
# Written by the version before documents had types, but for the folders' place: a data set with
# subsets, balanced sets, label names and rejects, and what the other commands make of it.
SAMPLES: Mapping[str, type[Document]] = {
    "dataset.json": Dataset,
    "features.json": Features,
    "features_of_embeddings.json": Features,
    "plan.json": PatchesPlan,
    "plan_of_embeddings.json": EmbeddingsPlan,
    "band_statistics.json": BandStatistics,
    "patches-00000-of-00001.json": PatchShard,
    "run.json": Run,
    "sweep.json": Sweep,
    "scores.json": Scores,
    "plan_of_scores.json": ScoresPlan,
    "quantisation.json": Quantisation,
    "scores_of_tables.json": Scores,
    "scores-00000-of-00001.json": ScoreShard,
    "scores_of_tables-00000-of-00001.json": ScoreShard,
    "metrics.json": Metrics,
    "metrics_of_tables.json": Metrics,
    "audit.json": Audit,
    "prediction.json": Prediction,
}
DOCUMENTS = sorted(set(SAMPLES.values()), key=lambda document: document.__name__)
# With those that are declared beside their only owner.
ON_PAGE = [
    *DOCUMENTS,
    Comparison,
    Forgotten,
    JobProgress,
    Lease,
    Localisation,
    NetworkCard,
    SearchIndex,
    Speeds,
    Tally,
]


def sample(name: str) -> bytes:
    return (Path(__file__).parent / "documents" / name).read_bytes()


def test_every_document_has_a_sample() -> None:
    declared = {
        value
        for value in vars(documents).values()
        if isinstance(value, type) and issubclass(value, Document) and hasattr(value, "FILE")
    }
    assert declared <= set(DOCUMENTS)


@pytest.mark.parametrize("name", SAMPLES)
def test_reads_and_writes_what_the_earlier_version_wrote(name: str) -> None:
    stored = sample(name)
    written = SAMPLES[name].from_json(stored, name).to_json()
    assert written == stored


def test_values_are_typed() -> None:
    features = Features.from_json(sample("features.json"), "")
    assert features.front_end.fingerprint == features.front_end_fingerprint
    assert features.splits["train"].groups["12"].num_patches > 0
    assert features.subsets["train"]["12"] == ("5", "12")
    assert features.work is not None
    assert features.run is None
    embeddings = Features.from_json(sample("features_of_embeddings.json"), "")
    assert embeddings.front_end.embedding is not None
    assert embeddings.front_end.fingerprint == embeddings.front_end_fingerprint
    assert (embeddings.features, embeddings.work) == ("/data/features", None)
    shard = PatchShard.from_json(sample("patches-00000-of-00001.json"), "")
    assert shard.key.path("patches") == "evaluation/3/patches-00000-of-00001"
    assert {video.outcome for video in shard.videos} == {Outcome.OK, Outcome.CORRUPT}


def test_the_best_run_of_a_sweep_has_the_highest_map() -> None:
    sweep = Sweep.from_json(sample("sweep.json"), "")
    assert sweep.best == sweep.runs[0]
    assert math.isnan(sweep.runs[1].mean_average_precision)
    assert dataclasses.replace(sweep, runs=sweep.runs[1:]).best is None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.__name__)
def test_fields_of_a_newer_version_are_ignored(document: type[Document]) -> None:
    name = next(name for name in SAMPLES if SAMPLES[name] is document)
    content = json.loads(sample(name))
    newer = json.dumps({**content, "a_newer_field": {"of": ["any", "type"]}})
    assert document.from_json(newer, name) == document.from_json(sample(name), name)


@pytest.mark.parametrize("field", ["only_subset", "subsets", "work", "patches_per_video"])
def test_older_features_lack_fields(field: str) -> None:
    content = json.loads(sample("features.json"))
    del content[field]
    assert not getattr(Features.from_json(json.dumps(content), ""), field)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.__name__)
def test_every_required_field_is_missed_by_name(document: type[Document]) -> None:
    name = next(name for name in SAMPLES if SAMPLES[name] is document)
    for field in dataclasses.fields(document):
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            content = json.loads(sample(name))
            del content[field.name]
            with pytest.raises(ContractError) as refusal:
                document.from_json(json.dumps(content), f"/data/{name}")
            assert str(refusal.value) == (
                f"/data/{name}: field {field.name} is missing; "
                f"delete /data/{name} and run `{document.MAKER}` again"
            )


def assign(content: dict[str, Any], path: str, value: object) -> None:
    *parents, last = path.split(".")
    for name in parents:
        content = content[name]
    content[last] = value


@pytest.mark.parametrize(
    ("name", "path", "value", "problem"),
    [
        ("features.json", "num_videos", "64", "field num_videos: expected `int`, got `str`"),
        ("features.json", "num_videos", 64.5, "field num_videos: expected `int`, got `float`"),
        ("features.json", "keep_partial", 1, "field keep_partial: expected `bool`, got `int`"),
        ("features.json", "splits", [], "field splits: expected `object`, got `array`"),
        (
            "features.json",
            "splits.train.num_shards",
            None,
            "field splits[...].num_shards: expected `object`, got `null`",
        ),
        ("features.json", "splits.train", {}, "field splits[...].num_videos is missing"),
        (
            "features.json",
            "front_end.storage.dtype",
            "int4",
            "field front_end.storage.dtype: invalid enum value 'int4'",
        ),
        (
            "metrics.json",
            "intervals.mean_ap",
            [0.5],
            "field intervals.mean_ap: expected `array` of length 2",
        ),
        ("run.json", "metrics.loss", "low", "field metrics[...]: expected `int | float | null`"),
        (
            "patches-00000-of-00001.json",
            "videos",
            [{}],
            "field videos[0].id is missing",
        ),
    ],
)
def test_a_mistyped_field_is_named_with_what_was_found(
    name: str, path: str, value: object, problem: str
) -> None:
    content = json.loads(sample(name))
    assign(content, path, value)
    with pytest.raises(ContractError) as refusal:
        SAMPLES[name].from_json(json.dumps(content), f"/data/{name}")
    message = str(refusal.value)
    assert message.startswith(f"/data/{name}: {problem}")
    assert message.endswith(f"; delete /data/{name} and run `{SAMPLES[name].MAKER}` again")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", r"/data/run\.json is not JSON \(Expecting value"),
        (b'{"format_version": 1', r"is not JSON \(Expecting ',' delimiter"),
        (b"\xff\xfe\xfd", "is not JSON"),
        (b"[1]", "is not a JSON object but a list"),
        (b"null", "is not a JSON object but a NoneType"),
        (b"{}", "format_version is None, this version reads 1"),
        (b'{"format_version": 2}', "format_version is 2, this version reads 1"),
        (b'{"format_version": "1"}', "format_version is '1', this version reads 1"),
    ],
)
def test_a_file_that_is_no_such_document_is_refused(content: bytes, problem: str) -> None:
    cure = r".*; delete /data/run\.json and run `python -m training\.train` again"
    with pytest.raises(ContractError, match=problem + cure):
        Run.from_json(content, "/data/run.json")


class TestFolder:
    def test_reads_what_it_wrote(self, tmp_path: Path) -> None:
        folder = str(tmp_path / "new" / "folder")
        document = Scores.from_json(sample("scores.json"), "")
        folders.write_document(folder, document)
        assert (tmp_path / "new" / "folder" / "scores.json").read_bytes() == sample("scores.json")
        assert folders.read_document(folder, Scores) == document
        assert folders.find_document(folder, Scores) == document

    @pytest.mark.parametrize("place", ["empty", "missing", "file"])
    def test_an_unfinished_folder_has_none(self, tmp_path: Path, place: str) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "file").write_text("not a folder")
        folder = str(tmp_path / place)
        assert folders.find_document(folder, Dataset) is None
        with pytest.raises(ContractError) as refusal:
            folders.read_document(folder, Dataset)
        assert f"{folder} has no dataset.json" in str(refusal.value)
        assert "run `python -m pipelines.prepare_dataset`" in str(refusal.value)

    @pytest.mark.parametrize("read", [folders.read_document, folders.find_document])
    def test_a_bad_document_is_refused_with_its_path(
        self, tmp_path: Path, read: Callable[[str, type[Document]], Document | None]
    ) -> None:
        path = tmp_path / "metrics.json"
        path.write_text('{"format_version": 1}')
        with pytest.raises(ContractError, match=re.escape(f"{path}: field made_by is missing")):
            read(str(tmp_path), Metrics)


class TestSidecar:
    def test_reads_what_it_wrote(self, tmp_path: Path) -> None:
        name = "patches-00000-of-00001"
        sidecar = PatchShard.from_json(sample(f"{name}.json"), "")
        path = str(tmp_path / name)
        assert shards.find_sidecar(path, PatchShard) is None
        with pytest.raises(FileNotFoundError):
            shards.read_sidecar(path, PatchShard)
        shards.write_sidecar(path, sidecar)
        assert (tmp_path / f"{name}.json").read_bytes() == sample(f"{name}.json")
        assert shards.find_sidecar(path, PatchShard) == sidecar
        assert shards.read_sidecar(path, PatchShard) == sidecar

    @pytest.mark.parametrize("content", ["", "[]", '{"format_version": 1, "plan": "0"}'])
    def test_a_bad_one_declares_nothing_done(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "shard.json").write_text(content)
        path = str(tmp_path / "shard")
        assert shards.find_sidecar(path, ScoreShard) is None
        with pytest.raises(ContractError, match=re.escape(f"{path}.json")):
            shards.read_sidecar(path, ScoreShard)

    def test_stands_only_beside_a_record_file_of_the_right_size(self, tmp_path: Path) -> None:
        sidecar = dataclasses.replace(
            PatchShard.from_json(sample("patches-00000-of-00001.json"), ""), num_bytes=5
        )
        path = str(tmp_path / "shard")
        shards.write_sidecar(path, sidecar)
        assert shards.find_patch_shard(path) is None
        (tmp_path / "shard.tfrecord").write_bytes(b"1234")
        assert shards.find_patch_shard(path, listed_bytes=4) is None
        (tmp_path / "shard.tfrecord").write_bytes(b"12345")
        assert shards.find_patch_shard(path, listed_bytes=4) == sidecar


class TestPage:
    """docs/data_contracts.md has a table of the fields of each document and of its parts."""

    @pytest.mark.parametrize("document", ON_PAGE, ids=lambda document: document.__name__)
    def test_lists_the_fields_in_order_with_their_types(self, document: type[Document]) -> None:
        tables = read_tables(PAGE.read_text(encoding="utf-8"))
        for record in records_of(document):
            assert record.__name__ in tables, f"no heading names `{record.__name__}`"
            assert tables[record.__name__] == expected_rows(record)

    def test_has_no_table_of_anything_else(self) -> None:
        known = {record.__name__ for document in ON_PAGE for record in records_of(document)}
        assert set(read_tables(PAGE.read_text(encoding="utf-8"))) == known


def read_tables(page: str) -> dict[str, list[tuple[str, str]]]:
    """Tables that begin with `field | type` by the last name in the heading: (field, type)."""
    tables = {}
    for section in re.split(r"(?m)^#+ ", page):
        heading, _, text = section.partition("\n")
        names = re.findall(r"`(\w+)`", heading)
        if names and "| field | type |" in text:
            rows = re.findall(r"(?m)^\| `(\w+)` \| (.*?) \| .+ \|$", text)
            assert len(rows) == text.count("\n| `"), f"a row of {heading} cannot be read"
            tables[names[-1]] = rows
    return tables


def records_of(record: type) -> Iterator[type]:
    """A dataclass and those that its fields hold."""
    yield record
    hints = typing.get_type_hints(record)
    for field in dataclasses.fields(record):
        for part in parts_of(hints[field.name]):
            yield from records_of(part)


def parts_of(hint: Any) -> Iterator[type]:
    if dataclasses.is_dataclass(hint):
        yield typing.cast(type, hint)
    for argument in typing.get_args(hint):
        yield from parts_of(argument)


def expected_rows(record: type) -> list[tuple[str, str]]:
    hints = typing.get_type_hints(record)
    version = getattr(record, "VERSION", None)
    rows = [] if version is None else [("format_version", "integer")]
    for field in dataclasses.fields(record):
        hint = hints[field.name]
        if field.metadata.get("omit_none"):
            (hint,) = set(typing.get_args(hint)) - {types.NoneType}
            rows.append((field.name, f"{name_of(hint)}, optional"))
        else:
            optional = ", optional" if field.metadata.get("omit_default") else ""
            rows.append((field.name, name_of(hint) + optional))
    return rows


def name_of(hint: Any) -> str:
    """A type in the words of the page."""
    simple = {
        str: "string",
        int: "integer",
        float: "number",
        bool: "boolean",
        types.NoneType: "null",
        Any: "any",
    }
    if hint in simple:
        return simple[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        names = [name_of(argument) for argument in arguments]
        return " or ".join(name for name in names if name != "integer" or "number" not in names)
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        sizes = {2: "pair", 3: "triple"}
        kind = "list" if arguments[-1] is Ellipsis else sizes[len(arguments)]
        return f"{kind} of {name_of(arguments[0])}"
    if origin is not None and issubclass(origin, Mapping):
        return f"map of {name_of(arguments[1])}"
    if issubclass(hint, enum.Enum):
        return "string"
    return f"`{hint.__name__}`"


def test_to_plain_is_what_json_writes() -> None:
    scores = Scores.from_json(sample("scores.json"), "")
    assert {"format_version": 1, **to_plain(scores)} == json.loads(sample("scores.json"))
