"""Fields of a recipe set from text: `--set width=0.25 steps=300`, in every command that trains."""

import argparse
import dataclasses
import difflib
import json
import math
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from features.errors import InputError
from training.config import Recipe

# Fields that have a flag of their own beside --set.
COMMON = ("steps", "batch_size", "learning_rate", "seed")
_NO_FIELDS = ("name", "model", "options", "network")
# A short run: points of its loss curve, validations, and validation patches per trained patch
# (a patch validated costs a third of a patch trained: 8 % of the time).
_SHORT_RUN_REPORTS, _SHORT_RUN_VALIDATIONS, _SHORT_RUN_VALIDATION_SHARE = 50, 2, 0.25
_CUTS = tuple[tuple[int, float], ...]


@dataclasses.dataclass(frozen=True)
class Field:
    """A field of a recipe that can be set.

    Attributes:
      name: of the field; no two fields of a recipe share one.
      part: field of `Recipe` that holds it, "model" or "options"; "" for `Recipe` itself.
      type: type of the values.
      value: of the recipe.
      meaning: one line.
    """

    name: str
    part: str
    type: Any
    value: Any
    meaning: str

    @property
    def type_name(self) -> str:
        """The type as users read it."""
        if self.type == _CUTS:
            return "STEP:FACTOR[+STEP:FACTOR...] or null"
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        names[type(None)] = "null"
        is_choice = get_origin(self.type) is Literal
        allowed = get_args(self.type) or (self.type,)
        return " or ".join(value if is_choice else names[value] for value in allowed)

    @property
    def text(self) -> str:
        """The value as `--set` takes it."""
        if self.type == _CUTS:
            return "+".join(f"{step}:{factor}" for step, factor in self.value) or "null"
        return self.value if isinstance(self.value, str) else json.dumps(self.value)

    def parse(self, text: str) -> Any:
        """Parse a value: as in JSON, words without quotes, cuts as STEP:FACTOR.

        Raises:
          InputError: the value is of another type.
        """
        is_cuts = self.type == _CUTS
        if is_cuts:
            value = [] if text == "null" else [cut.split(":") for cut in text.split("+")]
        else:
            value = _from_json(text)
        for candidate in (value, text):  # a name may look like a number
            try:
                # The numbers of cuts are still text.
                parsed = msgspec.convert(candidate, self.type, strict=not is_cuts)
            except msgspec.ValidationError:
                continue
            if not isinstance(parsed, float) or math.isfinite(parsed):
                return parsed
        raise InputError(f"{self.name} must be {self.type_name}; received {text!r}")


def fields_of(recipe: Recipe) -> dict[str, Field]:
    """The fields that can be set, by name, in the order of the recipe."""
    found = {}
    for part, record in (("", recipe), ("model", recipe.model), ("options", recipe.options)):
        hints = get_type_hints(type(record), include_extras=True)
        for name in (field.name for field in dataclasses.fields(record)):
            if name not in _NO_FIELDS:
                of_field, meaning = get_args(hints[name])
                found[name] = Field(name, part, of_field, getattr(record, name), meaning)
    return found


def override(recipe: Recipe, settings: Mapping[str, str]) -> Recipe:
    """The recipe with other values.

    A run that is shorter than the intervals of its reports gets shorter intervals, and validates
    on no more patches than a quarter of those that it trains on, unless `settings` choose them.

    Args:
      recipe: the recipe.
      settings: field -> value as text; a field of the network or of the options may be written
        with its part, such as model.width.

    Raises:
      InputError: the recipe has no such field, or a value is of another type or out of range.
    """
    fields = fields_of(recipe)
    changes: dict[str, dict[str, Any]] = {"": {}, "model": {}, "options": {}}
    for name, text in settings.items():
        part, _, last = name.rpartition(".")
        field = fields.get(last)
        if field is None or part not in ("", field.part):
            nearest = difflib.get_close_matches(last, fields) or list(fields)
            raise InputError(
                f"{recipe.name} has no field {name!r}; did you mean {' or '.join(nearest)}? "
                f"`python -m training.describe {recipe.name}` lists all fields"
            )
        changes[field.part][last] = field.parse(text)
    changed = dataclasses.replace(
        recipe,
        model=dataclasses.replace(recipe.model, **changes["model"]),
        options=dataclasses.replace(recipe.options, **changes["options"]),
        **changes[""],
    )
    return dataclasses.replace(changed, **{**_short_intervals(changed), **changes[""]})


def _short_intervals(recipe: Recipe) -> dict[str, int]:
    """The intervals of reports and validations, no longer than the length of the run allows."""
    validation_steps = min(
        recipe.validation_steps, math.ceil(recipe.steps / _SHORT_RUN_VALIDATIONS)
    )
    trained_between = validation_steps * recipe.batch_size
    return {
        "report_steps": min(recipe.report_steps, math.ceil(recipe.steps / _SHORT_RUN_REPORTS)),
        "validation_steps": validation_steps,
        "validation_patches": min(
            recipe.validation_patches, math.ceil(trained_between * _SHORT_RUN_VALIDATION_SHARE)
        ),
    }


def add_arguments(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add `--set` and the flags of the commonest fields to a parser; `several` values or one."""
    add = parser.add_argument_group("fields of the recipe").add_argument
    add(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD=VALUES" if several else "FIELD=VALUE",
        help="any field that `training.describe RECIPE` lists, such as "
        + ("width=0.25 mixup=0,0.3" if several else "width=0.25 mixup=0.3"),
    )
    for name in COMMON:
        add(
            _flag(name),
            nargs="+" if several else None,
            metavar="VALUE",
            help=f"the same as --set {name}=VALUE",
        )


def settings_of(args: argparse.Namespace) -> dict[str, str]:
    """Field -> value as text, of a command line; the last value of a field counts.

    Raises:
      InputError: an assignment is not FIELD=VALUE, or two flags set a field.
    """
    pairs = [assignment.partition("=") for assignment in args.set]
    for name, equals, _ in pairs:
        if not equals:
            raise InputError(f"--set takes FIELD=VALUE; received {name!r}")
    settings = {name: text for name, _, text in pairs}
    for name in COMMON:
        given = getattr(args, name)
        if given is None:
            continue
        if name in settings:
            raise InputError(f"{name} is set by --set and by {_flag(name)}; leave out one of them")
        settings[name] = given
    return settings


def several_settings_of(args: argparse.Namespace) -> dict[str, list[str]]:
    """Field -> values as text; --set takes them with commas, the other flags take a list."""
    return {
        name: given.split(",") if isinstance(given, str) else given
        for name, given in settings_of(args).items()
    }


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
