"""Embeddings as features, from media to a report, and as a table of media files."""

import hashlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import tensorflow as tf

from evaluation import embed, evaluate, score_videos, search, tag
from evaluation.scoring.shard import read_vectors
from features.contracts import record, tfrecord
from features.contracts.documents import Features, Metrics
from features.contracts.folders import read_document
from features.errors import FAILED, OK, InputError, JobFailedError
from pipelines import (
    audit_features,
    band_statistics,
    extract_embeddings,
    extract_features,
)
from tests.conftest import Corpus
from training import convert, train

SHORT = ["--batch-size=16", "--set=width=0.1", "--learning-rate=1e-3"]


@pytest.fixture(scope="module")
def folders(dataset: Path, features: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """dataset, features, run, its embeddings, embedding_run on them, its scores."""
    root = tmp_path_factory.mktemp("embeddings")
    shutil.copytree(dataset, root / "dataset")
    shutil.copytree(features, root / "features")
    flags = ["--features", f"{root}/features", "--output", f"{root}/run"]
    train.main(["fully_connected", *flags, "--steps=60", *SHORT])
    extract(root, root / "embeddings")
    assert band_statistics.main(["--features", f"{root}/embeddings"]) == OK
    flags = ["--features", f"{root}/embeddings", "--output", f"{root}/embedding_run"]
    train.main(["audio_set_embeddings", *flags, "--steps=60", "--set=normalise=true", *SHORT])
    flags = ["--features", f"{root}/embeddings", "--run", f"{root}/embedding_run"]
    score_videos.main([*flags, "--output", f"{root}/scores", "--frame-scores"])
    return root


def extract(root: Path, output: Path, *flags: str, run: str = "run") -> None:
    arguments = ["--features", f"{root}/features", "--run", f"{root}/{run}", *flags]
    assert extract_embeddings.main([*arguments, "--output", str(output)]) == OK


def read_shards(folder: Path) -> dict[str, list[record.PatchRecord]]:
    shards = {}
    for path in sorted(folder.glob("*/*/*.tfrecord")):
        with path.open("rb") as file:
            records = [record.decode(data) for data in tfrecord.read_records(file, str(path))]
        shards[str(path.relative_to(folder))] = records
    return shards


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("patches-*"))
    }


def test_embeddings_are_what_the_saved_model_gives(folders: Path) -> None:
    features, embeddings = read_shards(folders / "features"), read_shards(folders / "embeddings")
    front_end, own = (
        read_document(f"{folders}/{name}", Features).front_end
        for name in ("features", "embeddings")
    )
    model = tf.saved_model.load(f"{folders}/run/export").signatures["patches"]

    assert own.patch_shape == (96,)  # 0.1 of 1000 units, in eights
    assert own.fingerprint != front_end.fingerprint
    assert features.keys() == embeddings.keys()
    for name, records in features.items():
        places = [(one.video_id, one.start_seconds, one.labels) for one in records]
        assert places == [(one.video_id, one.start_seconds, one.labels) for one in embeddings[name]]
        if not records:
            continue
        stored = np.frombuffer(b"".join(one.patch for one in records), np.uint8)
        patches = front_end.storage.decode(stored.reshape(-1, 96, 64))
        expected = model(patches=tf.constant(patches))["embedding"].numpy()
        values = np.stack([np.frombuffer(one.patch, np.float16) for one in embeddings[name]])
        np.testing.assert_allclose(values, expected, rtol=6e-4, atol=1e-4)
    assert np.any(values)


def test_accounts_are_those_of_the_features(folders: Path) -> None:
    features = read_document(f"{folders}/features", Features)
    embeddings = read_document(f"{folders}/embeddings", Features)

    assert embeddings.num_videos == embeddings.num_written + embeddings.num_rejects
    for field in ("num_videos", "num_patches", "rejects", "vocabulary", "dataset", "subsets"):
        assert getattr(embeddings, field) == getattr(features, field), field
    rejects = [
        [pq.read_table(path).to_pylist() for path in sorted(folders.glob(f"{name}/rejects/*"))]
        for name in ("features", "embeddings")
    ]
    assert rejects[0] == rejects[1]
    assert sum(map(len, rejects[0])) == 2


