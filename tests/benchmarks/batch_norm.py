"""Claim: with fused batch normalization ResNet-50 and Inception V3 train faster.

The peer is Keras 3 on TensorFlow, whose batch normalization is a dozen operations. Our code builds
its networks too, with `keras` in place of `tf_keras`, in a separate process. The rest of the step
is equal: loss, gradients, fused Adam, no XLA. If PyTorch is installed (it is not a dependency), all
five networks also train in PyTorch, with channels last and fused Adam.

All start from the same weights and must give the same logits, and the same loss after the steps.
The benchmark compares CPU time on all cores, in bfloat16 unless the processor only emulates it.
With large batches Keras 3 also waits for memory, so that the ratio grows with the batch.

    python -m tests.benchmarks.batch_norm --quick
"""

import dataclasses
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np

from tests.benchmarks.measurement import (
    Lane,
    computes_bfloat16,
    is_quick,
    make_table,
    median_of,
    report,
    require_possible,
)
from tests.benchmarks.steps import (
    LARGEST_SHARE,
    TRAINING_OVER_INFERENCE,
    batch,
    build,
    training_step,
)

LEARNING_RATE, EPSILON = 1e-4, 1e-7
# Relative differences between frameworks: of the logits of the first step (root mean square) and of
# the loss after the last step.
TOLERANCES = {"float32": (1e-3, 1e-3), "bfloat16": (0.25, 0.02)}


@dataclasses.dataclass(frozen=True)
class Case:
    """A network, its precision and its batch size."""

    network: str
    precision: str
    batch_size: int


_steps: dict[Case, Callable[[], float]] = {}


def kernels(shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """Draw weights, the same for every framework: float32, outputs last."""
    rng = np.random.default_rng(1)
    scales = [np.sqrt(2 / np.prod(shape[:-1])) for shape in shapes]
    return [
        rng.normal(0, scale, shape).astype(np.float32)
        for shape, scale in zip(shapes, scales, strict=True)
    ]


def with_kernels(model: Any) -> Any:
    """The model with the weights that every framework starts from."""
    layers = [layer for layer in model.layers if hasattr(layer, "kernel")]
    # In the order of construction; `model.layers` differs between versions of Keras.
    layers.sort(
        key=lambda layer: (
            *(layer.name == "logits", len(layer.kernel.shape) == 2),
            *(len(layer.name), layer.name),  # as they are numbered
        )
    )
    shapes = [tuple(layer.kernel.shape) for layer in layers]
    for layer, kernel in zip(layers, kernels(shapes), strict=True):
        layer.kernel.assign(kernel)
    return model


def use_keras_3() -> None:
    """Replace tf-keras by Keras 3 for the code of the networks."""
    import training  # noqa: F401  (TensorFlow, quietly)

    import keras  # isort: skip
    from tf_keras.optimizers import legacy  # isort: skip

    keras.optimizers.legacy = legacy
    sys.modules["tf_keras"] = keras

    from training.models import layers as ours  # isort: skip

    # It moves its statistics itself.
    vars(ours)["BatchNormalization"] = keras.layers.BatchNormalization
    vars(ours)["move_statistics"] = lambda *_: None


def build_in_tensorflow(case: Case) -> np.ndarray:
    """Build the step of a case and run it; returns the logits of the batch."""
    import training  # noqa: F401  (TensorFlow, quietly)

    import tf_keras  # isort: skip

    model = with_kernels(build(case.network, case.precision))
    optimizer = tf_keras.optimizers.legacy.Adam(LEARNING_RATE, epsilon=EPSILON)
    step = training_step(model, optimizer, case.batch_size)
    _steps[case] = lambda: float(step()[0])
    return step()[1].numpy()


def build_in_pytorch(case: Case) -> np.ndarray:
    """`build_in_tensorflow` with PyTorch."""
    # Its LLVM cannot be in one process with that of TensorFlow; nothing here is compiled by it.
    vars(sys)["modules"]["triton"] = None

    import training  # noqa: F401  (TensorFlow, quietly)

    import torch  # isort: skip
    from torch.nn import functional

    from tests.benchmarks.pytorch import Network

    torch.set_num_threads(os.cpu_count() or 1)
    network = Network(with_kernels(build(case.network, "float32")))
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE, eps=EPSILON, fused=True)
    patches, label_ids = (torch.from_numpy(array) for array in batch(case.batch_size))

    def step() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=case.precision == "bfloat16"):
            embedding = network(patches)
        logits = network.logits(embedding)
        total = functional.softplus(logits).sum() - logits.gather(1, label_ids).sum()
        loss = total / logits.numel()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss, logits

    _steps[case] = lambda: float(step()[0].detach())
    return step()[1].detach().numpy()


