"""The fields of recipes, and the cost of their networks beside the numbers of the paper.

python -m training.describe
python -m training.describe resnet50 --set width=0.25 --speed
python -m training.describe resnet50 --speed --speeds speeds.json
"""

import argparse
import dataclasses
import functools
import json
import os
from collections.abc import Mapping, Sequence

import tensorflow as tf

from features.contracts import folders
from features.contracts.documents import Features
from features.contracts.export import EMBEDDING
from features.contracts.speeds import CPU, Speed, Speeds, processor_name, today
from features.errors import OK, InputError, run_command
from features.front_end.params import LogMelParams
from features.paper import REPORTED
from features.storage import files
from training import overrides, recipes
from training.config import ModelConfig, Recipe
from training.loops.throughput import patches_per_second
from training.models.build import build_model
from training.models.counting import Cost, cost_of

_DESCRIPTION = """\
Count the weights and multiplies of networks in the graphs that would be
trained, beside the numbers of the paper. Biases and normalization do not count.
For each RECIPE, list also every field that --set can change, with its value,
and what the paper reports. --speed measures how many patches a second this
machine trains, in a few seconds a network; --speeds adds it to a table that
pipelines.plan takes.
"""
# Inputs of the networks of section 4.4 instead of patches of 96 x 64: patches of 20 x 64, and the
# average pool of ResNet-50.
_PATCH_SHAPES: Mapping[str, tuple[int, ...]] = {
    "audio_set_log_mel": LogMelParams().with_patch_frames(20).patch_shape,
    "audio_set_embeddings": (2_048,),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedCost:
    """The cost of a network as the paper reports it; None for what it does not report."""

    weights: float | None = None
    multiplies: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
    """The cost of the network of a recipe.

    Attributes:
      network: its name.
      labels: number of outputs.
      embedding_units: size of the embedding.
      weights: of the network.
      multiplies: of one patch, or of the crop that it is trained on.
      paper: None if the paper does not report the cost of this network.
      patches_per_second: in training on this machine; None if not measured.
    """

    network: str
    labels: int
    embedding_units: int
    weights: int
    multiplies: int
    paper: PublishedCost | None
    patches_per_second: float | None


def describe(
    recipe: Recipe, *, features: Features | None = None, speed: bool = False
) -> Description:
    """Count the weights and multiplies of a network, and measure the `speed` of its training.

    Args:
      recipe: of the network.
      features: whose labels and inputs it has; None for those of the recipe in the paper.
      speed: whether to measure.

    Raises:
      InputError: the recipe is for all labels.
    """
    labels = recipe.num_labels
    if features is not None:
        of_features = features.vocabulary.num_labels
        labels = min(labels or of_features, of_features)
    if labels is None:
        raise InputError(f"{recipe.name} is for all labels; give their number: --set num_labels=N")
    patch_shape = _patch_shape(recipe)
    if features is not None:
        patch_shape = features.front_end.patch_shape
    cost, embedding_units = _cost(recipe.model, labels, patch_shape)
    published = recipes.find_recipe(recipe.name)
    reported = REPORTED.get(recipe.name)
    is_published = (recipe.model, labels) == (published.model, published.num_labels)
    paper = None
    if reported and reported.weights and is_published:
        paper = PublishedCost(weights=reported.weights, multiplies=reported.multiplies)
    rate = patches_per_second(recipe, num_labels=labels, patch_shape=patch_shape) if speed else None
    return Description(
        network=recipe.model.network,
        labels=labels,
        embedding_units=embedding_units,
        weights=cost.weights,
        multiplies=cost.multiplies,
        paper=paper,
        patches_per_second=rate,
    )


def _patch_shape(recipe: Recipe) -> tuple[int, ...]:
    params = LogMelParams()
    if recipe.options.crop_seconds:
        frames = round(recipe.options.crop_seconds / params.hop_seconds)
        return params.with_patch_frames(frames).patch_shape
    return _PATCH_SHAPES.get(recipe.name, params.patch_shape)


@functools.cache
def _cost(model: ModelConfig, num_labels: int, patch_shape: tuple[int, ...]) -> tuple[Cost, int]:
    """The cost of a network and the units of its embedding; many recipes share a network."""
    built = build_model(model, num_labels=num_labels, patch_shape=patch_shape, precision="float32")
    return cost_of(built), built.output[EMBEDDING].shape[-1]


def _table(descriptions: Mapping[str, Description]) -> str:
    measured = any(found.patches_per_second for found in descriptions.values())
    lines = [
        f"{'':<24}{'labels':>8}{'weights':>10}{'paper':>8}{'multiplies':>12}{'paper':>8}"
        + f"{'patches/s':>11}" * measured
    ]
    for name, found in descriptions.items():
        paper = found.paper or PublishedCost()
        lines.append(
            f"{name:<24}{found.labels:>8}"
            f"{_rounded(found.weights):>10}{_rounded(paper.weights):>8}"
            f"{_rounded(found.multiplies):>12}{_rounded(paper.multiplies):>8}"
            + (f"{found.patches_per_second:>11.3g}" if measured else "")
        )
    return "\n".join(lines)


def _list_fields(recipe: Recipe) -> str:
    """What the paper reports of a recipe, then two lines for each field."""
    lines = [f"\n{recipe.name}: {_reported(recipe.name)}"]
    for field in overrides.fields_of(recipe).values():
        lines.append(f"  {field.name}={field.text}")
        lines.append(f"      {field.meaning} ({field.type_name})")
    return "\n".join(lines)


def _reported(name: str) -> str:
    reported = REPORTED.get(name)
    if reported is None:
        return "not in the paper"
    metrics = {"AUC": reported.auc, "d-prime": reported.d_prime, "mAP": reported.map}
    numbers = [f"{name} {value:.3f}" for name, value in metrics.items() if value is not None]
    if reported.hours is not None:
        numbers.append(
            f"{reported.hours:.0f} h on {reported.gpus} GPUs and {reported.parameter_servers} "
            "parameter servers"
        )
    return f"{reported.where} of the paper: {', '.join(numbers) or 'no metrics'}"


def _rounded(number: float | None) -> str:
    """Three digits, in millions or billions."""
    if number is None:
        return "-"
    millions = number / 1e6
    return f"{millions:.3g}M" if millions < 999.5 else f"{millions / 1e3:.3g}B"


def _add_speeds(
    path: str, chosen: Sequence[Recipe], descriptions: Mapping[str, Description]
) -> None:
    """Add the measured speeds to the table at `path`, which need not exist."""
    try:
        table = Speeds.from_json(files.read_bytes(path), path)
    except FileNotFoundError:
        table = Speeds(rows=())
    gpus = tf.config.list_physical_devices("GPU")
    device, num_devices = CPU, len(os.sched_getaffinity(0))
    if gpus:  # one of them trains
        device = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "gpu")
        num_devices = 1
    for recipe in chosen:
        rate = descriptions[recipe.name].patches_per_second
        assert rate is not None  # --speed measures all
        table = table.add(
            Speed(
                job="training",
                network=recipe.model.network,
                width=recipe.model.width,
                precision=recipe.precision,
                device=device,
                patches_per_second=rate / num_devices,
                machine=f"{processor_name()}, {len(os.sched_getaffinity(0))} cores",
                as_of=today(),
                source=f"training.describe, batches of {recipe.batch_size}",
            )
        )
    files.write_bytes(path, table.to_json())


