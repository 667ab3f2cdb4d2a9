"""Claims: training is as fast with real input, and scales with asynchronous workers.

Each network trains on mini-batches of 128 from the input pipeline and, in turn, on one batch in
memory. `real_over_synthetic_NETWORK` is the ratio of patches per second on all cores,
`input_wait_NETWORK` the share of a step that waits for a batch. --quick measures the fully
connected network, and ResNet-50 with a quarter of the width.

`narrow_over_one_replica` is the rate of that ResNet-50 over its rate with oneDNN as TensorFlow
chooses by itself. Both train in one replica: the name is that of the goal, to use all cores.
TensorFlow leaves oneDNN out on processors without AVX512-VNNI; on those that have it, both rates
are of the same code and the ratio is about 1. `narrow_two_devices_over_one`, without --quick, is
the rate with two replicas that share a mini-batch of 32 over that with one, both with oneDNN.

Without --quick, the fully connected network also trains in one process, in two synchronous
processes, and on a parameter server with one and with two workers. Each label adds a pattern to its
patches, so that there is something to learn. A separate process validates the checkpoints of each
run; the target is the lowest validation loss that all runs reach.

    python -m tests.benchmarks.training --quick
"""

import dataclasses
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from features.contracts import folders
from features.contracts.documents import Run
from features.front_end.params import LogMelParams
from tests.benchmarks.input_pipeline import (
    BATCH_SIZE,
    NUM_LABELS,
    NUM_SHARDS,
    write_features,
)
from tests.benchmarks.measurement import (
    DRIFT,
    Lane,
    is_quick,
    make_table,
    report,
    require_possible,
)
from training import recipes
from training.config import Recipe
from training.loops.throughput import patches_per_second

# At most so many rounds, or three that take longer than this.
NUM_ROUNDS, SECONDS_OF_ROUNDS = 9, 30.0
STEPS_A_ROUND = {"fully_connected": 50, "resnet50": 4}
OTHER_STEPS_A_ROUND = 2
RUN_STEPS, CHECKPOINT_MINUTES, LEARNABLE_LABELS = 400, 0.05, 100
NARROW = ("resnet50", "--set=width=0.25", "--steps=40", "--batch-size=32")
RUNS = {
    "one_process": ("--workers=1", "--parameter-servers=0"),
    "synchronous_2_workers": ("--workers=2", "--parameter-servers=0"),
    "parameter_server_1_worker": ("--workers=1",),
    "parameter_server_2_workers": ("--workers=2",),
}


def narrow_resnet50() -> Recipe:
    """ResNet-50 with a quarter of the width, in float32."""
    small = dataclasses.replace(recipes.resnet50().model, width=0.25)
    return dataclasses.replace(recipes.resnet50(), model=small)


def networks(*, quick: bool) -> dict[str, Recipe]:
    """A recipe of each network."""
    if quick:
        return {"fully_connected": recipes.fully_connected(), "resnet50": narrow_resnet50()}
    found: dict[Any, Recipe] = {}
    for recipe in recipes.RECIPES.values():
        found.setdefault(recipe().model, dataclasses.replace(recipe(), precision="bfloat16"))
    return {recipe.name: recipe for recipe in found.values()} | {"narrow": narrow_resnet50()}


def rates(name: str, recipe: Recipe, folder: str) -> tuple[float, float, float]:
    """Patches/s of real input, the ratio to one batch in memory, and the share of waiting."""
    import tensorflow as tf

    from training.input.batches import open_features, training_batches
    from training.loops.optimizer import adam
    from training.loops.step import fresh_model, replica_step

    features = open_features(folder, num_labels=NUM_LABELS, training_subset=None)
    model = fresh_model(recipe, features)
    optimizer = adam(recipe, model.trainable_variables)
    batches = training_batches(features, recipe, step=0)
    step = tf.function(
        replica_step(model, optimizer, features.front_end, recipe.options),
        input_signature=[batches.element_spec],
    )
    real = iter(batches)
    kept = next(real)
    step(kept)
    num_steps = STEPS_A_ROUND.get(name, OTHER_STEPS_A_ROUND)

    def rate(source: Iterator[Any]) -> tuple[float, float]:
        start, waited = time.monotonic(), 0.0
        for _ in range(num_steps):
            waiting_from = time.monotonic()
            batch = next(source)
            waited += time.monotonic() - waiting_from
            step(batch)
        seconds = time.monotonic() - start
        return num_steps * BATCH_SIZE / seconds, waited / seconds

    rounds: list[tuple[tuple[float, float], tuple[float, float]]] = []
    start = time.monotonic()
    while len(rounds) < NUM_ROUNDS and (
        len(rounds) < 3 or time.monotonic() - start < SECONDS_OF_ROUNDS
    ):
        rounds.append((rate(real), rate(iter([kept] * num_steps))))
    return (
        statistics.median(of_real for (of_real, _), _ in rounds),
        statistics.median(of_real / of_kept for (of_real, _), (of_kept, _) in rounds),
        statistics.median(waited for (_, waited), _ in rounds),
    )