def test_a_network_on_embeddings_learns_and_is_evaluated(folders: Path, tmp_path: Path) -> None:
    evaluate.main(["--scores", f"{folders}/scores", "--output", str(tmp_path), "--examples=1"])

    document = read_document(str(tmp_path), Metrics)
    assert document.num_videos == 5
    assert document.mean_ap > document.prior_mean_ap + 0.2
    # The pages go back to the features for what is seen, and to the media for what is heard.
    page = next(tmp_path.glob("soundtracks/*.html")).read_text()
    assert "data:audio/webm;base64," in page


def test_scores_are_those_of_the_two_networks_in_a_row(folders: Path) -> None:
    """Features -> embedding -> scores, by the SavedModels, without the folder between."""
    first, second = (
        tf.saved_model.load(f"{folders}/{run}/export") for run in ("run", "embedding_run")
    )
    assert set(first.signatures) == {"serving_default", "patches", "waveform"}
    assert set(second.signatures) == {"serving_default", "patches"}
    features = read_document(f"{folders}/features", Features)
    storage = features.front_end.storage
    of_video: dict[str, list[np.ndarray]] = {}
    for name, records in read_shards(folders / "features").items():
        for one in records if name.startswith("evaluation") else ():
            of_video.setdefault(one.video_id, []).append(np.frombuffer(one.patch, np.uint8))
    compared = 0
    for path in folders.glob("scores/*/*/scores-*.parquet"):
        table = pq.read_table(path)
        for video_id, scores in zip(
            table["video_id"].to_pylist(), read_vectors(table["scores"]), strict=True
        ):
            patches = storage.decode(np.stack(of_video[video_id]).reshape(-1, 96, 64))
            embedding = first.signatures["patches"](patches=tf.constant(patches))["embedding"]
            expected = second.signatures["patches"](patches=embedding)["scores"]
            np.testing.assert_allclose(scores, expected.numpy().mean(axis=0), atol=2e-3)
            compared += 1
    assert compared == 5


def test_a_killed_job_resumes_to_the_same_bytes(folders: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipelines.extract_embeddings", "--output", str(tmp_path)]
    command += ["--features", f"{folders}/features", "--run", f"{folders}/run"]
    process = subprocess.Popen(command, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.rglob("patches-*.json")) and time.monotonic() < deadline:
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("patches-*.json")}
    assert done
    # What a kill between a record file and its sidecar leaves:
    next(iter(done)).unlink()

    extract(folders, tmp_path)

    assert digests(tmp_path) == digests(folders / "embeddings")
    kept = dict(list(done.items())[1:])
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in kept.items())
    again = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("patches-*")}
    extract(folders, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("patches-*")} == again


