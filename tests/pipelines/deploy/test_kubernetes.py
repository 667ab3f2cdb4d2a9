"""The Kubernetes manifests against published schemas, and against the commands that they run."""

import copy
import gzip
import importlib.util
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.pipelines.deploy.commands import WORKER_POOL, parse_command
from training.distributed.cluster import VARIABLE, cluster_of_environment

FOLDER = Path(__file__).parents[3] / "pipelines" / "deploy" / "kubernetes"
KUBERNETES = "1.31"  # and the latest
# As org.apache.flink:flink-kubernetes-operator-api:1.10.0 of Maven Central ships it, in
# META-INF/fabric8; Apache-2.0.
FLINK_CRD = Path(__file__).with_name("flinkdeployments.flink.apache.org-v1.yml.gz")
IMAGE, FLINK_IMAGE = "SOUNDTRACK_IMAGE", "flink:1.19"

MANIFESTS = {
    f"{path.stem}/{document['kind']}/{document['metadata']['name']}": document
    for path in sorted(FOLDER.glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
}
SESSION = MANIFESTS["flink-session/FlinkDeployment/soundtrack-flink"]
SUBMISSION = MANIFESTS["flink-session/Job/soundtrack-extraction-on-flink"]


def strict(schema: Any) -> Any:
    """A CRD's schema in which an unknown field is an error, as it is to `kubectl apply`."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: strict(part) for name, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        closed.setdefault("additionalProperties", False)
    return closed


@pytest.fixture(scope="module")
def flink_deployment() -> jsonschema.Draft202012Validator:
    crd = yaml.load(gzip.decompress(FLINK_CRD.read_bytes()), yaml.CSafeLoader)
    (version,) = crd["spec"]["versions"]
    assert f"{crd['spec']['group']}/{version['name']}" == SESSION["apiVersion"]
    properties = version["schema"]["openAPIV3Schema"]["properties"]
    standard = {name: {"type": "string"} for name in ("apiVersion", "kind")}
    schema = {
        "type": "object",
        "properties": {**standard, "metadata": {"type": "object"}, **properties},
    }
    return jsonschema.Draft202012Validator(strict(schema))


@pytest.fixture
def check(flink_deployment: jsonschema.Draft202012Validator) -> Callable[[dict[str, Any]], None]:
    def check_one(document: dict[str, Any]) -> None:
        if document["kind"] == "FlinkDeployment":
            flink_deployment.validate(document)
        else:
            for version in (KUBERNETES, kubernetes_validate.latest_version()):
                kubernetes_validate.validate(document, version, strict=True)

    return check_one


@pytest.mark.parametrize("name", MANIFESTS)
def test_fits_the_published_schema(name: str, check: Callable[[dict[str, Any]], None]) -> None:
    check(MANIFESTS[name])


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("extraction-cronjob/CronJob/soundtrack-extraction", "spec.concurencyPolicy", "Forbid"),
        ("flink-session/Job/soundtrack-extraction-on-flink", "spec.backoffLimit", "three"),
        ("training/Job/soundtrack-worker", "spec.template.spec.containers.0.comand", ["python"]),
        ("training/Service/soundtrack-training", "spec.clusterIp", "None"),
        ("flink-session/FlinkDeployment/soundtrack-flink", "spec.taskManger", {}),
        ("flink-session/FlinkDeployment/soundtrack-flink", "spec.flinkVersion", "v1_99"),
        (
            "flink-session/FlinkDeployment/soundtrack-flink",
            "spec.taskManager.podTemplate.spec.containers.1.readynessProbe",
            {},
        ),
        (
            "flink-session/FlinkDeployment/soundtrack-flink",
            "spec.flinkConfiguration.parallelism",
            32,  # must be a string
        ),
    ],
)
def test_a_slip_is_refused(
    name: str, path: str, value: Any, check: Callable[[dict[str, Any]], None]
) -> None:
    document = copy.deepcopy(MANIFESTS[name])
    *parents, last = path.split(".")
    place: Any = document
    for step in parents:
        place = place[int(step) if step.isdigit() else step]
    place[last] = value

    with pytest.raises(jsonschema.ValidationError) as refused:
        check(document)
    assert last in (*refused.value.path, *re.findall(r"\w+", refused.value.message))


def containers(node: Any) -> Iterator[dict[str, Any]]:
    """Every container of a manifest, wherever its pod is."""
    if isinstance(node, list):
        for part in node:
            yield from containers(part)
    elif isinstance(node, dict):
        for name, part in node.items():
            if name in ("containers", "initContainers"):
                yield from part
            yield from containers(part)


OURS = [
    pytest.param(container, id=f"{name}/{container['name']}")
    for name, document in MANIFESTS.items()
    for container in containers(document)
    if "command" in container
]


@pytest.mark.parametrize("container", OURS)
def test_container_runs_a_command_that_its_job_accepts(container: dict[str, Any]) -> None:
    words = [*container["command"], *container["args"]]

    assert container["image"] == IMAGE
    if words[2] == WORKER_POOL:
        assert importlib.util.find_spec(WORKER_POOL)
        return
    args = vars(parse_command(words))
    for flag in ("manifest", "dataset", "features", "output"):
        assert args.get(flag) is None or args[flag].startswith("gs://BUCKET/")


def test_every_container_but_those_of_flink_is_ours() -> None:
    (main,) = (each for each in containers(SESSION) if "command" not in each)
    others = [
        each["name"]
        for document in MANIFESTS.values()
        for each in containers(document)
        if "command" not in each
    ]

    assert others == ["flink-main-container"]
    assert "image" not in main
    assert SESSION["spec"]["image"] == FLINK_IMAGE


def test_submission_fits_the_session() -> None:
    (submission,) = containers(SUBMISSION)
    args = dict(arg.removeprefix("--").partition("=")[::2] for arg in submission["args"])
    (pool,) = (each for each in containers(SESSION["spec"]["taskManager"]) if "command" in each)

    # The operator names the service of a deployment's REST interface so.
    assert args["flink_master"] == f"{SESSION['metadata']['name']}-rest:8081"
    assert args["environment_type"] == "EXTERNAL"
    port = args["environment_config"].removeprefix("localhost:")
    assert pool["args"] == [f"--service_port={port}"]
    assert pool["readinessProbe"]["tcpSocket"]["port"] == int(port)
    # Python processes of a task manager, which share one otherwise.
    slots = SESSION["spec"]["flinkConfiguration"]["taskmanager.numberOfTaskSlots"]
    assert args["sdk_worker_parallelism"] == slots == pool["resources"]["requests"]["cpu"]
    assert f"flink:{args['flink_version']}" == FLINK_IMAGE
    assert SESSION["spec"]["flinkVersion"] == "v" + args["flink_version"].replace(".", "_")


def test_no_exit_code_is_tried_again_in_vain() -> None:
    final = {}
    for name, document in MANIFESTS.items():
        spec = document["spec"].get("jobTemplate", document).get("spec", {})
        for rule in spec.get("podFailurePolicy", {}).get("rules", ()):
            if rule["action"] == "FailJob":
                assert spec["template"]["spec"]["restartPolicy"] == "Never"
                final[name.rsplit("/")[-1]] = rule["onExitCodes"]["values"]

    assert final == {
        "soundtrack-extraction": [2, 3],
        "soundtrack-extraction-on-flink": [2, 3],
        # Where training fails by itself (1), the same command fails again.
        "soundtrack-chief": [1, 2],
        "soundtrack-worker": [1, 2],
        "soundtrack-ps": [1, 2],
        "soundtrack-evaluator": [1, 2],
    }


def test_processes_of_training_find_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    service = MANIFESTS["training/Service/soundtrack-training"]
    (port,) = service["spec"]["ports"]
    jobs = [job for name, job in MANIFESTS.items() if name.startswith("training/Job/")]
    clusters, pods, commands = [], {}, set()
    for job in jobs:
        assert job["spec"]["completionMode"] == "Indexed"
        assert job["spec"]["completions"] == job["spec"]["parallelism"]
        template = job["spec"]["template"]
        assert template["spec"]["subdomain"] == service["metadata"]["name"]
        assert template["metadata"]["labels"] == service["spec"]["selector"]
        (container,) = containers(job)
        commands.add((*container["command"], *container["args"]))
        # A variable is put into another where it stands before it.
        index, config = container["env"]
        assert (index["name"], config["name"]) == ("INDEX", VARIABLE)
        for number in range(job["spec"]["completions"]):
            monkeypatch.setenv(VARIABLE, config["value"].replace("$(INDEX)", str(number)))
            cluster = cluster_of_environment()
            assert cluster is not None
            clusters.append(cluster.addresses)
            host = f"{job['metadata']['name']}-{number}.{template['spec']['subdomain']}"
            if cluster.role != "evaluator":
                assert cluster.address == f"{host}:{port['port']}"
                assert container["ports"] == [{"containerPort": port["port"]}]
            pods.setdefault(cluster.role, []).append(cluster.index)

    assert len(commands) == 1  # all processes are given the same
    assert all(cluster == clusters[0] for cluster in clusters)
    assert pods == {"chief": [0], "worker": [0, 1, 2, 3], "ps": [0, 1], "evaluator": [0]}
    assert {role: len(at) for role, at in clusters[0].items()} == {
        role: len(indices) for role, indices in pods.items() if role != "evaluator"
    }


def test_placeholders_are_the_two_that_the_page_names() -> None:
    text = "".join(path.read_text() for path in sorted(FOLDER.glob("*.yaml")))

    # Words of capitals that are no variable of the environment and no command of a probe.
    assert set(re.findall(r"\b[A-Z_]{5,}\b", text)) == {IMAGE, "BUCKET", "INDEX", VARIABLE} | {
        "EXTERNAL"
    }
