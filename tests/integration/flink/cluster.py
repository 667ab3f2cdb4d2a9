"""A Flink session cluster on this machine: a job manager, task managers of one slot, a job server.

Beam's job-server jar holds Flink too, so that one jar starts them all. Every port is on 127.0.0.1.
"""

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from apache_beam.coders import VarIntCoder

_HOST = "127.0.0.1"
_JOB_MANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
_TASK_MANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
_JOB_SERVER = "org.apache.beam.runners.flink.FlinkJobServerDriver"
# These live for a minute: compiling much and collecting in threads would not pay.
_JAVA = ("java", "-Xmx384m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
_LIMIT_SECONDS = 300.0


class FlinkCluster:
    """Processes of a cluster without task managers.

    Args:
      jar: a Beam job server.
      folder: an empty one, for configuration, logs and temporary files.
    """

    def __init__(self, jar: Path, folder: Path):
        self._jar = jar
        self._folder = folder
        self._processes: list[subprocess.Popen] = []
        self._task_managers: dict[str, subprocess.Popen] = {}
        self.address = f"{_HOST}:{_free_port()}"
        self.job_endpoint = f"{_HOST}:{_free_port()}"
        settings = _settings(self.address, folder)
        (folder / "config.yaml").write_text(json.dumps(settings))  # JSON is YAML
        self._start(_JOB_MANAGER, "--configDir", str(folder))
        host, port = self.job_endpoint.split(":")
        self._start(
            *(_JOB_SERVER, "--flink-master", self.address, "--job-host", host, "--job-port", port),
            # Any free port.
            *("--artifact-port", "0", "--expansion-port", "0"),
            *("--artifacts-dir", str(folder / "artifacts")),
        )

    def _start(self, main: str, *flags: str) -> subprocess.Popen:
        log = self._folder / f"{len(self._processes)}-{main.rsplit('.', 1)[1]}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*_JAVA, "-cp", str(self._jar), main, *flags],
                stdout=file,
                stderr=file,
                # A group of its own, with the Python workers that it starts.
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def add_task_managers(self, *names: str) -> None:
        """Start them, and wait until the job manager knows them."""
        for name in names:
            self._task_managers[name] = self._start(
                *(_TASK_MANAGER, "--configDir", str(self._folder)),
                *("-D", f"taskmanager.resource-id={name}"),
            )
        deadline = time.monotonic() + _LIMIT_SECONDS
        while True:
            with contextlib.suppress(OSError):
                known = {one["id"] for one in self._ask("taskmanagers")["taskmanagers"]}
                if known >= set(names):
                    return
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.1)

    def kill_task_manager(self, name: str) -> None:
        """As a machine goes: the task manager and its Python workers, all at once."""
        process = self._task_managers.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def version(self) -> str:
        """Of Flink, such as 1.19."""
        return ".".join(self._ask("overview")["flink-version"].split(".")[:2])

    def last_job(self) -> dict[str, Any]:
        """What Flink says of the job that was started last."""
        jobs = self._ask("jobs/overview")["jobs"]
        return self._ask(f"jobs/{max(jobs, key=lambda job: job['start-time'])['jid']}")

    def failures(self) -> list[str]:
        """What went wrong in the last job, whether or not it was restarted then."""
        history = self._ask(f"jobs/{self.last_job()['jid']}/exceptions")["exceptionHistory"]
        return [entry["stacktrace"] for entry in history["entries"]]

    def counters(self) -> dict[str, int]:
        """Beam's counters of the last job, `stage/thing`: Flink has them in one accumulator."""
        answer = self._ask(f"jobs/{self.last_job()['jid']}/accumulators")
        (found,) = answer["user-task-accumulators"]
        assert found["name"] == "__metricscontainers"
        return {
            f"{metric['labels']['NAMESPACE']}/{metric['labels']['NAME']}": VarIntCoder().decode(
                base64.b64decode(metric["payload"])
            )
            for metric in json.loads(found["value"])["metrics"]["attempted"]
            if metric["urn"] == "beam:metric:user:sum_int64:v1"
        }

    def records_read(self, stage: str) -> dict[str, int]:
        """Task manager -> elements that it was given of a stage of the last job."""
        job = self.last_job()
        (vertex,) = [one["id"] for one in job["vertices"] if stage in one["name"]]
        tasks = self._ask(f"jobs/{job['jid']}/vertices/{vertex}")["subtasks"]
        return {task["taskmanager-id"]: task["metrics"]["read-records"] for task in tasks}

    def _ask(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://{self.address}/{path}", timeout=10) as answer:
            return json.load(answer)

    def logs(self) -> str:
        """The end of every process's log."""
        return "\n".join(
            f"== {path.name}\n{path.read_text()[-3000:]}"
            for path in sorted(self._folder.glob("*.log"))
        )

    def stop(self) -> None:
        """End every process."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return probe.getsockname()[1]


def _settings(address: str, folder: Path) -> dict[str, str | int]:
    return {
        "rest.address": _HOST,
        "rest.bind-address": _HOST,
        "rest.port": int(address.split(":")[1]),
        "jobmanager.rpc.address": _HOST,
        "jobmanager.rpc.port": _free_port(),
        "jobmanager.bind-host": _HOST,
        "taskmanager.host": _HOST,
        "taskmanager.bind-host": _HOST,
        "taskmanager.numberOfTaskSlots": 1,
        # Flink's start scripts work these out from the size of a process.
        "taskmanager.cpu.cores": 1,
        "taskmanager.memory.task.heap.size": "128m",
        "taskmanager.memory.task.off-heap.size": "0",
        "taskmanager.memory.framework.heap.size": "64m",
        "taskmanager.memory.framework.off-heap.size": "64m",
        "taskmanager.memory.managed.size": "64m",
        "taskmanager.memory.jvm-metaspace.size": "256m",
        "taskmanager.memory.jvm-overhead.min": "64m",
        "taskmanager.memory.jvm-overhead.max": "64m",
        # The shuffles of prepare_dataset want 512 buffers of 32 KB each.
        "taskmanager.memory.network.min": "192m",
        "taskmanager.memory.network.max": "192m",
        # Beam keeps Python workers from stage to stage only where Flink itself loaded its classes.
        "classloader.resolve-order": "parent-first",
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": 3,
        "restart-strategy.fixed-delay.delay": "500ms",
        "heartbeat.interval": 500,
        "heartbeat.timeout": 10_000,
        "io.tmp.dirs": str(folder),
    }
