"""Errors that a command reports to its user in one message, and the exit codes of commands.

    Exception
    |-- InputError(ValueError)    the user's mistake; the message says what to do
    |   `-- ContractError        a folder lacks a document, or two folders do not match
    |-- JobFailedError           the job ran without its expected output
    |   |-- TooManyRejectsError  the job rejects more than its limit
    |   |-- FolderTakenError     another job has the folder
    |   |-- training.loops.step.NotFiniteError  training has diverged
    |   |-- training.distributed.watchdog.LostPeerError  another process has ended
    |   `-- training.loops.recorder.InterruptedRunError  a person stopped it
    |-- StoreRefusalError(PermissionError)  a store refuses this process
    `-- features.sound.outcome.AudioError    a soundtrack cannot be used

Any other exception that leaves a command is a bug and keeps its traceback.
"""

import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

# Exit codes of every command, for schedulers.
OK = 0
FAILED = 1  # the job ran without its expected output
BAD_INPUT = 2  # refused before any work; argparse exits with the same code
INTERRUPTED = 130  # by Ctrl-C; the code of shells
TOO_MANY_REJECTS = 3  # the job stopped because it rejects more than its limit
FOLDER_TAKEN = 5  # another job writes the folder; 4 is `training.distributed.watchdog.LOST_PEER`
DIVERGED = 6  # training: the loss, an activation or a gradient is not finite any more


class InputError(ValueError):
    """Bad input: the message says what was wrong, what was received and what to do."""

    exit_code = BAD_INPUT


class ContractError(InputError):
    """A folder lacks a valid document, or two folders do not belong together."""


class JobFailedError(RuntimeError):
    """A job ran without its expected output; the message has the counts."""

    exit_code = FAILED


class TooManyRejectsError(JobFailedError):
    """A job rejects more than its limit."""

    exit_code = TOO_MANY_REJECTS


class FolderTakenError(JobFailedError):
    """Another job writes the folder."""

    exit_code = FOLDER_TAKEN


class StoreRefusalError(PermissionError):
    """A store refuses this process, whatever the file: its credentials, its region.

    It says nothing about the file: a medium is not rejected for it, but the job fails, so that
    nothing is lost when it is run again with what the message asks for.
    """

    exit_code = FAILED


def run_command(main: Callable[[Sequence[str] | None], int]) -> NoReturn:
    """Run `main()`, print the errors above as one message, and exit with the code."""
    try:
        code = main(None)
    except (InputError, JobFailedError, StoreRefusalError) as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again", file=sys.stderr)
        code = INTERRUPTED
    sys.exit(code)
