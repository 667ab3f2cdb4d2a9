"""An experiment as a list of our commands; a run that was interrupted resumes where it stopped."""

import collections
import dataclasses
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from features.contracts import folders
from features.errors import OK, ContractError, JobFailedError
from features.storage import files
from features.terminal import duration
from features.typed_json import Document

# Starting Python with Beam and TensorFlow, building graphs and exiting, on two cores.
START_SECONDS = 10.0
# With this variable, training.distributed.watchdog ends a training process whose parent has ended.
_SUPERVISOR = "SOUNDTRACK_SUPERVISOR_PID"
_STDERR = 2
_REPOSITORY = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One command.

    Attributes:
      name: path of the output of the step in the folder of the experiment; unique there.
      command: a module and its arguments; running it again after an interruption is safe.
      seconds: expected duration.
      printed_to: file for the standard output; None if the command writes its own files.
      is_open: whether the command is not known yet, such as the learning rate before a sweep; the
        duration is.
    """

    name: str
    command: tuple[str, ...]
    seconds: float = START_SECONDS
    printed_to: str | None = None
    is_open: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepRecord(Document):
    """`steps/*.json` in the folder of an experiment: a finished step.

    Attributes:
      command: as a person types it.
      seconds: duration.
    """

    FILE: ClassVar[str] = "steps/*.json"
    MAKER: ClassVar[str] = "python -m evaluation.paper.EXPERIMENT"
    VERSION: ClassVar[int | None] = None
    INDENT: ClassVar[int | None] = None
    END: ClassVar[str] = ""

    command: str
    seconds: float


def shown(command: Sequence[str], folder: str) -> str:
    """Format a command as a person types it, without the paths of this machine."""
    words = [
        word.replace(folder.rstrip("/"), "FOLDER").removeprefix(f"{_REPOSITORY}/")
        for word in command
    ]
    return shlex.join(["python", "-m", *words])


def unfinished(steps: Iterable[Step], folder: str) -> list[Step]:
    """The steps that have not been finished, each once, in order.

    Raises:
      ContractError: another command has finished a step of the same name.
    """
    left = {}
    for step in steps:
        record = _find_record(step.name, folder)
        if record is None or step.is_open:
            left[step.name] = step
        else:
            folders.require_equal(
                f"the command of {step.name}",
                expected=record.command,
                received=shown(step.command, folder),
                where=folder,
                cure="use another folder with --output, or the same flags as before",
            )
    return list(left.values())


def is_finished(name: str, folder: str) -> bool:
    """Whether the step of this name has been finished, with any flags."""
    return _find_record(name, folder) is not None


def hours(steps: Iterable[Step], folder: str) -> float:
    """What finished steps took."""
    records = [_find_record(name, folder) for name in {step.name for step in steps}]
    return sum(record.seconds for record in records if record is not None) / 3_600


def cost(steps: Sequence[Step]) -> str:
    """Format the expected duration of steps, with a line for each command."""
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
    """Run the unfinished steps in order; the output of the commands goes to stderr.

    Raises:
      JobFailedError: a command failed.
      KeyboardInterrupt: Ctrl-C or SIGTERM; the running command has saved its work and ended.
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
                f"step {step.name} ended with exit code {code}, see its message above; fix the "
                "cause and run the same command again, which resumes at this step"
            )
        if step.printed_to is not None:
            files.write_bytes(step.printed_to, printed)
        record = StepRecord(command=command, seconds=round(time.monotonic() - start, 1))
        files.write_bytes(_record_path(step.name, folder), record.to_json())


def _run(step: Step) -> tuple[int, bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", *step.command],
        env={**os.environ, _SUPERVISOR: str(os.getpid())},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if step.printed_to is not None else _STDERR,
        start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on once
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
    record = _find_record(name, folder)
    if record is None:
        raise ContractError(f"{folder} has no finished step {name}; run the experiment again")
    return record.command


def _record_path(name: str, folder: str) -> str:
    return files.join(folder, StepRecord.FILE.replace("*", name.replace("/", "-")))


def _find_record(name: str, folder: str) -> StepRecord | None:
    path = _record_path(name, folder)
    try:
        return StepRecord.from_json(files.read_bytes(path), path)
    except FileNotFoundError:
        return None
