"""Workers of a job: of the version of the code that was submitted, and within the job's lease."""

import argparse
import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from features.code_version import code_version
from features.contracts import leases
from features.errors import JobFailedError
from pipelines.runtime import web_access
from pipelines.runtime.failure import fail


class LeaseOptions(PipelineOptions):
    """Carries `--wait-for-lease` and the lease of the output among the runner's options."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--wait_for_lease", action="store_true")
        parser.add_argument("--leased_folder", default="")
        # Empty for a runner of this machine, whose workers end with the command.
        parser.add_argument("--lease_owner", default="")


@dataclasses.dataclass(eq=False)
class JoinJob(beam.PTransform):
    """Passes elements on to the stage that works on them, on workers that may write the folder.

    A worker of a cluster renews the lease as long as it lives, since the job may outlive the
    command that submitted it.
    """

    def expand(self, elements: beam.PCollection) -> beam.PCollection:
        """Prepare and check the worker at its start, and the lease before each element."""
        options = elements.pipeline.options.view_as(LeaseOptions)
        if not options.leased_folder:
            return elements
        join = _Join(
            options.leased_folder,
            options.lease_owner,
            code_version(),
            web_access.environment(options),
        )
        return elements | "JoinJob" >> beam.ParDo(join)


@dataclasses.dataclass(eq=False)
class _Join(beam.DoFn):
    folder: str
    owner: str
    code: str
    environment: Mapping[str, str]

    def setup(self) -> None:
        here = code_version()
        if here != self.code:
            message = (
                f"{self.folder}: the job was submitted by version {self.code} of the code, and a "
                f"worker has {here}; build the workers' image from the code that submits the job"
            )
            fail(self.folder, JobFailedError(message))
        os.environ.update(self.environment)

    def process(self, element: Any) -> Iterator[Any]:
        if self.owner:
            leases.join(self.folder, self.owner).require_held()
        yield element
