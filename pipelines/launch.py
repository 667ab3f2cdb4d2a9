"""Command lines of Beam jobs: our flags, the runner's flags, and no others.

A job's last stage writes the root JSON of its output, inside the pipeline, so that a job submitted
without waiting finishes its folder too. Where a stage finds that the job must not succeed, it
leaves the reason in `failure.json` and raises; every runner then reports a failed job, and a
command that waited prints the reason instead of the runner's stack trace.
"""

import argparse
import errno
import json
import logging
import os
from collections.abc import Callable, Sequence
from typing import NoReturn

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from features import storage
from features.errors import InputError, JobFailedError, TooManyRejectsError
from pipelines import workers

_FAILURE = "failure.json"
_ERRORS = (InputError, JobFailedError, TooManyRejectsError)
_EPILOG = """\
Flags of the Beam runner follow the command's own, for example
  --runner=FnApiRunner                    this machine (default)
  --runner=FlinkRunner --flink_master=HOST:8081 --flink_version=1.20
  --runner=DataflowRunner --project=P --region=R --temp_location=gs://B/tmp
Exit codes: 0 done, 1 the job failed, 2 bad input, 3 too many rejects,
130 interrupted.
"""


def parser(module: str, description: str) -> argparse.ArgumentParser:
    """A parser for a job's own flags, with the runner's explained under it."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def parse(
    job: argparse.ArgumentParser, argv: Sequence[str] | None
) -> tuple[argparse.Namespace, PipelineOptions]:
    """Parse a job's flags and the runner's; exits with code 2 on any other flag."""
    args, rest = job.parse_known_args(argv)
    runner = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(runner)
    _, unknown = runner.parse_known_args(rest)
    if unknown:
        job.error(
            f"unknown flags: {' '.join(unknown)}; see --help for the job's own and Beam's "
            "documentation for the runner's"
        )
    # DirectRunner would try to download another runner and silently use whichever it gets.
    if not any(flag.startswith("--runner") for flag in rest):
        rest.append("--runner=FnApiRunner")
    # Beam announces every stage, and every default that it chose, as a warning; and prints the
    # stack trace of an error that it also raises.
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    logging.getLogger("apache_beam.runners.common").setLevel(logging.CRITICAL)
    return args, PipelineOptions(rest)


def run(build: Callable[[beam.Pipeline], None], options: PipelineOptions, output: str) -> None:
    """Build and run a pipeline to its end.

    Raises:
      InputError, JobFailedError: a stage said so, by `fail`.
    """
    storage.delete(storage.join(output, _FAILURE))
    pipeline = beam.Pipeline(options=options)
    build(pipeline)
    try:
        with workers.ended_by_errors():
            pipeline.run().wait_until_finish()
    except Exception as error:  # noqa: BLE001 - each runner has its own; all are raised again
        if "KeyboardInterrupt" in str(error):  # the runner wraps it
            raise KeyboardInterrupt from None
        if os.strerror(errno.ENOSPC) in str(error):
            raise JobFailedError(
                f"{os.strerror(errno.ENOSPC)}, under {output} or for temporary files; make room "
                "and run the same command again: it goes on where it stopped"
            ) from None
        if isinstance(error, _ERRORS):  # of this process; the runner adds where it was raised
            raise type(error)(str(error).split(" [while running ")[0]) from None
        try:
            failure = json.loads(storage.read_bytes(storage.join(output, _FAILURE)))
        except FileNotFoundError:
            raise error from None
        kind = next(kind for kind in _ERRORS if kind.exit_code == failure["exit_code"])
        raise kind(failure["message"]) from None


def fail(output: str, error: InputError | JobFailedError) -> NoReturn:
    """From within a stage: leave the reason and fail the job.

    Raises:
      InputError, JobFailedError: the error given.
    """
    failure = {"exit_code": error.exit_code, "message": str(error)}
    storage.write_bytes(storage.join(output, _FAILURE), json.dumps(failure).encode())
    raise error
