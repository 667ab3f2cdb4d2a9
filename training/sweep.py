"""FEATURES -> SWEEP: train a network with every combination of some values, and compare.

python -m training.sweep fully_connected --features features --output sweep \
    --set learning_rate=1e-4,3e-5 num_layers=2,4,6 units=500,1000
"""

import argparse
import collections
import dataclasses
import functools
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from features.contracts import folders
from features.contracts.documents import Run, Sweep, SweptRun
from features.errors import OK, InputError, JobFailedError, run_command
from features.storage import files, tensorflow_paths
from features.terminal import StatusLine, usage
from training import overrides, train
from training.config import Recipe
from training.distributed.processes import POLL_SECONDS, TrainingProcess, kill, sigterm_as_interrupt
from training.input.batches import FeatureSet, open_features
from training.loops.checkpoints import claim
from training.loops.recorder import InterruptedRunError
from training.loops.step import NOT_FINITE
from training.sweep_table import plot, table

PLOT = "sweep.svg"
_DESCRIPTION = """\
Train a network once for every combination of the given values, each run in a
folder of its own, and compare the runs in a table, sweep.json and sweep.svg. A
field or flag with one value has it in all runs.

Run the same command again after any interruption: finished runs stay as they
are, others resume from their last checkpoint. Watch all runs with
`tensorboard --logdir OUTPUT`.
"""
# Flags of training.train beside the recipe; its help explains them.
_FLAGS = ("devices", "workers", "parameter-servers", "skip-damaged-shards", "wait-seconds")
_FLAGS_OF_CLUSTERS = ("workers", "parameter-servers")


