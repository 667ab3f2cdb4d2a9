"""Why a job failed: `failure.json`, which a stage leaves, and the places of other errors."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import ClassVar, NoReturn

from features.contracts import folders
from features.errors import InputError, JobFailedError
from features.typed_json import Document


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure(Document):
    """Why a job failed; the runner's own report would bury the reason in stack traces."""

    FILE: ClassVar[str] = "failure.json"
    MAKER: ClassVar[str] = "the same command"
    VERSION: ClassVar[int | None] = None
    INDENT: ClassVar[int | None] = None
    END: ClassVar[str] = ""

    exit_code: int
    message: str


def fail(output: str, error: InputError | JobFailedError) -> NoReturn:
    """Write the reason into the output folder and fail the job; to be called in a stage.

    Raises:
      InputError, JobFailedError: the given error.
    """
    folders.write_document(output, Failure(exit_code=error.exit_code, message=str(error)))
    raise error


@contextlib.contextmanager
def name_place(place: str) -> Iterator[None]:
    """Add a place, such as a shard or a video, to an error that nobody expected in the block.

    A runner shows it on the submitter's terminal with the stack trace of the worker.
    """
    try:
        yield
    except Exception as error:
        error.add_note(f"in {place}")
        raise
