"""Check this machine, the installation and the runner before a job is started.

python -m pipelines.doctor --runner=FlinkRunner --flink_master=HOST:8081 --output gs://bucket/out
"""

import argparse
import collections
import dataclasses
import functools
import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

# These import no package that may be missing or broken.
from pipelines.checks import installation, stores
from pipelines.runtime import accelerator, machine, runners
from pipelines.runtime.finding import Finding, Level, examine, problem

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

Checks = Iterator[tuple[str, Callable[[], Finding]]]

_DESCRIPTION = """\
Check this machine, the installation and the runner before a job is started:
versions, codecs, checksums, folders, credentials, memory, disk, Java, Flink and
Dataflow. Each finding says what to do. The checks leave no files behind.
"""
_EPILOG = """\
Give the flags of the Beam runner as for the job, for example
  --runner=FnApiRunner                    this machine (default)
  --runner=FlinkRunner --flink_master=HOST:8081 --flink_version=1.19
  --runner=DataflowRunner --project=P --region=R --temp_location=gs://B/tmp
Exit codes: 0 no problem (perhaps warnings), 1 problems, 2 bad input.
"""
_COLUMNS = 80


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.doctor",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--output", help="output folder of the job; the check writes a file and deletes it")
    add("--workers", metavar="N", type=int, help="workers of the job")
    add("--json", action="store_true", help="print the findings as JSON")
    add(
        "--limit-seconds",
        metavar="SECONDS",
        type=float,
        default=60.0,
        help="time limit of each check; default: 60",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = _parser()
    args, _ = parser.parse_known_args(argv)
    run = functools.partial(examine, limit_seconds=args.limit_seconds)
    findings = [run("versions", installation.versions), run("lock", installation.lock)]
    try:
        from pipelines.runtime import launch
    except Exception as error:  # noqa: BLE001 - a broken environment may raise anything
        found = f"the jobs cannot be imported: {type(error).__name__}: {error}"
        cure = f"{installation.INSTALL_AGAIN}; nothing else was checked"
        findings.append(problem("imports", found, cure))
    else:
        args, options = launch.parse(parser, argv)
        findings += [
            run(name, check) for name, check in _list_checks(options, args.output, args.workers)
        ]
    print(json.dumps(_as_json(findings), indent=2) if args.json else _as_text(findings))
    return int(any(finding.level is Level.PROBLEM for finding in findings))


def _list_checks(options: "PipelineOptions", output: str | None, num_workers: int | None) -> Checks:
    """The checks for a job with these options."""
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import (
        DirectOptions,
        GoogleCloudOptions,
        StandardOptions,
    )

    from pipelines.runtime import process_pool

    FileSystems.set_options(options)  # credentials for gs://, as a pipeline sets them
    runner = options.view_as(StandardOptions).runner
    google = options.view_as(GoogleCloudOptions)
    kind = runners.kind_of(runner)
    yield "runner", functools.partial(runners.runner_named, runner)
    yield "checksums", installation.checksums
    yield "codecs", installation.codecs
    if kind == "flinkrunner":
        for name, check in (
            ("Java", runners.java),
            ("Flink cluster", runners.flink_cluster),
            ("Flink workers", runners.flink_workers),
        ):
            yield name, functools.partial(check, options)
    elif kind == "dataflowrunner":
        yield "Dataflow options", functools.partial(runners.dataflow_options, options)
        yield "Dataflow workers", functools.partial(runners.dataflow_workers, options)
        yield "Dataflow Python", functools.partial(runners.dataflow_python, options)
        yield "Dataflow GPU", functools.partial(accelerator.dataflow_gpu, options)
    else:  # the workers are on this machine
        num_processes = options.view_as(DirectOptions).direct_num_workers or os.cpu_count() or 1
        if num_processes == 1:  # `--workers` counts
            num_processes = num_workers or process_pool.default_workers()
        yield "memory", functools.partial(machine.memory, num_processes)
        yield "temporary files", functools.partial(machine.spool_disk, num_processes)
        yield "GPU", accelerator.this_machine
    folders = {
        "--output": output,
        "--temp_location": google.temp_location,
        "--staging_location": google.staging_location,
    }
    in_cloud = any(path and path.startswith("gs://") for path in folders.values())
    if (in_cloud or kind == "dataflowrunner") and not google.no_auth:
        emulated = kind != "dataflowrunner"
        yield "credentials", functools.partial(stores.credentials, emulated=emulated)
    for flag, path in folders.items():
        if path:
            yield f"{flag} {path}", functools.partial(stores.folder, flag, path)


def _as_json(findings: Sequence[Finding]) -> dict:
    return {
        "findings": [dataclasses.asdict(finding) for finding in findings],
        **_counts(findings),
    }


def _as_text(findings: Sequence[Finding]) -> str:
    """A paragraph for each finding, 80 columns wide unless a word is longer."""
    lines = []
    for finding in findings:
        wrap = functools.partial(
            textwrap.wrap, width=_COLUMNS, break_long_words=False, break_on_hyphens=False
        )
        first = f"{finding.level:<9}{finding.check}: {finding.found}"
        lines += wrap(first, subsequent_indent=" " * 9)
        if finding.cure:
            lines += wrap(
                f"cure: {finding.cure}", initial_indent=" " * 9, subsequent_indent=" " * 15
            )
    counts = _counts(findings)
    return "\n".join([*lines, ", ".join(f"{count} {level}" for level, count in counts.items())])


def _counts(findings: Sequence[Finding]) -> dict[str, int]:
    counted = collections.Counter(finding.level for finding in findings)
    return {str(level): counted[level] for level in Level}


if __name__ == "__main__":
    sys.exit(main())
