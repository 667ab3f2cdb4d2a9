"""An experiment as a list of our commands; a run that was interrupted resumes where it stopped."""

import collections
import contextlib
import dataclasses
import hashlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from features.code_version import code_version
from features.contracts import folders, leases
from features.contracts.speeds import processor_name, today
from features.errors import DIVERGED, OK, ContractError, JobFailedError
from features.storage import files
from features.terminal import duration
from features.typed_json import Document

# Starting Python with Beam and TensorFlow, building graphs and exiting, on two cores.
START_SECONDS = 10.0
# With this variable, training.distributed.watchdog ends a training process whose parent has ended.
_SUPERVISOR = "SOUNDTRACK_SUPERVISOR_PID"
_STDERR = 2
CLIPS = "clips.csv"  # in a folder of clips, all other files of which it lists
_UNKNOWN = "an earlier version, which did not record itself and its inputs"
_REPOSITORY = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One command.

    Attributes:
      name: path of the output of the step in the folder of the experiment; unique there.
      command: a module and its arguments; running it again after an interruption is safe.
      seconds: expected duration.
      printed_to: file for the standard output; None if the command writes its own files.
      may_diverge: whether a training that diverges ends the step, and not the experiment.
      is_open: whether the command is not known yet, such as the learning rate before a sweep; the
        duration is.
    """

    name: str
    command: tuple[str, ...]
    seconds: float = START_SECONDS
    printed_to: str | None = None
    may_diverge: bool = False
    is_open: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepRecord(Document):
    """`steps/*.json` in the folder of an experiment: a step that has ended.

    Attributes:
      command: as a person types it.
      seconds: duration, of all attempts but those that were killed.
      is_finished: whether the last attempt was.
      has_diverged: whether it was a training that diverged.
      code: version of the code of the last attempt; None in records of versions without.
      inputs: sha256 of what the command reads and no other step writes, by file; None in records
        of versions without.
    """

    FILE: ClassVar[str] = "steps/*.json"
    MAKER: ClassVar[str] = "python -m evaluation.paper.EXPERIMENT"
    VERSION: ClassVar[int | None] = None
    INDENT: ClassVar[int | None] = None
    END: ClassVar[str] = ""

    command: str
    seconds: float
    is_finished: bool = True
    has_diverged: bool = False
    code: str | None = None
    inputs: Mapping[str, str] | None = None


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
      ContractError: another command has finished a step of the same name, or on other inputs.
    """
    by_name: dict[str, Step] = {}
    for step in steps:
        same = by_name.setdefault(step.name, step)
        assert same.command == step.command, f"two commands of {step.name}"
    left = []
    for step in by_name.values():
        record = _find_finished(step.name, folder)
        if record is None or step.is_open:
            left.append(step)
            continue
        folders.require_equal(
            f"the command of {step.name}",
            expected=record.command,
            received=shown(step.command, folder),
            where=folder,
            cure="use another folder with --output, or the same flags as before",
        )
        if record.inputs is not None:
            folders.require_equal(
                f"the sha256 of the inputs of {step.name}",
                expected=dict(record.inputs),
                received=_hash_inputs(step, folder),
                where=folder,
                cure="use another folder with --output, or the same files as before",
            )
    return left


