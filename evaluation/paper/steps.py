"""An experiment as a list of our commands, which goes on where it stopped."""

import collections
import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from features.contracts import folders
from features.errors import OK, JobFailedError
from features.storage import files
from features.terminal import duration

_FOLDER = "steps"  # in the folder of the experiment: a file for each finished step
# To start Python with Beam and TensorFlow, build graphs, and end, on a machine with two cores.
START_SECONDS = 10.0
# training.distributed.watchdog ends a process that trains when this one is gone.
_SUPERVISOR = "SOUNDTRACK_SUPERVISOR_PID"
_STDERR = 2
_PACKAGES = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One command.

    Attributes:
      name: unique in the folder of the experiment, and the path of what the step makes there.
      command: a module and its arguments; it may be run again after any interruption.
      seconds: that it is expected to take.
      printed_to: a file for what it prints, if that is what it makes.
    """

    name: str
    command: tuple[str, ...]
    seconds: float = START_SECONDS
    printed_to: str | None = None


def shown(command: Sequence[str], folder: str) -> str:
    """A command as a person types it, whatever folders the experiment and our packages are in."""
    words = [
        word.replace(folder.rstrip("/"), "FOLDER").removeprefix(f"{_PACKAGES}/") for word in command
    ]
    return shlex.join(["python", "-m", *words])


def unfinished(steps: Iterable[Step], folder: str) -> list[Step]:
    """The steps that are still to be done, each once, in their order.

    Raises:
      ContractError: the folder holds a step of that name which was done by another command.
    """
    left = {}
    for step in steps:
        command = shown(step.command, folder)
        record = _read_record(step.name, folder)
        if record is None:
            left[step.name] = step
        else:
            folders.require_equal(
                f"the command of {step.name}",
                expected=record["command"],
                received=command,
                where=folder,
                cure="use another folder with --output, or the flags of before",
            )
    return list(left.values())


def is_finished(name: str, folder: str) -> bool:
    """Whether the step of this name has been done, with whatever flags."""
    return _read_record(name, folder) is not None


def cost(steps: Sequence[Step]) -> str:
    """How long steps are expected to take; a line for each command."""
    if not steps:
        return "nothing is left to run"
    by_command: collections.Counter[str] = collections.Counter()
    for step in steps:
        by_command[step.command[0].rpartition(".")[2]] += round(step.seconds)
    width = max(map(len, by_command))
    return "\n".join(
        [f"{len(steps)} commands to run, about {duration(by_command.total())}:"]
        + [f"  {name:{width}}  {duration(seconds)}" for name, seconds in by_command.most_common()]
    )


def execute(steps: Sequence[Step], folder: str) -> None:
    """Do what is unfinished, one step after another.

    What the commands print goes to stderr.

    Raises:
      JobFailedError: a command failed.
      KeyboardInterrupt: so did the person, or SIGTERM; the running command has saved and ended.
    """
    left = unfinished(steps, folder)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for index, step in enumerate(left):
        command = shown(step.command, folder)
        print(f"\n[{index + 1}/{len(left)}] {command}", file=sys.stderr, flush=True)
        start = time.monotonic()
        code, printed = _run(step)
        if code != OK:
            raise JobFailedError(
                f"step {step.name} ended with exit code {code}, see above; once its cause is "
                "mended, the same command goes on with it"
            )
        if step.printed_to is not None:
            files.write_bytes(step.printed_to, printed)
        record = {"command": command, "seconds": round(time.monotonic() - start, 1)}
        files.write_bytes(_record_path(step.name, folder), json.dumps(record).encode())


def _run(step: Step) -> tuple[int, bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", *step.command],
        env={**os.environ, _SUPERVISOR: str(os.getpid())},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if step.printed_to is not None else _STDERR,
        start_new_session=True,  # Ctrl-C is for us, who pass it on once
    )
    try:
        printed, _ = process.communicate()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        process.wait()
        raise
    return process.returncode, printed or b""


def command_of(name: str, folder: str) -> str:
    """The command of a finished step, as a person types it."""
    record = _read_record(name, folder)
    if record is None:
        raise folders.ContractError(f"{folder} holds no finished step {name}")
    return record["command"]


def _record_path(name: str, folder: str) -> str:
    return files.join(folder, _FOLDER, name.replace("/", "-") + ".json")


def _read_record(name: str, folder: str) -> dict[str, Any] | None:
    try:
        return json.loads(files.read_bytes(_record_path(name, folder)))
    except FileNotFoundError:
        return None
