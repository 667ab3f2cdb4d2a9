"""Why a job failed: `failure.json`, which a stage leaves, and the places of other errors."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import ClassVar, NoReturn

from features.contracts import folders
from features.errors import InputError, JobFailedError
from features.sound.outcome import AudioError
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


class PlacedError(RuntimeError):
    """An error that nobody expected, with its place."""


@contextlib.contextmanager
def name_place(place: str) -> Iterator[None]:
    """Name a place, such as a shard or a video, in the message of an error that nobody expected.

    The message reaches the submitter's terminal from every runner. Notes of exceptions do not: Beam
    takes the last line of an error for its message.

    Raises:
      PlacedError: for any error but our own.
    """
    try:
        yield
    except (InputError, JobFailedError, AudioError):
        raise
    except PlacedError as error:
        raise PlacedError(f"{place}: {error}") from error
    except Exception as error:
        raise PlacedError(f"{place}: {type(error).__name__}: {error}") from error
