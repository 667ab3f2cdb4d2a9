"""FEATURES -> RUN: train a network and export it.

python -m training.train resnet50 --features features --output run
"""

import argparse
import dataclasses
import math
import sys
import time
from collections.abc import Sequence
from typing import Any, get_args

from features import contract, storage
from features.errors import OK, run_command
from features.terminal import duration, report
from training import recipes
from training.checkpoints import claim
from training.config import Precision
from training.data import VALIDATION, open_features
from training.export import export
from training.loop import TrainedModel, train

_DESCRIPTION = """\
Train a network on extracted features and export it as a SavedModel.

Run the same command again after any interruption: it goes on from the last
checkpoint, with the input in a new order drawn from (seed, step). With more
--steps it goes on from where it ended. Watch it with
`tensorboard --logdir OUTPUT/events`.
"""


def _parser() -> argparse.ArgumentParser:
    lines = (
        f"  {name:<23} {(recipe.__doc__ or '').splitlines()[0]}"
        for name, recipe in recipes.RECIPES.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m training.train",
        description=_DESCRIPTION,
        epilog="recipes:\n" + "\n".join(lines) + "\n\n"
        "Exit codes: 0 done, 1 the training failed, 2 bad input, 130 interrupted.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("recipe", metavar="RECIPE", help="one of the recipes below")
    add("--features", required=True, help="folder made by pipelines.extract_features")
    add("--output", required=True, help="folder of the run to write, or to go on with")
    overrides = parser.add_argument_group("instead of the recipe's numbers")
    add = overrides.add_argument
    add("--steps", type=int, help="mini-batches to train on, those of earlier commands included")
    add("--batch-size", type=int, help="patches in a mini-batch")
    add("--learning-rate", type=float, help="of Adam")
    add("--width", type=float, help="times the units or filters of every layer; the paper's: 1")
    add(
        "--network",
        nargs="+",
        metavar="FIELD=VALUE",
        default=[],
        help="fields of the network, such as num_layers=4 units=2000 or bottleneck_units=128",
    )
    add("--seed", type=int, help="of the weights and of the order of the input")
    add(
        "--precision",
        choices=get_args(Precision),
        help="of activations; on CPUs with bfloat16 instructions, ResNet-50 of width 0.25 and up "
        "trains 1.6 times faster in bfloat16",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = _parser().parse_args(argv)
    source, output = storage.absolute(args.features), storage.absolute(args.output)
    recipe = recipes.override(
        recipes.find_recipe(args.recipe),
        steps=args.steps,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        width=args.width,
        seed=args.seed,
        precision=args.precision,
        network=args.network,
    )
    features = open_features(source, num_labels=recipe.num_labels)
    contract.claim_output(output, contract.RUN, inputs=(source,))
    claim(output, recipe, features)
    finished = contract.find_root(output, contract.RUN)
    if finished and finished["steps"] >= recipe.steps:
        print(f"{args.output} is finished, at {finished['steps']} steps; --steps goes on")
        return OK
    storage.delete(storage.join(output, contract.RUN))
    if not features.num_patches.get(VALIDATION):
        print(f"{args.features} has no {VALIDATION} patches: going on without", file=sys.stderr)

    start = time.monotonic()
    trained = train(recipe, features, output)
    export(trained.model, recipe, features, output)
    seconds = time.monotonic() - start
    contract.write_root(
        output,
        contract.RUN,
        {
            "made_by": contract.made_by(),
            "recipe": recipe.to_json(),
            "recipe_fingerprint": recipe.fingerprint,
            "features": source,
            "features_fingerprint": features.fingerprint,
            "front_end_fingerprint": features.front_end.fingerprint,
            "vocabulary": {  # of the outputs: a prefix of the features' vocabulary
                "num_labels": len(features.vocabulary),
                "fingerprint": features.vocabulary.fingerprint,
            },
            "steps": trained.steps,
            "metrics": _metrics(trained),
        },
    )
    report(f"{trained.steps} steps, {duration(seconds)}; {_summary(trained)}", {}, args.output)
    return OK


def _metrics(trained: TrainedModel) -> dict[str, Any]:
    """The figures of the last command; null where there was nothing to measure."""
    figures = {"loss": trained.loss, "patches_per_second": trained.patches_per_second}
    if trained.validation:
        validation = dataclasses.asdict(trained.validation)
        figures |= {f"validation_{name}": figure for name, figure in validation.items()}
    # JSON has no NaN.
    return {k: None if v is None or math.isnan(v) else v for k, v in figures.items()}


def _summary(trained: TrainedModel) -> str:
    validation = trained.validation
    if validation is None:
        return "no validation"
    return (
        f"validation mAP {validation.mean_average_precision:.3f}, "
        f"1-best accuracy {validation.accuracy:.3f}"
    )


if __name__ == "__main__":
    run_command(main)
