"""TODO docstring."""

import json
from typing import NoReturn

from features.errors import InputError, JobFailedError
from features.storage import files

_FAILURE = "failure.json"


def fail(output: str, error: InputError | JobFailedError) -> NoReturn:
    """From within a stage: leave the reason and fail the job.

    Raises:
      InputError, JobFailedError: the error given.
    """
    failure = {"exit_code": error.exit_code, "message": str(error)}
    files.write_bytes(files.join(output, _FAILURE), json.dumps(failure).encode())
    raise error
