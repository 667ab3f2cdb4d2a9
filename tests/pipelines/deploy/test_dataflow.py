"""Files for Dataflow: the Dockerfile, without a build, and the parameters of the templates."""

import importlib
import importlib.metadata
import json
import re
import shlex
import tomllib
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml
from apache_beam.options.pipeline_options import PipelineOptions
from packaging.requirements import Requirement

from features.contracts.documents import RuntimeName
from pipelines.runtime.runners import IMAGE_PYTHON

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "pipelines" / "deploy" / "dataflow"
TEMPLATES = sorted(path for path in DEPLOY.glob("*.json"))
CUDA_LOCK = DEPLOY / "requirements-gpu.lock"
DIGEST = "@sha256:" + "0" * 64
# Parameter -> values that the job would take, and values that it would refuse.
EXAMPLES = {
    "manifest": (["gs://bucket/videos.csv", "gs://my.bucket-1/a b/part-*.parquet"], ["videos.csv"]),
    "dataset": (["gs://bucket/dataset"], ["gs://bucket", "gs://b/x", "s3://bucket/dataset", ""]),
    "output": (["gs://bucket/deep/folder/"], ["/local/folder", "gs://Bucket/folder", "gs:/b/f"]),
    "min_count": (["1", "20"], ["0", "-1", "1.5", "many"]),
    "subsets": (["23000", "23000,700000", "0.1,0.5"], ["", "23000,", "a"]),
    "balanced_sets": (["400,3087,30871"], ["400;3087", "0"]),
    "splits": (["train", "train,evaluation"], ["test", "train, evaluation", "train,"]),
    "subset": (["train=23000", "evaluation=400"], ["23000", "test=1", "train="]),
    "patch_dtype": (["uint8", "float16"], ["float32", "UINT8"]),
    "patches_per_video": (["9"], ["0", "all"]),
    "sampled_splits": (["train", "train,validation"], ["test", "train, validation"]),
    "keep_partial": (["true", "false"], ["yes", "1", ""]),
    "timeout_seconds": (["900", "0.5"], ["15m", "-1"]),
    "max_reject_fraction": (["0", "0.05", "1", "1.0"], ["5%", "2", "1.5", "-0.1"]),
    "split": (["train", "evaluation"], ["test"]),
    "dtype": (["float16"], ["uint8"]),
    "sdk_container_image": (
        [
            "europe-docker.pkg.dev/p/images/soundtrack:1",
            "localhost:5000/a/b",
            f"gcr.io/p/s{DIGEST}",
        ],
        ["soundtrack", "https://gcr.io/p/s", "gcr.io/p/s:", "GCR.io/P/s"],
    ),
    "number_of_worker_harness_threads": (["1"], ["0", "one"]),
    "precision": (["bfloat16"], ["float16"]),
    "network": (["gs://bucket/yamnet"], ["yamnet", "default"]),
    "card": (["yamnet", "gs://bucket/network.json"], ["resnet", "card.json"]),
    "dataflow_service_options": (
        [
            "worker_accelerator=type:nvidia-l4;count:1;install-nvidia-driver",
            "worker_accelerator=type:nvidia-tesla-t4;count:1;install-nvidia-driver:535.1",
        ],
        ["worker_accelerator=type:nvidia-l4;count:2;install-nvidia-driver", "type:nvidia-l4"],
    ),
    "experiments": (["no_use_multiple_sdk_containers"], ["use_runner_v2"]),
}


def parameters(template: Path) -> dict[str, dict[str, Any]]:
    return {field["name"]: field for field in json.loads(template.read_text())["parameters"]}


def job_of(template: Path) -> str:
    (expression,) = parameters(template)["job"]["regexes"]
    return expression.strip("^$").replace("\\", "")


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_parameters_are_flags(template: Path) -> None:
    job = importlib.import_module(job_of(template))
    assert job.__name__.endswith(f".{template.stem}")
    flags = {flag: action for action in job._parser()._actions for flag in action.option_strings}
    of_beam = PipelineOptions().get_all_options()
    found = parameters(template)

    for name, parameter in found.items():
        flag = "--" + name.replace("_", "-")
        assert name == "job" or flag in flags or name in of_beam
        if flag in flags and flags[flag].required:
            assert not parameter.get("isOptional")
    required = {flag for flag, action in flags.items() if action.required}
    assert required <= {"--" + name.replace("_", "-") for name in found}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_parameters_take_what_the_job_takes(template: Path) -> None:
    for name, parameter in parameters(template).items():
        expressions = parameter["regexes"]
        assert parameter["helpText"].endswith(".")
        if template.stem not in ("extract_features", "extract_embeddings") and name == "subset":
            continue  # there the split has its own parameter
        for accepted, values in zip((True, False), EXAMPLES.get(name, ([], [])), strict=True):
            for value in values:
                matches = all(re.fullmatch(expression, value) for expression in expressions)
                assert matches == accepted, (name, value)


