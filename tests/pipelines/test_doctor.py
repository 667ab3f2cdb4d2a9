"""Environments that are really broken, in one way each: the doctor names the fault and the cure."""

import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from apache_beam.internal.gcp import auth
from apache_beam.options.pipeline_options import PipelineOptions
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from pipelines import doctor
from pipelines.checks import installation, stores
from pipelines.corpus.encoding import MediaFormat
from pipelines.runtime import machine, runners
from pipelines.runtime.finding import Finding, Level, examine, ok
from tests.conftest import closed_folder

ROOT = Path(__file__).parents[2]


def diagnose(
    *flags: str, code: int, environment: dict[str, str] | None = None
) -> dict[str, dict[str, str]]:
    """The findings of the command in a process of its own, by check; all but "ok"."""
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.doctor", "--json", *flags],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    findings = json.loads(done.stdout)["findings"]
    return {finding["check"]: finding for finding in findings if finding["level"] != "ok"}


def assert_problem(finding: Finding, found: str, cure: str) -> None:
    assert finding.level is Level.PROBLEM
    assert found in finding.found
    assert cure in finding.cure


def flink(*flags: str) -> PipelineOptions:
    return PipelineOptions(["--runner=FlinkRunner", "--flink_version=1.20", *flags])


def test_nothing_is_wrong_here_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = doctor.main(["--output", str(tmp_path / "new/folder")])

    text = capsys.readouterr().out
    assert code == 0, text
    assert "0 problem" in text
    decoded = "mp4/aac, webm/libopus, ogg/vorbis, mp3/libmp3lame, flac/flac, wav/pcm_s16le, m4a/aac"
    assert f"decoded: {decoded}" in " ".join(text.split())
    assert list(tmp_path.iterdir()) == []
    checks = [line.split(":")[0].split()[1:] for line in text.splitlines() if line[0] != " "]
    assert ["checksums"] in checks
    assert ["memory"] in checks
    assert ["GPU"] in checks
    assert max(map(len, text.replace(str(tmp_path), "").splitlines())) <= 80


