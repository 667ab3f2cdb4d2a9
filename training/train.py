"""FEATURES -> RUN: train a network and export it.

python -m training.train resnet50 --features features --output run
"""

import argparse
import dataclasses
import functools
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence

import tensorflow as tf

from features.contracts import folders
from features.contracts.documents import Run, VocabularyReference
from features.errors import OK, InputError, JobFailedError, run_command
from features.storage import files
from features.terminal import duration, report
from training import overrides, recipes
from training.config import Recipe
from training.distributed.cluster import (
    EVALUATOR,
    PARAMETER_SERVER,
    WORKER,
    Cluster,
    cluster_of_environment,
    meet,
    require_free_port,
    serve,
)
from training.distributed.strategies import synchronous_strategy
from training.distributed.supervisor import supervise
from training.distributed.watchdog import LostPeerError, Watchdog
from training.export import export
from training.input.batches import (
    TRAIN,
    VALIDATION,
    FeatureSet,
    find_damage,
    open_features,
    validation_batches,
)
from training.loops.asynchronous import train_asynchronously
from training.loops.checkpoints import (
    claim,
    last_step,
    restore_last_weights,
    skip_shard,
    skipped_shards,
)
from training.loops.evaluator import validate_checkpoints
from training.loops.step import failure_of, fresh_model
from training.loops.synchronous import TrainedRun, train
from training.loops.validation import ValidationMetrics, inference, validate

_DESCRIPTION = """\
Train a network on extracted features and export it as a SavedModel.

Run the same command again after any interruption: it goes on from the last
checkpoint, with the input in a new order drawn from (seed, step). With more
--steps it goes on from where it ended. Watch it with
`tensorboard --logdir OUTPUT/events`.

Alone the command trains on one device, or with --devices on several that
share every mini-batch. With --cluster local it starts processes of this
machine and watches over them; on machines of yours, start it once in each
with TF_CONFIG (docs/training.md).
"""


def _cluster_parser() -> argparse.ArgumentParser:
    """The flags that a supervisor keeps to itself."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add = parser.add_argument_group("processes of this machine").add_argument
    add("--cluster", choices=["local"], help="train in several processes, and watch over them")
    add("--workers", type=int, default=2, help="that compute gradients (default 2)")
    add(
        "--parameter-servers",
        type=int,
        default=1,
        help="that hold the weights, for asynchronous training; 0 for workers that share every "
        "mini-batch (default 1)",
    )
    return parser


def _parser() -> argparse.ArgumentParser:
    lines = (
        f"  {name:<23} {(recipe.__doc__ or '').splitlines()[0]}"
        for name, recipe in recipes.RECIPES.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m training.train",
        description=_DESCRIPTION,
        epilog="recipes:\n" + "\n".join(lines) + "\n\n"
        "Exit codes: 0 done, 1 the training failed, 2 bad input, 4 another process of\n"
        "the cluster was lost (run the same command again), 130 interrupted.",
        parents=[_cluster_parser()],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("recipe", metavar="RECIPE", help="one of the recipes below")
    add("--features", required=True, help="folder made by pipelines.extract_features")
    add("--output", required=True, help="folder of the run to write, or to go on with")
    add(
        "--devices",
        type=int,
        default=1,
        help="of each process that share a mini-batch: GPUs, or parts of a CPU (default 1)",
    )
    add(
        "--skip-damaged-shards",
        type=int,
        default=0,
        metavar="N",
        help="go on without as many shards that cannot be read (default 0)",
    )
    add(
        "--wait-seconds",
        type=float,
        default=600.0,
        help="for another process of a cluster, before giving up (default 600)",
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
    source, output = files.absolute(args.features), files.absolute(args.output)
    cluster = cluster_of_environment()
    if cluster and cluster.asynchronous and cluster.role in (WORKER, PARAMETER_SERVER):
        # All that it needs to know comes from the chief.
        require_free_port(cluster.address)
        serve(cluster, output, args.wait_seconds)
        return OK

    features = open_features(
        source,
        num_labels=recipe.num_labels,
        training_subset=recipe.training_subset,
        normalise=recipe.normalise,
    )
    writes = cluster is None or cluster.is_chief
    if writes:
        folders.claim_output(output, folders.RUN, inputs=(source,))
        folders.check_writable(output)
    claim(output, recipe, features)
    if cluster and cluster.role == EVALUATOR:
        validate_checkpoints(recipe, features, output, watchdog=Watchdog(args.wait_seconds))
        return OK
    if cluster:
        require_free_port(cluster.address)
    if writes:
        finished = folders.find_document(output, Run)
        if finished and finished.steps >= recipe.steps:
            print(f"{args.output} is finished, at {finished.steps} steps; --steps goes on")
            return OK
        files.delete(files.join(output, folders.RUN))
        if not cluster and not features.num_patches.get(VALIDATION):
            print(f"{args.features} has no {VALIDATION} patches: going on without", file=sys.stderr)
    if args.cluster and not cluster:
        _, arguments = _cluster_parser().parse_known_args(argv)
        return supervise(arguments, num_workers=args.workers, num_servers=args.parameter_servers)

    if writes:
        print(
            f"{recipe.steps:,} steps of {recipe.batch_size} patches; a point of the curves every "
            f"{recipe.report_steps:,} steps; validation on {recipe.validation_patches:,} patches "
            f"every {recipe.validation_steps:,} steps"
        )
    start = time.monotonic()
    try:
        trained, skipped = _train(args, recipe, features, output, cluster)
    except tf.errors.OpError as error:
        raise failure_of(error, last_step(output)) from error
    if not writes:
        return OK
    model = fresh_model(recipe, features)
    restore_last_weights(output, model, recipe)
    validation = trained.validation
    validation_set = validation_batches(features, recipe)
    if validation is None and validation_set is not None:
        validation = validate(inference(model, features.front_end.storage), validation_set)
    export(model, recipe, features, output)
    seconds = time.monotonic() - start
    document = Run(
        made_by=folders.made_by(),
        recipe=recipe.to_json(),
        recipe_fingerprint=recipe.fingerprint,
        features=source,
        features_fingerprint=features.fingerprint,
        front_end_fingerprint=features.front_end.fingerprint,
        vocabulary=VocabularyReference(
            num_labels=len(features.vocabulary), fingerprint=features.vocabulary.fingerprint
        ),
        skipped_shards=tuple(skipped),
        steps=trained.steps,
        metrics=_metrics(trained, validation),
    )
    folders.write_document(output, document)
    report(f"{trained.steps} steps, {duration(seconds)}; {_summary(validation)}", {}, args.output)
    return OK


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


def _train(
    args: argparse.Namespace,
    recipe: Recipe,
    features: FeatureSet,
    output: str,
    cluster: Cluster | None,
) -> tuple[TrainedRun, list[str]]:
    """Train in this process's role; returns also the damaged shards that were left out."""
    # A process alone waits for nobody.
    watchdog = Watchdog(args.wait_seconds if cluster else math.inf)
    together = cluster is not None and not cluster.asynchronous
    stop_requested = _catch_signals(to_be_asked=together)
    if cluster and together:
        meet(cluster, args.wait_seconds)
    if cluster is None or together:
        with watchdog.waiting_for("the other workers"):
            strategy = synchronous_strategy(cluster, args.devices)
    while True:
        skipped = skipped_shards(output)[: args.skip_damaged_shards]
        rest = functools.reduce(FeatureSet.without, skipped, features)
        try:
            if cluster and cluster.asynchronous:
                trained = train_asynchronously(
                    recipe, rest, output, cluster=cluster, watchdog=watchdog
                )
            else:
                trained = train(
                    recipe,
                    rest,
                    output,
                    strategy=strategy,
                    worker=cluster.index if cluster else 0,
                    num_workers=cluster.num_workers if cluster else 1,
                    stop_requested=stop_requested,
                    watchdog=watchdog,
                )
        except tf.errors.DataLossError as error:
            if cluster and not cluster.is_chief:
                raise LostPeerError("a shard is damaged; the first worker looks for it") from error
            damage = _note_damage(rest, output, may_skip=len(skipped) < args.skip_damaged_shards)
            if cluster:  # whose processes cannot begin anew
                raise LostPeerError(f"{damage}; run the same command again") from error
            print(f"{damage}; going on without this shard", file=sys.stderr)
        else:
            return trained, skipped