def _parse_recipe(text: str) -> Recipe:
    name, *assignments = text.split()
    settings = dict(assignment.split("=", maxsplit=1) for assignment in assignments)
    return overrides.override(recipes.find_recipe(name), settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.describe",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("recipes", metavar="RECIPE", nargs="*", help="default: all, without their fields")
    add("--speed", action="store_true", help="measure how fast this machine trains")
    add("--speeds", metavar="FILE", help="with --speed: add it to this table of pipelines.plan")
    add("--features", metavar="FOLDER", help="count networks of its labels and patches")
    add("--json", action="store_true", help="exact numbers, by recipe, without the fields")
    add(
        "--fingerprints",
        nargs="+",
        metavar="SETTINGS",
        help="print the fingerprint of each 'RECIPE FIELD=VALUE ...' as JSON, and exit",
    )
    overrides.add_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = _parser().parse_args(argv)
    if args.speeds is not None and not args.speed:
        raise InputError("--speeds: give --speed too, which measures")
    if args.fingerprints:
        found = {text: _parse_recipe(text).fingerprint for text in args.fingerprints}
        print(json.dumps(found, indent=2))
        return OK
    settings = overrides.settings_of(args)
    chosen = [
        overrides.override(recipes.find_recipe(name), settings)
        for name in args.recipes or recipes.RECIPES
    ]
    features = None
    if args.features is not None:
        features = folders.read_document(files.absolute(args.features), Features)
    descriptions = {
        recipe.name: describe(recipe, features=features, speed=args.speed) for recipe in chosen
    }
    if args.speeds is not None:
        _add_speeds(files.absolute(args.speeds), chosen, descriptions)
    if args.json:
        content = {name: dataclasses.asdict(found) for name, found in descriptions.items()}
        print(json.dumps(content, indent=2))
        return OK
    print(_table(descriptions))
    if args.recipes:
        print(*(_list_fields(recipe) for recipe in chosen), sep="\n")
    return OK


if __name__ == "__main__":
    run_command(main)
