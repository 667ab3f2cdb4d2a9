"""`--workers`: elements of a pipeline worked on by several processes of this machine.

A runner of this machine calls one function after the other. Where an element costs seconds, as a
shard does, it is given to a process that is free instead; what comes back goes on in the pipeline.
Beam's own way (`--direct_running_mode=multi_processing`) deals the elements out beforehand, so that
the worker with the most decides, and imports Beam anew in each, where these workers share the
memory of what they import.
"""

import argparse
import contextlib
import functools
import multiprocessing
import multiprocessing.util
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from features.errors import InputError, JobFailedError
from pipelines.runtime.machine import MB_PER_WORKER, available_memory_mb

_RUNNER = "FnApiRunner"
# Of each worker: one that it works on, and one that is there when it is done.
_ELEMENTS_PER_WORKER = 2
# What ends the workers of a pool when they are idle, and a pipe to them: they end when its end here
# is closed, however that comes.
_pools: list[tuple[multiprocessing.util.Finalize, Connection]] = []


def add_flag(parser: argparse.ArgumentParser, default: str = "") -> None:
    """Let a command take `--workers`; `default` says what is done without it."""
    default = default or f"one a core, fewer where memory has no room for {MB_PER_WORKER} MB each"
    parser.add_argument(
        "--workers",
        metavar="N",
        type=int,
        help="processes of this machine that share the work, for --runner=FnApiRunner alone; "
        f"default: {default}",
    )


def num_workers(wanted: int | None, options: PipelineOptions) -> int:
    """How many processes share the work: as `--workers` says, or as this machine can have.

    Returns:
      1 for runners that have workers of their own.

    Raises:
      InputError: `--workers` is not for this runner, or less than 1.
    """
    runner = options.view_as(StandardOptions).runner
    is_ours = runner == _RUNNER and options.view_as(DirectOptions).direct_num_workers == 1
    if wanted is None:
        return default_workers() if is_ours else 1
    if wanted < 1:
        raise InputError(f"--workers: received {wanted}; give 1 or more")
    if not is_ours:
        raise InputError(
            f"--workers {wanted}: is for this machine alone, --runner={_RUNNER} without "
            f"--direct_num_workers; received --runner={runner}, whose own flags say how many "
            "workers it has: --parallelism of Flink, --num_workers of Dataflow"
        )
    return wanted


def default_workers() -> int:
    """One a core that this process may use, fewer where they would not fit into memory."""
    cores = len(os.sched_getaffinity(0))
    memory_mb = available_memory_mb()
    return cores if memory_mb is None else max(1, min(cores, memory_mb // MB_PER_WORKER))


class MapOnWorkers(beam.PTransform):
    """As `beam.Map`, on several processes of this machine; results come in any order.

    At most twice as many elements as workers are under way, so memory does not grow with them.
    """

    def __init__(self, function: Callable[[Any], Any], num_workers: int):
        """`function` and what it takes and gives must be pickled; with one worker it is called."""
        super().__init__()
        self._function = function
        self._num_workers = num_workers

    def expand(self, elements: beam.PCollection) -> beam.PCollection:
        """Call the function, or have it called."""
        if self._num_workers == 1:
            return elements | "Here" >> beam.Map(self._function)
        call = functools.partial(_call, self._function, elements.pipeline.options)
        return elements | "OnWorkers" >> beam.ParDo(_OnWorkers(call, self._num_workers))


def _call(function: Callable[[Any], Any], options: PipelineOptions, element: Any) -> Any:
    """Within a worker, which knows of the pipeline no more than this."""
    FileSystems.set_options(options)  # whose credentials gs:// gets
    return function(element)


class _OnWorkers(beam.DoFn):
    def __init__(self, function: Callable[[Any], Any], num_workers: int):
        self._function = function
        self._num_workers = num_workers
        self._under_way: set[Future] = set()

    def process(self, element: Any) -> Iterator[Any]:
        if len(self._under_way) == _ELEMENTS_PER_WORKER * self._num_workers:
            yield from self._results()
        with loss_said():
            self._under_way.add(pool(self._num_workers).submit(self._function, element))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        while self._under_way:
            for result in self._results():
                yield GlobalWindows.windowed_value(result)

    def _results(self) -> list[Any]:
        """What is done by now, or else next."""
        done, self._under_way = wait(self._under_way, return_when=FIRST_COMPLETED)
        with loss_said():
            return [future.result() for future in done]


@contextlib.contextmanager
def loss_said() -> Iterator[None]:
    """Where a worker is lost in the block, a JobFailedError says what to do."""
    try:
        yield
    except BrokenProcessPool:
        raise JobFailedError(
            "a worker process was ended by a signal, as the system does for want of memory; run "
            "the same command again: it goes on where it stopped (--workers with a lower number "
            "takes less memory)"
        ) from None


@functools.cache
def pool(num_workers: int) -> ProcessPoolExecutor:
    """The workers of this job; they are started as they are needed."""
    context = multiprocessing.get_context("forkserver")
    # What is imported before the fork is in memory once.
    context.set_forkserver_preload(["pipelines.extraction"])
    theirs, ours = context.Pipe(duplex=False)
    num_threads = max(1, len(os.sched_getaffinity(0)) // num_workers)
    # The environment of the fork server is that of an earlier job.
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": str(num_threads)}
    executor = ProcessPoolExecutor(num_workers, context, _start_worker, (theirs, environment))
    # A job that runs in a child process of another program would wait for its workers to end, and
    # only then tell them to. Before its queues are closed, which have priority 10.
    shutdown = multiprocessing.util.Finalize(None, executor.shutdown, exitpriority=20)
    _pools.append((shutdown, ours))
    return executor


def _start_worker(lifeline: Connection, environment: Mapping[str, str]) -> None:
    os.environ.clear()
    # TensorFlow would have a thread for each core in each worker.
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the job ends its workers
    threading.Thread(target=_end_with_lifeline, args=(lifeline,), daemon=True).start()


def _end_with_lifeline(lifeline: Connection) -> None:
    lifeline.poll(None)  # nothing is ever sent: the other end is closed, or its process is gone
    os._exit(1)


@contextlib.contextmanager
def ended_with_job() -> Iterator[None]:
    """Workers that the block starts end with it; where it fails, at once, whatever they do."""
    try:
        yield
        for shutdown, _ in _pools:
            shutdown()
    finally:
        pool.cache_clear()
        while _pools:
            shutdown, lifeline = _pools.pop()
            lifeline.close()
            shutdown.cancel()
