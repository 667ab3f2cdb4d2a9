"""What the networks of the recipes weigh and cost, beside the figures of section 3.3.

python -m training.describe
python -m training.describe resnet50 --network width=0.25 --speed
"""

import argparse
import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from features.errors import OK, InputError, run_command
from features.front_end.params import LogMelParams
from training import overrides, recipes
from training.config import ModelConfig, Precision, Recipe
from training.loops.throughput import patches_per_second
from training.models.build import build_model
from training.models.counting import Cost, cost_of

_DESCRIPTION = """\
Count the weights and multiplies of networks in the graphs that would be
trained, and show what the paper says. Biases and normalization do not count.
--speed measures how many patches a second this machine trains, in some seconds
a network.
"""


@dataclasses.dataclass(frozen=True)
class _Published:
    weights: float
    multiplies: float | None = None


# Sections 3.3.1 to 3.3.5, and for 30,871 labels section 4.2. Where a recipe is missing, the paper
# has no figure for its network.
_PAPER: Mapping[str, _Published] = {
    "fully_connected": _Published(11.2e6, 11.2e6),
    "alexnet": _Published(37.3e6, 767e6),
    "vgg": _Published(62e6, 2.4e9),
    "inception_v3": _Published(28e6, 4.7e9),
    "inception_v3_lean_stem": _Published(28e6, 4.7e9),
    "resnet50_30k": _Published(80e6),
    **dict.fromkeys(
        (
            "resnet50",
            "resnet50_17m",
            "resnet50_3k",
            "resnet50_70m_videos",
            "resnet50_7m_videos",
            "resnet50_700k_videos",
            "resnet50_70k_videos",
            "resnet50_23k_videos",
        ),
        _Published(30e6, 1.9e9),
    ),
}
# What the networks of section 4.4 take instead of patches of 96 x 64: 20 x 64, and the average pool
# of ResNet-50.
_PATCH_SHAPES: Mapping[str, tuple[int, ...]] = {
    "audio_set_log_mel": LogMelParams().with_patch_frames(20).patch_shape,
    "audio_set_embeddings": (2_048,),
}


def describe(recipe: Recipe, *, num_labels: int | None, speed: bool = False) -> dict[str, Any]:
    """The costs of a recipe's network.

    Args:
      recipe: it may be for any number of labels.
      num_labels: instead of the recipe's.
      speed: whether to measure how fast it trains.

    Returns:
      `network`, `labels`, `embedding_units`, `weights` and `multiplies` (for one patch), `paper`
      with the `weights` and `multiplies` that it gives for the recipe, or None, and
      `patches_per_second` in training, or None.

    Raises:
      InputError: the recipe is for all labels, and `num_labels` is not given.
    """
    labels = num_labels or recipe.num_labels
    if labels is None:
        raise InputError(f"{recipe.name} is for all labels; say how many with --labels")
    patch_shape = _PATCH_SHAPES.get(recipe.name, LogMelParams().patch_shape)
    cost, embedding_units = _cost(recipe.model, labels, patch_shape)
    recipe = dataclasses.replace(recipe, num_labels=labels)
    published = _PAPER.get(recipe.name) if recipe == recipes.find_recipe(recipe.name) else None
    rate = patches_per_second(recipe, num_labels=labels, patch_shape=patch_shape) if speed else None
    return {
        "network": recipe.model.network,
        "labels": labels,
        "embedding_units": embedding_units,
        **dataclasses.asdict(cost),
        "paper": dataclasses.asdict(published) if published else None,
        "patches_per_second": rate,
    }


@functools.cache
def _cost(model: ModelConfig, num_labels: int, patch_shape: tuple[int, ...]) -> tuple[Cost, int]:
    """Of a built network, and the units of its embedding; many recipes share a network."""
    built = build_model(
        model,
        num_labels=num_labels,
        patch_shape=patch_shape,
        precision="float32",
    )
    return cost_of(built), built.output["embedding"].shape[-1]


def _table(descriptions: Mapping[str, Mapping[str, Any]]) -> str:
    measured = any(one["patches_per_second"] for one in descriptions.values())
    lines = [
        f"{'':<24}{'labels':>8}{'weights':>10}{'paper':>8}{'multiplies':>12}{'paper':>8}"
        + f"{'patches/s':>11}" * measured
    ]
    for name, description in descriptions.items():
        paper = description["paper"] or {"weights": None, "multiplies": None}
        lines.append(
            f"{name:<24}{description['labels']:>8}"
            f"{_rounded(description['weights']):>10}{_rounded(paper['weights']):>8}"
            f"{_rounded(description['multiplies']):>12}{_rounded(paper['multiplies']):>8}"
            + (f"{description['patches_per_second']:>11.3g}" if measured else "")
        )
    return "\n".join(lines)


def _rounded(number: float | None) -> str:
    """Three digits, in millions or billions."""
    if number is None:
        return "-"
    millions = number / 1e6
    return f"{millions:.3g}M" if millions < 999.5 else f"{millions / 1e3:.3g}B"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.describe",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("recipes", metavar="RECIPE", nargs="*", help="all of them without it")
    add("--labels", type=int, help="instead of the recipe's")
    add(
        "--network",
        nargs="+",
        metavar="FIELD=VALUE",
        default=[],
        help="fields of the network, such as width=0.25 or bottleneck_units=128",
    )
    add("--speed", action="store_true", help="measure how fast this machine trains")
    add("--batch-size", type=int, help="of --speed, instead of the recipe's")
    add("--precision", choices=get_args(Precision), help="of --speed, instead of the recipe's")
    add("--json", action="store_true", help="exact numbers, by recipe")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = _parser().parse_args(argv)
    if args.labels is not None and args.labels < 1:
        raise InputError(f"--labels must be positive; received {args.labels}")
    if args.batch_size is not None and args.batch_size < 1:
        raise InputError(f"--batch-size must be positive; received {args.batch_size}")
    descriptions = {}
    for name in args.recipes or recipes.RECIPES:
        recipe = overrides.with_network(recipes.find_recipe(name), args.network)
        recipe = dataclasses.replace(
            recipe,
            batch_size=args.batch_size or recipe.batch_size,
            precision=args.precision or recipe.precision,
        )
        descriptions[name] = describe(recipe, num_labels=args.labels, speed=args.speed)
    print(json.dumps(descriptions, indent=2) if args.json else _table(descriptions))
    return OK


if __name__ == "__main__":
    run_command(main)
