"""Command lines of Beam jobs: the job's flags, the runner's flags, and no others; and running jobs.

The last stage of a job writes the root JSON of its output, inside the pipeline, so that a job that
was submitted without waiting finishes its folder too. A stage that finds that the job must not
succeed writes the reason to `failure.json` and raises. Every runner then reports a failed job, and
a waiting command prints the reason instead of the runner's stack trace.

A command waits for its job, with two exceptions: the launcher of a Flex Template only writes the
graph for Dataflow, and `--no-wait` leaves a job that was submitted to Dataflow.
"""

import argparse
import contextlib
import contextvars
import errno
import logging
import os
import re
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
    TestOptions,
)
from apache_beam.runners.runner import PipelineResult

from features import terminal
from features.contracts import folders, leases
from features.errors import (
    OK,
    FolderTakenError,
    InputError,
    JobFailedError,
    StoreRefusalError,
    TooManyRejectsError,
)
from features.storage import files
from pipelines.runtime import accelerator, logs, process_pool, runners, web_access
from pipelines.runtime.failure import Failure
from pipelines.runtime.finding import Level
from pipelines.runtime.membership import LeaseOptions

# Begins the names of folders of temporary files within an output.
_TEMPORARY = "transform_temp-"
_ERRORS = (InputError, JobFailedError, TooManyRejectsError, FolderTakenError)
# Runners whose workers end with the command.
_LOCAL_RUNNERS = ("fnapirunner", "directrunner", "bundlebasedrunner", "prismrunner")
# Until the first worker of a job on Dataflow has begun: FlexRS starts jobs within 6 hours, and
# others within minutes, unless the project has no quota left.
_FLEXRS_QUEUE_SECONDS, _QUEUE_SECONDS = 7 * 3600.0, 1800.0
# Of the block that runs, in which a job needs no other lease.
_holder: contextvars.ContextVar[leases.Holder | None] = contextvars.ContextVar(
    "holder", default=None
)
# Last line of a runner's error that wraps an interrupt: the name of the type, or what Beam makes of
# an exception without arguments. Paths in the text of other errors do not match.
_INTERRUPT = re.compile(r"(RuntimeError: )?KeyboardInterrupt( \[while running '.*'\])?")
_EPILOG = """\
Flags of the Beam runner follow the command's own, for example
  --runner=FnApiRunner                    this machine (default)
  --runner=FlinkRunner --flink_master=HOST:8081 --flink_version=1.19
  --runner=DataflowRunner --project=P --region=R --temp_location=gs://B/tmp
Exit codes: 0 done, 1 the job failed, 2 bad input, 3 too many rejects,
5 another job has the output folder, 130 interrupted.
"""


