"""`--workers`: several processes of this machine that share the elements of a pipeline.

A runner of this machine calls one function after the other. Elements that cost seconds each, such
as shards, are given to an idle process instead, and the results return to the pipeline. Beam's own
way (`--direct_running_mode=multi_processing`) distributes the elements beforehand, so that the
slowest worker decides, and imports Beam again in each process; these workers share the memory of
their imports.
"""

import argparse
import contextlib
import dataclasses
import functools
import multiprocessing
import multiprocessing.util
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from features.contracts.documents import InferenceRuntime
from features.errors import InputError, JobFailedError
from pipelines.runtime import accelerator
from pipelines.runtime.machine import MB_PER_WORKER, available_memory_mb
from pipelines.runtime.membership import JoinJob

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

_RUNNER = "FnApiRunner"
# For each worker: an element in work, and one that waits.
_ELEMENTS_PER_WORKER = 2
# Modules that are imported before the workers are forked, and so are in memory once.
_PRELOADED = [f"pipelines.runtime.{name}" for name in ("launch", "rejects", "decoder")]
# For each pool: its shutdown at exit, and a pipe to its workers. The workers end when this end of
# the pipe is closed, for whatever reason.
_pools: list[tuple[multiprocessing.util.Finalize, Connection]] = []


def add_flag(parser: argparse.ArgumentParser, default: str = "") -> None:
    """Add `--workers` to a command; `default` describes the number without the flag."""
    default = default or f"one a core, fewer where memory has no room for {MB_PER_WORKER} MB each"
    parser.add_argument(
        "--workers",
        metavar="N",
        type=int,
        help="processes of this machine that share the work, for --runner=FnApiRunner alone; "
        f"default: {default}",
    )


def runs_here(options: PipelineOptions) -> bool:
    """Whether all workers of a job are processes of this machine, by its runner."""
    return options.view_as(StandardOptions).runner == _RUNNER


def num_workers(wanted: int | None, options: PipelineOptions) -> int:
    """Choose the number of processes: that of `--workers`, or what this machine has room for.

    Returns:
      1 for runners that have workers of their own.

    Raises:
      InputError: `--workers` does not apply to this runner, or is less than 1.
    """
    is_local = _is_local(options)
    if wanted is None:
        return default_workers() if is_local else 1
    if wanted < 1:
        raise InputError(f"--workers: received {wanted}; give 1 or more")
    if not is_local:
        runner = options.view_as(StandardOptions).runner
        raise InputError(
            f"--workers {wanted}: is for this machine alone, --runner={_RUNNER} without "
            f"--direct_num_workers; received --runner={runner}, which has flags of its own for "
            "the number of workers: --parallelism of Flink, --num_workers of Dataflow"
        )
    return wanted


def num_network_workers(
    wanted: int | None, options: PipelineOptions, runtime: InferenceRuntime
) -> int:
    """Choose the number of processes of a job that is as fast as its network.

    Without `--workers` it is one for each GPU; on the processor one, whose network has all cores.

    Raises:
      InputError: see `num_workers`.
    """
    if wanted is None and runtime.device == "gpu" and _is_local(options):
        return max(1, len(accelerator.find_gpus()))
    return 1 if wanted is None else num_workers(wanted, options)


def _is_local(options: PipelineOptions) -> bool:
    """Whether this command starts the processes of the job, and not a runner."""
    return runs_here(options) and options.view_as(DirectOptions).direct_num_workers == 1


