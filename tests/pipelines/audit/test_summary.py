"""Texts about audits, made without a job; of folders that earlier versions wrote."""

import dataclasses
from pathlib import Path

import pytest

from features.contracts.documents import Features
from pipelines.audit import summary
from pipelines.audit.document import (
    Audit,
    AuditedSplit,
    Damage,
    Duplicate,
    DuplicateKind,
    Problem,
    ShuffleTest,
    ShuffleTests,
)

SAMPLES = Path(__file__).parents[2] / "features" / "contracts" / "documents"


@pytest.fixture
def features() -> Features:
    features = Features.from_json((SAMPLES / "features.json").read_bytes(), "")
    return dataclasses.replace(features, patches_per_video=None)


@pytest.fixture
def clean() -> Audit:
    """An audit without findings."""
    audit = Audit.from_json((SAMPLES / "audit.json").read_bytes(), "")
    return dataclasses.replace(audit, clean=True, damages=())


def lines_of(audit: Audit, features: Features) -> list[str]:
    lines = summary.describe(audit, features, "out/features").splitlines()
    assert max(map(len, lines)) <= 80
    return lines


def test_a_clean_folder(clean: Audit, features: Features) -> None:
    lines = lines_of(clean, features)

    assert "damage    none" in lines
    assert "leaks     none between splits, 0 duplicates within a split" in lines
    assert lines[-1] == "clean; wrote out/features/audit.json"
    assert not any(line.startswith(("note", "To extract")) for line in lines)
    (labels,) = (line.split() for line in lines if line.startswith("  labels"))
    assert labels == ["labels", "0", "0", "1", "passed"]  # a chi-square has no deviation


def test_sampled_splits_are_not_searched_for_leaks(clean: Audit, features: Features) -> None:
    sampled = dataclasses.replace(features, patches_per_video=6, sampled_splits=("train",))

    text = " ".join(lines_of(clean, sampled))

    assert "note: no leak is looked for in train, which have 6 patches of each video" in text


def test_many_damages_are_listed_in_part(clean: Audit, features: Features) -> None:
    damages = tuple(
        Damage(f"train/all/patches-{index:05d}-of-00025", Problem.BAD_CHECKSUM, "record 3 " * 12)
        for index in range(25)
    )

    lines = lines_of(dataclasses.replace(clean, clean=False, damages=damages), features)

    assert "damage    25" in lines
    assert sum("bad_checksum" in line for line in lines) == 20
    assert "  ... and 5 more in audit.json" in lines
    assert lines[-1] == "NOT CLEAN; wrote out/features/audit.json"
    command = lines[lines.index("    python -m pipelines.extract_features \\") : -1]
    assert "      --output=out/features \\" in command
    assert command[-1] == "      train=12"


def test_leaks_and_their_cure(clean: Audit, features: Features) -> None:
    leak = Duplicate("evaluation", "a", "train", "b", DuplicateKind.COPY, 0.734)
    audit = dataclasses.replace(clean, clean=False, num_leaks=21, leaks=(leak,) * 21)

    lines = lines_of(audit, features)

    assert "leaks     21 between splits, 0 duplicates within a split" in lines
    assert lines.count("  copy (0.73): evaluation a = train b") == 20
    assert "  ... and 1 more in audit.json" in lines
    assert "remove one id of each pair from the manifest" in " ".join(lines)


def test_notes_on_silence_and_short_videos(clean: Audit, features: Features) -> None:
    split = AuditedSplit(
        num_shards=1,
        num_videos=5,
        num_patches=40,
        num_bytes=250_000,
        num_constant=3,
        num_incomparable=2,
        label_videos=(5,),
    )

    text = "\n".join(lines_of(dataclasses.replace(clean, splits={"train": split}), features))

    assert "train               1           5            40            250000           3" in text
    assert "note: constant patches" in text
    assert "note: 2 videos are too short or too steady" in text


def test_shards_that_are_not_shuffled(clean: Audit, features: Features) -> None:
    test = ShuffleTest(value=0.9, expected=0.0, deviation=0.03, p_value=1e-300, passed=False)
    group = ShuffleTests(passed=False, false_alarm=1e-7, tests={"source_order": test})

    text = "\n".join(
        lines_of(dataclasses.replace(clean, clean=False, shuffle={"train/all": group}), features)
    )

    assert "0.9          0      0.03   1e-300  FAILED" in text
    assert "A test fails if p < 1e-07." in text
    assert "remove the shards of train/all" in " ".join(text.split())


def test_a_repair_that_restores_the_records_or_not(features: Features) -> None:
    same = dataclasses.replace(features, num_rejects=3)
    other = dataclasses.replace(features, fingerprint="0" * 16)

    assert summary.describe_repair(features, same).startswith("repaired: every record is what")
    text = summary.describe_repair(features, other)
    assert f"it was {features.fingerprint}" in " ".join(text.split())
    assert "trained again" in " ".join(text.split())
