"""Audits of folders of real media that were damaged, leaked or unshuffled by hand."""

import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr

from features.contracts import folders, leases, record, tfrecord
from features.contracts.documents import Features
from features.contracts.sharding import ShardKey
from features.errors import InputError, JobFailedError
from pipelines import audit_features, extract_features, prepare_dataset
from pipelines.audit import repair
from pipelines.audit.document import Audit
from pipelines.audit.shard import ShardRules, examine_shard
from pipelines.corpus import encoding
from pipelines.corpus.encoding import MediaFormat, write_media
from pipelines.corpus.mixing import Soundtrack, mix
from pipelines.corpus.synthetic_corpus import plan_soundtracks
from pipelines.corpus.writer import write_soundtrack
from pipelines.extraction.patches import Settings
from tests.conftest import known_labels

NUM_SOUNDTRACKS, NUM_LEAKS = 30, 20
# Format of the copy, bits per second, gain, delay in seconds.
COPIES = (
    (MediaFormat(".mp3", "libmp3lame", 44_100, 1), 64_000, 0.5, 0.0),
    (MediaFormat(".mp3", "libmp3lame", 22_050, 1), 32_000, 0.9, 0.005),
    (MediaFormat(".m4a", "aac", 32_000, 1), 64_000, 0.3, 0.003),
    (MediaFormat(".webm", "libopus", 48_000, 1), 48_000, 0.8, 0.0),
    (MediaFormat(".wav", "pcm_s16le", 11_025, 1), 0, 0.25, 0.008),
)


def extract(manifest: Path, folder: Path) -> Path:
    """Data set and features of a manifest; returns the folder of the features."""
    dataset, features = str(folder / "dataset"), str(folder / "features")
    flags = ["--manifest", str(manifest), known_labels(manifest), "--output", dataset]
    assert prepare_dataset.main(flags) == 0
    assert extract_features.main(["--dataset", dataset, "--output", features]) == 0
    return folder / "features"


def run_audit(folder: Path, *flags: str) -> tuple[int, Audit]:
    code = audit_features.main(["--features", str(folder), *flags])
    return code, folders.read_document(str(folder), Audit)


def features_of(folder: Path) -> Features:
    return folders.read_document(str(folder), Features)


