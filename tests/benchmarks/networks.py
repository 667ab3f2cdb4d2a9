"""Speed of training and inference of each network, and its share of the peak of the processor.

Mini-batches of 128 patches and 3,087 labels on all cores, in float32 and bfloat16. The peak is the
speed of TensorFlow's product of two large matrices in the same precision, measured before and
after. A network needs two operations for each multiply of a patch in inference, and three times as
many in training. The fastest of several repeats counts, because other processes only slow it down.

    python -m tests.benchmarks.networks --quick

bfloat16 is left out on a processor that only emulates it. `--quick` uses the first precision that
is left and batches of 16, which understates the fully connected network: its optimizer takes as
long for 16 patches as for 128.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import training  # noqa: F401  (TensorFlow, quietly)

# isort: split
import tensorflow as tf

from tests.benchmarks.measurement import computes_bfloat16, make_table, report, require_possible
from tests.benchmarks.steps import (
    LARGEST_SHARE,
    TRAINING_OVER_INFERENCE,
    build,
    inference_step,
    training_step,
)
from training import recipes
from training.loops.optimizer import adam
from training.models.counting import cost_of

NETWORKS = ("fully_connected", "alexnet", "vgg", "inception_v3", "resnet50", "small")
PRECISIONS = ("bfloat16", "float32")
_MATRIX_SIZE = 2_048
PRODUCT_OPERATIONS = 2 * _MATRIX_SIZE**3


def seconds_of(step: Callable[[], Any], seconds: float) -> float:
    """The shortest time of a step, which is repeated at least twice and for `seconds`."""
    times: list[float] = []
    while len(times) < 2 or sum(times) < seconds:
        start = time.perf_counter()
        for tensor in tf.nest.flatten(step()):
            tensor.numpy()
        times.append(time.perf_counter() - start)
    return min(times)


def product_of(precision: str) -> Callable[[], tf.Tensor]:
    """A matrix product of `PRODUCT_OPERATIONS`."""
    dtype = tf.as_dtype(precision)
    left, right = (
        tf.cast(tf.random.stateless_normal([_MATRIX_SIZE] * 2, [0, seed]), dtype) for seed in (1, 2)
    )
    return tf.function(lambda: tf.reduce_max(tf.matmul(left, right)))


def peak_of(precision: str) -> float:
    """Operations per second of a matrix product."""
    product = product_of(precision)
    product()
    return PRODUCT_OPERATIONS / seconds_of(product, 1.0)


def measure(network: str, precision: str, *, batch_size: int, seconds: float) -> dict[str, float]:
    """Speeds of a network, in patches per second, and their shares of the peak."""
    peak = peak_of(precision)
    model = build(network, precision)
    operations = 2 * cost_of(model).multiplies
    infer = inference_step(model, batch_size)
    infer()
    inference = batch_size / seconds_of(infer, seconds)
    optimizer = adam(recipes.find_recipe(network), model.trainable_variables)
    train = training_step(model, optimizer, batch_size)
    train()
    training_rate = batch_size / seconds_of(train, seconds)
    peak = max(peak, peak_of(precision))
    shares = {
        "training_share": training_rate * operations * TRAINING_OVER_INFERENCE / peak,
        "inference_share": inference * operations / peak,
    }
    for name, share in shares.items():
        require_possible(f"{network}: {name}", share, at_least=0, at_most=LARGEST_SHARE)
    return {
        "training": training_rate,
        "inference": inference,
        "peak_gflops": peak / 1e9,
        **shares,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one precision and small batches")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    args = parser.parse_args(argv)
    precisions = PRECISIONS if computes_bfloat16() else PRECISIONS[1:]
    precisions = precisions[:1] if args.quick else precisions
    size, seconds = (16, 0.2) if args.quick else (128, 2.0)
    rates = {}
    for network in args.networks:
        for precision in precisions:
            rates[network, precision] = measure(
                network, precision, batch_size=size, seconds=seconds
            )
    columns = {
        "training": "trains, patches/s",
        "training_share": "of the peak",
        "inference": "infers, patches/s",
        "inference_share": "of the peak",
        "peak_gflops": "peak, GFLOP/s",
    }
    rows = [[*key, *(rate[column] for column in columns)] for key, rate in rates.items()]
    report(
        {
            f"{network}_{precision}_{column}": rate[column]
            for (network, precision), rate in rates.items()
            for column in columns
        },
        {"speeds": make_table(["network", "precision", *columns.values()], rows)},
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
