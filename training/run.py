"""One run in the role of this process: train, leave out damaged shards, export, write run.json."""

import dataclasses
import functools
import math
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from features.contracts import folders
from features.contracts.documents import Run, VocabularyReference
from features.errors import JobFailedError
from training.config import Recipe
from training.distributed.cluster import Cluster, meet
from training.distributed.strategies import synchronous_strategy
from training.distributed.watchdog import LostPeerError, Watchdog
from training.export import export
from training.input.batches import TRAIN, FeatureSet, validation_batches
from training.input.shards import find_damage, names_damage
from training.loops.asynchronous import train_asynchronously
from training.loops.checkpoints import last_step, restore_last_weights, skip_shard, skipped_shards
from training.loops.recorder import TrainedRun
from training.loops.step import failure_of, fresh_model
from training.loops.synchronous import train
from training.loops.validation import ValidationMetrics, inference, validate
from training.model_card import write_cards


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """What this process trains, and how.

    Attributes:
      recipe: what to train.
      features: what to train on.
      output: folder of the run.
      cluster: the processes that train together; None for this process alone.
      num_devices: devices of this process that share a mini-batch.
      max_skipped_shards: damaged training shards to leave out.
      wait_seconds: limit of every wait for another process.
    """

    recipe: Recipe
    features: FeatureSet
    output: str
    cluster: Cluster | None
    num_devices: int
    max_skipped_shards: int
    wait_seconds: float

    @property
    def writes_run(self) -> bool:
        """Whether this process exports the run and writes run.json."""
        return self.cluster is None or self.cluster.is_chief


def train_and_export(job: TrainingJob) -> Run | None:
    """Train, export and write run.json; returns its content, None in a process that writes none.

    Raises:
      LostPeerError: another process of the cluster is lost.
      InterruptedRunError: a person stopped the run.
      JobFailedError: something is not finite, or a damaged shard may not be left out.
    """
    # A process alone waits for no other.
    with Watchdog(job.wait_seconds if job.cluster else math.inf) as watchdog:
        try:
            trained, skipped = _train(job, watchdog)
        except tf.errors.OpError as error:
            raise failure_of(error, last_step(job.output)) from error
        return _export(job, trained, skipped) if job.writes_run else None


def _export(job: TrainingJob, trained: TrainedRun, skipped: Sequence[str]) -> Run:
    """Export the last checkpoint, validated, and write run.json."""
    recipe, features = job.recipe, job.features
    model = fresh_model(recipe, features)
    restore_last_weights(job.output, model, recipe)
    validation = trained.validation
    validation_set = validation_batches(features, recipe)
    if validation is None and validation_set is not None:
        softmax = recipe.options.softmax
        logits_of = inference(model, features.front_end.storage, softmax=softmax)
        validation = validate(logits_of, validation_set, softmax=softmax)
    folder = export(model, recipe, features, job.output)
    metrics = _metrics(trained, validation)
    write_cards(folder, recipe, features, trained.steps, metrics)
    document = Run(
        made_by=folders.made_by(),
        recipe=recipe.to_json(),
        recipe_fingerprint=recipe.fingerprint,
        features=features.folder,
        features_fingerprint=features.fingerprint,
        front_end_fingerprint=features.front_end.fingerprint,
        vocabulary=VocabularyReference(
            num_labels=len(features.vocabulary), fingerprint=features.vocabulary.fingerprint
        ),
        skipped_shards=tuple(skipped),
        steps=trained.steps,
        metrics=metrics,
    )
    folders.write_document(job.output, document)
    return document


def _train(job: TrainingJob, watchdog: Watchdog) -> tuple[TrainedRun, list[str]]:
    """Train in the role of this process; returns also the damaged shards that were left out."""
    cluster = job.cluster
    shares_batches = cluster is not None and not cluster.asynchronous
    stop_requested = _catch_signals(only_note=shares_batches)
    if cluster and shares_batches:
        meet(cluster, job.wait_seconds)
    if cluster is None or shares_batches:
        with watchdog.waiting_for("the other workers"):
            strategy = synchronous_strategy(cluster, job.num_devices)
    while True:
        skipped = skipped_shards(job.output)[: job.max_skipped_shards]
        rest = functools.reduce(FeatureSet.without, skipped, job.features)
        try:
            if cluster and cluster.asynchronous:
                trained = train_asynchronously(
                    job.recipe, rest, job.output, cluster=cluster, watchdog=watchdog
                )
            else:
                trained = train(
                    job.recipe,
                    rest,
                    job.output,
                    strategy=strategy,
                    cluster=cluster,
                    stop_requested=stop_requested,
                    watchdog=watchdog,
                )
        except tf.errors.OpError as error:
            if not names_damage(error):
                raise
            if not job.writes_run:
                raise LostPeerError("a shard is damaged; the first worker looks for it") from error
            may_skip = len(skipped) < job.max_skipped_shards
            damage = _note_damage(rest, job.output, may_skip=may_skip)
            if cluster:  # its processes cannot start over
                raise LostPeerError(f"{damage}; run the same command again") from error
            print(f"{damage}; training continues without this shard", file=sys.stderr)
        else:
            return trained, skipped


def _note_damage(features: FeatureSet, output: str, *, may_skip: bool) -> str:
    """Find the damaged shard and note that the run leaves it out; returns what is wrong with it.

    Raises:
      JobFailedError: the shard may not be left out.
    """
    damage = find_damage(features.shards.values())
    if damage is None:
        raise JobFailedError(
            "a shard could not be read, and now all of them can; is the disk failing? "
            "Run the same command again to resume"
        )
    path, problem = damage
    if not may_skip or path not in features.shards[TRAIN]:
        raise JobFailedError(
            f"{problem}; repair it with `python -m pipelines.audit_features --repair`, or leave "
            "the shard out, if it is of the training split, with a higher --skip-damaged-shards"
        )
    skip_shard(output, path)
    return problem


def _catch_signals(*, only_note: bool) -> Callable[[], bool]:
    """Let SIGTERM stop the run as Ctrl-C does; returns a function that tells whether one came.

    Args:
      only_note: do not raise KeyboardInterrupt: workers that share mini-batches stop together.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: False  # only the main thread receives signals
    received = threading.Event()
    handler = (lambda *_: received.set()) if only_note else signal.default_int_handler
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)
    return received.is_set


def _metrics(
    trained: TrainedRun, validation: ValidationMetrics | None
) -> Mapping[str, int | float | None]:
    """The metrics of the last command; None if there was nothing to measure."""
    metrics: dict[str, int | float | None] = {
        "loss": trained.loss,
        "patches_per_second": trained.patches_per_second,
    }
    if trained.staleness is not None:
        metrics["staleness"] = trained.staleness
    if validation:
        fields = dataclasses.asdict(validation)
        metrics |= {f"validation_{name}": value for name, value in fields.items()}
    # JSON has no NaN.
    return {k: None if v is None or math.isnan(v) else v for k, v in metrics.items()}