def plain_rate(recipe: Recipe) -> float:
    """Patches/s of one batch in memory with oneDNN only where TensorFlow itself would use it."""
    has_vnni = "avx512_vnni" in Path("/proc/cpuinfo").read_text()
    with Lane({"TF_ENABLE_ONEDNN_OPTS": str(int(has_vnni))}) as lane:
        patch_shape = LogMelParams().patch_shape
        _, rate = lane(patches_per_second, recipe, num_labels=NUM_LABELS, patch_shape=patch_shape)
    return float(rate)


def train(features: str, output: Path, *flags: str) -> float:
    """Patches/s of a command."""
    command = [sys.executable, "-m", "training.train", *flags]
    command += [f"--features={features}", f"--output={output}"]
    subprocess.run(command, check=True, capture_output=True)
    rate = folders.read_document(str(output), Run).metrics["patches_per_second"]
    assert rate is not None
    return rate


def run(
    features: str, output: Path, flags: Sequence[str]
) -> tuple[float, list[tuple[float, float]]]:
    """Patches/s of a command, and (seconds since the first point, validation loss) pairs."""
    more = [f"--steps={RUN_STEPS}", f"--set=checkpoint_minutes={CHECKPOINT_MINUTES}"]
    more += ["--cluster=local", "--learning-rate=3e-4"]
    rate = train(features, output, "fully_connected", *flags, *more)
    return rate, validation_losses(output)


def validation_losses(output: Path) -> list[tuple[float, float]]:
    """When training reached each validated step, and the validation loss of the step."""
    import tensorflow as tf

    points: dict[str, list[tuple[int, float, float]]] = {"loss": [], "validation/loss": []}
    for path in output.glob("events/*"):
        for serialized in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(serialized)
            for value in event.summary.value:
                if value.tag in points:
                    loss = float(tf.make_ndarray(value.tensor))
                    points[value.tag].append((event.step, event.wall_time, loss))
    steps, times, _ = zip(*sorted(points["loss"]), strict=True)
    return [
        (float(np.interp(step, steps, times)) - times[0], loss)
        for step, _, loss in sorted(points["validation/loss"])
    ]


def seconds_to(target: float, losses: Sequence[tuple[float, float]]) -> float:
    """When a falling loss first reached a target, by linear interpolation."""
    reached = next(index for index, (_, loss) in enumerate(losses) if loss <= target)
    if reached == 0:
        return losses[0][0]
    (before, above), (after, below) = losses[reached - 1 : reached + 1]
    return before + (after - before) * (above - target) / (above - below)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    quick = is_quick(__doc__, argv)
    result: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, Lane() as writing:
        features = str(Path(folder, "features"))
        writing(write_features, features)
        rows = []
        for name, recipe in networks(quick=quick).items():
            with Lane() as lane:
                _, (real, ratio, waited) = lane(rates, name, recipe, features)
            # The same step, and the reading of its input.
            require_possible(
                f"{name}: real input over memory", ratio, at_least=0, at_most=1 + DRIFT
            )
            rows.append([name, recipe.precision, real, ratio, waited])
            result |= {f"real_over_synthetic_{name}": ratio, f"input_wait_{name}": waited}
            if recipe == narrow_resnet50():
                result["narrow_over_one_replica"] = real / plain_rate(recipe)
        header = ["network", "precision", "patches/s", "over one batch in memory", "wait"]
        tables = {"input": make_table(header, rows)}
        if not quick:
            one, two = (
                train(features, Path(folder, f"{number}"), *NARROW, f"--devices={number}")
                for number in (1, 2)
            )
            result["narrow_two_devices_over_one"] = two / one
            learnable = str(Path(folder, "learnable"))
            splits = {"train": NUM_SHARDS, "validation": 1}
            writing(write_features, learnable, splits=splits, learnable_labels=LEARNABLE_LABELS)
            runs = {name: run(learnable, Path(folder, name), RUNS[name]) for name in RUNS}
            target = max(min(loss for _, loss in losses) for _, losses in runs.values())
            rows = []
            for name, (rate, losses) in runs.items():
                seconds = seconds_to(target, losses)
                rows.append([name, rate, seconds])
                result |= {f"patches_per_second_{name}": rate, f"seconds_to_loss_{name}": seconds}
            header = ["strategy", "patches/s", f"s to a validation loss of {target:.4f}"]
            tables["strategies"] = make_table(header, rows)
    report(result, tables)
    return 0


if __name__ == "__main__":
    sys.exit(main())
