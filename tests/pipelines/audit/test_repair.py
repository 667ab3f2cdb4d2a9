"""The command and the shards of a repair, without a job."""

import dataclasses
from pathlib import Path

import pytest

from features.contracts import folders
from features.contracts.documents import Dataset, EmbeddingsPlan, Features, InferenceRuntime
from features.errors import ContractError, JobFailedError
from pipelines import extract_embeddings, extract_features
from pipelines.audit import repair
from pipelines.audit.document import Audit, Damage, Problem

SAMPLES = Path(__file__).parents[2] / "features" / "contracts" / "documents"


@pytest.fixture
def features() -> Features:
    return Features.from_json((SAMPLES / "features.json").read_bytes(), "")


def with_command(features: Features, command: str) -> Features:
    made_by = dataclasses.replace(features.made_by, command=command)
    return dataclasses.replace(features, made_by=made_by)


def test_the_command_has_the_flags_of_the_extraction(features: Features) -> None:
    features = dataclasses.replace(features, keep_partial=True, seed=7)

    module, *flags = repair.extraction_command(features, "out")

    assert module == "pipelines.extract_features"
    args = extract_features._parser().parse_args(flags)
    assert (args.dataset, args.output) == (features.dataset, "out")
    assert args.splits.split(",") == list(features.splits)
    assert tuple(args.subset) == features.only_subset == ("train=12",)
    assert args.patch_dtype == features.front_end.storage.dtype
    assert args.patch_frames == features.front_end.log_mel.patch_frames
    assert args.patch_hop_frames == features.front_end.log_mel.patch_hop_frames
    assert args.patches_per_video == features.patches_per_video == 6
    assert (args.keep_partial, args.seed) == (True, 7)
    assert args.timeout_seconds == 900


@pytest.mark.parametrize(
    "flags",
    [
        "--timeout-seconds 2.5 --output 'a folder'",
        "--output=x --timeout-seconds=2.5",
        "--timeout_seconds=2.5",
    ],
)
def test_the_time_limit_is_that_of_the_recorded_command(features: Features, flags: str) -> None:
    features = with_command(features, f"python -m pipelines.extract_features {flags}")

    assert "--timeout-seconds=2.5" in repair.extraction_command(features, "out")
    assert "--timeout-seconds=30" in repair.extraction_command(features, "out", 30.0)


def test_embeddings_are_made_by_their_own_command() -> None:
    content = (SAMPLES / "features_of_embeddings.json").read_bytes()
    features = Features.from_json(content, "")

    command = repair.extraction_command(features, "out")

    assert command == [
        "pipelines.extract_embeddings",
        f"--features={features.features}",
        f"--run={features.run}",
        "--output=out",
    ]


def test_embeddings_keep_their_precision_and_their_card(tmp_path: Path) -> None:
    content = (SAMPLES / "features_of_embeddings.json").read_bytes()
    features = Features.from_json(content, "")
    runtime = InferenceRuntime("openvino", "2025.0", "int8", weights="0")
    folders.write_document(
        str(tmp_path), EmbeddingsPlan(front_end_fingerprint="0", runtime=runtime)
    )

    of_features = repair.extraction_command(features, str(tmp_path))
    of_media = repair.extraction_command(
        dataclasses.replace(features, run=None, network="/networks", card="yamnet"), str(tmp_path)
    )

    for module, *flags in (of_features, of_media):
        assert module == "pipelines.extract_embeddings"
        args = extract_embeddings._parser().parse_args(flags)
        assert (args.card, args.precision) in {(None, "int8"), ("yamnet", "float32")}
    assert "--precision=int8" in of_features
    assert "--card=yamnet" in of_media


def test_embeddings_of_other_features_are_refused(tmp_path: Path) -> None:
    source = Features.from_json((SAMPLES / "features.json").read_bytes(), "")
    folders.write_document(str(tmp_path), source)
    content = (SAMPLES / "features_of_embeddings.json").read_bytes()
    features = dataclasses.replace(
        Features.from_json(content, ""),
        features=str(tmp_path),
        features_fingerprint=source.fingerprint,
    )

    repair.require_same_plans(features, "out")
    changed = dataclasses.replace(features, features_fingerprint="another")
    with pytest.raises(ContractError, match="a repair of out would embed other features"):
        repair.require_same_plans(changed, "out")


def test_another_data_set_or_front_end_is_refused(features: Features, tmp_path: Path) -> None:
    dataset = Dataset.from_json((SAMPLES / "dataset.json").read_bytes(), "")
    folders.write_document(str(tmp_path), dataset)
    features = dataclasses.replace(
        features, dataset=str(tmp_path), dataset_fingerprint=dataset.fingerprint
    )

    repair.require_same_plans(features, "out")
    for field, message in (
        ("dataset_fingerprint", "fingerprint of the data set"),
        ("front_end_fingerprint", "this installation: front end"),
    ):
        changed = dataclasses.replace(features, **{field: "another"})
        with pytest.raises(ContractError, match=f"{message}.*would extract every shard again"):
            repair.require_same_plans(changed, "out")


def test_damaged_shards_without_stray_files() -> None:
    audit = Audit.from_json((SAMPLES / "audit.json").read_bytes(), "")
    damages = (
        Damage("train/all/patches-00001-of-00002", Problem.WRONG_RECORDS, "one"),
        Damage("train/all/patches-00001-of-00002", Problem.WRONG_RECORDS, "another"),
        Damage("train/all/patches-00000-of-00099.tfrecord", Problem.STRAY_FILE, ""),
    )

    damaged = repair.damaged_shards(dataclasses.replace(audit, damages=damages))

    assert damaged == ["train/all/patches-00001-of-00002"]
    unknown = dataclasses.replace(audit, damages=(Damage("train", Problem.WRONG_COUNTS, ""),))
    with pytest.raises(JobFailedError, match="unknown which"):
        repair.damaged_shards(unknown)


def test_removes_the_files_of_these_shards_only(tmp_path: Path) -> None:
    names = [f"{name}{suffix}" for name in ("a", "b") for suffix in (".json", ".tfrecord")]
    for name in names:
        (tmp_path / name).write_text("")

    repair.remove_shards(str(tmp_path), ["a", "missing"])

    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.json", "b.tfrecord"]
