"""Jobs with a network that was not trained here, from media to embeddings and scores."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import tensorflow as tf

from features.contracts import shards
from features.contracts.documents import Features
from features.contracts.folders import read_document
from features.errors import OK, InputError
from pipelines import audit_features, extract_embeddings, prepare_dataset
from tests import networks
from tests.conftest import Corpus

RATE = networks.WINDOWS.sample_rate_hz
HOP = networks.WINDOWS.hop_seconds


@pytest.fixture(scope="module")
def folders(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """dataset, network, embeddings."""
    root = tmp_path_factory.mktemp("any-network")
    prepare_dataset.main(["--manifest", str(corpus.manifest), "--output", f"{root}/dataset"])
    networks.save(root / "network")
    extract(root, root / "embeddings")
    return root


def extract(root: Path, output: Path, *flags: str) -> Features:
    source = ["--from-media", f"{root}/dataset", "--network", f"{root}/network"]
    assert extract_embeddings.main([*source, "--output", str(output), *flags]) == OK
    return read_document(str(output), Features)


def read(folder: Path, units: int = 16) -> dict[str, dict[float, np.ndarray]]:
    """Id -> start in seconds -> embedding."""
    found: dict[str, dict[float, np.ndarray]] = {}
    for path in sorted(folder.glob("*/*/*.tfrecord")):
        for record in shards.read_records(str(path.with_suffix(""))):
            values = np.frombuffer(record.patch, np.float16)
            assert values.shape == (units,)
            found.setdefault(record.video_id, {})[record.start_seconds] = values
    return found


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("patches-*"))
    }


def test_embeddings_are_those_of_the_whole_waveform(folders: Path, corpus: Corpus) -> None:
    document = read_document(f"{folders}/embeddings", Features)
    found = read(folders / "embeddings")
    direct = tf.saved_model.load(f"{folders}/network").signatures["waveform"]

    assert (document.num_written, document.rejects) == (14, {"corrupt": 1, "not_found": 1})
    assert document.network == f"{folders}/network"
    # Lossless media alone: decoders of the others differ in their padding.
    videos = [name for name in found if name.endswith((".wav", ".flac"))]
    assert len(videos) >= 4
    for name in videos:
        samples, rate = soundfile.read(corpus.manifest.parent / name, always_2d=True)
        waveform = soxr.resample(samples.mean(axis=1), rate, RATE, "HQ").astype(np.float32)
        expected = direct(waveform=tf.constant(waveform))["embedding"].numpy()
        assert sorted(found[name]) == [np.float32(i * HOP) for i in range(len(expected))]
        values = np.stack([found[name][start] for start in sorted(found[name])])
        np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-3)


def test_a_second_run_keeps_every_shard_and_workers_give_the_same_bytes(
    folders: Path, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in folders.rglob("embeddings/*/*/patches*")}
    work = extract(folders, folders / "embeddings").work

    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert work == read_document(f"{folders}/embeddings", Features).work
    removed = next(path for path in before if path.suffix == ".json")
    expected = digests(folders / "embeddings")
    removed.unlink()
    extract(folders, folders / "embeddings")
    assert digests(folders / "embeddings") == expected
    extract(folders, tmp_path / "two", "--workers=2")
    assert digests(tmp_path / "two") == expected


def test_drawn_windows_have_the_embeddings_of_all(folders: Path, tmp_path: Path) -> None:
    few = ["--patches-per-video=3", "--sampled-splits=train,validation,evaluation"]
    document = extract(folders, tmp_path / "few", *few)
    every, drawn = read(folders / "embeddings"), read(tmp_path / "few")

    assert document.num_patches == 3 * 14
    for name, patches in drawn.items():
        assert len(patches) == 3
        for start, values in patches.items():
            np.testing.assert_allclose(values, every[name][start], rtol=2e-3, atol=1e-3)


def test_the_audit_finds_nothing_and_names_the_command(folders: Path, tmp_path: Path) -> None:
    assert audit_features.main(["--features", f"{folders}/embeddings"]) == OK
    extract(folders, tmp_path / "damaged")
    damaged = next(
        path for path in (tmp_path / "damaged").rglob("*.tfrecord") if path.stat().st_size
    )
    damaged.write_bytes(damaged.read_bytes()[:-9])

    assert audit_features.main(["--features", f"{tmp_path}/damaged", "--repair"]) == OK

    assert digests(tmp_path / "damaged") == digests(folders / "embeddings")


def test_another_network_is_refused(folders: Path, tmp_path: Path) -> None:
    networks.save(tmp_path)
    networks.rewrite_card(tmp_path, signature="windows")
    networks.rewrite_card(
        tmp_path,
        waveform=networks.WaveformInput(
            **{**vars(networks.WINDOWS), "frames_itself": False, "full_scale": 0.5}
        ),
    )
    flags = ["--from-media", f"{folders}/dataset", "--network", str(tmp_path)]
    with pytest.raises(InputError, match="front_end_fingerprint was"):
        extract_embeddings.main([*flags, "--output", f"{folders}/embeddings"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--features=features", "--network=network"], "with --run"),
        (["--from-media=dataset", "--run=run"], "with --network"),
    ],
)
def test_flags_that_do_not_belong_together(flags: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        extract_embeddings.main([*flags, "--output=output"])


def test_a_network_without_embeddings_is_refused(folders: Path, tmp_path: Path) -> None:
    networks.save(tmp_path)
    networks.rewrite_card(tmp_path, outputs=networks.NetworkOutputs(scores="scores"))
    flags = ["--from-media", f"{folders}/dataset", "--network", str(tmp_path)]
    with pytest.raises(InputError, match=r"under outputs\.embedding"):
        extract_embeddings.main([*flags, "--output", f"{tmp_path}/out"])
