"""Features of real media against the front end applied to an independent decode."""

import dataclasses
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import soxr

from features.contracts import folders, record, tfrecord
from features.contracts.documents import Dataset, Features
from features.contracts.labels import read_vocabulary
from features.errors import InputError, JobFailedError, TooManyRejectsError
from features.front_end.logmel import log_mel_patches
from features.front_end.params import LogMelParams
from features.sound.decoder_version import UNKNOWN_DECODER, DecoderVersion
from pipelines import audit_features, extract_features, prepare_dataset
from pipelines.audit.document import Audit
from pipelines.audit.shard import ShardRules, examine_shard
from pipelines.audit.stages import list_keys
from pipelines.extraction.patches import Settings
from tests.conftest import Corpus, known_labels

PARAMS = LogMelParams()


@pytest.fixture(scope="module")
def sparse(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patches of each soundtrack of the training split."""
    folder = tmp_path_factory.mktemp("sparse")
    extract(dataset, folder, "--patches-per-video=2")
    return folder


def prepare(manifest: Path, dataset: Path) -> None:
    flags = ["--manifest", str(manifest), known_labels(manifest), "--output", str(dataset)]
    assert prepare_dataset.main(flags) == 0


def extract(dataset: Path, output: Path, *flags: str) -> Features:
    code = extract_features.main(["--dataset", str(dataset), "--output", str(output), *flags])
    assert code == 0
    return folders.read_document(str(output), Features)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("patches-*"))
    }


def read_records(folder: Path, split: str) -> list[record.PatchRecord]:
    records = []
    for path in sorted(folder.glob(f"{split}/*/*.tfrecord")):
        with path.open("rb") as file:
            records += [record.decode(data) for data in tfrecord.read_records(file, str(path))]
    return records


def load_independently(path: Path, start: float = 0, stop: float | None = None) -> np.ndarray:
    """By libsndfile instead of FFmpeg, resampled in one piece instead of blocks."""
    rate = soundfile.info(path).samplerate
    end = None if stop is None else round(stop * rate)
    samples, _ = soundfile.read(path, start=round(start * rate), stop=end, always_2d=True)
    return soxr.resample(samples.mean(axis=1), rate, PARAMS.sample_rate_hz, "HQ")


def test_counts_add_up(features: Path, corpus: Corpus) -> None:
    document = folders.read_document(str(features), Features)

    assert document.num_videos == corpus.num_good + corpus.num_broken
    assert document.num_written == corpus.num_good
    assert document.rejects == {"corrupt": 1, "not_found": 1}
    patches = {split: len(read_records(features, split)) for split in document.splits}
    assert {name: s.num_patches for name, s in document.splits.items()} == patches
    assert document.num_patches == sum(patches.values())
    rejects = [
        row for path in features.glob("rejects/*") for row in pq.read_table(path).to_pylist()
    ]
    assert {(row["id"], row["reason"]) for row in rejects} == {
        ("broken", "corrupt"),
        ("absent", "not_found"),
    }
    assert all(row["detail"] for row in rejects)


def test_patches_are_those_of_an_independent_decode(features: Path, corpus: Corpus) -> None:
    front_end = folders.read_document(str(features), Features).front_end
    vocabulary = read_vocabulary(str(features))
    compared = set()
    for split in ("train", "validation", "evaluation"):
        for one in read_records(features, split):
            if Path(one.video_id).suffix not in {".wav", ".flac", ".ogg"}:
                continue
            path = corpus.manifest.parent / one.video_id
            expected = log_mel_patches(load_independently(path), PARAMS)
            index = round(one.start_seconds / PARAMS.patch_hop_seconds)
            stored = np.frombuffer(one.patch, np.uint8).reshape(PARAMS.patch_shape)
            # Storage errs by 0.022; the rest is the other decoder and the cut into blocks.
            np.testing.assert_allclose(front_end.storage.decode(stored), expected[index], atol=0.05)
            assert one.labels == tuple(sorted(one.labels))
            assert all(label < len(vocabulary) for label in one.labels)
            compared.add(one.video_id)
    assert len(compared) == 6


def test_labels_are_those_of_the_manifest(features: Path, corpus: Corpus) -> None:
    vocabulary = read_vocabulary(str(features))
    lines = [line.split(",") for line in corpus.manifest.read_text().splitlines()[1:]]
    labels = {cells[0]: set(cells[2].split(";")) for cells in lines}

    for split in ("train", "validation", "evaluation"):
        for one in read_records(features, split):
            assert {vocabulary.ids[label] for label in one.labels} == labels[one.video_id]


def test_training_shards_are_shuffled_and_others_in_order(features: Path) -> None:
    evaluation = [(one.video_id, one.start_seconds) for one in read_records(features, "evaluation")]
    train = [(one.video_id, one.start_seconds) for one in read_records(features, "train")]

    runs = [video for i, (video, _) in enumerate(evaluation) if evaluation[i - 1][0] != video]
    assert len(runs) == len(set(runs))
    for video in runs:
        starts = [start for other, start in evaluation if other == video]
        assert starts == sorted(starts)
    neighbours = sum(a[0] == b[0] for a, b in itertools.pairwise(train))
    assert neighbours < len(train) / 2  # unshuffled, all but one a video are


def test_second_run_keeps_every_shard(features: Path, dataset: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in features.rglob("patches-*")}

    document = extract(dataset, features)

    assert {path: path.stat().st_mtime_ns for path in features.rglob("patches-*")} == before
    assert document.rejects == {"corrupt": 1, "not_found": 1}


def finished(folder: Path) -> dict[Path, int]:
    """When the record files were written that have their sidecar."""
    sidecars = folder.rglob("patches-*.json")
    return {
        path: path.with_suffix(".tfrecord").stat().st_mtime_ns for path in sidecars if path.exists()
    }


def test_killed_extraction_resumes_to_the_same_bytes(
    features: Path, dataset: Path, tmp_path: Path
) -> None:
    """Kills, each after one more shard and a random moment, by turns with 1 and 2 workers."""
    seed = time.time_ns()
    print(f"seed of the moments: {seed}")
    moments = np.random.default_rng(seed).uniform(0.0, 0.05, 3)
    num_shards = len(list(features.rglob("patches-*.json")))
    for number, moment in enumerate(moments):
        done = finished(tmp_path)
        command = [sys.executable, "-m", "pipelines.extract_features"]
        command += ["--dataset", str(dataset), "--output", str(tmp_path)]
        command.append(f"--workers={number % 2 + 1}")
        process = subprocess.Popen(command, start_new_session=True)
        deadline = time.monotonic() + 60
        while len(finished(tmp_path)) <= len(done) < num_shards and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(moment)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        # A shard with a sidecar is not extracted again.
        assert done.items() <= finished(tmp_path).items()
    done = finished(tmp_path)
    # What a worker leaves behind that was killed while writing:
    partial = next(iter(done)).parent / ".partial-patches-00000-of-00009.tfrecord-0123"
    partial.write_bytes(b"half a record")

    document = extract(dataset, tmp_path)

    assert digests(tmp_path) == digests(features)
    assert done.items() <= finished(tmp_path).items()
    assert list(tmp_path.rglob(".partial-*")) == []
    whole = folders.read_document(str(features), Features)
    assert document.fingerprint == whole.fingerprint


def test_any_number_of_workers_gives_the_same_bytes(
    features: Path, dataset: Path, tmp_path: Path
) -> None:
    document = extract(dataset, tmp_path, "--workers=3")

    assert digests(tmp_path) == digests(features)  # which one worker made
    assert document.rejects == {"corrupt": 1, "not_found": 1}


def test_the_cost_of_a_run_stays_with_its_shards(features: Path, dataset: Path) -> None:
    work = folders.read_document(str(features), Features).work
    assert work is not None
    assert work.num_decoded == 16  # 14 good, and 2 that had to be tried
    assert 0 < work.cpu_seconds < work.wall_seconds * (work.num_workers + 1)

    assert extract(dataset, features).work == work  # it decodes nothing


def test_another_seed_and_another_storage_rebuild_the_shards(
    features: Path, dataset: Path, tmp_path: Path
) -> None:
    shutil.copytree(features, tmp_path, dirs_exist_ok=True)

    extract(dataset, tmp_path, "--seed=1")
    seeded = read_records(tmp_path, "train")
    extract(dataset, tmp_path, "--patch-dtype=float16", "--force")

    original = read_records(features, "train")
    assert seeded != original
    by_place = {(one.video_id, one.start_seconds): one for one in original}
    assert {(one.video_id, one.start_seconds): one for one in seeded} == by_place
    for one in read_records(tmp_path, "train"):
        assert len(one.patch) == 2 * np.prod(PARAMS.patch_shape)


def test_files_of_another_plan_are_removed(features: Path, dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(features, tmp_path, dirs_exist_ok=True)
    stale = tmp_path / "train" / "all" / "patches-00000-of-00099.tfrecord"
    stale.write_bytes(b"of an older data set")

    extract(dataset, tmp_path)

    assert not stale.exists()
    assert digests(tmp_path) == digests(features)


def test_part_of_a_soundtrack(corpus: Corpus, tmp_path: Path) -> None:
    wav = next(corpus.manifest.parent.glob("*.wav"))
    manifest = tmp_path / "m.csv"
    manifest.write_text(f"id,uri,labels,split,start,end\na,{wav},x,train,0.5,1.6\n")
    prepare(manifest, tmp_path / "dataset")

    document = extract(tmp_path / "dataset", tmp_path / "features")

    assert document.num_patches == 1
    (one,) = read_records(tmp_path / "features", "train")
    waveform = load_independently(wav, start=0.5, stop=1.6)
    storage = document.front_end.storage
    stored = np.frombuffer(one.patch, np.uint8).reshape(PARAMS.patch_shape)
    expected = log_mel_patches(waveform, PARAMS)[0]
    np.testing.assert_allclose(storage.decode(stored), expected, atol=0.05)


def test_nothing_written_fails_with_the_counts(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("id,uri,labels,split\na,none.wav,x,train\nb,m.csv,x,train\n")
    dataset, output = tmp_path / "dataset", tmp_path / "features"
    prepare(tmp_path / "m.csv", dataset)

    with pytest.raises(JobFailedError, match=r"2 videos = 0 written \+ 2 rejected") as error:
        extract(dataset, output)

    assert "'corrupt': 1" in str(error.value)
    assert "'not_found': 1" in str(error.value)
    assert not (output / folders.FEATURES).exists()


def test_refused_before_any_work(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no dataset\.json"):
        extract(tmp_path, tmp_path / "out")
    with pytest.raises(InputError, match="--splits: received 'dev'"):
        extract(dataset, tmp_path / "out", "--splits=dev")
    with pytest.raises(SystemExit):
        extract(dataset, tmp_path / "out", "--pach-dtype=uint8")
    assert not (tmp_path / "out").exists()


def test_sidecar_describes_its_shard(features: Path) -> None:
    records_of_training = features.glob("train/all/*.tfrecord")
    path = max(records_of_training, key=lambda file: file.stat().st_size).with_suffix(".json")
    sidecar = json.loads(path.read_text())
    records_path = path.with_suffix(".tfrecord")

    with records_path.open("rb") as file:
        data = list(tfrecord.read_records(file, str(records_path)))
    assert sidecar["num_patches"] == len(data)
    assert sidecar["num_bytes"] == records_path.stat().st_size
    without_padding = b"".join(map(record.strip_padding, data))
    assert sidecar["sha256"] == hashlib.sha256(without_padding).hexdigest()
    assert {len(one) for one in data} == {sidecar["record_bytes"]}
    assert sidecar["num_videos"] == len(sidecar["videos"])
    assert sum(video["num_patches"] for video in sidecar["videos"]) == len(data)


def outcomes(folder: Path) -> dict[str, str]:
    sidecars = [json.loads(path.read_text()) for path in folder.rglob("patches-*.json")]
    return {video["id"]: video["outcome"] for one in sidecars for video in one["videos"]}


def decoded(folder: Path, before: dict[Path, int]) -> int:
    """How many record files are new."""
    return sum(
        before.get(path) != path.stat().st_mtime_ns for path in folder.rglob("patches-*.tfrecord")
    )


def mtimes(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("patches-*.tfrecord")}


def test_missing_and_repaired_files_are_found_by_later_runs(
    features: Path, corpus: Corpus, tmp_path: Path
) -> None:
    media = tmp_path / "media"
    shutil.copytree(corpus.manifest.parent, media)
    late = media / "clip-03.mp3"
    content = late.read_bytes()
    late.unlink()
    dataset, output = tmp_path / "dataset", tmp_path / "features"
    prepare(media / "manifest.csv", dataset)
    assert extract(dataset, output).rejects == {"corrupt": 1, "not_found": 2}

    late.write_bytes(content)
    before = mtimes(output)
    document = extract(dataset, output)

    assert document.rejects == {"corrupt": 1, "not_found": 1}
    assert decoded(output, before) == 1  # the shard of the file that came
    assert digests_of_records(output) == digests_of_records(features)

    shutil.copy(media / "clip-00.mp4", media / "broken.mp4")
    assert extract(dataset, output).rejects["corrupt"] == 1  # a corrupt file stays corrupt
    document = extract(dataset, output, "--only-rejects")

    assert document.rejects == {"not_found": 1}
    extract(dataset, tmp_path / "fresh")
    assert digests(output) == digests(tmp_path / "fresh")


def digests_of_records(folder: Path) -> dict[str, str]:
    return {name: value for name, value in digests(folder).items() if name.endswith("tfrecord")}


def test_corpus_that_grows_decodes_only_what_is_new(
    features: Path, corpus: Corpus, tmp_path: Path
) -> None:
    header, *rows = [line.split(",") for line in corpus.manifest.read_text().splitlines()]
    media, manifest = corpus.manifest.parent, tmp_path / "growing.csv"
    lines = [",".join([name, str(media / uri), *more]) for name, uri, *more in rows]
    dataset, output = tmp_path / "dataset", tmp_path / "features"
    # Without one of its videos, a label comes later in the vocabulary.
    fewer = [line for line in lines if "clip-07" not in line]
    manifest.write_text("\n".join([",".join(header), *fewer]))
    prepare(manifest, dataset)
    extract(dataset, output)
    # From now on only the new file can be decoded: the others are elsewhere.
    moved = tmp_path / "moved"
    moved.mkdir()
    manifest.write_text("\n".join([",".join(header), *lines]))
    prepare(manifest, dataset)
    for path in media.glob("clip-*"):
        if "clip-07" not in path.name:
            shutil.move(path, moved)

    try:
        document = extract(dataset, output)
    finally:
        for path in moved.iterdir():
            shutil.move(path, media)

    assert document.num_written == corpus.num_good
    assert digests(output) == digests(features)


def test_damaged_or_missing_record_files_are_rebuilt(
    features: Path, dataset: Path, tmp_path: Path
) -> None:
    shutil.copytree(features, tmp_path, dirs_exist_ok=True)
    first, second = sorted(tmp_path.rglob("patches-*.tfrecord"), key=lambda p: -p.stat().st_size)[
        :2
    ]
    first.unlink()
    second.write_bytes(second.read_bytes()[:-100])

    extract(dataset, tmp_path)

    assert digests(tmp_path) == digests(features)


def test_other_splits_are_not_lost(features: Path, dataset: Path, tmp_path: Path) -> None:
    extract(dataset, tmp_path, "--splits=train,validation")

    with pytest.raises(InputError, match="also has train, validation"):
        extract(dataset, tmp_path, "--splits=evaluation")
    extract(dataset, tmp_path)

    assert digests(tmp_path) == digests(features)


def test_a_changed_front_end_is_refused_and_a_changed_seed_named(
    features: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(features, tmp_path, dirs_exist_ok=True)

    with pytest.raises(InputError, match=r"front_end_fingerprint was '\w+' and is '\w+' now"):
        extract(dataset, tmp_path, "--patch-dtype=float16")
    extract(dataset, tmp_path, "--seed=5")

    assert "seed was 0 and is 5 now" in capsys.readouterr().err


def test_shards_of_two_decoders_are_kept_and_named(
    features: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    installed = DecoderVersion(pyav=av.__version__, ffmpeg=av.ffmpeg_version_info)
    assert folders.read_document(str(features), Features).decoders == (installed,)
    shutil.copytree(features, tmp_path, dirs_exist_ok=True)
    # What a job of an older version leaves that is killed before its last shard.
    (tmp_path / "features.json").unlink()
    last, *others = sorted(tmp_path.rglob("patches-*.json"), key=lambda path: path.stat().st_size)
    last.unlink()
    older = DecoderVersion(pyav="17.0.0", ffmpeg="8.0")
    for path in others:
        text = path.read_text()
        for now, before in zip(
            dataclasses.astuple(installed), dataclasses.astuple(older), strict=True
        ):
            text = text.replace(f'"{now}"', f'"{before}"')
        path.write_text(text)
    kept = {path: path.stat().st_mtime_ns for path in others}

    document = extract(dataset, tmp_path)

    assert f"note: decoded by {older} and {installed}" in capsys.readouterr().err
    assert document.decoders == (older, installed)
    assert document.fingerprint == folders.read_document(str(features), Features).fingerprint
    assert {path: path.stat().st_mtime_ns for path in others} == kept
    assert extract(dataset, tmp_path).decoders == (older, installed)
    assert f"note: decoded by {older} and {installed}" in capsys.readouterr().err

    audit_features.main(["--features", str(tmp_path)])
    printed = " ".join(capsys.readouterr().out.split())
    assert f"note: decoded by {older} and {installed}" in printed
    assert folders.read_document(str(tmp_path), Audit).decoders == (older, installed)


def test_decoder_of_older_shards_counts_as_another(
    features: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (installed,) = folders.read_document(str(features), Features).decoders
    shutil.copytree(features, tmp_path, dirs_exist_ok=True)
    for path in tmp_path.rglob("patches-*.json"):
        document = json.loads(path.read_text())
        del document["decoders"]
        path.write_text(json.dumps(document))

    assert extract(dataset, tmp_path).decoders == (UNKNOWN_DECODER,)
    assert "decoded by" not in capsys.readouterr().err

    (path, *_) = (p for p in tmp_path.rglob("patches-*.json") if p.read_text().count('"ok"') > 1)
    document = json.loads(path.read_text())
    document["plan"] = document["videos"][0]["source"] = "of other labels, and of another file"
    path.write_text(json.dumps(document))

    assert extract(dataset, tmp_path).decoders == (installed, UNKNOWN_DECODER)
    assert f"decoded by {installed} and {UNKNOWN_DECODER}" in capsys.readouterr().err


def test_truncated_soundtrack_is_kept_in_part_when_asked_for(tmp_path: Path) -> None:
    seconds = np.arange(16_000 * 10) / 16_000
    samples = (0.3 * np.sin(2 * np.pi * 440 * seconds)).astype(np.float32)
    whole = tmp_path / "whole.wav"
    soundfile.write(whole, samples, 16_000, subtype="FLOAT")
    (tmp_path / "cut.wav").write_bytes(whole.read_bytes()[: 16_000 * 4 * 5])
    (tmp_path / "m.csv").write_text(
        "id,uri,labels,split\nwhole,whole.wav,x,evaluation\ncut,cut.wav,x,evaluation\n"
    )
    dataset = tmp_path / "dataset"
    prepare(tmp_path / "m.csv", dataset)

    rejected = extract(dataset, tmp_path / "without")
    kept = extract(dataset, tmp_path / "with", "--keep-partial")

    assert rejected.rejects == {"truncated": 1}
    assert kept.rejects == {}
    assert outcomes(tmp_path / "with") == {"cut": "ok_partial", "whole": "ok"}
    by_video: dict[str, list[bytes]] = {}
    for one in read_records(tmp_path / "with", "evaluation"):
        by_video.setdefault(one.video_id, []).append(one.patch)
    assert len(by_video["cut"]) >= 3
    assert by_video["cut"] == by_video["whole"][: len(by_video["cut"])]


def test_too_many_rejects_have_an_exit_code_of_their_own(
    features: Path, dataset: Path, tmp_path: Path
) -> None:
    shutil.copytree(features, tmp_path, dirs_exist_ok=True)
    with pytest.raises(TooManyRejectsError, match="2 of 16 videos are rejected") as error:
        extract(dataset, tmp_path, "--max-reject-fraction=0.1")

    assert error.value.exit_code == 3
    assert "--only-rejects" in str(error.value)
    assert not (tmp_path / folders.FEATURES).exists()
    assert extract(dataset, tmp_path, "--max-reject-fraction=0.2").num_rejects == 2


def test_sparse_extraction_draws_patches_of_the_dense_one(features: Path, sparse: Path) -> None:
    document = folders.read_document(str(sparse), Features)

    assert document.sampled_splits == ("train",)
    whole = folders.read_document(str(features), Features)
    drawn_from = document.splits["train"].num_drawn_from
    assert drawn_from == whole.splits["train"].num_patches
    for split in ("validation", "evaluation"):
        assert document.splits[split].num_drawn_from is None
        assert document.splits[split].fingerprint == whole.splits[split].fingerprint
    assert audit_features.main(["--features", str(sparse)]) == 0
    # Another seed would have drawn other patches.
    settings = Settings(document.front_end, 1, False, 2, ("train",))
    rules = ShardRules(settings, document.vocabulary.num_labels)
    found = [examine_shard(key, str(sparse), rules).damages for key in list_keys(document)]
    assert {one.path.split("/")[0] for damages in found for one in damages} == {"train"}

    storage = document.front_end.storage
    dense = {
        (one.video_id, one.start_seconds): one
        for split in document.splits
        for one in read_records(features, split)
    }
    num_patches: dict[str, int] = {}
    for one in read_records(sparse, "train"):
        num_patches[one.video_id] = num_patches.get(one.video_id, 0) + 1
        same = dense[one.video_id, one.start_seconds]
        sparse_patch, dense_patch = (
            storage.decode(np.frombuffer(record.patch, np.uint8)) for record in (one, same)
        )
        # Half a step of storage more than the precision of timestamps.
        np.testing.assert_allclose(sparse_patch, dense_patch, atol=storage.step * 1.01)
        assert one.labels == same.labels
    assert set(num_patches.values()) == {2}
    assert set(num_patches) == {one.video_id for one in read_records(features, "train")}


def test_sparse_extraction_resumes_to_the_same_bytes(
    sparse: Path, dataset: Path, tmp_path: Path
) -> None:
    shutil.copytree(sparse, tmp_path, dirs_exist_ok=True)
    done = sorted(tmp_path.rglob("patches-*.json"))
    for path in done[::2]:  # one with its records, as before any work
        path.unlink()
    done[0].with_suffix(".tfrecord").unlink()

    extract(dataset, tmp_path, "--patches-per-video=2")

    assert digests(tmp_path) == digests(sparse)
    with pytest.raises(InputError, match="patches_per_video was 2 and is None now"):
        extract(dataset, tmp_path)
    with pytest.raises(InputError, match="--patches-per-video: received 0"):
        extract(dataset, tmp_path / "c", "--patches-per-video=0")
    with pytest.raises(InputError, match="--sampled-splits: give --patches-per-video too"):
        extract(dataset, tmp_path / "c", "--sampled-splits=train")
    with pytest.raises(InputError, match="--sampled-splits: received 'test'"):
        extract(dataset, tmp_path / "c", "--patches-per-video=2", "--sampled-splits=test")


def test_more_patches_than_any_soundtrack_has_are_noted(
    features: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract(dataset, tmp_path, "--patches-per-video=1000", "--sampled-splits=train,evaluation")

    printed = capsys.readouterr().err
    assert "no soundtrack of train has more than --patches-per-video 1000 patches" in printed
    assert "no soundtrack of evaluation has more" in printed
    assert "no soundtrack of validation" not in printed
    records = [path for path in digests(features) if path.endswith(".tfrecord")]
    assert [digests(tmp_path)[path] for path in records] == [
        digests(features)[path] for path in records
    ]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
        pytest.skip("only a superuser can mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_named_and_work_resumes_when_there_is_room(
    features: Path, dataset: Path, small_disk: Path
) -> None:
    with pytest.raises(JobFailedError, match=r"No space left on device.*resumes where it stopped"):
        extract(dataset, small_disk / "out")
    written = mtimes(small_disk / "out")
    # The disk may have been full when the sidecar of the last one was written.
    done = {path: at for path, at in written.items() if path.with_suffix(".json").exists()}
    assert list(small_disk.rglob(".partial-*")) == []

    subprocess.run(["mount", "-o", "remount,size=10m", str(small_disk)], check=True)
    extract(dataset, small_disk / "out")

    assert done
    assert done.items() <= mtimes(small_disk / "out").items()
    assert digests(small_disk / "out") == digests(features)


def test_subsets_are_folders_that_can_be_extracted_alone(
    corpus: Corpus, dataset: Path, features: Path, tmp_path: Path
) -> None:
    subsets = ["--subsets", "2,0.5", "--balanced-sets", "1,3", "--examples-per-class", "1"]
    data, some = tmp_path / "dataset", tmp_path / "some"
    prepare_dataset.main([*corpus.flags, "--output", str(data), *subsets])
    planned = folders.read_document(str(data), Dataset)

    extract(data, some, "--subset", "train=2", "evaluation=1")
    first = digests(some)
    document = folders.read_document(str(some), Features)
    assert document.subsets == {
        "train": {"2": ("2",)},
        "validation": {},
        "evaluation": {"1": ("1",)},
    }
    assert set(document.splits["train"].num_shards) == {"2"}
    assert {path.split("/")[1] for path in first if path.startswith("train/")} == {"2"}
    assert document.splits["train"].num_videos == 2
    with pytest.raises(InputError, match=r"--subset: received 'train=7'.*train=0.5 train=2"):
        extract(data, some, "--subset", "train=7")

    # The rest comes to what is there; what is there already would not be given up.
    document = extract(data, some)
    assert document.subsets == planned.subsets
    assert first.items() <= digests(some).items()
    assert {
        (one.video_id, one.start_seconds, one.patch) for one in read_records(some, "train")
    } == {(one.video_id, one.start_seconds, one.patch) for one in read_records(features, "train")}
    for counts in document.splits.values():
        for field in ("num_videos", "num_patches", "num_bytes"):
            of_groups = [getattr(group, field) for group in counts.groups.values()]
            assert getattr(counts, field) == sum(of_groups)
    with pytest.raises(InputError, match=r"--subset: .* also has 0\.5, rest of train"):
        extract(data, some, "--subset", "train=2")