def _hash_inputs(step: Step, folder: str) -> dict[str, str]:
    """The sha256 of the files that a command names, and of clips.csv in the folders.

    What lies in the folder of the experiment is left out: other steps have written it.
    """
    hashes = {}
    for word in step.command:
        path = Path(word)
        if not path.is_absolute() or path.is_relative_to(folder):
            continue
        path = path / CLIPS if path.is_dir() else path
        if path.is_file():
            hashes[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return hashes


def this_version() -> str:
    """The version of the code that steps run."""
    return code_version(with_training=True)


def is_of_other_version(name: str, folder: str) -> bool:
    """Whether another version of the code has finished a step."""
    record = _find_finished(name, folder)
    return record is not None and record.code != this_version()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Making:
    """What results.json has of how results were made.

    Attributes:
      date: of the last command of the experiment, ISO 8601.
      machine: of this command; earlier ones may have had another.
      code: versions of the code of all steps.
      hours: that the steps took, interrupted attempts and those that experiments share included.
    """

    date: str
    machine: str
    code: tuple[str, ...]
    hours: float

    @classmethod
    def of(cls, steps: Iterable[Step], folder: str) -> "Making":
        """Of finished steps, each once, by a command that ends now."""
        records = _find_records(steps, folder)
        return cls(
            date=today(),
            machine=f"{os.cpu_count()} cores of {processor_name()}",
            code=tuple(sorted({record.code or _UNKNOWN for record in records})),
            hours=round(sum(record.seconds for record in records) / 3_600, 2),
        )


def other_versions(steps: Iterable[Step], folder: str) -> list[str]:
    """The versions of the code, other than this one, that finished steps were made by."""
    records = [record for record in _find_records(steps, folder) if record.is_finished]
    return sorted({record.code or _UNKNOWN for record in records} - {this_version()})


def is_finished(name: str, folder: str) -> bool:
    """Whether the step of this name has been finished, with any flags."""
    return _find_finished(name, folder) is not None


def has_diverged(name: str, folder: str) -> bool:
    """Whether a finished step of this name is a training that diverged."""
    record = _find_finished(name, folder)
    return record is not None and record.has_diverged


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

    After a training that diverged the later steps are left, since they may be others then.

    Raises:
      JobFailedError: a command failed.
      KeyboardInterrupt: Ctrl-C or SIGTERM; the running command has saved its work and ended.
    """
    if not unfinished(steps, folder):
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with hold(folder):
        left = unfinished(steps, folder)
        for index, step in enumerate(left):
            command = shown(step.command, folder)
            print(f"\n[{index + 1}/{len(left)}] {command}", file=sys.stderr, flush=True)
            _execute(step, folder)
            if has_diverged(step.name, folder):
                return


def hold(folder: str) -> contextlib.AbstractContextManager[object]:
    """Keep other experiments from the folder meanwhile: steps and results are for all of them.

    Raises:
      FolderTakenError: another experiment has it.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    return leases.hold(folder)


def _execute(step: Step, folder: str) -> None:
    """Run a step and record it; an attempt that fails or is interrupted leaves its duration."""
    earlier = _find_record(step.name, folder)
    before = 0.0 if earlier is None or earlier.is_finished else earlier.seconds
    inputs, start = _hash_inputs(step, folder), time.monotonic()
    is_finished = diverged = False
    try:
        code, printed = _run(step)
        diverged = step.may_diverge and code == DIVERGED
        if code != OK and not diverged:
            raise JobFailedError(
                f"step {step.name} ended with exit code {code}, see its message above; fix the "
                "cause and run the same command again, which resumes at this step"
            )
        if step.printed_to is not None:
            files.write_bytes(step.printed_to, printed)
        is_finished = True
    finally:
        record = StepRecord(
            command=shown(step.command, folder),
            seconds=round(before + time.monotonic() - start, 1),
            is_finished=is_finished,
            has_diverged=diverged,
            code=this_version(),
            inputs=inputs,
        )
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
    record = _find_finished(name, folder)
    if record is None:
        raise ContractError(f"{folder} has no finished step {name}; run the experiment again")
    return record.command


def _record_path(name: str, folder: str) -> str:
    return files.join(folder, StepRecord.FILE.replace("*", name.replace("/", "-")))


def _find_records(steps: Iterable[Step], folder: str) -> list[StepRecord]:
    """The records of steps, each once."""
    records = [_find_record(name, folder) for name in {step.name for step in steps}]
    return [record for record in records if record is not None]


def _find_finished(name: str, folder: str) -> StepRecord | None:
    record = _find_record(name, folder)
    return record if record is not None and record.is_finished else None


def _find_record(name: str, folder: str) -> StepRecord | None:
    path = _record_path(name, folder)
    try:
        return StepRecord.from_json(files.read_bytes(path), path)
    except FileNotFoundError:
        return None