@dataclasses.dataclass(frozen=True)
class _Run:
    """One point of the grid.

    Attributes:
      values: of the swept fields and flags, as given.
      output: folder of the run.
      arguments: of training.train.
      recipe: of the run.
      features: of the run.
    """

    values: Mapping[str, str]
    output: str
    arguments: tuple[str, ...]
    recipe: Recipe
    features: FeatureSet

    @property
    def is_finished(self) -> bool:
        document = folders.find_document(self.output, Run)
        return document is not None and document.steps >= self.recipe.steps

    def result(self, error: str | None) -> SweptRun:
        document = folders.find_document(self.output, Run) if error is None else None
        return SweptRun(
            folder=self.output,
            values=self.values,
            steps=document.steps if document else None,
            metrics=document.metrics if document else {},
            error=error,
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.sweep",
        usage=usage("RECIPE --features FEATURES --output SWEEP"),
        description=_DESCRIPTION,
        epilog="Exit codes: 0 done, 1 some runs failed (the others are compared), 2 bad\n"
        "input, 130 interrupted.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("recipe", metavar="RECIPE", help="one of training.train")
    add("--features", required=True, help="folder made by pipelines.extract_features")
    add("--output", required=True, help="folder of the runs")
    add("--jobs", type=int, default=1, help="runs at a time, which share the cores (default 1)")
    add(
        "--accept-diverged",
        action="store_true",
        help="runs whose loss is not finite any more do not count as failed, unless all are",
    )
    overrides.add_arguments(parser, several=True)
    add = parser.add_argument_group("of training.train, one or several values").add_argument
    for flag in _FLAGS:
        add(f"--{flag}", nargs="+", metavar="VALUE", default=[])
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = _parser().parse_args(argv)
    if args.jobs < 1:
        raise InputError(f"--jobs must be at least 1; received {args.jobs}")
    source, output = files.absolute(args.features), files.absolute(args.output)
    tensorflow_paths.require_opens("--output", output, is_written=True)
    runs = _grid(args, source, output)
    folders.claim_output(output, folders.SWEEP, inputs=(source,))
    folders.check_writable(output)
    for run in runs:
        claim(run.output, run.recipe, run.features)
    files.delete(files.join(output, folders.SWEEP))
    unfinished = [run for run in runs if not run.is_finished]
    print(f"{len(runs)} runs, {len(runs) - len(unfinished)} of them finished before")
    errors = _train(unfinished, num_jobs=args.jobs)
    results = [run.result(errors.get(run.output)) for run in runs]
    sweep = Sweep(
        made_by=folders.made_by(),
        features=source,
        features_fingerprint=runs[0].features.fingerprint,
        recipe=args.recipe,
        runs=tuple(results),
    )
    folders.write_document(output, sweep)
    print(table(results))
    svg = plot(results)
    if svg:
        files.write_bytes(files.join(output, PLOT), svg)
    print(f"wrote {args.output}")
    diverged = [error for error in errors.values() if error.startswith(NOT_FINITE)]
    num_accepted = len(diverged) if args.accept_diverged else 0
    if len(errors) > num_accepted or len(errors) == len(runs):
        raise JobFailedError(
            f"{len(errors)} of {len(runs)} runs failed, see above; the same command resumes them"
        )
    return OK


def _grid(args: argparse.Namespace, source: str, output: str) -> list[_Run]:
    """Every combination of the values.

    Raises:
      InputError: nothing is swept over, or training.train would refuse a run.
    """
    fields = overrides.several_settings_of(args)
    flags = {flag: getattr(args, flag.replace("-", "_")) for flag in _FLAGS}
    given = {name: values for name, values in {**fields, **flags}.items() if values}
    swept = [name for name, values in given.items() if len(set(values)) > 1]
    if not swept:
        raise InputError("nothing to sweep over: give several values to a field or flag")
    # Most fields do not change which features are read, and storage may be slow.
    opened = functools.cache(functools.partial(open_features, source))
    runs = []
    for combination in itertools.product(*map(dict.fromkeys, given.values())):
        chosen = dict(zip(given, combination, strict=True))
        values = {name.replace("-", "_"): chosen[name] for name in swept}
        name = ",".join(f"{quantity}={value}" for quantity, value in values.items())
        folder = files.join(output, name)
        arguments = [args.recipe, f"--features={source}", f"--output={folder}"]
        arguments += [f"--set={field}={chosen[field]}" for field in fields]
        arguments += [f"--{flag}={chosen[flag]}" for flag in _FLAGS if flag in chosen]
        if any(flag in chosen for flag in _FLAGS_OF_CLUSTERS):
            arguments.append("--cluster=local")
        _, recipe = train.parse(arguments)
        features = opened(
            num_labels=recipe.num_labels,
            training_subset=recipe.training_subset,
            normalise=recipe.normalise,
        )
        runs.append(_Run(values, folder, tuple(arguments), recipe, features))
    return runs


def _train(runs: Sequence[_Run], *, num_jobs: int) -> dict[str, str]:
    """Train the runs, `num_jobs` at a time; returns the errors of failed runs, by output.

    Raises:
      InterruptedRunError: a person stopped the sweep.
    """
    waiting = collections.deque(runs)
    running: dict[str, TrainingProcess] = {}  # by output
    errors: dict[str, str] = {}
    status = StatusLine()
    variable = "TF_NUM_INTRAOP_THREADS"
    threads = max(1, len(os.sched_getaffinity(0)) // num_jobs)
    environment = {variable: os.environ.get(variable, str(threads))}
    with tempfile.TemporaryDirectory(prefix="sweep-logs-") as logs, sigterm_as_interrupt():
        try:
            while waiting or running:
                while waiting and len(running) < num_jobs:
                    run = waiting.popleft()
                    log = Path(logs, f"{len(waiting)}.log")
                    running[run.output] = TrainingProcess.start(
                        run.output, run.arguments, environment=environment, log=log
                    )
                time.sleep(POLL_SECONDS)
                for process in list(running.values()):
                    code = process.popen.poll()
                    if code is not None:
                        del running[process.name]
                        if code != OK:
                            errors[process.name] = _report_failure(process)
                if status.due:
                    num_done = len(runs) - len(waiting) - len(running)
                    status.show(
                        f"{num_done} of {len(runs)} runs done, {len(running)} running, "
                        f"{len(errors)} failed"
                    )
        except KeyboardInterrupt:
            for process in running.values():
                process.popen.terminate()
            for process in running.values():
                process.wait()
            raise InterruptedRunError(
                f"stopped; {len(running)} runs were running, which are saved, and {len(waiting)} "
                "had not started; run the same command again to resume"
            ) from None
        finally:
            status.close()
            kill(running.values())
    return errors


def _report_failure(process: TrainingProcess) -> str:
    """Print the end of the log of a failed run; returns its error, or else its last line."""
    print(f"\n{process.name} failed:", file=sys.stderr)
    lines = process.print_log() or ["no output"]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines)[-1].removeprefix("error: ")


if __name__ == "__main__":
    run_command(main)
