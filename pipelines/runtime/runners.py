"""Whether the runner is the one that was meant, and has what it needs."""

import json
import re
import shutil
import subprocess
import urllib.request
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.runtime.finding import (
    Finding,
    ok,
    problem,
    warning,
)

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

_TESTED = ("fnapirunner", "flinkrunner", "dataflowrunner")
_EMBEDDED = ("[auto]", "[local]")
# Of a job server whose jar is not at hand. Flink 2 needs no more.
_MIN_JAVA = 11
_CLASS_FILE_OF_JAVA_0 = 44
_ANSWER_SECONDS = 10.0


def kind_of(runner: str) -> str:
    """A runner's name as Beam understands it: case and package do not matter."""
    kind = runner.rpartition(".")[2].lower()
    return kind if kind.endswith("runner") else f"{kind}runner"


def runner_named(runner: str) -> Finding:
    """Whether Beam knows the runner and will not choose another in its place."""
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


def job_server_jar(options: "PipelineOptions") -> Finding:
    """Whether the jar that submits to Flink is here and whole, or can be downloaded."""
    name = "job server jar"
    path, url = _jar(options)
    if path.exists():
        try:
            needed = _java_of_jar(path)
        except (zipfile.BadZipFile, KeyError, OSError, ValueError) as error:
            return problem(
                name,
                f"{path} is no whole job server: {type(error).__name__}: {error}",
                f"delete it and download it again: `curl -Lo {path} {url}`",
            )
        return ok(name, f"{path}, for Java {needed} or later")
    if "://" not in url:
        return problem(name, f"{path} does not exist", "give another --flink_job_server_jar")
    by_hand = f"on a machine with internet `curl -LO {url}`, then put it into {path.parent}"
    found = f"not in {path.parent}"
    for place in _sources(url):  # as Beam tries them
        try:
            request = urllib.request.Request(place, method="HEAD")
            with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:
                megabytes = int(answer.headers.get("Content-Length", 0)) // 10**6
        except OSError as error:
            found += f"; {place}: {error}"
        else:
            found = f"not in {path.parent}; the first job downloads {megabytes} MB from {place}"
            return warning(name, found, by_hand)
    return problem(name, found, by_hand)


def _sources(url: str) -> list[str]:
    """A jar's address and, for one of Maven Central, that of its mirror."""
    from apache_beam.utils.subprocess_server import JavaJarServer

    central, mirror = JavaJarServer.MAVEN_CENTRAL_REPOSITORY, JavaJarServer.GOOGLE_MAVEN_MIRROR
    return [url, url.replace(central, mirror)] if url.startswith(central) else [url]


def _jar(options: "PipelineOptions") -> tuple[Path, str]:
    """Where the job server's jar is, or would be after a download, and where it comes from."""
    from apache_beam.options.pipeline_options import JobServerOptions
    from apache_beam.runners.portability.flink_runner import FlinkJarJobServer
    from apache_beam.utils.subprocess_server import JavaJarServer

    source = FlinkJarJobServer(options).path_to_jar()
    if "://" not in source:
        return Path(source), source
    cache = options.view_as(JobServerOptions).jar_cache_dir or JavaJarServer.JAR_CACHE
    return Path(cache, source.rpartition("/")[2]), source


def _java_of_jar(path: Path) -> int:
    """The Java version that a jar's main class was compiled for.

    Raises:
      zipfile.BadZipFile, KeyError, ValueError: this is no jar with a main class.
    """
    with zipfile.ZipFile(path) as jar:
        manifest = jar.read("META-INF/MANIFEST.MF").decode()
        main = re.search(r"^Main-Class: (\S+)", manifest, re.MULTILINE)
        if main is None:
            raise ValueError("its manifest names no main class")
        header = jar.read(main[1].replace(".", "/") + ".class")[:8]
    return int.from_bytes(header[6:8], "big") - _CLASS_FILE_OF_JAVA_0


def java(options: "PipelineOptions") -> Finding:
    """Whether the Java that Beam would start the job server with is there and recent enough."""
    from apache_beam.options.pipeline_options import JobServerOptions

    name = "Java"
    launcher = options.view_as(JobServerOptions).job_server_java_launcher
    command = shutil.which(launcher)
    path, _ = _jar(options)
    try:
        needed = _java_of_jar(path)
    except (zipfile.BadZipFile, KeyError, OSError, ValueError):  # the jar's own check says so
        needed = _MIN_JAVA
    install = (
        f"install Java {needed} or later (Debian: apt install openjdk-17-jre-headless) and put "
        "it first in PATH, or give --job_server_java_launcher=/path/to/java; JAVA_HOME does not "
        "count"
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
    if int(version[1]) < needed:
        return problem(name, f"{found}, the job server needs {needed}", install)
    return ok(name, found)


def flink_cluster(options: "PipelineOptions") -> Finding:
    """Whether a Flink cluster answers, is of the version given, and has slots enough."""
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
            f"{address}/overview gives no answer of Flink: {type(error).__name__}: {error}",
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
    """Whether the job says where Python runs and how often."""
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
            "no --parallelism: it is the cluster's default, 1 where that is not set",
            "--parallelism=N, the number of slots to use",
        )
    return ok(name, f"{environment or 'LOOPBACK'}, parallelism {flink.parallelism}")


def dataflow_options(options: "PipelineOptions") -> Finding:
    """Whether what Dataflow requires is given; nothing is asked of the cloud."""
    from apache_beam.options.pipeline_options import GoogleCloudOptions
    from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
    from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner

    name = "Dataflow options"
    google = options.view_as(GoogleCloudOptions)
    validator = PipelineOptionsValidator(options, None)
    # Not `validate`, which would create a bucket where none is given.
    # Beam calls an endpoint with a port invalid, and uses it all the same.
    endpoint = validator.ERR_INVALID_ENDPOINT % google.dataflow_endpoint
    wrong = [one for one in validator.validate_cloud_options(google) if one != endpoint]
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
    """Whether the workers will have this code, and one thread a process for decoding."""
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