def parser(module: str, required: str, description: str) -> argparse.ArgumentParser:
    """Make a parser for a job's own flags, with an epilog about the runner's flags.

    Args:
      module: of the command.
      required: the flags in the usage, as `features.terminal.usage` takes them.
      description: of the command.
    """
    job = argparse.ArgumentParser(
        prog=f"python -m {module}",
        usage=terminal.usage(required),
        description=description,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    job.add_argument(
        "--dry-run",
        action="store_true",
        help="check flags and inputs, build the graph, and write, remove and submit nothing",
    )
    job.add_argument(
        "--no-wait", action="store_true", help="on Dataflow: submit the job and do not wait for it"
    )
    job.add_argument(
        "--wait-for-lease",
        action="store_true",
        help="if another job writes the output folder, wait until it has ended",
    )
    logs.add_flags(job)
    return job


class _LaunchOptions(PipelineOptions):
    """Carries `--no-wait` among the runner's options."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--no_wait", action="store_true")


def parse(
    job: argparse.ArgumentParser, argv: Sequence[str] | None
) -> tuple[argparse.Namespace, PipelineOptions]:
    """Parse a job's flags and the runner's; exits with code 2 on any other flag."""
    args, rest = job.parse_known_args(_as_flags(job, sys.argv[1:] if argv is None else argv))
    flags = ("--dry_run=true", "--no_wait", "--wait_for_lease")
    rest += [flag for flag in flags if _is_set(args, flag)] + web_access.runner_flags(args)
    runner = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(runner)
    _, unknown = runner.parse_known_args(rest)
    if unknown:
        job.error(
            f"unknown flags: {' '.join(unknown)}; see --help for the job's own and Beam's "
            "documentation for the runner's"
        )
    # DirectRunner would try to download another runner, and silently use whichever it gets.
    if not any(flag.startswith("--runner") for flag in rest):
        rest.append("--runner=FnApiRunner")
    # Beam logs every stage and every chosen default as a warning, and prints the stack trace of
    # errors that it also raises.
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    logging.getLogger("apache_beam.runners.common").setLevel(logging.CRITICAL)
    logs.configure(
        verbose=_is_set(args, "--verbose"), log_format=getattr(args, "log_format", "text")
    )
    return args, PipelineOptions(rest)


def _is_set(args: argparse.Namespace, flag: str) -> bool:
    return getattr(args, flag.removeprefix("--").partition("=")[0], False)


def _as_flags(job: argparse.ArgumentParser, argv: Sequence[str]) -> list[str]:
    """Convert `--patches_per_video=9` to `--patches-per-video=9`, `--keep_partial=true` to a flag.

    Parameters of a template have this form: names without hyphens, and a value for each.
    """
    actions = {flag: action for action in job._actions for flag in action.option_strings}
    flags = []
    for word in argv:
        name, equals, value = word.partition("=")
        flag = name.replace("_", "-") if name.startswith("--") else name
        if flag not in actions:
            flags.append(word)
        elif actions[flag].nargs == 0 and value in ("true", "false"):
            flags += [flag] * (value == "true")
        else:
            flags.append(flag + equals + value)
    return flags


def temporary_folder(output: str, options: PipelineOptions) -> str:
    """Name a new folder for TensorFlow's temporary files, where all workers can write.

    It is within the output, unless TensorFlow cannot open that. A dry run gets a folder of this
    machine, since Beam writes into it while the graph is built.

    Raises:
      InputError: no folder is open to TensorFlow on all workers.
    """
    opens = files.opens_in_tensorflow(output)
    runner = options.view_as(StandardOptions).runner
    if not opens and runners.kind_of(runner) not in _LOCAL_RUNNERS:
        raise InputError(
            f"--output {output}: the workers of {runner} analyse through TensorFlow, which opens "
            "gs:// and folders that all workers share; write there, or leave out --runner to work "
            "on this machine"
        )
    if not opens or options.view_as(TestOptions).dry_run:
        return tempfile.mkdtemp(prefix="soundtrack-")
    return files.join(output, f"{_TEMPORARY}{uuid.uuid4().hex[:12]}")


def run(
    build: Callable[[beam.Pipeline], None],
    options: PipelineOptions,
    output: str,
    *,
    clear: Callable[[], None],
    tidy: Callable[[], None] = lambda: None,
    temp_dir: str | None = None,
) -> None:
    """Build and run a pipeline to its end, while no other job may write its folder.

    Args:
      build: adds the stages; may read inputs, and write nothing but into `temp_dir`.
      options: of the runner.
      output: the folder of the job.
      clear: removes from the folder what this run rebuilds; not called by a dry run.
      tidy: called when the job has succeeded.
      temp_dir: deleted when the job has ended, or by the next job if it outlives the command.

    Raises:
      InputError, JobFailedError: a stage called `fail`; or the options are not valid, or the folder
        cannot be written.
      FolderTakenError: another job writes the folder.
      SystemExit: with code 0, after a dry run or if the job was only submitted.
    """
    _check_options(options)
    is_dry = options.view_as(TestOptions).dry_run
    is_detached = False  # whether the job runs on without this command
    try:
        if is_dry:
            _run_dry(_build_pipeline(build, options), options)
        else:
            with hold_lease(output, options) as lease:
                try:
                    if temp_dir is not None:
                        files.delete_folders(output, _TEMPORARY)
                    clear()
                    files.delete(files.join(output, Failure.FILE))
                    is_detached = _run_and_wait(_build_pipeline(build, options), options, output)
                    if not is_detached:
                        tidy()
                except KeyboardInterrupt:
                    is_detached = _is_dataflow(options)
                    raise
                finally:
                    if is_detached and lease is not None:
                        lease.leave_to_workers(_queue_seconds(options))
    finally:
        if temp_dir is not None and not is_detached:
            files.delete_folder(temp_dir)
    if is_dry or is_detached:
        sys.exit(OK)


@contextlib.contextmanager
def hold_lease(output: str, options: PipelineOptions) -> Iterator[leases.Holder | None]:
    """Hold the lease of a folder, for one job or for a block of several jobs that write it.

    The workers of a cluster renew it too.

    Raises:
      InputError: the folder cannot be written.
      FolderTakenError: another job writes the folder.
    """
    runner = runners.kind_of(options.view_as(StandardOptions).runner)
    on_cluster = runner not in _LOCAL_RUNNERS
    lease = options.view_as(LeaseOptions)
    with contextlib.ExitStack() as stack:
        holder = _holder.get()
        if holder is None or holder.folder != output:
            folders.check_writable(output)
            holder = stack.enter_context(
                leases.hold(output, wait=lease.wait_for_lease, on_cluster=on_cluster)
            )
            stack.callback(_holder.reset, _holder.set(holder))
        lease.leased_folder = output
        lease.lease_owner = holder.owner if holder is not None and on_cluster else ""
        yield holder


def _queue_seconds(options: PipelineOptions) -> float:
    is_flexible = bool(options.view_as(GoogleCloudOptions).flexrs_goal)
    return _FLEXRS_QUEUE_SECONDS if is_flexible else _QUEUE_SECONDS


def _is_dataflow(options: PipelineOptions) -> bool:
    return runners.kind_of(options.view_as(StandardOptions).runner) == "dataflowrunner"


def _check_options(options: PipelineOptions) -> None:
    """Refuse what Dataflow would refuse after a while, or fail with in every worker.

    Raises:
      InputError: an option is missing or not valid.
    """
    if _is_dataflow(options):
        for check in (runners.dataflow_options, runners.dataflow_workers, accelerator.dataflow_gpu):
            finding = check(options)
            if finding.level is Level.PROBLEM:
                raise InputError(f"{finding.check}: {finding.found}; give {finding.cure}")
        python = runners.dataflow_python(options)
        if python.level is not Level.OK:
            print(f"warning: {python.found}; {python.cure}", file=sys.stderr)
    elif options.view_as(_LaunchOptions).no_wait:
        runner = options.view_as(StandardOptions).runner
        raise InputError(f"--no-wait: {runner} runs in this command or needs it; leave it out")


def _build_pipeline(
    build: Callable[[beam.Pipeline], None], options: PipelineOptions
) -> beam.Pipeline:
    try:
        pipeline = beam.Pipeline(options=options)
    except ValueError as error:  # options that Beam refuses
        raise InputError(str(error)) from None
    build(pipeline)
    return pipeline


def _run_dry(pipeline: beam.Pipeline, options: PipelineOptions) -> None:
    """Let Beam check the graph as far as that is possible without the runner's service."""
    num_stages = len(pipeline.to_runner_api().components.transforms)
    if _is_dataflow(options):
        pipeline.run()  # Beam knows of the dry run
    given = options.get_all_options(drop_default=True)
    print(f"would run {num_stages} transforms with")
    for name in sorted(given.keys() - {"dry_run"}):
        print(f"  --{name}={given[name]}")
    print("dry run: nothing was started")


def _run_and_wait(pipeline: beam.Pipeline, options: PipelineOptions, output: str) -> bool:
    """Run a pipeline; returns whether the job runs on without this command."""
    google = options.view_as(GoogleCloudOptions)
    try:
        with process_pool.end_with_job():
            result = pipeline.run()
        if google.template_location:
            print(f"wrote {google.template_location}; Dataflow runs it")
            return True
        if options.view_as(_LaunchOptions).no_wait:
            print(_describe_job(result, google))
            return True
        try:
            result.wait_until_finish()
        except KeyboardInterrupt:
            if _is_dataflow(options):
                print(f"\n{_describe_job(result, google)}", file=sys.stderr)
            raise
    except Exception as error:  # each runner has its own
        explained = _explain(error, output)
        if explained is error:
            raise  # its message names the shard and the video
        raise explained from None
    return False


def _explain(error: Exception, output: str) -> BaseException:
    """What a runner's error means: a stage's own reason if there is one, else the error itself."""
    lines = str(error).rstrip().splitlines()
    if lines and _INTERRUPT.fullmatch(lines[-1]):
        return KeyboardInterrupt()
    if os.strerror(errno.ENOSPC) in str(error):
        return JobFailedError(
            f"{os.strerror(errno.ENOSPC)}, under {output} or for temporary files; make room and "
            "run the same command again: it resumes where it stopped"
        )
    _, refused, reason = str(error).rpartition(f"{StoreRefusalError.__name__}: ")
    if refused:  # then no reason can be read from the store
        return JobFailedError(reason.split(" [while running ")[0])
    if isinstance(error, _ERRORS):  # raised in this process; the runner appends the stage
        return type(error)(str(error).split(" [while running ")[0])
    failure = folders.find_document(output, Failure)
    if failure is None:
        return error
    kind = next(kind for kind in _ERRORS if kind.exit_code == failure.exit_code)
    return kind(failure.message)


def _describe_job(result: PipelineResult, google: GoogleCloudOptions) -> str:
    place = f"{result.job_id()} --project={google.project} --region={google.region}"
    return (
        f"the job runs on Dataflow, `gcloud dataflow jobs show {place}`; it writes the JSON at "
        "the root of its output last"
    )
