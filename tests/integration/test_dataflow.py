"""The road to Dataflow on loopback: a command submits, the staged graph runs, its folder is whole.

The service takes a job and runs the graph that was staged in the bucket for it.
"""

import csv
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http import server
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.dataflow import dataflow_runner
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from google.cloud.dataflow_v1beta3 import FlexResourceSchedulingGoal

from evaluation import evaluate
from features.contracts import folders, leases
from features.contracts.documents import Features
from features.errors import InputError, TooManyRejectsError
from features.storage import files
from pipelines import audit_features, extract_features, forget, prepare_dataset
from pipelines.runtime.runners import IMAGE_PYTHON
from tests import emulator
from tests.conftest import Corpus, known_labels

ROOT = f"gs://{emulator.BUCKET}"
IMAGE = "europe-docker.pkg.dev/a-project/images/soundtrack:1"
TEMPLATE = Path(__file__).parents[2] / "pipelines/deploy/dataflow/template.py"


class Dataflow(server.ThreadingHTTPServer):
    """Takes jobs as the service does, and runs them here."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.jobs: list[dict[str, Any]] = []
        self.states: list[str] = []

    @property
    def flags(self) -> list[str]:
        # By its name, which makes Beam's client speak plain HTTP.
        return [
            "--runner=DataflowRunner",
            f"--dataflow_endpoint=http://localhost:{self.server_port}",
        ]

    def create(self, job: dict[str, Any]) -> dict[str, Any]:
        self.jobs.append(job)
        self.states.append("JOB_STATE_RUNNING")
        threading.Thread(target=self._run, args=(len(self.jobs) - 1,), daemon=True).start()
        return self.get(len(self.jobs) - 1)

    def get(self, number: int) -> dict[str, Any]:
        name = self.jobs[number]["name"]
        return {"id": str(number), "name": name, "currentState": self.states[number]}

    def _run(self, number: int) -> None:
        try:
            run_graph(
                self.jobs[number]["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"]
            )
        except Exception:  # noqa: BLE001 - the service says no more than that it failed
            self.states[number] = "JOB_STATE_FAILED"
        else:
            self.states[number] = "JOB_STATE_DONE"


class _Handler(server.BaseHTTPRequestHandler):
    server: Dataflow

    def do_POST(self) -> None:
        self._answer(
            self.server.create(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        )

    def do_GET(self) -> None:
        _, is_job, rest = self.path.partition("?")[0].partition("/jobs/")
        assert is_job
        number, _, more = rest.partition("/")
        self._answer({} if more else self.server.get(int(number)))  # messages and metrics: none

    def _answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


def run_graph(url: str) -> None:
    """Run a graph that a command has staged, in workers of this process."""
    graph = beam_runner_api_pb2.Pipeline.FromString(files.read_bytes(url))
    for environment in graph.components.environments.values():
        # The image has all; Beam only leaves a list of the submitter's packages.
        (listing,) = environment.dependencies
        assert b"submission_environment_dependencies.txt" in listing.role_payload
        environment.ClearField("dependencies")
        assert IMAGE.encode() in environment.payload
        environment.urn, environment.payload = python_urns.EMBEDDED_PYTHON, b""
    FnApiRunner().run_via_runner_api(graph, PipelineOptions()).wait_until_finish()


@pytest.fixture(scope="module")
def bucket(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Iterator[emulator.Emulator]:
    """A bucket with the corpus and its data set."""
    folder = tmp_path_factory.mktemp("emulator")
    with emulator.start(folder) as served:
        for file in corpus.manifest.parent.iterdir():
            served.put(f"corpus/{file.name}", file.read_bytes())
        manifest = corpus.manifest.read_text()
        rows = re.sub(r"^(.+?),(.+?\.)", rf"\1,{ROOT}/corpus/\2", manifest, flags=re.MULTILINE)
        (folder / "manifest.csv").write_text(rows)
        # Prepared on local disk, which is faster; test_bucket goes the whole way.
        flags = ["--manifest", f"{folder}/manifest.csv", known_labels(corpus.manifest)]
        assert prepare_dataset.main([*flags, "--output", f"{folder}/dataset"]) == 0
        for file in (folder / "dataset").rglob("*"):
            if file.is_file():
                name = file.relative_to(folder).as_posix()
                served.put(name, file.read_bytes())
        yield served


@pytest.fixture
def dataflow(bucket: emulator.Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dataflow]:
    # Beam's client asks every 5 s.
    clock = SimpleNamespace(time=time.time, sleep=lambda seconds: time.sleep(seconds / 50))
    monkeypatch.setattr(dataflow_runner, "time", clock)
    with Dataflow() as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield served
        served.shutdown()


def flags(dataflow: Dataflow, *more: str) -> list[str]:
    return [f"--dataset={ROOT}/dataset", *service(dataflow), *more]


def service(dataflow: Dataflow) -> list[str]:
    return [
        *dataflow.flags,
        "--no_auth",
        "--project=a-project",
        "--region=europe-west4",
        f"--temp_location={ROOT}/tmp",
        f"--sdk_container_image={IMAGE}",
        "--machine_type=n2d-highcpu-16",
        "--number_of_worker_harness_threads=1",
        "--flexrs_goal=COST_OPTIMIZED",
        "--max_num_workers=500",
        "--dataflow_service_options=enable_preflight_validation=false",
    ]


def without_leases(bucket: emulator.Emulator) -> dict[str, bytes]:
    """All objects but the leases, which the workers of earlier tests, this process, renew."""
    objects = bucket.objects("")
    return {name: objects[name] for name in objects if not name.endswith(leases.Lease.FILE)}


def records(bucket: emulator.Emulator, folder: str) -> dict[str, bytes]:
    objects = bucket.objects(f"{folder}/")
    return {name: objects[name] for name in objects if name.endswith(".tfrecord")}


@pytest.fixture(scope="module")
def expected(bucket: emulator.Emulator) -> dict[str, bytes]:
    """The shards that the local runner makes."""
    output = ["--output", f"{ROOT}/expected"]
    assert extract_features.main(["--dataset", f"{ROOT}/dataset", *output]) == 0
    return records(bucket, "expected")


def test_a_submitted_job_gives_the_shards_of_a_local_one(
    bucket: emulator.Emulator, dataflow: Dataflow, expected: dict[str, bytes]
) -> None:
    assert extract_features.main(flags(dataflow, f"--output={ROOT}/features")) == 0

    assert dataflow.states == ["JOB_STATE_DONE"]
    assert records(bucket, "features") == expected
    made = folders.read_document(f"{ROOT}/features", Features)
    local = folders.read_document(f"{ROOT}/expected", Features)
    assert made.fingerprint == local.fingerprint
    assert made.rejects == local.rejects == {"corrupt": 1, "not_found": 1}


def test_a_submitted_job_asks_for_what_was_said(
    bucket: emulator.Emulator, dataflow: Dataflow, capsys: pytest.CaptureFixture[str]
) -> None:
    # A folder of its own: the worker of the job, which is this process, renews its lease.
    with pytest.raises(SystemExit) as left:
        extract_features.main(flags(dataflow, f"--output={ROOT}/asked", "--no-wait"))

    assert left.value.code == 0
    printed = capsys.readouterr()
    assert "gcloud dataflow jobs show 0 --project=a-project" in printed.out
    is_the_images = sys.version_info[:2] == IMAGE_PYTHON
    assert ("warning: this is Python 3." in printed.err) != is_the_images
    (job,) = dataflow.jobs
    environment = job["environment"]
    (pool,) = environment["workerPools"]
    assert pool["machineType"] == "n2d-highcpu-16"
    assert [image["containerImage"] for image in pool["sdkHarnessContainerImages"]] == [IMAGE]
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 500
    goal = FlexResourceSchedulingGoal(environment["flexResourceSchedulingGoal"])
    assert goal is FlexResourceSchedulingGoal.FLEXRS_COST_OPTIMIZED
    assert environment["serviceOptions"] == ["enable_preflight_validation=false"]
    options = environment["sdkPipelineOptions"]["options"]
    assert options["number_of_worker_harness_threads"] == 1
    assert options["pipelineUrl"].startswith(f"{ROOT}/tmp/")
    assert len(json.dumps(job)) < 100_000  # Dataflow refuses 10 MB
    wait_for(lambda: dataflow.states == ["JOB_STATE_DONE"])
    assert folders.read_document(f"{ROOT}/asked", Features)


@pytest.mark.parametrize(
    ("job", "output"),
    [
        (prepare_dataset, "prepared"),
        (audit_features, "expected"),
        (evaluate, "report"),
    ],
)
def test_workers_renew_the_lease_when_the_command_has_left(
    job: ModuleType,
    output: str,
    bucket: emulator.Emulator,
    expected: dict[str, bytes],
    dataflow: Dataflow,
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "scores.csv").write_text("id,Low,High\na,0.9,0.1\nb,0.2,0.8\nc,0.5,0.4\n")
    (tmp_path / "labels.csv").write_text("id,labels\na,Low\nb,High\nc,High\n")
    vocabulary = ["--vocabulary", f"{ROOT}/dataset"]  # nothing for TensorFlow to do
    own = {
        prepare_dataset: ["--manifest", str(corpus.manifest), *vocabulary],
        audit_features: ["--features", f"{ROOT}/{output}"],
        evaluate: [f"--scores-file={tmp_path}/scores.csv", f"--labels-file={tmp_path}/labels.csv"],
    }[job]
    if job is not audit_features:
        own += ["--output", f"{ROOT}/{output}"]
    monkeypatch.setattr(leases, "CLUSTER_EXPIRY_SECONDS", 1.0)
    bucket.put("prepared/transform_temp-of-another/deep/file", b"left by a killed job")

    with pytest.raises(SystemExit) as left:
        job.main([*own, *service(dataflow), "--no-wait"])

    assert left.value.code == 0
    wait_for(lambda: dataflow.states == ["JOB_STATE_DONE"])
    if job is prepare_dataset:
        assert not [name for name in bucket.objects("prepared/") if "of-another" in name]
    # The worker is this process, which lives on.
    for _ in range(2):
        before = leases.find_lease(f"{ROOT}/{output}")
        assert before is not None
        wait_for(lambda: leases.find_lease(f"{ROOT}/{output}") != before)  # noqa: B023
    files.delete(f"{ROOT}/{output}/{leases.Lease.FILE}")


def test_a_removal_is_whole_without_its_command(
    bucket: emulator.Emulator,
    expected: dict[str, bytes],
    dataflow: Dataflow,
    corpus: Corpus,
    tmp_path: Path,
) -> None:
    for name, content in bucket.objects("expected/").items():
        bucket.put(f"forgotten/{name}", content)
    with corpus.manifest.open() as file:
        video_id = next(csv.DictReader(file))["id"]
    (tmp_path / "ids.txt").write_text(video_id)
    own = ["--ids", f"{tmp_path}/ids.txt", "--features", f"{ROOT}/forgotten"]

    with pytest.raises(SystemExit) as left:
        forget.main([*own, *service(dataflow), "--no-wait"])

    assert left.value.code == 0
    wait_for(lambda: dataflow.states == ["JOB_STATE_DONE"])
    assert folders.read_document(f"{ROOT}/forgotten", Features).rejects["forgotten"] == 1
    assert "forgetting.json" not in bucket.objects("forgotten/")


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_failed_job_says_why(
    bucket: emulator.Emulator, dataflow: Dataflow, expected: dict[str, bytes]
) -> None:
    more = [f"--output={ROOT}/expected", "--max-reject-fraction=0.01"]
    with pytest.raises(TooManyRejectsError, match="2 of 16 videos are rejected"):
        extract_features.main(flags(dataflow, *more))


def test_the_launcher_of_a_template_leaves_the_graph(
    bucket: emulator.Emulator, expected: dict[str, bytes], dataflow: Dataflow
) -> None:
    parameters = [f"--output={ROOT}/expected", "--only_rejects=true", "--force=false"]
    own = [f"--template_location={ROOT}/staging/template_launches/1/job_object"]
    command = ["--job=pipelines.extract_features", *flags(dataflow, *parameters, *own)]

    subprocess.run([sys.executable, str(TEMPLATE), *command], check=True)

    assert dataflow.jobs == []  # the service creates it
    lease = leases.find_lease(f"{ROOT}/expected")
    assert lease is not None
    assert lease.queue_seconds == 7 * 3600  # FlexRS starts it within 6 hours
    job = json.loads(bucket.objects("staging/template_launches/1/")["job_object"])
    options = job["environment"]["sdkPipelineOptions"]["options"]
    run_graph(options["pipelineUrl"])
    made = folders.read_document(f"{ROOT}/expected", Features)
    assert "--only_rejects=true" in made.made_by.command
    assert records(bucket, "expected") == expected


def test_a_dry_run_starts_nothing(
    bucket: emulator.Emulator, dataflow: Dataflow, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        extract_features.main(flags(dataflow, f"--output={ROOT}/dry", "--dry-run"))

    assert left.value.code == 0
    assert dataflow.jobs == []
    assert bucket.objects("dry/") == {}
    said = capsys.readouterr().out
    assert "--machine_type=n2d-highcpu-16" in said
    assert "dry run: nothing was started" in said


def test_a_dry_run_keeps_what_is_there(
    bucket: emulator.Emulator, expected: dict[str, bytes], corpus: Corpus
) -> None:
    """On the local runner too, where a run would begin with removing."""
    before = without_leases(bucket)
    manifest = f"{ROOT}/corpus/manifest.csv"
    for main, own in (
        (extract_features.main, ["--dataset", f"{ROOT}/dataset", "--output", f"{ROOT}/expected"]),
        (prepare_dataset.main, ["--manifest", manifest, "--output", f"{ROOT}/dataset"]),
    ):
        with pytest.raises(SystemExit) as left:
            main([*own, "--dry-run"])
        assert left.value.code == 0
    assert without_leases(bucket) == before


@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        ("--project", "project"),
        ("--temp_location", "temp_location"),
        ("--sdk_container_image", "give --sdk_container_image=IMAGE"),
    ],
)
def test_what_dataflow_would_refuse_is_refused_first(
    bucket: emulator.Emulator, dataflow: Dataflow, lacking: str, said: str
) -> None:
    given = [flag for flag in flags(dataflow) if not flag.startswith(lacking)]
    with pytest.raises(InputError, match=said):
        extract_features.main([*given, f"--output={ROOT}/refused", "--dry-run"])


def test_only_dataflow_goes_on_without_its_command(bucket: emulator.Emulator) -> None:
    with pytest.raises(InputError, match="--no-wait: FnApiRunner runs in this command"):
        extract_features.main(
            [f"--dataset={ROOT}/dataset", f"--output={ROOT}/refused", "--no-wait"]
        )