def train(case: Case) -> float:
    """Run a step; returns the loss."""
    return _steps[case]()


def multiply_matrices(precision: str, times: int) -> int:
    """Multiply large matrices in TensorFlow; returns the number of operations."""
    from tests.benchmarks import networks

    product = networks.product_of(precision)
    for _ in range(times):
        product().numpy()
    return times * networks.PRODUCT_OPERATIONS


def count_operations(case: Case) -> int:
    """Operations of a step, of convolutions and products alone."""
    from training.models.counting import cost_of

    model = build(case.network, case.precision)
    return 2 * TRAINING_OVER_INFERENCE * case.batch_size * cost_of(model).multiplies


def require_slower_than_products(lane: Lane, case: Case, seconds: float) -> None:
    """Make sure that a step of ours has no more operations a CPU second than matrix products."""
    lane(multiply_matrices, case.precision, 1)  # warm-up
    cpu, operations = lane(multiply_matrices, case.precision, 5)
    share = lane(count_operations, case)[1] / seconds / (operations / cpu)
    name = f"{case.network}: speed over that of products"
    require_possible(name, share, at_least=0, at_most=LARGEST_SHARE)


def compare(
    lanes: dict[str, Lane], builders: dict[str, Callable], case: Case, num_rounds: int
) -> dict[str, float]:
    """CPU seconds of a step by framework; checks that the frameworks compute the same."""
    with ThreadPoolExecutor() as pool:  # tracing takes one core each
        futures = {name: pool.submit(lane, builders[name], case) for name, lane in lanes.items()}
        logits = {name: future.result()[1] for name, future in futures.items()}
    rounds, losses = [], {}
    for _ in range(num_rounds):
        measured = {name: lane(train, case) for name, lane in lanes.items()}
        rounds.append({name: seconds for name, (seconds, _) in measured.items()})
        losses = {name: loss for name, (_, loss) in measured.items()}
    logits_tolerance, loss_tolerance = TOLERANCES[case.precision]
    for name in lanes:
        scale = np.sqrt(np.mean(np.square(logits["ours"])))
        apart = np.sqrt(np.mean(np.square(logits[name] - logits["ours"]))) / scale
        assert apart <= logits_tolerance, (name, case, apart)
        assert abs(losses[name] / losses["ours"] - 1) <= loss_tolerance, (name, case, losses)
    return median_of(rounds)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    quick = is_quick(__doc__, argv)
    size, num_rounds = (16, 3) if quick else (128, 2)
    has_pytorch = importlib.util.find_spec("torch") is not None
    if not has_pytorch:
        print("PyTorch is not installed; it is left out")
    builders = {"ours": build_in_tensorflow, "keras": build_in_tensorflow}
    builders["pytorch"] = build_in_pytorch
    precision = "bfloat16" if computes_bfloat16() else "float32"
    cases = [
        (Case("resnet50", precision, size), ["ours", "keras", "pytorch"]),
        (Case("inception_v3", precision, size), ["ours", "keras", "pytorch"]),
    ]
    if not quick and precision == "bfloat16":
        cases.insert(1, (Case("resnet50", "float32", size), ["ours", "keras", "pytorch"]))
    if has_pytorch:
        others = ("fully_connected", "alexnet", "vgg")
        cases += [(Case(network, precision, size), ["ours", "pytorch"]) for network in others]
    rows, ratios = [], {}
    with ExitStack() as stack:
        names = ["ours", "keras", *(["pytorch"] if has_pytorch else [])]
        lanes = {name: stack.enter_context(Lane()) for name in names}
        lanes["keras"](use_keras_3)
        for case, wanted in cases:
            peers = {name: lanes[name] for name in wanted if name in lanes}
            seconds = compare(peers, builders, case, num_rounds)
            require_slower_than_products(lanes["ours"], case, seconds["ours"])
            suffix = case.network + ("" if case.precision == precision else "_float32")
            for name, cpu in seconds.items():
                ratio = cpu / seconds["ours"]
                rows.append([case.network, case.precision, name, case.batch_size / cpu, ratio])
                if name != "ours":
                    ratios[f"{name}_over_ours_{suffix}"] = ratio
    header = ["network", "precision", "framework", "patches per CPU second", "CPU over ours"]
    report(
        {**ratios, "batch_size": size, "precision": precision},
        {"steps": make_table(header, rows)},
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
