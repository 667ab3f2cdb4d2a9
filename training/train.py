"""FEATURES -> RUN: train a network and export it.

python -m training.train resnet50 --features features --output run
"""

import argparse
import math
import sys
import time
from collections.abc import Mapping, Sequence

from features.contracts import folders, leases, progress
from features.contracts.documents import Run
from features.errors import OK, InputError, run_command
from features.storage import files, tensorflow_paths
from features.terminal import duration, report, usage
from training import overrides, recipes
from training.config import Recipe
from training.distributed.cluster import (
    EVALUATOR,
    PARAMETER_SERVER,
    WORKER,
    cluster_of_environment,
    require_free_port,
    serve,
)
from training.distributed.supervisor import supervise
from training.distributed.watchdog import Watchdog
from training.input.batches import TRAIN, VALIDATION, FeatureSet, open_features
from training.loops.checkpoints import claim
from training.loops.evaluator import validate_checkpoints
from training.run import TrainingJob, train_and_export

_DESCRIPTION = """\
Train a network on extracted features and export it as a SavedModel.

Run the same command again after any interruption: it resumes from the last
checkpoint, with the input in a new order drawn from (seed, step). With more
--steps it continues a finished run. Watch it with
`tensorboard --logdir OUTPUT/events`.

Alone the command trains on one device, or with --devices on several that
share every mini-batch. With --cluster local it starts processes of this
machine and restarts those that die; on several machines, start it once for
each process with TF_CONFIG (docs/training.md).
"""


