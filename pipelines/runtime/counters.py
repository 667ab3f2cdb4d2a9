"""Counters and distributions of jobs, which a runner's page shows while the job runs.

They are named `stage/thing`. A runner may add an attempt that it repeats, so that they can exceed
the counts of the sidecars and of the JSON at the root of a folder, which have every video once.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics

from features.contracts.progress import Tallying, find_job
from pipelines.runtime.membership import LeaseOptions

_LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counts:
    """What one element adds to the counters of its stage.

    Attributes:
      sums: name of a counter -> number to add.
      values: name of a distribution -> one value.
      element: the shard, for the log; empty for an element without a name.
    """

    sums: Mapping[str, int]
    values: Mapping[str, int] = dataclasses.field(default_factory=dict)
    element: str = ""


def cpu_values(cpu_seconds: float, audio_seconds: float) -> dict[str, int]:
    """The distributions of the CPU time of a shard.

    Args:
      cpu_seconds: of the work on the shard.
      audio_seconds: length of the sound that was worked on; none gives no time per hour of it.
    """
    values = {"shard_cpu_ms": round(1e3 * cpu_seconds)}
    if audio_seconds:
        values["cpu_ms_per_audio_hour"] = round(3.6e6 * cpu_seconds / audio_seconds)
    return values


@dataclasses.dataclass(eq=False)
class CountElements(beam.PTransform):
    """Passes elements on, counts each on the runner, and writes a line about it to the log.

    What child processes did reaches the counters with their results, since Beam counts in the
    threads of its own workers alone.

    Attributes:
      stage: the first part of the names.
      measure: what an element adds.
      tallies: whether elements are the shards of the job's folder, and are also counted in the
        tallies there.
    """

    stage: str
    measure: Callable[[Any], Counts]
    tallies: bool = False

    def expand(self, elements: beam.PCollection) -> beam.PCollection:
        """Count where the elements are."""
        folder = ""
        if self.tallies:
            folder = elements.pipeline.options.view_as(LeaseOptions).leased_folder
        job = find_job(folder) if folder else ""  # a dry run has none
        count = _Count(self.stage, self.measure, folder, job)
        return elements | "CountOnRunner" >> beam.ParDo(count)


@dataclasses.dataclass(eq=False)
class _Count(beam.DoFn):
    stage: str
    measure: Callable[[Any], Counts]
    folder: str
    job: str

    def setup(self) -> None:
        self._tally = Tallying(self.folder, self.job) if self.folder else None

    def finish_bundle(self) -> None:
        if self._tally is not None:
            self._tally.write()

    def process(self, element: Any) -> Iterator[Any]:
        counts = self.measure(element)
        if self._tally is not None:
            self._tally.add(counts.element, counts.sums)
        for name, amount in counts.sums.items():
            Metrics.counter(self.stage, name).inc(amount)
        for name, value in counts.values.items():
            Metrics.distribution(self.stage, name).update(value)
        if _LOGGER.isEnabledFor(logging.INFO):
            fields = {**counts.sums, **counts.values}
            shown = ", ".join(f"{name} {value}" for name, value in fields.items())
            text = f"{f'{self.stage} {counts.element}'.rstrip()}: {shown}"
            where = {"stage": self.stage, "element": counts.element}
            _LOGGER.info(text, extra={"fields": {**where, **fields}})
        yield element
