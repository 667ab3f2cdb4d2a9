"""TODO docstring."""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import TypeVar, get_args, get_type_hints

from features.errors import InputError
from training.config import (
    ModelConfig,
    Options,
    Precision,
    Recipe,
)

# A short run: points of its loss curve, validations, and validation patches per trained patch
# (a patch validated costs a third of a patch trained: 8 % of the time).
_SHORT_RUN_REPORTS, _SHORT_RUN_VALIDATIONS, _SHORT_RUN_VALIDATION_SHARE = 50, 2, 0.25
_Record = TypeVar("_Record", ModelConfig, Options)


def override(
    recipe: Recipe,
    *,
    steps: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    learning_rate_cuts: Sequence[str] | None,
    width: float | None,
    seed: int | None,
    precision: Precision | None,
    num_labels: int | None,
    training_subset: str | None,
    normalise: bool | None,
    checkpoint_minutes: float | None,
    network: Sequence[str] | None,
    options: Sequence[str] | None,
) -> Recipe:
    """The recipe with other numbers; None keeps the recipe's.

    `network` sets fields of the network, see `with_network`, and `options` the recipe's options;
    `learning_rate_cuts` are "step=factor" each.

    A run that is shorter than the intervals of its reports gets shorter intervals, and validates
    on no more patches than a quarter of those that it trains on.

    Raises:
      InputError: a number is not positive, or there is no such field of the network or option.
    """
    given = {
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
        "precision": precision,
        "num_labels": num_labels,
        "training_subset": training_subset,
        "normalise": normalise,
        "checkpoint_minutes": checkpoint_minutes,
    }
    for field, number in {**given, "width": width}.items():
        if isinstance(number, bool) or not isinstance(number, int | float) or field == "seed":
            continue
        if not 0 < number < math.inf:
            raise InputError(f"{field} must be positive; received {number}")
    changes: dict = {field: value for field, value in given.items() if value is not None}
    if learning_rate_cuts is not None:
        changes["learning_rate_cuts"] = tuple(_cut(text) for text in learning_rate_cuts)
    if width is not None:
        changes["model"] = dataclasses.replace(recipe.model, width=width)
    recipe = dataclasses.replace(recipe, **changes)
    recipe = with_network(recipe, network or ())
    recipe = with_options(recipe, options or ())
    validation_steps = min(
        recipe.validation_steps, math.ceil(recipe.steps / _SHORT_RUN_VALIDATIONS)
    )
    trained_between = validation_steps * recipe.batch_size
    return dataclasses.replace(
        recipe,
        report_steps=min(recipe.report_steps, math.ceil(recipe.steps / _SHORT_RUN_REPORTS)),
        validation_steps=validation_steps,
        validation_patches=min(
            recipe.validation_patches, math.ceil(trained_between * _SHORT_RUN_VALIDATION_SHARE)
        ),
    )


def _cut(text: str) -> tuple[int, float]:
    """(1300, 0.1) for "1300=0.1"."""
    step, _, factor = text.partition("=")
    try:
        cut = int(step), float(factor)
    except ValueError:
        cut = 0, 0.0
    if not (cut[0] > 0 and 0 < cut[1] < math.inf):
        raise InputError(
            f"--learning-rate-cuts: received {text!r}; give a step and a factor, such as 1300=0.1"
        )
    return cut


def with_network(recipe: Recipe, assignments: Sequence[str]) -> Recipe:
    """The recipe with fields of its network set.

    Args:
      recipe: of any network.
      assignments: "name=value" each, values as JSON has them.

    Raises:
      InputError: the network has no such field, or it takes other values.
    """
    model = _assigned(recipe.model, recipe.model.network, assignments)
    for name, value in dataclasses.asdict(model).items():
        if type(value) in (int, float) and not value > 0:
            raise InputError(f"{name} must be positive; received {value}")
    return dataclasses.replace(recipe, model=model)


def with_options(recipe: Recipe, assignments: Sequence[str]) -> Recipe:
    """The same for its options.

    Raises:
      InputError: there is no such option, or it takes other values.
    """
    options = _assigned(recipe.options, f"recipe {recipe.name}", assignments)
    return dataclasses.replace(recipe, options=options)


def _assigned(record: _Record, whole: str, assignments: Sequence[str]) -> _Record:
    """A dataclass, called `whole`, with fields set to values as JSON has them."""
    types = get_type_hints(type(record))
    known = [field.name for field in dataclasses.fields(record) if field.init]
    changes = {}
    for assignment in assignments:
        name, _, text = assignment.partition("=")
        if name not in known:
            raise InputError(f"{whole} has no field {name!r}; it has {', '.join(known)}")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        of = get_args(types[name]) or (types[name],)  # types, or words
        if types[name] is float and type(value) is int:
            value = float(value)
        if not any(value == one if isinstance(one, str) else type(value) is one for one in of):
            raise InputError(f"{name} must be {_name(of)}; received {text!r}")
        if type(value) is float and not math.isfinite(value):
            raise InputError(f"{name} must be finite; received {text}")
        changes[name] = value
    return dataclasses.replace(record, **changes)


def _name(allowed: Sequence[type | str]) -> str:
    """Of types and words, as a user writes them."""
    names = {int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}
    return " or ".join(one if isinstance(one, str) else names[one] for one in allowed)