def _cluster_parser() -> argparse.ArgumentParser:
    """The flags that a supervisor does not pass on."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add = parser.add_argument_group("processes of this machine").add_argument
    add(
        "--cluster",
        choices=["local"],
        help="train in several processes, and restart those that die",
    )
    add("--workers", type=int, default=2, help="processes that compute gradients (default 2)")
    add(
        "--parameter-servers",
        type=int,
        default=1,
        help="processes that hold the weights, for asynchronous training; 0 for workers that "
        "share every mini-batch (default 1)",
    )
    return parser


def _parser() -> argparse.ArgumentParser:
    lines = (
        f"  {name:<23} {(recipe.__doc__ or '').splitlines()[0]}"
        for name, recipe in recipes.RECIPES.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m training.train",
        usage=usage("RECIPE --features FEATURES --output RUN"),
        description=_DESCRIPTION,
        epilog="recipes:\n" + "\n".join(lines) + "\n\n"
        "Exit codes: 0 done, 1 the training failed, 2 bad input, 4 another process of\n"
        "the cluster was lost (run the same command again), 5 another job has the\n"
        "output folder, 130 interrupted.",
        parents=[_cluster_parser()],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("recipe", metavar="RECIPE", help="one of the recipes below")
    add("--features", required=True, help="folder made by pipelines.extract_features")
    add("--output", required=True, help="folder of the run to write or to resume")
    add(
        "--devices",
        type=int,
        default=1,
        help="devices of each process that share a mini-batch: GPUs, or parts of a CPU (default 1)",
    )
    add(
        "--skip-damaged-shards",
        type=int,
        default=0,
        metavar="N",
        help="tolerate up to N unreadable training shards (default 0)",
    )
    add(
        "--wait-seconds",
        type=float,
        default=600.0,
        help="limit of every wait for another process of a cluster (default 600)",
    )
    add(
        "--wait-for-lease",
        action="store_true",
        help="if another job trains into the output folder, wait until it has ended",
    )
    overrides.add_arguments(parser)
    return parser


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, Recipe]:
    """The arguments of the command, and the recipe that they make.

    Raises:
      InputError: a number is out of range, or there is no such recipe or field.
    """
    args = _parser().parse_args(argv)
    _check_sizes(args)
    return args, overrides.override(recipes.find_recipe(args.recipe), overrides.settings_of(args))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args, recipe = parse(argv)
    output = files.absolute(args.output)
    tensorflow_paths.require_opens("--output", output, is_written=True)
    cluster = cluster_of_environment()
    if cluster and cluster.asynchronous and cluster.role in (WORKER, PARAMETER_SERVER):
        require_free_port(cluster.address)
        serve(cluster, output, args.wait_seconds)  # the chief sends everything else
        return OK
    job = TrainingJob(
        recipe=recipe,
        features=open_features(
            files.absolute(args.features),
            num_labels=recipe.num_labels,
            training_subset=recipe.training_subset,
            normalise=recipe.normalise,
        ),
        output=output,
        cluster=cluster,
        num_devices=args.devices,
        max_skipped_shards=args.skip_damaged_shards,
        wait_seconds=args.wait_seconds,
    )
    if not job.writes_run:
        return _run(job, args, argv, {})
    folders.claim_output(output, folders.RUN, inputs=(job.features.folder,))
    folders.check_writable(output)
    with leases.hold(output, wait=args.wait_for_lease) as lease:
        return _run(job, args, argv, lease.environment if lease else {})


def _run(
    job: TrainingJob,
    args: argparse.Namespace,
    argv: Sequence[str] | None,
    environment: Mapping[str, str],
) -> int:
    """Do the part of this process, or start others in this environment; returns the exit code."""
    recipe, output, cluster = job.recipe, job.output, job.cluster
    claim(output, recipe, job.features)
    if cluster and cluster.role == EVALUATOR:
        with Watchdog(math.inf):  # ends this process with its supervisor
            validate_checkpoints(recipe, job.features, output, wait_seconds=args.wait_seconds)
        return OK
    if cluster:
        require_free_port(cluster.address)
    if job.writes_run and _is_finished(job):
        return OK
    if args.cluster and not cluster:
        _, arguments = _cluster_parser().parse_known_args(argv)
        return supervise(
            arguments,
            environment,
            num_workers=args.workers,
            num_servers=args.parameter_servers,
            validates=bool(job.features.num_patches.get(VALIDATION)),
        )
    if job.writes_run:
        progress.begin(output, folders.RUN, unit="steps", total=recipe.steps)
        print(_intervals(recipe), flush=True)
        _warn_of_whole_shards(job.features)
    start = time.monotonic()
    run = train_and_export(job)
    if run:
        progress.end(output)
        seconds = time.monotonic() - start
        report(f"{run.steps} steps, {duration(seconds)}; {_summary(run)}", {}, args.output)
    return OK


def _is_finished(job: TrainingJob) -> bool:
    """Whether nothing is left to train; if something is, make the run unfinished."""
    finished = folders.find_document(job.output, Run)
    if finished and finished.steps >= job.recipe.steps:
        print(f"{job.output} is finished, at {finished.steps} steps; more --steps continue the run")
        return True
    files.delete(files.join(job.output, folders.RUN))
    if job.cluster is None and not job.features.num_patches.get(VALIDATION):
        print(f"{job.features.folder} has no {VALIDATION} patches: no validation", file=sys.stderr)
    return False


def _warn_of_whole_shards(features: FeatureSet) -> None:
    if not features.shards[TRAIN].indexed:
        print(
            f"warning: the training shards of {features.folder} have no index, as those of older "
            "versions, and are read whole: a short training sees all patches of few videos. "
            f"`python -m pipelines.index_features --features {features.folder}` adds the index "
            "without decoding anything",
            file=sys.stderr,
        )


def _intervals(recipe: Recipe) -> str:
    return (
        f"{recipe.steps:,} steps of {recipe.batch_size} patches; a point of the curves every "
        f"{recipe.report_steps:,} steps; validation on {recipe.validation_patches:,} patches "
        f"every {recipe.validation_steps:,} steps"
    )


def _check_sizes(args: argparse.Namespace) -> None:
    least = {
        "--workers": (args.workers, 1),
        "--parameter-servers": (args.parameter_servers, 0),
        "--devices": (args.devices, 1),
        "--skip-damaged-shards": (args.skip_damaged_shards, 0),
        "--wait-seconds": (args.wait_seconds, 1),
    }
    for flag, (number, minimum) in least.items():
        if not minimum <= number < math.inf:
            raise InputError(f"{flag} must be at least {minimum}; received {number}")


def _summary(run: Run) -> str:
    precision = run.metrics.get("validation_mean_average_precision")
    accuracy = run.metrics.get("validation_accuracy")
    if "validation_accuracy" not in run.metrics:
        return "no validation"
    return f"validation mAP {_rounded(precision)}, 1-best accuracy {_rounded(accuracy)}"


def _rounded(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    run_command(main)