@pytest.fixture
def quick_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pip check` finds no conflict, and at once, where the versions are not the question."""
    (tmp_path / "pip.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.usefixtures("quick_pip")
def test_unknown_flags_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        doctor.main(["--ouput", "x"])

    assert exit_.value.code == 2
    assert "--ouput" in capsys.readouterr().err


@contextmanager
def serve(answers: dict[str, bytes]) -> Iterator[str]:
    """An HTTP server with these answers; yields its host and port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = answers.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body or b"")

        do_HEAD = do_POST = do_GET  # noqa: N815 - the names that http.server calls

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


# The installation


def add_distribution(folder: Path, name: str, requirement: str) -> None:
    """Describe an installed distribution, version 1.0, that has a requirement."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: {requirement}\n"
    (info / "METADATA").write_text(text)


def test_checksums_in_python_and_a_missing_requirement(tmp_path: Path) -> None:
    """A google_crc32c without its C extension, and a distribution that lacks another one."""
    import google_crc32c

    source = Path(google_crc32c.__file__).parent
    shutil.copytree(source, tmp_path / "google_crc32c", ignore=shutil.ignore_patterns("*.so"))
    add_distribution(tmp_path, "outer", "absent>=3")

    findings = diagnose(code=1, environment={"PYTHONPATH": str(tmp_path)})

    assert set(findings) == {"checksums", "versions"}
    assert findings["checksums"]["level"] == "problem"
    assert "google_crc32c in python" in findings["checksums"]["found"]
    assert "--only-binary" in findings["checksums"]["cure"]
    assert "outer 1.0 requires absent, which is not installed" in findings["versions"]["found"]
    assert "requirements.lock" in findings["versions"]["cure"]


def test_versions_that_conflict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for index in range(4):
        add_distribution(tmp_path, f"outer{index}", "numpy<1")

    finding = installation.versions()

    assert_problem(finding, "outer0 1.0 has requirement numpy<1, but you have numpy", "lock")
    assert finding.found.endswith(" and 1 more")


def test_an_environment_of_another_lock(tmp_path: Path) -> None:
    assert installation.lock(tmp_path, tmp_path).level is Level.OK  # nothing to compare
    (tmp_path / "requirements.lock").write_text("numpy==2.4.6\n")
    with (tmp_path / "requirements.lock").open() as file:
        checksum = subprocess.check_output(["cksum"], stdin=file, text=True)
    (tmp_path / ".installed").write_text(f"(3, 11)\n{checksum}")
    assert installation.lock(tmp_path, tmp_path).level is Level.OK

    (tmp_path / "requirements.lock").write_text("numpy==2.4.7\n")

    finding = installation.lock(tmp_path, tmp_path)
    assert finding.level is Level.WARNING
    assert "another version of" in finding.found
    assert "make test" in finding.cure


def test_without_pip_versions_are_not_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.py").write_text("raise ImportError('no pip here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    finding = installation.versions()

    assert finding.level is Level.WARNING
    assert finding.found == "not checked: ImportError: no pip here"


@pytest.mark.usefixtures("quick_pip")
def test_another_package_shadows_ours_so_that_nothing_starts(tmp_path: Path) -> None:
    """Run from another folder, where sys.path finds another `features` first."""
    shutil.copytree(ROOT / "pipelines", tmp_path / "pipelines")
    (tmp_path / "features.py").write_text("")

    done = subprocess.run(
        [sys.executable, "-m", "pipelines.doctor", "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )

    assert done.returncode == 1, done.stderr
    findings = {finding["check"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert "the jobs cannot be imported" in findings["imports"]["found"]
    assert "features" in findings["imports"]["found"]
    assert "nothing else was checked" in findings["imports"]["cure"]


def test_codecs_that_fail_and_codecs_without_an_encoder() -> None:
    wav = MediaFormat(".wav", "pcm_s16le", 22_050, 1)
    unknown = MediaFormat(".wav", "no_such_codec", 22_050, 1)
    # A container that is encoded gladly and that workers never open.
    refused = MediaFormat(".rm", "ac3", 44_100, 2)

    unchecked = installation.codecs((wav, unknown))
    assert unchecked.level is Level.WARNING
    assert "decoded: wav/pcm_s16le; not checked" in unchecked.found
    assert "no_such_codec" in unchecked.found
    assert_problem(installation.codecs((wav, refused)), "not decoded: rm/ac3 (", "reinstall av")


@pytest.mark.usefixtures("quick_pip")
def test_a_decoder_that_does_not_start(tmp_path: Path) -> None:
    """A resampler that cannot be imported, as where its wheel is of another platform."""
    (tmp_path / "soxr.py").write_text("raise ImportError('soxr: wrong ELF class')")

    findings = diagnose(code=1)

    assert "ImportError: soxr: wrong ELF class" in findings["codecs"]["found"]
    assert "install again" in findings["codecs"]["cure"]


# This machine


def test_memory_of_a_container(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 64000000 kB\nMemAvailable: 32768000 kB\n")
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text(f"{1000 << 20}\n")
    (group / "memory.current").write_text(f"{300 << 20}\n")
    (group / "memory.stat").write_text(f"anon 5\ninactive_file {200 << 20}\n")

    assert machine.memory(2, tmp_path).level is Level.OK
    assert_problem(machine.memory(4, tmp_path), "900 MB available", "--workers=2")
    (group / "memory.max").write_text("max\n")
    assert machine.memory(80, tmp_path) == ok("memory", "32000 MB available, 80 workers need 32000")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts file systems")
def test_a_small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "none", tmp_path])
    if mounted.returncode:
        pytest.skip("this container may not mount file systems")
    try:
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr(tempfile, "tempdir", None)
        assert_problem(machine.spool_disk(2), f"0 MB free in {tmp_path}; 2 workers", "TMPDIR")
        assert_problem(
            stores.folder("--output", str(tmp_path)), "No space left on device", "make room"
        )
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_temporary_files_elsewhere_than_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    monkeypatch.setattr(tempfile, "tempdir", None)

    finding = machine.spool_disk(1)

    assert finding.level is Level.WARNING
    assert f"TMPDIR is {tmp_path / 'absent'}, which cannot be written" in finding.found
    assert "create that folder" in finding.cure


# Folders and credentials


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with closed_folder() as closed:
        assert_problem(stores.folder("--output", closed), "Permission denied", "ls -ld")
    below_file = str(tmp_path / "file/out")
    assert_problem(stores.folder("--output", below_file), "Not a directory", "is a file")
    assert_problem(stores.folder("--output", "/dev/full"), "File exists", "is a file")
    assert_problem(
        stores.folder("--temp_location", "gs:/bucket/tmp"), "local folder", "gs://bucket/tmp"
    )
    assert_problem(stores.folder("--output", "nosuch://bucket/x"), "nosuch", "gs://BUCKET")


@pytest.fixture
def key(tmp_path: Path) -> Iterator[Path]:
    """The key of a service account for which a server of ours gives tokens."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    token = json.dumps({"access_token": "x", "expires_in": 3600, "token_type": "Bearer"})
    with serve({"/token": token.encode()}) as address:
        content = {
            "type": "service_account",
            "project_id": "a-project",
            "client_email": "robot@a-project",
            "token_uri": f"http://{address}/token",
            "private_key": pem.decode(),
        }
        path = tmp_path / "key.json"
        path.write_text(json.dumps(content))
        yield path


@pytest.mark.usefixtures("quick_pip")
def test_a_bucket_that_does_not_answer(key: Path) -> None:
    """A server that takes connections and keeps silent, as behind some firewalls."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        findings = diagnose(
            "--output=gs://bucket/out",
            "--limit-seconds=8",
            code=1,
            environment={
                "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{server.getsockname()[1]}",
                "GOOGLE_APPLICATION_CREDENTIALS": str(key),
            },
        )
        server.settimeout(1.0)
        server.accept()[0].close()  # it was asked

    assert findings["credentials"]["level"] == "warning"
    assert "unset STORAGE_EMULATOR_HOST" in findings["credentials"]["cure"]
    bucket = findings["--output gs://bucket/out"]
    assert bucket["level"] == "problem"
    assert bucket["found"] == "no answer within 8 s"
    assert "network" in bucket["cure"]


def test_a_bucket_that_is_absent(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    monkeypatch.setattr(auth._Credentials, "_credentials_init", False)  # kept by the process
    monkeypatch.setattr(auth._Credentials, "_credentials", None)
    with serve({}) as address:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{address}")
        finding = stores.folder("--output", "gs://absent/out")

    assert_problem(finding, "404", "make sure that the bucket exists")


def test_credentials_that_are_good_refused_broken_or_absent(
    key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    good = stores.credentials(emulated=False)
    key.write_text(key.read_text().replace("/token", "/other"))
    refused = stores.credentials(emulated=False)
    key.write_text("{")
    broken = stores.credentials(emulated=False)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    absent = stores.credentials(emulated=False)

    assert good == ok("credentials", "robot@a-project, project a-project")
    assert_problem(refused, "RefreshError", "make it a valid key")
    assert_problem(broken, f"{key} is not a valid json", f"CREDENTIALS is {key}")
    assert_problem(absent, "credentials were not found", "gcloud auth application-default login")


# Runners


@pytest.mark.parametrize("name", ["DirectRunner", "direct"])
def test_direct_runner_may_be_another(name: str) -> None:
    assert_problem(runners.runner_named(name), "Prism binary", "--runner=FnApiRunner")


def test_runners_that_are_not_known() -> None:
    assert_problem(runners.runner_named("FlingRunner"), "FlingRunner", "FlinkRunner")
    assert runners.runner_named("PrismRunner").level is Level.WARNING
    assert runners.runner_named("FnApiRunner").level is Level.OK


def fake_java(folder: Path, answer: str) -> str:
    """A folder for PATH with a `java` that answers so."""
    folder.mkdir()
    java = folder / "java"
    java.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{answer}\nEND\n")
    java.chmod(0o755)
    return str(folder)


def test_java_that_is_absent_old_or_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = fake_java(tmp_path / "new", 'openjdk version "17.0.15" 2025-04-15')
    old = fake_java(tmp_path / "old", 'openjdk version "1.8.0_402"')
    broken = fake_java(tmp_path / "broken", "libjvm.so: cannot open shared object file")
    options = flink()
    system = os.environ["PATH"]

    monkeypatch.setenv("JAVA_HOME", new)  # which Beam does not look at
    monkeypatch.setenv("PATH", str(tmp_path))
    assert_problem(runners.java(options), "no `java` in PATH", "openjdk-17")
    monkeypatch.setenv("PATH", f"{old}:{system}")
    assert_problem(runners.java(options), "is Java 8, the job server needs 11", "first in PATH")
    monkeypatch.setenv("PATH", f"{broken}:{system}")
    assert_problem(runners.java(options), "libjvm.so: cannot open", "does not look at JAVA_HOME")
    monkeypatch.setenv("PATH", f"{new}:{system}")
    assert runners.java(options).level is Level.OK


def test_flink_clusters_that_are_not_the_one_meant() -> None:
    overview = json.dumps({"flink-version": "1.20.1", "slots-total": 2}).encode()
    with serve({"/overview": overview}) as address:
        master = f"--flink_master={address}"
        assert runners.flink_cluster(flink(master, "--parallelism=2")).level is Level.OK
        many = runners.flink_cluster(flink(master, "--parallelism=3"))
        other = runners.flink_cluster(flink(master, "--flink_version=2.2"))
    gone = runners.flink_cluster(flink(master))

    assert_problem(many, "2 slots; --parallelism is 3", "--parallelism=2")
    assert_problem(other, "Flink 1.20.1", "--flink_version=1.20")
    assert_problem(gone, "Connection refused", "start the cluster")


def test_flink_workers_without_this_code() -> None:
    master = "--flink_master=host:8081"
    no_place = runners.flink_workers(flink(master, "--parallelism=2"))
    single = runners.flink_workers(flink(master, "--environment_type=EXTERNAL"))

    assert_problem(no_place, "Docker", "--environment_type=EXTERNAL")
    assert single.level is Level.WARNING
    assert "--parallelism=N" in single.cure


def test_submission_to_an_image_of_another_python(monkeypatch: pytest.MonkeyPatch) -> None:
    options = PipelineOptions(["--runner=DataflowRunner", "--sdk_container_image=HOST/image:1"])
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    monkeypatch.setattr(runners, "IMAGE_PYTHON", sys.version_info[:2])
    assert runners.dataflow_python(options) == ok("Dataflow Python", here)

    monkeypatch.setattr(runners, "IMAGE_PYTHON", (3, 10))

    finding = runners.dataflow_python(options)
    assert finding.level is Level.WARNING
    assert finding.cure == f"submit with Python 3.10, unless HOST/image:1 has {here}"
    assert runners.dataflow_python(PipelineOptions([])).level is Level.OK  # Beam's image


@pytest.mark.usefixtures("quick_pip")
def test_dataflow_without_what_it_requires(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/key.json")
    monkeypatch.delenv("CLOUDSDK_COMPUTE_REGION", raising=False)

    without_driver = "--dataflow_service_options=worker_accelerator=type:nvidia-l4;count:1"
    flags = ["--runner=DataflowRunner", "--temp_location=gs:bucket/tmp", without_driver]

    code = doctor.main([*flags, "--json"])

    findings = json.loads(capsys.readouterr().out)["findings"]
    found = {finding["check"]: finding for finding in findings}
    assert code == 1
    missing = found["Dataflow options"]
    assert "Missing required option: project." in missing["found"]
    assert "Missing required option: region." in missing["found"]
    assert "Invalid GCS path (gs:bucket/tmp)" in missing["found"]
    assert missing["cure"] == "--project=PROJECT --region=REGION --temp_location=gs://BUCKET/tmp"
    assert "--sdk_container_image=IMAGE" in found["Dataflow workers"]["cure"]
    assert "/no/such/key.json was not found" in found["credentials"]["found"]
    assert "no driver" in found["Dataflow GPU"]["found"]
    assert not {"memory", "GPU"} & found.keys()  # those of this machine do not count


# The doctor itself


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (lambda: ok("x", "fine"), "fine"),
        (lambda: 1 / 0, "the check failed with ZeroDivisionError: division by zero"),
        (lambda: time.sleep(5), "no answer within 0.2 s"),
    ],
)
def test_every_check_ends_with_a_finding(check: Callable[[], Finding], expected: str) -> None:
    finding = examine("x", check, 0.2)

    assert finding.found == expected
    assert (finding.level is Level.PROBLEM) == bool(finding.cure)
