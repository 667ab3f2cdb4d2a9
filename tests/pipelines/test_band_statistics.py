"""The statistics of the bands against NumPy, the graph against their formula."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from features.contracts import folders, record, tfrecord
from features.contracts.documents import BandStatistics, Features
from features.errors import InputError
from pipelines import band_statistics
from pipelines.extraction import bands


@pytest.fixture(scope="module")
def features(features: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, for the statistics and their graph."""
    return Path(shutil.copytree(features, tmp_path_factory.mktemp("bands") / "features"))


def test_statistics_and_graph(features: Path) -> None:
    import tensorflow_transform as tft

    assert band_statistics.main(["--features", str(features), "--patches=10000"]) == 0

    document = folders.read_document(str(features), Features)
    front_end = document.front_end
    stored = []
    for path in sorted(features.glob("train/*/*.tfrecord")):
        with path.open("rb") as file:
            stored += [record.decode(one).patch for one in tfrecord.read_records(file, str(path))]
    patches = front_end.storage.decode(np.frombuffer(b"".join(stored), np.uint8))
    patches = patches.reshape(-1, *front_end.log_mel.patch_shape)
    wide = patches.astype(np.float64)
    statistics = folders.read_document(str(features), BandStatistics)
    assert statistics.num_patches == len(patches) == document.splits["train"].num_patches
    assert statistics.features_fingerprint == document.splits["train"].fingerprint
    mean, deviation = statistics.mean, statistics.standard_deviation
    np.testing.assert_allclose(mean, wide.mean(axis=(0, 1)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(deviation, wide.std(axis=(0, 1)), rtol=1e-5)

    transform = tft.TFTransformOutput(str(features / "transform"))
    normalised = transform.transform_raw_features({bands.LOG_MEL: patches[:7]})[bands.LOG_MEL]
    expected = (patches[:7] - np.float32(mean)) / np.float32(deviation)
    np.testing.assert_array_equal(normalised.numpy(), expected)
    layer = transform.transform_features_layer()
    np.testing.assert_array_equal(layer({bands.LOG_MEL: patches[:7]})[bands.LOG_MEL], expected)


def test_a_sample_is_some_patches_of_every_shard(
    features: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = ["--verbose", "--log-format=json"]
    band_statistics.main(["--features", str(features), "--patches=4", *log])

    num_shards = len(list(features.glob("train/*/*.tfrecord")))
    statistics = folders.read_document(str(features), BandStatistics)
    assert statistics.num_patches <= 4 + num_shards
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert sum(json.loads(line)["patches"] for line in lines) == statistics.num_patches


def test_features_without_training_patches_are_refused(features: Path, tmp_path: Path) -> None:
    document = folders.read_document(str(features), Features)
    folders.write_document(str(tmp_path), dataclasses.replace(document, splits={}))

    with pytest.raises(InputError, match="split train has no patches"):
        band_statistics.main(["--features", str(tmp_path)])
