"""All jobs with their data under gs:// and s3://, with faults: what they write is the same.

Each client speaks for itself to an emulated bucket: our own, Beam's (for tensorflow-transform) and
TensorFlow's under gs://, and our own under s3://, whose manifest has half of the media on the web.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evaluation import evaluate, score_videos
from features.contracts import folders
from features.contracts.documents import Features, Metrics, Scores
from features.errors import InputError, JobFailedError
from features.storage.web import PRIVATE_HOSTS
from pipelines import extract_features, prepare_dataset
from tests import emulator, s3, web
from tests.conftest import Corpus
from training import train

ROOT, S3 = f"gs://{emulator.BUCKET}", f"s3://{s3.BUCKET}"
# No multiple of what a job does for every shard, so that all kinds of requests are hit.
FAULT_EVERY = 23


@pytest.fixture(scope="module")
def bucket(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Iterator[emulator.Emulator]:
    """A bucket with the corpus and all that the jobs made of it."""
    with emulator.start(tmp_path_factory.mktemp("emulator")) as served:
        for file in corpus.manifest.parent.iterdir():
            served.put(f"corpus/{file.name}", file.read_bytes())
        # Without faults: tensorflow-transform deletes folders through TensorFlow, which gives up on
        # some of them, so that the job fails and has to be run again. A test below prepares known
        # labels, without TensorFlow, through faults.
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


@pytest.fixture(scope="module")
def amazon(
    bucket: emulator.Emulator, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[s3.Emulator]:
    """The same under s3://, with the network of the other bucket; half of the media on a host."""
    with (
        s3.start() as served,
        pytest.MonkeyPatch.context() as patch,
        web.start(patch, str(tmp_path_factory.mktemp("web"))) as host,
    ):
        patch.delenv(PRIVATE_HOSTS)
        for number, file in enumerate(sorted(corpus.manifest.parent.iterdir())):
            if file != corpus.manifest and number % 2:
                host.files[f"/{file.name}"] = file.read_bytes()
            else:
                served.put(f"corpus/{file.name}", file.read_bytes())
        served.put("corpus/manifest.csv", on_the_web(corpus.manifest, host).encode())
        for name, content in bucket.objects("run/").items():
            if not name.endswith("/"):
                served.put(f"run/{name}", content)
        served.set_faults(FAULT_EVERY)
        prepare(f"{S3}/corpus/manifest.csv", S3)
        extract(S3, "--private-hosts")
        score_and_evaluate(S3)
        served.set_faults(0)
        assert served.num_faults() >= 20
        assert {path for path, _ in host.requests} == host.files.keys()
        yield served


def on_the_web(manifest: Path, host: web.Host) -> str:
    """A manifest with URLs of the media that a host has."""
    text = manifest.read_text()
    for path in host.files:
        text = text.replace(f",{path[1:]},", f",{host.url}{path},")
    return text


def prepare(manifest: str, root: str, *more: str) -> None:
    flags = ["--manifest", manifest, "--output", f"{root}/dataset", *more]
    assert prepare_dataset.main(flags) == 0


def extract(root: str, *more: str) -> None:
    flags = ["--dataset", f"{root}/dataset", "--output", f"{root}/features", *more]
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
    bucket: emulator.Emulator,
    amazon: s3.Emulator,
    local: Path,
    folder: str,
    suffixes: tuple[str, ...],
) -> None:
    expected = files(local / folder, suffixes)
    assert expected
    for served in (bucket, amazon):
        assert objects(served, folder, suffixes) == expected


def objects(
    served: emulator.Emulator | s3.Emulator, folder: str, suffixes: tuple[str, ...]
) -> dict[str, bytes]:
    return {
        name: content
        for name, content in served.objects(f"{folder}/").items()
        if name.endswith(suffixes)
    }


def test_known_labels_are_prepared_through_faults(bucket: emulator.Emulator) -> None:
    num_before = bucket.num_faults()
    bucket.set_faults(3)
    try:
        prepare(f"{ROOT}/corpus/manifest.csv", f"{ROOT}/known", "--vocabulary", f"{ROOT}/dataset")
    finally:
        bucket.set_faults(0)
    assert bucket.num_faults() - num_before >= 6
    expected = objects(bucket, "dataset", (".parquet",))
    assert {name.partition("/")[0] for name in expected} >= {"videos", "labels.parquet"}
    assert objects(bucket, "known/dataset", (".parquet",)) == expected


@pytest.mark.parametrize("root", [ROOT, S3])
def test_accounts_are_those_of_local_files(
    bucket: emulator.Emulator, amazon: s3.Emulator, local: Path, root: str
) -> None:
    for folder, kind in (("features", Features), ("scores", Scores), ("report", Metrics)):
        expected = json.loads((local / folder / kind.FILE).read_text())
        found = json.loads(folders.read_document(f"{root}/{folder}", kind).to_json())
        assert without_places(found) == without_places(expected)


def without_places(document: dict[str, Any]) -> dict[str, Any]:
    """A root JSON without what says where folders lie, and when and at what cost they were made."""
    places = {"made_by", "dataset", "dataset_fingerprint", "features", "run", "scores", "work"}
    return {key: value for key, value in document.items() if key not in places}


def test_nothing_is_left_over(bucket: emulator.Emulator, amazon: s3.Emulator) -> None:
    temporary = (".partial-", "_temp-", "probe", "failure.json")
    for served in (bucket, amazon):
        names = served.objects("")
        assert not [name for name in names if any(mark in name for mark in temporary)]
    assert "dataset/transform/transform_fn/saved_model.pb" in amazon.objects("")


def test_training_says_how_to_copy_what_it_cannot_read(amazon: s3.Emulator, local: Path) -> None:
    with pytest.raises(InputError, match=f"`aws s3 sync {S3}/features features`"):
        train.main(["resnet50", "--features", f"{S3}/features", "--output", str(local / "no")])
    flags = ["--features", str(local / "features"), "--output", f"{S3}/trained"]
    with pytest.raises(InputError, match=f"`aws s3 sync trained {S3}/trained`"):
        train.main(["resnet50", *flags])


def test_credentials_that_expire_in_mid_job_cost_nothing_but_a_second_run(
    amazon: s3.Emulator, local: Path
) -> None:
    flags = ["--dataset", f"{S3}/dataset", "--output", f"{S3}/again", "--private-hosts"]
    message = "The provided token has expired."
    amazon.refuse(400, "ExpiredToken", message, pattern="/corpus/", after=12)  # of 17

    with pytest.raises(JobFailedError, match=r"ExpiredToken: .*renew the credentials.*again"):
        extract_features.main(flags)
    amazon.refuse(0)
    assert len(objects(amazon, "again", (".tfrecord",))) > 0
    assert extract_features.main(flags) == 0

    expected = files(local / "features", (".tfrecord",))
    assert objects(amazon, "again", (".tfrecord",)) == expected
    found = folders.read_document(f"{S3}/again", Features)
    assert found.splits == folders.read_document(str(local / "features"), Features).splits


def test_a_folder_that_may_only_be_read(amazon: s3.Emulator) -> None:
    before = amazon.objects("")
    amazon.refuse(403, "AccessDenied", "Access Denied", pattern="^PUT")
    try:
        with pytest.raises(InputError, match=f"{S3}/denied cannot be written.*Denied"):
            extract_features.main(["--dataset", f"{S3}/dataset", "--output", f"{S3}/denied"])
    finally:
        amazon.refuse(0)
    assert amazon.objects("") == before


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
