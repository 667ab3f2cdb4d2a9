"""Checks of the runner: that it is the intended one, and that it has what it needs."""

import json
import re
import shutil
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

from pipelines.runtime.finding import Finding, ok, problem, warning

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

_TESTED = ("fnapirunner", "flinkrunner", "dataflowrunner")
_EMBEDDED = ("[auto]", "[local]")
# What Beam's job servers for Flink 1 and 2 need.
_MIN_JAVA = 11
_ANSWER_SECONDS = 10.0
# The Python of the image that pipelines/deploy/dataflow/Dockerfile makes.
IMAGE_PYTHON = (3, 13)


def kind_of(runner: str) -> str:
    """Normalise the name of a runner as Beam does: case and package do not matter."""
    kind = runner.rpartition(".")[2].lower()
    return kind if kind.endswith("runner") else f"{kind}runner"


def runner_named(runner: str) -> Finding:
    """Check that Beam knows the runner and will not choose another in its place."""
    from apache_beam.runners import create_runner

    name = "runner"
    kind = kind_of(runner)
    if kind == "directrunner":
        return problem(
            name,
            f"{runner} tries to download the Prism binary and runs whichever runner it then gets",
            "--runner=FnApiRunner, which is the default here",
        )
    try:
        create_runner(runner)
    except (ValueError, ImportError, AttributeError) as error:
        return problem(name, str(error), "--runner=FnApiRunner, FlinkRunner or DataflowRunner")
    if kind not in _TESTED:
        return warning(
            name,
            f"{runner}: these jobs are not tested on it",
            "--runner=FnApiRunner, FlinkRunner or DataflowRunner",
        )
    return ok(name, runner)


def java(options: "PipelineOptions") -> Finding:
    """Check that Beam finds a Java that is recent enough for its Flink job server."""
    from apache_beam.options.pipeline_options import JobServerOptions

    name = "Java"
    launcher = options.view_as(JobServerOptions).job_server_java_launcher
    command = shutil.which(launcher)
    install = (
        f"install Java {_MIN_JAVA} or later (Debian: apt install openjdk-17-jre-headless) and put "
        "it first in PATH, or give --job_server_java_launcher=/path/to/java; Beam does not look at "
        "JAVA_HOME"
    )
    if command is None:
        return problem(name, f"no `{launcher}` in PATH", install)
    done = subprocess.run(
        [command, "-version"],
        capture_output=True,
        text=True,
        check=False,
        timeout=_ANSWER_SECONDS,
    )
    version = re.search(r'version "(?:1\.)?(\d+)', done.stderr + done.stdout)
    if version is None:
        answer = (done.stderr + done.stdout).strip()[:200]
        return problem(name, f"`{command} -version` answers {answer!r}", install)
    found = f"{command} is Java {version[1]}"
    if int(version[1]) < _MIN_JAVA:
        return problem(name, f"{found}, the job server needs {_MIN_JAVA}", install)
    return ok(name, found)


def flink_cluster(options: "PipelineOptions") -> Finding:
    """Check that a Flink cluster answers, has the given version, and has enough slots."""
    from apache_beam.options.pipeline_options import FlinkRunnerOptions
    from apache_beam.runners.portability.flink_runner import FlinkRunner

    name = "Flink cluster"
    flink = options.view_as(FlinkRunnerOptions)
    if flink.flink_master in _EMBEDDED:
        return warning(
            name,
            f"none: --flink_master is {flink.flink_master}, the job server starts one in itself",
            "--flink_master=HOST:8081 for a real cluster",
        )
    address = FlinkRunner.add_http_scheme(flink.flink_master)
    try:
        with urllib.request.urlopen(f"{address}/overview", timeout=_ANSWER_SECONDS) as answer:
            overview = json.load(answer)
        version, slots = overview["flink-version"], overview["slots-total"]
    except (OSError, ValueError, KeyError) as error:
        return problem(
            name,
            f"{address}/overview is no answer of Flink: {type(error).__name__}: {error}",
            "start the cluster, or give the address of its REST port as --flink_master=HOST:8081",
        )
    found = f"{address}, Flink {version}, {slots} slots"
    if not version.startswith(f"{flink.flink_version}."):
        return problem(
            name,
            f"{found}; --flink_version is {flink.flink_version}",
            f"--flink_version={'.'.join(version.split('.')[:2])}",
        )
    if flink.parallelism > slots:
        return problem(
            name,
            f"{found}; --parallelism is {flink.parallelism}: the job would wait for slots",
            f"--parallelism={slots}, or more task managers",
        )
    return ok(name, found)


