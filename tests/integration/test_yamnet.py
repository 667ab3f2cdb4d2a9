"""YAMNet over real clips, against the SavedModel called on what librosa decodes."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from evaluation import evaluate, score_videos
from features.contracts import shards
from features.contracts.documents import Features
from features.contracts.folders import read_document
from features.contracts.labels import read_vocabulary
from features.errors import OK
from pipelines import extract_embeddings, prepare_dataset
from tests import networks

NUM_CLIPS = 8
pytestmark = pytest.mark.skipif(
    not (networks.YAMNETS and networks.SOUNDS),
    reason="no models/yamnet or no data/sounds beside the repository",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """dataset, embeddings, scores, report."""
    root = tmp_path_factory.mktemp("yamnet")
    manifest = networks.sounds_manifest(root, NUM_CLIPS)
    prepare_dataset.main(["--manifest", str(manifest), "--output", f"{root}/dataset"])
    flags = ["--from-media", f"{root}/dataset", *networks.yamnet_flags(root)]
    assert extract_embeddings.main([*flags, "--output", f"{root}/embeddings"]) == OK
    assert score_videos.main([*flags, "--output", f"{root}/scores"]) == OK
    report = ["--scores", f"{root}/scores", "--output", f"{root}/report"]
    assert evaluate.main(report) == OK
    return root


@pytest.mark.filterwarnings("ignore:'(aifc|audioop|sunau)':DeprecationWarning")  # of librosa
def test_embeddings_and_scores_are_those_of_the_saved_model(root: Path) -> None:
    import librosa

    direct = tf.saved_model.load(str(networks.YAMNETS[0].parent)).signatures["waveform"]
    media = dict(
        line.split(",")[:2] for line in (root / "manifest.csv").read_text().splitlines()[1:]
    )
    front_end = read_document(f"{root}/embeddings", Features).front_end
    found: dict[str, dict[float, np.ndarray]] = {}
    for path in (root / "embeddings").glob("*/*/*.tfrecord"):
        for record in shards.read_records(str(path.with_suffix(""))):
            values = np.frombuffer(record.patch, front_end.storage.dtype)
            found.setdefault(record.video_id, {})[record.start_seconds] = values
    tables = [pq.read_table(path) for path in (root / "scores").glob("*/*/scores-*.parquet")]
    scores = {row["video_id"]: row["scores"] for table in tables for row in table.to_pylist()}

    assert found.keys() == media.keys() == scores.keys()
    for name, path in media.items():
        waveform, _ = librosa.load(path, sr=16_000)
        expected = direct(waveform=tf.constant(waveform))
        embeddings = np.stack([found[name][start] for start in sorted(found[name])])
        np.testing.assert_allclose(embeddings, expected["embedding"], atol=1e-3, rtol=1e-3)
        np.testing.assert_allclose(scores[name], np.mean(expected["scores"], axis=0), atol=1e-3)


def test_the_report_names_the_labels(root: Path) -> None:
    names = read_vocabulary(f"{root}/scores").names

    assert len(names) == 521
    page = (root / "report" / "report.html").read_text(encoding="utf-8")
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert data is not None
    table = json.loads(data[1])
    shown = [row[table["columns"].index("name")] for row in table["rows"]]
    assert sorted(shown) == sorted(names)
