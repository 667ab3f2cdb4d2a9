"""FEATURES -> SWEEP: train a network with every combination of some values, and compare.

python -m training.sweep fully_connected --features features --output sweep \
    --set learning_rate=1e-4,3e-5 num_layers=2,4,6 units=500,1000
"""

import argparse
import collections
import contextlib
import dataclasses
import functools
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from features.contracts import folders
from features.contracts.documents import Run
from features.errors import OK, InputError, JobFailedError, run_command
from features.storage import files
from features.terminal import StatusLine
from training import overrides, train
from training.config import Recipe
from training.distributed.supervisor import terminated_as_interrupted
from training.distributed.watchdog import SUPERVISOR
from training.input.batches import FeatureSet, open_features
from training.loops.checkpoints import claim
from training.loops.synchronous import InterruptedRunError
from training.sweep_table import Result, figure, table

FIGURE = "sweep.svg"
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
# What a run is given to save and end, before it is killed.
_GRACE_SECONDS = 300.0
_POLL_SECONDS = 0.2
_LOG_LINES = 12


@dataclasses.dataclass(frozen=True)
class _Run:
    """One point of the grid."""

    values: Mapping[str, str]  # by swept quantity, as they were given
    output: str
    arguments: tuple[str, ...]  # of training.train
    recipe: Recipe
    features: FeatureSet

    @property
    def is_finished(self) -> bool:
        document = folders.find_document(self.output, Run)
        return document is not None and document.steps >= self.recipe.steps

    def result(self, error: str | None) -> Result:
        document = folders.find_document(self.output, Run) if error is None else None
        return Result(
            values=self.values,
            steps=document.steps if document else None,
            metrics=document.metrics if document else {},
            error=error,
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.sweep",
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
    folders.write_root(
        output,
        folders.SWEEP,
        {
            "made_by": folders.made_by(),
            "features": source,
            "features_fingerprint": runs[0].features.fingerprint,
            "recipe": args.recipe,
            "runs": [
                {"folder": run.output, **dataclasses.asdict(result)}
                for run, result in zip(runs, results, strict=True)
            ],
        },
    )
    print(table(results))
    drawn = figure(results)
    if drawn:
        files.write_bytes(files.join(output, FIGURE), drawn)
    print(f"wrote {args.output}")
    if errors:
        raise JobFailedError(
            f"{len(errors)} of {len(runs)} runs failed, see above; "
            "the same command goes on with these"
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
    """Train so many at a time; returns what went wrong, by output.

    Raises:
      InterruptedRunError: a person stopped the sweep.
    """
    waiting = collections.deque(runs)
    going: dict[str, subprocess.Popen] = {}  # by output
    errors: dict[str, str] = {}
    status = StatusLine()
    num_cores = len(os.sched_getaffinity(0))
    environment = {
        "TF_NUM_INTRAOP_THREADS": str(max(1, num_cores // num_jobs)),
        **os.environ,
        SUPERVISOR: str(os.getpid()),
    }
    with tempfile.TemporaryDirectory(prefix="sweep-logs-") as folder, terminated_as_interrupted():
        logs = {run.output: Path(folder, f"{index}.log") for index, run in enumerate(runs)}
        try:
            while waiting or going:
                while waiting and len(going) < num_jobs:
                    run = waiting.popleft()
                    going[run.output] = _start(run, logs[run.output], environment)
                time.sleep(_POLL_SECONDS)
                for output in [
                    name for name, process in going.items() if process.poll() is not None
                ]:
                    if going.pop(output).returncode != OK:
                        errors[output] = _last_words(output, logs[output])
                if status.due:
                    num_done = len(runs) - len(waiting) - len(going)
                    status.show(
                        f"{num_done} of {len(runs)} runs done, {len(going)} going on, "
                        f"{len(errors)} failed"
                    )
        except KeyboardInterrupt:
            for process in going.values():
                process.terminate()
            for process in going.values():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_GRACE_SECONDS)
            raise InterruptedRunError(
                f"stopped; {len(going)} runs were going on, which are saved, and {len(waiting)} "
                "had not begun; run the same command again to go on"
            ) from None
        finally:
            status.close()
            for process in going.values():
                process.kill()
                process.wait()
    return errors


def _start(run: _Run, log: Path, environment: Mapping[str, str]) -> subprocess.Popen:
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "training.train", *run.arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,  # Ctrl-C is for us, who pass it on once
        )


def _last_words(output: str, log: Path) -> str:
    """Show how a run ended; returns its error, or else its last line."""
    lines = log.read_text(errors="replace").splitlines() or ["it said nothing"]
    print(f"\n{output} failed:", file=sys.stderr)
    print(*(f"  | {line}" for line in lines[-_LOG_LINES:]), sep="\n", file=sys.stderr)
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines)[-1].removeprefix("error: ")


if __name__ == "__main__":
    run_command(main)
