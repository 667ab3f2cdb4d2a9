"""All jobs with their data under gs://, throttled again and again: what they write is the same.

Each client speaks for itself to an emulated bucket: our own, Beam's (for tensorflow-transform) and
TensorFlow's.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evaluation import evaluate, score_videos
from features.contracts import folders
from features.contracts.documents import Features, Metrics, Scores
from pipelines import extract_features, prepare_dataset
from tests import emulator
from tests.conftest import Corpus
from training import train

ROOT = f"gs://{emulator.BUCKET}"
# No multiple of what a job does for every shard, so that all kinds of requests are hit.
FAULT_EVERY = 23


@pytest.fixture(scope="module")
def bucket(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Iterator[emulator.Emulator]:
    """A bucket with the corpus and all that the jobs made of it."""
    with emulator.start(tmp_path_factory.mktemp("emulator")) as served:
        for file in corpus.manifest.parent.iterdir():
            served.put(f"corpus/{file.name}", file.read_bytes())
        # Without faults: tensorflow-transform deletes folders through TensorFlow, which gives up on
        # some of them, so that the job fails and has to be run again.
        prepare(f"{ROOT}/corpus/manifest.csv", ROOT)
        served.set_faults(FAULT_EVERY)
        small = ["--batch-size=16", "--set=width=0.05", "--steps=5"]
        extract(ROOT)
        flags = ["--features", f"{ROOT}/features", "--output", f"{ROOT}/run"]
        assert train.main(["fully_connected", *flags, *small]) == 0
        score_and_evaluate(ROOT)
        served.set_faults(0)
        yield served


@pytest.fixture(scope="module")
def local(
    bucket: emulator.Emulator, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same on local disk, with the network of the bucket."""
    root = tmp_path_factory.mktemp("local")
    prepare(str(corpus.manifest), str(root))
    extract(str(root))
    for name, content in bucket.objects("run/").items():
        (root / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            (root / "run" / name).write_bytes(content)
    score_and_evaluate(str(root))
    return root


def prepare(manifest: str, root: str) -> None:
    assert prepare_dataset.main(["--manifest", manifest, "--output", f"{root}/dataset"]) == 0


def extract(root: str) -> None:
    flags = ["--dataset", f"{root}/dataset", "--output", f"{root}/features"]
    assert extract_features.main(flags) == 0


def score_and_evaluate(root: str) -> None:
    flags = ["--features", f"{root}/features", "--run", f"{root}/run", "--frame-scores"]
    assert score_videos.main([*flags, "--output", f"{root}/scores"]) == 0
    flags = ["--scores", f"{root}/scores", "--output", f"{root}/report", "--examples=0"]
    assert evaluate.main(flags) == 0


def files(root: Path, suffixes: tuple[str, ...]) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.name.endswith(suffixes)
    }


def test_all_clients_were_throttled(bucket: emulator.Emulator) -> None:
    assert bucket.num_faults() >= 30


@pytest.mark.parametrize(
    ("folder", "suffixes"),
    [
        ("dataset", ("labels.parquet",)),
        ("features", (".tfrecord", "labels.parquet")),
        ("scores", (".parquet",)),
        ("report", ("per_class.parquet", "missing.parquet", "confusion.parquet")),
    ],
)
def test_bytes_are_those_of_local_files(
    bucket: emulator.Emulator, local: Path, folder: str, suffixes: tuple[str, ...]
) -> None:
    expected = files(local / folder, suffixes)
    found = {
        name: content
        for name, content in bucket.objects(f"{folder}/").items()
        if name.endswith(suffixes)
    }
    assert expected
    assert found == expected


def test_accounts_are_those_of_local_files(bucket: emulator.Emulator, local: Path) -> None:
    for folder, kind in (("features", Features), ("scores", Scores), ("report", Metrics)):
        expected = json.loads((local / folder / kind.FILE).read_text())
        found = json.loads(folders.read_document(f"{ROOT}/{folder}", kind).to_json())
        assert without_places(found) == without_places(expected)


def without_places(document: dict[str, Any]) -> dict[str, Any]:
    """A root JSON without what says where folders lie, and when and at what cost they were made."""
    places = {"made_by", "dataset", "dataset_fingerprint", "features", "run", "scores", "work"}
    return {key: value for key, value in document.items() if key not in places}


def test_nothing_is_left_over(bucket: emulator.Emulator) -> None:
    temporary = (".partial-", "_temp-", "probe", "failure.json")
    assert not [name for name in bucket.objects("") if any(mark in name for mark in temporary)]


def test_finished_shards_cost_a_request_each(
    bucket: emulator.Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Listings do not grow with the number of shards, and nothing is asked for its size."""
    shards = bucket.objects("features/")
    sidecars = [name for name in shards if name.endswith(".json") and "/" in name]
    bucket.forget()

    extract(ROOT)

    asked = [request for request in bucket.requests() if "features/" in request.target]
    assert bucket.objects("features/").keys() == shards.keys()
    for sidecar in sidecars:
        assert sum(request.path.endswith(sidecar) for request in asked) == 1
    assert not [request for request in asked if request.is_stat and "/patches-" in request.path]
    listed = [request.query["prefix"][0] for request in asked if request.is_listing]
    assert not [prefix for prefix in listed if "/patches-" in prefix]
    assert len(listed) <= 12