def read_shard(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return list(tfrecord.read_records(file, str(path)))


def write_shard(path: Path, records: list[bytes]) -> None:
    """Write records with the padding that the sidecar tells, where they are not too long for it."""
    sidecar = path.with_suffix(".json")
    wanted = json.loads(sidecar.read_text()).get("record_bytes") or 0
    with path.open("wb") as file:
        for data in map(record.strip_padding, records):
            fits = len(data) + record.MIN_PADDING <= wanted
            tfrecord.write_record(file, record.pad(data, wanted) if fits else data)


def state_of(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("patches-*")}


def write_manifest(path: Path, rows: list[tuple[str, str, str, str]]) -> Path:
    path.write_text("\n".join(map(",".join, [("id", "uri", "labels", "split"), *rows])) + "\n")
    return path


@pytest.fixture(scope="module")
def soundtracks() -> list[Soundtrack]:
    return plan_soundtracks(seed=5, count=NUM_SOUNDTRACKS, seconds=(8.0, 8.0))


@pytest.fixture(scope="module")
def corpus_folder(
    soundtracks: list[Soundtrack], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[tuple[str, str, str, str]]]:
    """Originals, the first `NUM_LEAKS` for training; returns folder and rows."""
    folder = tmp_path_factory.mktemp("media")
    (folder / "media").mkdir()
    rows = []
    for index, soundtrack in enumerate(soundtracks):
        write_soundtrack(soundtrack, folder)
        split = "train" if index < NUM_LEAKS else ("validation", "evaluation")[index % 2]
        rows.append((soundtrack.key, soundtrack.uri, ";".join(sorted(soundtrack.labels)), split))
    return folder, rows


@pytest.fixture(scope="module")
def clean(corpus_folder: tuple[Path, list], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rows = corpus_folder
    manifest = write_manifest(folder / "clean.csv", rows)
    return extract(manifest, tmp_path_factory.mktemp("clean"))


@pytest.fixture
def features(clean: Path, tmp_path: Path) -> Path:
    """A copy of the clean folder, to be damaged."""
    return Path(shutil.copytree(clean, tmp_path / "features"))


def biggest_shard(folder: Path, split: str) -> Path:
    return max(folder.glob(f"{split}/all/*.tfrecord"), key=lambda path: path.stat().st_size)


def test_clean_folder_passes(features: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = features_of(features)
    capsys.readouterr()

    code, audit = run_audit(features)

    assert code == 0
    assert audit.clean
    assert audit.damages == audit.leaks == ()
    assert audit.num_copies_within_splits == 0
    assert audit.features_fingerprint == root.fingerprint
    for name, split in audit.splits.items():
        assert split.num_patches == root.splits[name].num_patches
        records = [
            record.decode(data)
            for path in features.glob(f"{name}/all/*.tfrecord")
            for data in read_shard(path)
        ]
        labels_of = {patch.video_id: patch.labels for patch in records}
        labels = [label for labels in labels_of.values() for label in labels]
        size = root.vocabulary.num_labels
        assert list(split.label_videos) == np.bincount(labels, minlength=size).tolist()
    printed = capsys.readouterr().out.splitlines()
    assert "damage    none" in printed
    assert max(len(line) for line in printed[:-1]) <= 80


def test_planted_copies_are_found_and_nothing_else(
    corpus_folder: tuple[Path, list],
    soundtracks: list[Soundtrack],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, rows = corpus_folder
    rows = list(rows)
    for index in range(NUM_LEAKS):
        kind, bitrate, gain, delay = COPIES[index % len(COPIES)]
        original = mix(soundtracks[index]).mean(axis=1, keepdims=True)
        copied = gain * soxr.resample(
            original, soundtracks[index].media_format.sample_rate, kind.sample_rate
        )
        silence = np.zeros((int(delay * kind.sample_rate), 1), np.float32)
        path = tmp_path / f"copy{index}{kind.suffix}"
        if bitrate:
            monkeypatch.setitem(encoding.ENCODER_OPTIONS, "b", str(bitrate))
        write_media(
            path,
            np.concatenate([silence, copied.astype(np.float32)]),
            sample_rate=kind.sample_rate,
            codec=kind.codec,
        )
        monkeypatch.delitem(encoding.ENCODER_OPTIONS, "b", raising=False)
        rows.append((f"copy{index}", str(path), rows[index][2], "evaluation"))
    # The same file twice in two splits, and once more within one.
    same = str(folder / rows[0][1])
    rows += [("same", same, rows[0][2], "validation"), ("again", same, rows[0][2], "train")]
    # Silence and a steady hum never match.
    for split in ("train", "evaluation"):
        hum = 0.2 * np.sin(np.arange(80_000)[:, None] * 2 * np.pi * 440 / 16_000)
        for name, samples in (("silence", 0 * hum), ("hum", hum)):
            path = tmp_path / f"{name}-{split}.wav"
            gained = samples * (1.0 if split == "train" else 0.5)
            write_media(path, gained.astype(np.float32), sample_rate=16_000, codec="pcm_s16le")
            rows.append((path.name, str(path), "Noise", split))
    absolute = [(i, str(folder / uri), labels, split) for i, uri, labels, split in rows]
    features = extract(write_manifest(tmp_path / "leaky.csv", absolute), tmp_path)

    code, audit = run_audit(features)

    assert code == 1
    assert audit.damages == ()
    found = {frozenset((leak.id, leak.other_id)): leak for leak in audit.leaks}
    planted = {frozenset((rows[index][0], f"copy{index}")) for index in range(NUM_LEAKS)}
    first = rows[0][0]
    exact = {frozenset((first, "same")), frozenset(("again", "same"))}
    through_same = {frozenset(("again", "copy0")), frozenset(("same", "copy0"))}
    assert set(found) == planted | exact | through_same
    assert {pair for pair, leak in found.items() if leak.kind == "exact"} == exact
    assert audit.num_leaks == len(found)
    assert audit.num_copies_within_splits == 1
    assert all(leak.split != leak.other_split for leak in audit.leaks)
    assert audit.splits["train"].num_constant >= 5  # the silence
    assert audit.splits["train"].num_incomparable == 2  # silence and hum


def flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def drop_record(path: Path) -> None:
    records = read_shard(path)
    write_shard(path, records[:3] + records[4:])


def swap_patches(path: Path) -> None:
    """Valid records, the right number of them, another content."""
    records = read_shard(path)
    first = record.decode(records[0])
    altered = dataclasses.replace(first, patch=first.patch[::-1])
    write_shard(path, [record.encode(altered), *records[1:]])


def edit(path: Path, change: Callable[[str], str]) -> None:
    """Change the sidecar of a record file."""
    sidecar = path.with_suffix(".json")
    sidecar.write_text(change(sidecar.read_text()))


def alter_first(**changes: Any) -> Callable[[Path], None]:
    def alter(path: Path) -> None:
        records = read_shard(path)
        altered = dataclasses.replace(record.decode(records[0]), **changes)
        write_shard(path, [record.encode(altered), *records[1:]])

    return alter


@pytest.mark.parametrize("split", ["train", "evaluation"])
@pytest.mark.parametrize(
    ("damage", "problem", "words"),
    [
        (flip_byte, "bad_checksum", "is damaged or cut"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5]), "bad_checksum", "damaged or cut"),
        (drop_record, "wrong_records", "1 of "),
        (swap_patches, "wrong_digest", "SHA-256"),
        (alter_first(patch=b"short"), "bad_record", "record 0: a patch of 5 bytes"),
        (alter_first(labels=(3, 2)), "bad_record", "do not rise"),
        (alter_first(labels=(3, 99)), "bad_record", "within 0 to"),
        (alter_first(start_seconds=0.5), "bad_record", "not on the grid"),
        (alter_first(start_seconds=float("nan")), "bad_record", "not on the grid"),
        (alter_first(video_id="stranger"), "bad_record", "'stranger' is not among"),
        (Path.unlink, "missing_records", "are missing"),
        (lambda path: path.with_suffix(".json").unlink(), "missing_sidecar", "not finished"),
        (lambda path: path.with_suffix(".json").write_text("{"), "bad_sidecar", "JSON"),
        (lambda path: edit(path, lambda text: text.replace('"key"', '"k"')), "bad_sidecar", "key"),
        (
            lambda path: edit(path, lambda text: text.replace('"index": ', '"index": 9')),
            "bad_sidecar",
            "belongs to the shard",
        ),
    ],
)
def test_damage_is_named(
    features: Path, split: str, damage: Callable[[Path], None], problem: str, words: str
) -> None:
    path = biggest_shard(features, split)
    damage(path)
    root = features_of(features)
    settings = Settings(root.front_end, root.seed, root.keep_partial)
    rules = ShardRules(settings, root.vocabulary.num_labels)
    index, num_shards = map(int, re.findall(r"\d+", path.stem))
    key = ShardKey(split, "all", index, num_shards)

    (found,) = examine_shard(key, str(features), rules).damages

    assert found.path == str(path.relative_to(features).with_suffix(""))
    assert found.problem == problem
    assert words in found.detail


def test_flipped_byte_dropped_record_and_disorder_are_found(
    features: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flipped, dropped = sorted(features.glob("train/all/*.tfrecord"))[:2]
    disordered = biggest_shard(features, "evaluation")
    flip_byte(flipped)
    drop_record(dropped)
    write_shard(disordered, read_shard(disordered)[::-1])

    code, audit = run_audit(features)

    assert code == 1
    assert not audit.clean
    assert [(damage.path, damage.problem) for damage in audit.damages] == [
        (str(path.relative_to(features).with_suffix("")), problem)
        for path, problem in (
            (disordered, "wrong_records"),
            (flipped, "bad_checksum"),
            (dropped, "wrong_records"),
        )
    ]
    printed = capsys.readouterr().out
    assert "damage    3" in printed
    assert "add --repair" in printed


def test_missing_shard_and_stray_file(features: Path) -> None:
    path = biggest_shard(features, "train")
    stray = path.with_name("patches-00000-of-00099.tfrecord")
    path.rename(stray)
    path.with_suffix(".json").unlink()

    code, audit = run_audit(features)

    assert code == 1
    assert {(damage.problem, damage.path) for damage in audit.damages} == {
        ("missing_shard", str(path.relative_to(features).with_suffix(""))),
        ("stray_file", str(stray.relative_to(features))),
    }


def test_whole_shard_of_another_run(features: Path) -> None:
    path = biggest_shard(features, "train")
    swap_patches(path)
    forge_sidecar(path)

    code, audit = run_audit(features)

    assert code == 1
    (found,) = audit.damages
    assert (found.path, found.problem) == ("train", "wrong_counts")
    assert "fingerprint" in found.detail
    with pytest.raises(JobFailedError, match="with --force"):
        run_audit(features, "--repair")


def test_repair_extracts_only_what_is_damaged(
    features: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    owners = set()

    def note_owner(work: Callable) -> Callable:
        def noting(*arguments: Any) -> Any:
            lease = leases.find_lease(str(features))
            assert lease is not None
            owners.add(lease.owner)
            return work(*arguments)

        return noting

    for module, name in ((repair, "remove_shards"), (folders, "write_document")):
        monkeypatch.setattr(module, name, note_owner(getattr(module, name)))
    before = state_of(features)
    root = features / Features.FILE
    # As if the extraction had been run by its command, and not by this test.
    document = json.loads(root.read_text())
    document["made_by"]["command"] = "python -m pipelines.extract_features --dataset dataset"
    root.write_text(json.dumps(document))
    shards = biggest_shard(features, "train"), biggest_shard(features, "evaluation")
    flip_byte(shards[0])
    drop_record(shards[1])

    code, audit = run_audit(features, "--repair")

    assert code == 0
    assert audit.clean
    assert len(owners) == 1  # of the audits, the removal, the extraction and the last document
    assert leases.find_lease(str(features)) is None
    assert json.loads(root.read_text())["made_by"] == document["made_by"]
    after = state_of(features)
    damaged = {path.with_suffix(suffix) for path in shards for suffix in (".tfrecord", ".json")}
    assert {path for path in before if before[path][0] != after[path][0]} == damaged
    assert {path: content for path, (_, content) in after.items()} == {
        path: content for path, (_, content) in before.items()
    }
    printed = capsys.readouterr().out
    assert "NOT CLEAN" in printed
    assert printed.splitlines()[-1] == "repaired: every record is what it was before the damage"


def test_repair_of_another_data_set_is_refused(features: Path) -> None:
    before = state_of(features)
    path = biggest_shard(features, "train")
    flip_byte(path)
    damaged = path.read_bytes()
    root = features / Features.FILE
    root.write_text(
        root.read_text().replace('"dataset_fingerprint": "', '"dataset_fingerprint": "0')
    )

    with pytest.raises(InputError, match="would extract every shard again"):
        run_audit(features, "--repair")

    assert path.read_bytes() == damaged
    assert set(state_of(features)) == set(before)


def test_repair_has_the_time_limit_of_the_extraction(
    features: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a limit that no decoder meets, a repaired shard has only rejects."""
    root = features / Features.FILE
    document = json.loads(root.read_text())
    document["made_by"]["command"] = "python -m pipelines.extract_features --timeout-seconds=0.001"
    root.write_text(json.dumps(document))
    # Each of its videos costs a decoder that is ended.
    shards = features.glob("evaluation/all/*.tfrecord")
    path = min(filter(has_records, shards), key=lambda path: path.stat().st_size)
    flip_byte(path)

    run_audit(features, "--repair")

    sidecar = json.loads(path.with_suffix(".json").read_text())
    assert {video["outcome"] for video in sidecar["videos"]} == {"timeout"}
    printed = capsys.readouterr().out
    assert "--timeout-seconds=0.001" in printed
    assert "note: the records have changed" in printed

    path.unlink()
    code, audit = run_audit(features, "--repair", "--timeout-seconds=900")

    assert code == 0
    assert audit.clean
    sidecar = json.loads(path.with_suffix(".json").read_text())
    assert {video["outcome"] for video in sidecar["videos"]} == {"ok"}


def has_records(path: Path) -> bool:
    return path.stat().st_size > 0


def forge_sidecar(path: Path) -> None:
    """Make a sidecar match a record file that was rewritten."""
    sidecar_path = path.with_suffix(".json")
    sidecar = json.loads(sidecar_path.read_text())
    records = read_shard(path)
    sidecar["sha256"] = hashlib.sha256(b"".join(map(record.strip_padding, records))).hexdigest()
    sidecar["num_bytes"] = path.stat().st_size
    sidecar_path.write_text(json.dumps(sidecar))


def test_unshuffled_shards_fail(features: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, audit = run_audit(features)
    (result,) = audit.shuffle.values()
    assert result.passed
    for path in features.glob("train/all/*.tfrecord"):
        records = sorted(map(record.decode, read_shard(path)), key=_place)
        write_shard(path, [record.encode(patch) for patch in records])
        forge_sidecar(path)

    code, audit = run_audit(features)

    assert code == 1
    assert not audit.shuffle["train/all"].passed
    tests = audit.shuffle["train/all"].tests
    failed = {name for name, test in tests.items() if not test.passed}
    assert failed == {"same_video_neighbours", "source_order"}
    assert tests["source_order"].value == pytest.approx(1)
    assert "FAILED" in capsys.readouterr().out


def _place(patch: record.PatchRecord) -> tuple[str, float]:
    return patch.video_id, patch.start_seconds


def test_values_that_are_not_finite(
    corpus_folder: tuple[Path, list], clean: Path, tmp_path: Path
) -> None:
    dataset, folder = str(clean.parent / "dataset"), tmp_path / "features"
    flags = ["--patch-dtype=float16", "--splits=evaluation"]
    extract_features.main(["--dataset", dataset, "--output", str(folder), *flags])
    code, _ = run_audit(folder)
    assert code == 0
    path = biggest_shard(folder, "evaluation")
    first = record.decode(read_shard(path)[0])
    values = np.frombuffer(first.patch, np.float16).copy()
    values[7] = np.nan
    alter_first(patch=values.tobytes())(path)

    code, audit = run_audit(folder)

    assert code == 1
    assert "not finite" in audit.damages[0].detail


def test_two_worker_processes_give_the_same_audit(features: Path) -> None:
    flip_byte(biggest_shard(features, "train"))
    _, alone = run_audit(features)
    flags = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]

    code, audit = run_audit(features, *flags)

    assert code == 1
    assert dataclasses.replace(audit, made_by=alone.made_by) == alone


def test_refused_before_any_work(features: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no features\.json"):
        run_audit(tmp_path)
    with pytest.raises(SystemExit):
        run_audit(features, "--fix")
    with pytest.raises(InputError, match="--repair extracts what the audit finds"):
        run_audit(features, "--repair", "--no-wait")
    other = json.loads((features / Features.FILE).read_text())
    other["vocabulary"]["fingerprint"] = "another"
    (features / Features.FILE).write_text(json.dumps(other))
    with pytest.raises(InputError, match="vocabulary fingerprint"):
        run_audit(features)
