import dataclasses
import inspect
import json

import pytest

from features.errors import InputError
from training import overrides, recipes
from training.config import FullyConnected, Options, Recipe

NO_OVERRIDES = dict.fromkeys(inspect.getfullargspec(overrides.override).kwonlyargs)


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_recipes_survive_json(name: str) -> None:
    recipe = recipes.find_recipe(name)
    assert recipe.name == name
    again = Recipe.from_json(json.loads(json.dumps(recipe.to_json())))
    assert again == recipe
    assert again.fingerprint == recipe.fingerprint


def test_without_overrides_a_recipe_stays_as_it_is() -> None:
    assert overrides.override(recipes.resnet50(), **NO_OVERRIDES) == recipes.resnet50()


def test_overrides_replace_fields_and_a_short_run_reports_more_often() -> None:
    changes = {**NO_OVERRIDES, "steps": 150, "width": 0.25, "seed": 3}
    recipe = overrides.override(recipes.resnet50(), **changes)
    assert (recipe.steps, recipe.model.width, recipe.seed) == (150, 0.25, 3)
    assert (recipe.report_steps, recipe.validation_steps) == (3, 75)
    assert recipe.validation_patches == 75 * 128 / 4
    longer = overrides.override(recipes.resnet50(), **{**changes, "steps": 151})
    assert longer.fingerprint != recipe.fingerprint
    assert longer.learning == recipe.learning


@pytest.mark.parametrize(
    ("field", "value"), [("steps", 0), ("learning_rate", float("nan")), ("width", -1.0)]
)
def test_overrides_must_be_positive(field: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{field} must be positive; received {value}"):
        overrides.override(recipes.resnet50(), **{**NO_OVERRIDES, field: value})


def test_fields_of_the_network_are_set_from_text() -> None:
    fields = ["num_layers=6", "units=4000", "bottleneck_units=128", "width=1"]
    recipe = overrides.override(recipes.fully_connected(), **{**NO_OVERRIDES, "network": fields})
    assert recipe.model == FullyConnected(
        num_layers=6, units=4_000, width=1.0, bottleneck_units=128
    )
    assert type(recipe.model.width) is float
    again = overrides.with_network(recipe, ["bottleneck_units=null"])
    assert again.model.bottleneck_units is None
    lean = overrides.with_network(recipes.inception_v3(), ["lean_stem=true"])
    assert lean.model == recipes.inception_v3_lean_stem().model


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("depth=3", "resnet50 has no field 'depth'; it has width, bottleneck_units, batch_norm"),
        ("network=vgg", "resnet50 has no field 'network'"),
        ("width=wide", "width must be a number; received 'wide'"),
        ("width", "width must be a number; received ''"),
        ("bottleneck_units=1.5", "bottleneck_units must be a whole number or null; received '1.5'"),
        ("bottleneck_units=true", "bottleneck_units must be a whole number or null"),
        ("width=NaN", "width must be finite; received NaN"),
        ("bottleneck_units=0", "bottleneck_units must be positive; received 0"),
    ],
)
def test_fields_that_a_network_does_not_take_are_named(assignment: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        overrides.with_network(recipes.resnet50(), [assignment])


def test_options_are_set_from_text_and_are_off_in_the_papers_recipes() -> None:
    given = ["mixup=0.3", "masks=2", "cosine=true", "average_decay=0"]
    recipe = overrides.override(recipes.modern(), **{**NO_OVERRIDES, "options": given})
    assert recipe.options == dataclasses.replace(
        recipes.modern().options, mixup=0.3, masks=2, cosine=True, average_decay=0.0
    )
    attention = overrides.with_network(recipe, ["pooling=attention"])
    assert attention.model.pooling == "attention"
    papers = [recipe() for name, recipe in recipes.RECIPES.items() if name != "modern"]
    assert {recipe.options for recipe in papers} == {Options()}
    # A run that was begun before there were options goes on.
    document = recipes.resnet50().to_json()
    del document["options"]
    assert Recipe.from_json(document) == recipes.resnet50()


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("mix=1", "recipe modern has no field 'mix'; it has mixup, time_shift_seconds, band_shift"),
        ("cosine=1", "cosine must be true or false; received '1'"),
        ("masks=1.5", "masks must be a whole number"),
        ("mixup=-1", "mixup must be at least 0; received -1.0"),
        ("mixup=Infinity", "mixup must be finite; received Infinity"),
        ("average_decay=1", "average_decay must be at least 0 and below 1; received 1.0"),
        ("label_balance=2", "label_balance must be at least 0 and at most 1; received 2.0"),
    ],
)
def test_options_that_make_no_sense_are_named(assignment: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        overrides.with_options(recipes.modern(), [assignment])


def test_unknown_words_are_named() -> None:
    message = "pooling must be average or generalised_mean or attention; received 'mean'"
    with pytest.raises(InputError, match=message):
        overrides.with_network(recipes.resnet50(), ["pooling=mean"])


def test_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no recipe 'resnet-50'; did you mean .*resnet50"):
        recipes.find_recipe("resnet-50")


def test_the_learning_rate_is_cut_where_it_is_told() -> None:
    cuts = {**NO_OVERRIDES, "learning_rate_cuts": ["780=0.1", "900=0.5"]}
    recipe = overrides.override(recipes.resnet50(), **cuts)
    assert recipe.learning_rate_cuts == ((780, 0.1), (900, 0.5))
    for text in ("780", "x=0.1", "0=0.1", "780=0", "780=nan"):
        with pytest.raises(InputError, match=f"received '{text}'; give a step and a factor"):
            overrides.override(recipes.resnet50(), **{**NO_OVERRIDES, "learning_rate_cuts": [text]})