def default_workers() -> int:
    """One worker for each core that this process may use, fewer if memory has no room for them."""
    cores = len(os.sched_getaffinity(0))
    memory_mb = available_memory_mb()
    return cores if memory_mb is None else max(1, min(cores, memory_mb // MB_PER_WORKER))


@dataclasses.dataclass(eq=False)
class MapOnWorkers(beam.PTransform):
    """`beam.Map` on several processes of this machine; results come in any order.

    At most two elements for each worker are in work, so memory does not grow with their number.

    Attributes:
      function: called in this process if there is one worker; else it, its argument and its result
        have to be picklable.
      num_workers: number of processes.
    """

    function: Callable[[Any], Any]
    num_workers: int

    def expand(self, elements: beam.PCollection) -> beam.PCollection:
        """Call the function here or on the workers."""
        elements |= JoinJob()
        if self.num_workers == 1:
            return elements | "Here" >> beam.Map(self.function)
        call = functools.partial(_call, self.function, elements.pipeline.options)
        return elements | "OnWorkers" >> beam.ParDo(_OnWorkers(call, self.num_workers))


def _call(
    function: Callable[[Any], Any], options: PipelineOptions, element: Any, submitted_at: float
) -> tuple[float, Any]:
    """Call a function within a worker, which knows nothing else of the pipeline.

    Returns:
      Seconds that the element waited for this worker, and the result.
    """
    waited = time.monotonic() - submitted_at  # Linux has one such clock for all processes
    FileSystems.set_options(options)  # they have the credentials of gs://
    return waited, function(element)


class _OnWorkers(beam.DoFn):
    def __init__(self, function: Callable[[Any, float], tuple[float, Any]], num_workers: int):
        self._function = function
        self._num_workers = num_workers
        self._pending: set[Future] = set()
        self._queue_wait = Metrics.distribution("workers", "queue_wait_ms")

    def process(self, element: Any) -> Iterator[Any]:
        if len(self._pending) == _ELEMENTS_PER_WORKER * self._num_workers:
            yield from self._take_results()
        with explain_worker_crash():
            submitted = pool(self._num_workers).submit(self._function, element, time.monotonic())
            self._pending.add(submitted)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        while self._pending:
            for result in self._take_results():
                yield GlobalWindows.windowed_value(result)

    def _take_results(self) -> list[Any]:
        """Wait for the next result; returns all that are finished then."""
        done, self._pending = wait(self._pending, return_when=FIRST_COMPLETED)
        with explain_worker_crash():
            finished = [future.result() for future in done]
        for waited, _ in finished:
            self._queue_wait.update(round(1e3 * waited))
        return [result for _, result in finished]


@contextlib.contextmanager
def explain_worker_crash() -> Iterator[None]:
    """Raise a JobFailedError that says what to do if a worker crashes in the block."""
    try:
        yield
    except BrokenProcessPool:
        raise JobFailedError(
            "a worker process was ended by a signal, as the system does if memory runs out; run "
            "the same command again: it resumes where it stopped (--workers with a lower number "
            "takes less memory)"
        ) from None


@functools.cache
def pool(num_workers: int) -> ProcessPoolExecutor:
    """The workers of this job, which are started on demand."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    theirs, ours = context.Pipe(duplex=False)
    num_threads = max(1, len(os.sched_getaffinity(0)) // num_workers)
    # The fork server still has the environment of an earlier job. TensorFlow would have a thread
    # for each core in each worker.
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": str(num_threads)}
    arguments = (theirs, environment, accelerator.find_gpus(), context.Value("i", 0))
    executor = ProcessPoolExecutor(num_workers, context, _start_worker, arguments)
    # A job in a child process of another program would wait for the end of its workers before it
    # tells them to end. The executor's queues are closed with priority 10, so this comes first.
    shutdown = multiprocessing.util.Finalize(None, executor.shutdown, exitpriority=20)
    _pools.append((shutdown, ours))
    return executor


def _start_worker(
    lifeline: Connection,
    environment: Mapping[str, str],
    gpus: Sequence[str],
    num_started: "Synchronized[int]",
) -> None:
    with num_started.get_lock():
        worker = num_started.value
        num_started.value += 1
    os.environ.clear()
    os.environ.update(environment)
    os.environ.update(accelerator.assign_gpu(worker, gpus))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the job ends its workers
    threading.Thread(target=_end_with_lifeline, args=(lifeline,), daemon=True).start()


def _end_with_lifeline(lifeline: Connection) -> None:
    lifeline.poll(None)  # returns when the other end is closed, or its process is gone
    os._exit(1)


@contextlib.contextmanager
def end_with_job() -> Iterator[None]:
    """End the workers that the block starts; immediately if the block fails."""
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