def _note_damage(features: FeatureSet, output: str, *, may_skip: bool) -> str:
    """Find the damaged shard and note that the run goes on without it; returns what is wrong.

    Raises:
      JobFailedError: it may not go on so.
    """
    damage = find_damage([path for paths in features.shards.values() for path in paths])
    if damage is None:
        raise JobFailedError(
            "a shard could not be read, and now all of them are whole; is the disk failing? "
            "Run the same command again to go on"
        )
    path, problem = damage
    if not may_skip or path not in features.shards[TRAIN]:
        raise JobFailedError(
            f"{problem}; repair it with `python -m pipelines.audit_features --repair`, or go on "
            "without this shard, where it is of the training split, with a higher "
            "--skip-damaged-shards"
        )
    skip_shard(output, path)
    return problem


def _catch_signals(*, to_be_asked: bool) -> Callable[[], bool]:
    """Let SIGTERM stop the run as Ctrl-C does; returns a function that says whether one came.

    Args:
      to_be_asked: only note signals, instead of raising KeyboardInterrupt: workers that share
        mini-batches must stop together.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: False  # signals come to the main thread alone
    came = threading.Event()
    handler = (lambda *_: came.set()) if to_be_asked else signal.default_int_handler
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)
    return came.is_set


def _metrics(
    trained: TrainedRun, validation: ValidationMetrics | None
) -> dict[str, int | float | None]:
    """The figures of the last command; null where there was nothing to measure."""
    figures: dict[str, int | float | None] = {
        "loss": trained.loss,
        "patches_per_second": trained.patches_per_second,
    }
    if validation:
        metrics = dataclasses.asdict(validation)
        figures |= {f"validation_{name}": figure for name, figure in metrics.items()}
    # JSON has no NaN.
    return {k: None if v is None or math.isnan(v) else v for k, v in figures.items()}


def _summary(validation: ValidationMetrics | None) -> str:
    if validation is None:
        return "no validation"
    return (
        f"validation mAP {validation.mean_average_precision:.3f}, "
        f"1-best accuracy {validation.accuracy:.3f}"
    )


if __name__ == "__main__":
    run_command(main)