def test_an_audit_finds_damage_and_mends_it(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folders / "embeddings", tmp_path / "embeddings")
    flags = ["--features", f"{tmp_path}/embeddings"]
    assert audit_features.main(flags) == OK
    path = next(one for one in tmp_path.rglob("*.tfrecord") if one.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    assert audit_features.main([*flags, "--repair"]) == OK

    assert "python -m pipelines.extract_embeddings" in capsys.readouterr().out
    assert digests(tmp_path / "embeddings") == digests(folders / "embeddings")


def test_damaged_features_are_named(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "features", tmp_path / "features")
    shutil.copytree(folders / "run", tmp_path / "run")
    path = next(tmp_path.glob("features/train/all/*.tfrecord"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(JobFailedError, match=rf"{path.name}.* is damaged or cut; delete "):
        extract(tmp_path, tmp_path / "embeddings")
    path.unlink()
    with pytest.raises(JobFailedError, match=f"{path.stem} is incomplete; run the command"):
        extract(tmp_path, tmp_path / "embeddings")
    assert not (tmp_path / "embeddings" / Features.FILE).exists()


def test_what_needs_sound_refuses_a_network_on_embeddings(
    folders: Path, corpus: Corpus, tmp_path: Path
) -> None:
    run = ["--run", f"{folders}/embedding_run"]
    file = str(next(corpus.manifest.parent.glob("clip-*")))
    with pytest.raises(InputError, match=r"takes embeddings of the network \w+, not sound"):
        tag.main([file, *run])
    with pytest.raises(InputError, match="not sound"):
        embed.main([file, *run, "--output", f"{tmp_path}/table.parquet"])
    flags = ["--from-media", f"{folders}/dataset", *run]
    with pytest.raises(InputError, match="not sound"):
        score_videos.main([*flags, "--output", f"{tmp_path}/scores"])
    with pytest.raises(InputError, match="front_end_fingerprint is"):
        extract(folders, tmp_path / "embeddings", run="embedding_run")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_folder_of_something_else_is_left_alone(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is an input of this job"):
        extract(folders, folders / "features")
    shutil.copytree(folders / "features", tmp_path / "features")
    with pytest.raises(InputError, match="holds log-mel patches, or embeddings of another"):
        extract(folders, tmp_path / "features")
    assert digests(tmp_path / "features") == digests(folders / "features")
    data = ["--dataset", f"{folders}/dataset", "--output", f"{folders}/embeddings"]
    with pytest.raises(InputError, match="front_end_fingerprint was"):
        extract_features.main(data)


def test_an_image_network_on_embeddings_is_refused_and_leaves_no_run(
    folders: Path, tmp_path: Path
) -> None:
    flags = ["--features", f"{folders}/embeddings", "--output", str(tmp_path)]
    with pytest.raises(InputError, match=r"alexnet cannot take the patches of .* is \(96,\)"):
        train.main(["alexnet", *flags])
    assert list(tmp_path.iterdir()) == []


def test_a_network_on_embeddings_converts(folders: Path, tmp_path: Path) -> None:
    pytest.importorskip("tf2onnx", reason="the conversion to onnx needs tf2onnx")
    shutil.copytree(folders / "embedding_run", tmp_path / "run")
    assert convert.main([f"{tmp_path}/run", "--format=onnx"]) == 0
    assert [path.name for path in (tmp_path / "run" / "onnx").iterdir()] == ["patches.onnx"]


def read_spectrograms(root: Path, patch_frames: int) -> dict[str, np.ndarray]:
    """Of each video, uint8 [frames, 64]: its patches one after the other."""
    of_video: dict[str, dict[float, np.ndarray]] = {}
    for one in itertools.chain(*read_shards(root / "features").values()):
        patch = np.frombuffer(one.patch, np.uint8).reshape(patch_frames, 64)
        of_video.setdefault(one.video_id, {})[one.start_seconds] = patch
    for own in of_video.values():
        np.testing.assert_allclose(np.diff(sorted(own)), patch_frames / 100, atol=1e-5)
    return {name: np.concatenate([own[at] for at in sorted(own)]) for name, own in of_video.items()}


def test_patches_of_twenty_frames(folders: Path, tmp_path: Path) -> None:
    """The baseline of section 4.4: they are pieces of the same spectrogram."""
    flags = ["--dataset", f"{folders}/dataset", "--patch-frames=20"]
    extract_features.main([*flags, "--output", f"{tmp_path}/features"])

    long, short = read_spectrograms(folders, 96), read_spectrograms(tmp_path, 20)
    assert long.keys() == short.keys()
    for name, frames in short.items():
        assert len(long[name]) - len(frames) < 20  # only the incomplete last patch is gone
        both = min(len(frames), len(long[name]))
        np.testing.assert_array_equal(frames[:both], long[name][:both])
    assert audit_features.main(["--features", f"{tmp_path}/features"]) == OK
    flags = ["--features", f"{tmp_path}/features", "--output", f"{tmp_path}/run", *SHORT]
    assert train.main(["audio_set_log_mel", *flags, "--steps=2"]) == OK
    waveform = tf.saved_model.load(f"{tmp_path}/run/export").signatures["waveform"]
    starts = waveform(waveform=tf.zeros(16_000))["start_seconds"]
    np.testing.assert_allclose(starts, [0, 0.2, 0.4, 0.6], atol=1e-6)
    with pytest.raises(InputError, match="vgg cannot take the patches"):
        train.main(["vgg", *flags[:2], "--output", f"{tmp_path}/vgg"])
    with pytest.raises(InputError, match="--patch-frames: received 0"):
        extract_features.main(
            [f"--dataset={folders}/dataset", f"--output={tmp_path}/x", "--patch-frames=0"]
        )


def test_patches_that_overlap(folders: Path, tmp_path: Path) -> None:
    """All and a sample of them are pieces of the same spectrogram."""
    flags = ["--dataset", f"{folders}/dataset", "--patch-frames=40", "--patch-hop-frames=10"]
    long = read_spectrograms(folders, 96)
    sample = ["--patches-per-video=6", "--sampled-splits=train,validation,evaluation"]
    for name, more, step in (("all", [], 10), ("some", sample, 0)):
        output = tmp_path / name / "features"
        extract_features.main([*flags, *more, "--output", str(output)])
        starts: dict[str, list[int]] = {}
        for one in itertools.chain(*read_shards(output).values()):
            first = round(100 * one.start_seconds)
            starts.setdefault(one.video_id, []).append(first)
            expected = long[one.video_id][first : first + 40].astype(np.int64)
            patch = np.frombuffer(one.patch, np.uint8).reshape(40, 64)
            # A sample is decoded by itself, and may be rounded to the next step.
            np.testing.assert_allclose(patch[: len(expected)], expected, atol=0 if step else 1)
        assert starts.keys() == long.keys()
        for own in starts.values():
            assert set(np.diff(sorted(own))) <= {10} if step else len(own) == 6
        assert audit_features.main(["--features", str(output)]) == OK
    with pytest.raises(InputError, match="--patch-hop-frames: received 41; give 1 to 40"):
        extract_features.main([*flags[:3], "--patch-hop-frames=41", f"--output={tmp_path}/x"])


def test_files_become_a_table_and_a_bad_one_costs_only_itself(
    folders: Path, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = sorted(corpus.manifest.parent.glob("clip-*"))[:3]
    bad = corpus.manifest.parent / "broken.mp4"
    files = [str(path) for path in (good[0], bad, *good[1:])]
    table_file = tmp_path / "new" / "embeddings.parquet"

    assert embed.main([*files, "--run", f"{folders}/run", "--output", str(table_file)]) == FAILED

    shown = capsys.readouterr()
    assert f"error: {bad}: corrupt" in shown.err
    assert "4 files = 3 embedded + 1 rejected" in shown.out
    assert "rejected: 1 corrupt" in shown.out
    table = pq.read_table(table_file)
    assert table.column_names == ["file", "start_seconds", "embedding"]
    assert len(table.schema.metadata[embed.NETWORK]) == 16
    stored = {
        (one.video_id, round(one.start_seconds, 4)): np.frombuffer(one.patch, np.float16)
        for records in read_shards(folders / "embeddings").values()
        for one in records
    }
    names = [Path(file).name for file in table["file"].to_pylist()]
    starts = [round(start, 4) for start in table["start_seconds"].to_pylist()]
    assert {name for name, _ in stored} >= set(names) == {path.name for path in good}
    for name, start, embedding in zip(names, starts, table["embedding"].to_pylist(), strict=True):
        np.testing.assert_allclose(embedding, stored[name, start], rtol=1e-3, atol=1e-5)
    assert len(table) == sum(name in set(names) for name, _ in stored)


def test_a_search_by_the_network_of_a_run(
    folders: Path, corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = next(corpus.manifest.parent.glob("clip-*"))
    assert search.main([str(clip), "--embeddings", f"{folders}/embeddings", "--top=3"]) == OK
    _, nearest, *_ = capsys.readouterr().out.splitlines()
    distance, *_, name = nearest.split()
    assert (distance, name) == ("0.000", clip.name)
    with pytest.raises(InputError, match=r"log-mel patches, .*pipelines\.extract_embeddings"):
        search.main([str(clip), "--embeddings", f"{folders}/features"])


def test_the_examples_of_the_documentation_run(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """On clips in folders by what they sound like."""
    text = (Path(__file__).parents[2] / "docs" / "embeddings.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(examples) == 2
    rng = np.random.default_rng(4)
    time_seconds = np.arange(48_000) / 16_000
    files = []
    for number in range(8):
        noise = 0.02 * rng.standard_normal(48_000)
        tone = 0.3 * np.sin(2 * np.pi * 880 * time_seconds * (1 + 0.01 * number))
        for label, samples in (("hiss", 10 * noise), ("tone", tone + noise)):
            path = tmp_path / "clips" / label / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, samples, 16_000)
            files.append(f"clips/{label}/{number}.wav")
    monkeypatch.chdir(tmp_path)
    assert embed.main([*files, "--run", f"{folders}/run", "--output=embeddings.parquet"]) == OK
    capsys.readouterr()

    exec("\n".join(examples), {})

    *neighbours, same, probed = capsys.readouterr().out.splitlines()
    assert [line.split("/")[1] for line in neighbours] == ["hiss"] * 5
    assert same == "100% of the five nearest are in the same folder"
    assert probed == "100% of the other half"