def test_every_example_is_of_a_parameter() -> None:
    names = {name for template in TEMPLATES for name in parameters(template)}
    assert len(TEMPLATES) == 5
    assert EXAMPLES.keys() <= names


def instructions() -> list[list[str]]:
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    return [shlex.split(line) for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def test_the_image_copies_what_is_there_and_all_that_is_installed() -> None:
    copied = set()
    for name, *words in instructions():
        if name == "COPY" and not words[0].startswith("--from"):
            assert all((ROOT / source).exists() for source in words[:-1]), words
            copied |= set(words[:-1])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["setuptools"]["packages"]
    assert {name.split(".")[0] for name in packages} <= copied
    assert {"requirements.txt", "pyproject.toml", "LICENSE"} <= copied
    assert str((DEPLOY / "requirements.lock").relative_to(ROOT)) in copied


def pins(lock: Path) -> set[str]:
    return set(re.findall(r"^[a-z0-9].*==[^\n\\]*", lock.read_text(), re.MULTILINE))


def test_the_image_has_the_versions_of_the_lock() -> None:
    versions = {pin.split("==")[0].split("[")[0]: pin for pin in pins(DEPLOY / "requirements.lock")}
    beam = versions["apache-beam"].split("==")[1].strip()
    supported = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    first, *rest = instructions()
    major, minor = IMAGE_PYTHON
    assert first == ["FROM", f"apache/beam_python{major}.{minor}_sdk:{beam}", "AS", "cpu"]
    assert supported.endswith(f"<{major}.{minor + 1}")  # the image has the newest
    assert pins(DEPLOY / "requirements.lock") < pins(ROOT / "requirements.lock")
    installs = [words for words in rest if words[:3] == ["RUN", "pip", "install"]]
    assert "--require-hashes" in installs[0]
    assert {"--no-deps", "--no-build-isolation"} <= set(installs[1])
    assert "setuptools" in versions
    for requirement in (ROOT / "requirements.txt").read_text().splitlines():
        if requirement and not requirement.startswith("#"):
            name = re.split(r"[\[<>=]", requirement)[0]
            assert name in versions, name
    assert set(typing.get_args(RuntimeName)) <= versions.keys()  # networks of every format


def test_the_image_with_cuda_has_what_tensorflow_asks_for() -> None:
    """The extra `and-cuda` of the installed TensorFlow, each with a hash."""
    pinned = {Requirement(pin).name: Requirement(pin) for pin in pins(CUDA_LOCK)}
    asked = [
        requirement
        for requirement in map(Requirement, importlib.metadata.requires("tensorflow") or [])
        if requirement.marker and "and-cuda" in str(requirement.marker)
    ]
    assert {requirement.name for requirement in asked} == pinned.keys()
    assert "nvidia-cudnn-cu12" in pinned
    for requirement in asked:
        (exact,) = pinned[requirement.name].specifier
        assert exact.version in requirement.specifier
    assert CUDA_LOCK.read_text().count("==") == len(pinned)
    blocks = re.split(r"^(?=nvidia)", CUDA_LOCK.read_text(), flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in block for block in blocks)

    stage = instructions()[instructions().index(["FROM", "cpu", "AS", "gpu"]) :]
    lock = str(CUDA_LOCK.relative_to(ROOT))
    assert ["COPY", lock, "./"] in stage
    (install,) = (words for words in stage if words[:3] == ["RUN", "pip", "install"])
    assert {"--require-hashes", CUDA_LOCK.name} <= set(install)
    assert ["ENV", "LD_LIBRARY_PATH=/usr/local/nvidia/lib64"] in stage


def test_the_build_makes_either_image() -> None:
    build = yaml.safe_load((DEPLOY / "cloudbuild.yaml").read_text())
    targets = {words[-1] for words in instructions() if words[0] == "FROM"}
    assert targets == {"cpu", "gpu"}
    assert build["substitutions"] == {"_TARGET": "cpu"}
    assert "--target=${_TARGET}" in build["steps"][0]["args"]


def test_the_launcher_finds_its_program() -> None:
    words = [word for words in instructions() for word in words if words[0] == "ENV"]
    (program,) = (word.split("=")[1] for word in words if word.startswith("FLEX_TEMPLATE_"))
    assert (ROOT / program.removeprefix("/opt/soundtrack/")).is_file()
    build = yaml.safe_load((DEPLOY / "cloudbuild.yaml").read_text())
    assert (ROOT / build["steps"][0]["args"][1].removeprefix("--file=")).is_file()
