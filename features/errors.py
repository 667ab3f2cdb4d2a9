"""What a command tells a person who gave it something it cannot work with, and its exit codes.

    Exception
    |-- InputError(ValueError)    the user's mistake; the message says what to do
    |   `-- ContractError        a folder that is not what it should be
    |-- JobFailedError           the job ran and did not produce what it should have
    |   |-- TooManyRejectsError  it rejects more than it was allowed to
    |   |-- training.distributed.watchdog.LostPeerError  another process is gone
    |   `-- training.loops.recorder.InterruptedRunError  a person stopped it
    `-- features.sound.outcome.AudioError            one soundtrack that cannot be used

Anything else that escapes a command is a bug and keeps its traceback.
"""

import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

# Exit codes of every command, for schedulers.
OK = 0
FAILED = 1  # the job ran and did not produce what it should have
BAD_INPUT = 2  # refused before any work; the same number as argparse's
INTERRUPTED = 130  # by Ctrl-C; the shell's own number for it
TOO_MANY_REJECTS = 3  # the job stopped because more is rejected than was allowed


class InputError(ValueError):
    """Bad input: the message says what was wrong, what was received and what to do."""

    exit_code = BAD_INPUT


class ContractError(InputError):
    """A folder is not what it should be, or two folders do not belong together."""


class JobFailedError(RuntimeError):
    """A job ran and did not produce what it should have: the message has the counts."""

    exit_code = FAILED


class TooManyRejectsError(JobFailedError):
    """A job rejects more than it was allowed to."""

    exit_code = TOO_MANY_REJECTS


def run_command(main: Callable[[Sequence[str] | None], int]) -> NoReturn:
    """Run `main()`, print the errors above as one message, and exit with the code."""
    try:
        code = main(None)
    except (InputError, JobFailedError) as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again", file=sys.stderr)
        code = INTERRUPTED
    sys.exit(code)