def flink_workers(options: "PipelineOptions") -> Finding:
    """Check that the flags say where the Python workers run, and how many."""
    from apache_beam.options.pipeline_options import FlinkRunnerOptions, PortableOptions

    name = "Flink workers"
    environment = options.view_as(PortableOptions).environment_type
    flink = options.view_as(FlinkRunnerOptions)
    embedded = flink.flink_master in _EMBEDDED
    if environment is None and not embedded:
        return problem(
            name,
            "no --environment_type: each task manager would start Beam's own Docker image, which "
            "has none of this code",
            "--environment_type=EXTERNAL --environment_config=localhost:50000, with a worker pool "
            "beside each task manager, or PROCESS",
        )
    if environment == "LOOPBACK" and not embedded:
        return warning(
            name,
            "--environment_type=LOOPBACK runs all Python in the submitting process",
            "EXTERNAL or PROCESS for more than a test",
        )
    if flink.parallelism < 1:
        return warning(
            name,
            "no --parallelism: the default of the cluster counts, 1 if the cluster has none",
            "--parallelism=N, the number of slots to use",
        )
    return ok(name, f"{environment or 'LOOPBACK'}, parallelism {flink.parallelism}")


def dataflow_options(options: "PipelineOptions") -> Finding:
    """Check the options that Dataflow requires, without a request to the cloud."""
    from apache_beam.options.pipeline_options import GoogleCloudOptions
    from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
    from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner

    name = "Dataflow options"
    google = options.view_as(GoogleCloudOptions)
    validator = PipelineOptionsValidator(options, None)
    # Not `validate`, which would create a bucket if none is given.
    # Beam calls an endpoint with a port invalid, but uses it.
    endpoint = validator.ERR_INVALID_ENDPOINT % google.dataflow_endpoint
    wrong = [error for error in validator.validate_cloud_options(google) if error != endpoint]
    wrong += validator.validate_gcs_path(google, "temp_location")
    if google.staging_location is not None:
        wrong += validator.validate_gcs_path(google, "staging_location")
    region = google.region or DataflowRunner().get_default_gcp_region()
    if not region:
        wrong.append("Missing required option: region.")
    if wrong:
        return problem(
            name,
            " ".join(wrong),
            "--project=PROJECT --region=REGION --temp_location=gs://BUCKET/tmp",
        )
    return ok(name, f"project {google.project}, region {region}, {google.temp_location}")


def dataflow_workers(options: "PipelineOptions") -> Finding:
    """Check that the workers will have this code, and one thread for each process."""
    from apache_beam.options.pipeline_options import DebugOptions, SetupOptions, WorkerOptions

    name = "Dataflow workers"
    setup, worker = options.view_as(SetupOptions), options.view_as(WorkerOptions)
    image = worker.sdk_container_image
    if not (image or setup.setup_file or setup.extra_packages):
        return problem(
            name,
            "no --sdk_container_image: workers would have Beam's own image without this code",
            "--sdk_container_image=IMAGE, one with this package and its requirements",
        )
    if options.view_as(DebugOptions).number_of_worker_harness_threads != 1:
        return warning(
            name,
            f"{image or 'staged packages'}; a process would decode in several threads",
            "--number_of_worker_harness_threads=1: one process for each CPU",
        )
    return ok(name, f"{image or 'staged packages'}, one thread a process")


def dataflow_python(options: "PipelineOptions") -> Finding:
    """Check that the image has the Python of this process: Beam pickles its bytecode.

    Of images only that of this repository is known. Beam's own have the Python of this process.
    """
    from apache_beam.options.pipeline_options import WorkerOptions

    name = "Dataflow Python"
    image = options.view_as(WorkerOptions).sdk_container_image
    here, there = (f"{v[0]}.{v[1]}" for v in (sys.version_info, IMAGE_PYTHON))
    if image and here != there:
        return warning(
            name,
            f"this is Python {here}, and pipelines/deploy/dataflow/Dockerfile has {there}: its "
            f"workers refuse what another version submits, after they have started",
            f"submit with Python {there}, unless {image} has {here}",
        )
    return ok(name, here)
