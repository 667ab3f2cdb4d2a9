"""The files for Vertex AI and Workflows against Google's own types, and against our commands."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from google.cloud.aiplatform_v1.types import CustomJobSpec
from google.cloud.dataflow_v1beta3 import LaunchFlexTemplateParameter
from google.cloud.devtools.cloudbuild_v1.types import Build
from google.protobuf import json_format

from tests.pipelines.deploy.commands import parse_command
from training.distributed.cluster import POOLS_VARIABLE, VARIABLE, cluster_of_environment

DEPLOY = Path(__file__).parents[3] / "pipelines" / "deploy"
TRAINING = yaml.safe_load((DEPLOY / "vertex/training.yaml").read_text())
NIGHTLY = yaml.safe_load((DEPLOY / "workflows/nightly.yaml").read_text())
SETTINGS = SimpleNamespace(project="p", region="r", bucket="bucket", image="gcr.io/p/soundtrack:1")


def parse(message: Any, document: dict[str, Any]) -> Any:
    """Parse a document as the service does; an unknown field or a wrong type is an error."""
    return json_format.ParseDict(document, message.pb()())


def test_training_fits_the_published_schema() -> None:
    spec = parse(CustomJobSpec, TRAINING)

    assert [pool.replica_count for pool in spec.worker_pool_specs] == [1, 4, 2, 1]
    with pytest.raises(json_format.ParseError, match="no field named"):
        parse(CustomJobSpec, {**TRAINING, "workerPools": []})


def test_all_processes_of_training_are_one_command() -> None:
    containers = [pool["containerSpec"] for pool in TRAINING["workerPoolSpecs"]]

    assert all(container == containers[0] for container in containers)
    assert containers[0]["imageUri"] == "SOUNDTRACK_IMAGE"
    args = parse_command([*containers[0]["command"], *containers[0]["args"]])
    assert (args.features, args.output) == ("gs://BUCKET/features", "gs://BUCKET/run")


def test_processes_of_training_find_their_roles(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what Vertex AI sets for these pools."""
    counts = [pool["replicaCount"] for pool in TRAINING["workerPoolSpecs"]]
    pools = {
        f"workerpool{place}": [f"host-{place}-{index}:2222" for index in range(count)]
        for place, count in enumerate(counts)
    }
    monkeypatch.delenv(VARIABLE, raising=False)
    found = []
    for pool, hosts in pools.items():
        for index, host in enumerate(hosts):
            task = {"type": pool, "index": index, "trial": ""}
            monkeypatch.setenv(POOLS_VARIABLE, json.dumps({"cluster": pools, "task": task}))
            cluster = cluster_of_environment()
            assert cluster is not None
            assert cluster.role == "evaluator" or cluster.address == host
            found.append((cluster.role, cluster.index))

    expected = zip(("chief", "worker", "ps", "evaluator"), counts, strict=True)
    assert found == [(role, index) for role, count in expected for index in range(count)]


def evaluate(node: Any, names: dict[str, Any]) -> Any:
    """Replace the expressions of a workflow by their values; these ones are Python too."""
    if isinstance(node, dict):
        return {name: evaluate(part, names) for name, part in node.items()}
    if isinstance(node, str) and (found := re.fullmatch(r"\$\{(.*)\}", node)):
        return eval(found[1], {}, names)
    return node


def launches() -> Iterator[dict[str, Any]]:
    """The requests by which the nightly run launches its jobs."""
    (step,) = (step["launch"] for step in NIGHTLY["run_template"]["steps"] if "launch" in step)
    for named in NIGHTLY["main"]["steps"]:
        (call,) = named.values()
        assert call["call"] == "run_template"
        names = evaluate(call["args"], {"settings": SETTINGS})
        assert set(names) == set(NIGHTLY["run_template"]["params"])
        yield evaluate(step["args"]["body"]["launchParameter"], names)


def test_the_nightly_run_launches_our_templates() -> None:
    jobs = []
    for launch in launches():
        parse(LaunchFlexTemplateParameter, launch)
        template = Path(launch["containerSpecGcsPath"].removeprefix("gs://bucket/templates/"))
        document = json.loads((DEPLOY / "dataflow" / template).read_text())
        parameters = {field["name"]: field for field in document["parameters"]}
        given = launch["parameters"]
        assert {name for name in parameters if not parameters[name].get("isOptional")} <= set(given)
        for name, value in given.items():
            assert all(re.fullmatch(regex, value) for regex in parameters[name]["regexes"]), name
        flags = [f"--{name}={value}" for name, value in given.items() if name != "job"]
        args = parse_command(["python", "-m", given["job"], *flags])
        jobs.append((given["job"].split(".")[1], getattr(args, "dataset", None), args.output))

    dataset, features = "gs://bucket/dataset", "gs://bucket/features"
    assert jobs == [("prepare_dataset", None, dataset), ("extract_features", dataset, features)]


def test_the_nightly_run_waits_for_each_job() -> None:
    steps = {
        name: step for named in NIGHTLY["run_template"]["steps"] for name, step in named.items()
    }

    assert list(steps) == ["launch", "pause", "look", "decide"]
    assert steps["decide"]["next"] == "pause"
    ends = {}
    for case in steps["decide"]["switch"]:
        for state in ("DONE", "FAILED", "CANCELLED", "RUNNING", "PENDING"):
            job = SimpleNamespace(currentState=f"JOB_STATE_{state}", id="1")
            if evaluate(case["condition"], {"job": job}):
                ends[state] = next(name for name in case if name != "condition")
    assert ends == {"DONE": "return", "FAILED": "raise", "CANCELLED": "raise"}


def test_the_build_fits_the_published_schema() -> None:
    build = parse(Build, yaml.safe_load((DEPLOY / "dataflow/cloudbuild.yaml").read_text()))

    assert list(build.images) == ["${_IMAGE}"]
