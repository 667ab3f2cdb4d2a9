import dataclasses
import json

import pytest

from features.errors import InputError
from features.paper import REPORTED
from training import overrides, recipes
from training.config import FullyConnected, Options, Recipe


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_recipes_survive_json(name: str) -> None:
    recipe = recipes.find_recipe(name)
    assert recipe.name == name
    again = Recipe.from_json(json.loads(json.dumps(recipe.to_json())))
    assert again == recipe
    assert again.fingerprint == recipe.fingerprint


def test_json_and_fingerprint_of_a_recipe_are_those_of_earlier_versions() -> None:
    """They decide whether a run of an earlier version is resumed."""
    recipe = overrides.override(recipes.modern(), {"width": "0.25", "steps": "300"})
    assert recipe.fingerprint == "5e59bbc9ec336648"
    document = recipes.resnet50().to_json()
    del document["options"]  # absent from the oldest runs
    assert Recipe.from_json(document) == recipes.resnet50()


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_field_is_set_from_the_text_that_describe_shows(name: str) -> None:
    recipe = recipes.find_recipe(name)
    fields = overrides.fields_of(recipe)
    records = (recipe, recipe.model, recipe.options)
    of_records = {field.name for record in records for field in dataclasses.fields(record)}
    assert set(fields) == of_records - {"name", "model", "options", "network"}
    for field in fields.values():
        assert field.parse(field.text) == field.value
        assert type(field.parse(field.text)) is type(field.value)
        assert field.meaning
        assert field.type_name
    assert (
        overrides.override(recipe, {name: field.text for name, field in fields.items()}) == recipe
    )
    assert overrides.override(recipe, {}) == recipe


def test_recipes_and_the_papers_runs_have_the_same_names_and_steps() -> None:
    assert set(recipes.RECIPES) - set(REPORTED) == {"modern", "small"}
    assert {name: reported.steps for name, reported in REPORTED.items()} == {
        name: recipes.find_recipe(name).steps for name in REPORTED
    }


def test_a_short_run_reports_more_often_unless_its_intervals_are_set() -> None:
    settings = {"steps": "150", "width": "0.25", "seed": "3"}
    recipe = overrides.override(recipes.resnet50(), settings)
    assert (recipe.steps, recipe.model.width, recipe.seed) == (150, 0.25, 3)
    assert (recipe.report_steps, recipe.validation_steps) == (3, 75)
    assert recipe.validation_patches == 75 * 128 / 4
    longer = overrides.override(recipes.resnet50(), {**settings, "steps": "151"})
    assert longer.fingerprint != recipe.fingerprint
    assert longer.learning == recipe.learning
    chosen = {"report_steps": "100", "validation_steps": "200", "validation_patches": "9999"}
    recipe = overrides.override(recipes.resnet50(), {**settings, **chosen})
    assert (recipe.report_steps, recipe.validation_steps) == (100, 200)
    assert recipe.validation_patches == 9999


def test_fields_of_the_network_and_of_the_options_are_set_by_name_alone_or_with_their_part() -> (
    None
):
    settings = {"num_layers": "6", "model.units": "4000", "bottleneck_units": "128", "width": "1"}
    recipe = overrides.override(recipes.fully_connected(), settings)
    assert recipe.model == FullyConnected(
        num_layers=6, units=4_000, width=1.0, bottleneck_units=128
    )
    assert type(recipe.model.width) is float
    again = overrides.override(recipe, {"bottleneck_units": "null"})
    assert again.model.bottleneck_units is None
    lean = overrides.override(recipes.inception_v3(), {"lean_stem": "true"})
    assert lean.model == recipes.inception_v3_lean_stem().model
    with pytest.raises(InputError, match="lean_stem and whole_stem are both true"):
        overrides.override(lean, {"whole_stem": "true"})

    settings = {"mixup": "0.3", "masks": "2", "options.cosine": "true", "average_decay": "0"}
    recipe = overrides.override(recipes.modern(), settings)
    assert recipe.options == dataclasses.replace(
        recipes.modern().options, mixup=0.3, masks=2, cosine=True, average_decay=0.0
    )
    papers = [recipe() for name, recipe in recipes.RECIPES.items() if name in REPORTED]
    assert {recipe.options for recipe in papers} == {Options()}


@pytest.mark.parametrize("text", ["480", "true", "null-set"])
def test_a_name_may_look_like_another_type(text: str) -> None:
    recipe = overrides.override(recipes.resnet50_70k_videos(), {"training_subset": text})
    assert recipe.training_subset == text
    assert overrides.override(recipe, {"training_subset": "null"}).training_subset is None


def test_cuts_of_the_learning_rate() -> None:
    cuts = {"learning_rate_cuts": "780:0.1+900:0.5"}
    recipe = overrides.override(recipes.resnet50(), cuts)
    assert recipe.learning_rate_cuts == ((780, 0.1), (900, 0.5))
    none = overrides.override(recipe, {"learning_rate_cuts": "null"})
    assert none.learning_rate_cuts == ()
    for text in ("780", "x:0.1", "780:0.1:3", "780=0.1", ""):
        with pytest.raises(InputError, match=f"must be STEP:FACTOR.*; received '{text}'"):
            overrides.override(recipe, {"learning_rate_cuts": text})
    for text in ("0:0.1", "780:0", "780:nan"):
        with pytest.raises(InputError, match=f"must be positive; received {text}"):
            overrides.override(recipe, {"learning_rate_cuts": text})


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("mask=3", "resnet50 has no field 'mask'; did you mean masks"),
        ("model.steps=3", "resnet50 has no field 'model.steps'; did you mean .*steps"),
        ("network=vgg", "resnet50 has no field 'network'"),
        ("name=vgg", "resnet50 has no field 'name'"),
        ("num_layers=3", "resnet50 has no field 'num_layers'"),
        ("steps=0", "steps must be positive; received 0"),
        ("steps=many", "steps must be a whole number; received 'many'"),
        ("learning_rate=nan", "learning_rate must be a number; received 'nan'"),
        ("learning_rate=NaN", "learning_rate must be a number; received 'NaN'"),
        ("width=wide", "width must be a number; received 'wide'"),
        ("width=", "width must be a number; received ''"),
        ("width=-1", r"width must be positive; received -1\.0"),
        ("bottleneck_units=1.5", "bottleneck_units must be a whole number or null; received '1.5'"),
        ("bottleneck_units=true", "bottleneck_units must be a whole number or null"),
        ("bottleneck_units=0", "bottleneck_units must be positive; received 0"),
        ("pooling=mean", "pooling must be average or generalised_mean or attention; received 'mea"),
        ("cosine=1", "cosine must be true or false; received '1'"),
        ("masks=1.5", "masks must be a whole number"),
        ("mixup=-1", r"mixup must be at least 0; received -1\.0"),
        ("mixup=Infinity", "mixup must be a number; received 'Infinity'"),
        ("average_decay=1", r"average_decay must be at least 0 and below 1; received 1\.0"),
        ("label_balance=2", r"label_balance must be at least 0 and at most 1; received 2\.0"),
    ],
)
def test_values_that_a_field_does_not_take_are_named(assignment: str, message: str) -> None:
    name, _, text = assignment.partition("=")
    with pytest.raises(InputError, match=message):
        overrides.override(recipes.resnet50(), {name: text})


def test_options_that_earlier_versions_did_not_have_are_in_json_where_they_are_on() -> None:
    recipe = overrides.override(recipes.modern(), {"softmax": "true", "crop_seconds": "1.92"})
    document = json.loads(json.dumps(recipe.to_json()))
    assert document["options"]["softmax"] is True
    assert Recipe.from_json(document) == recipe
    assert {"softmax", "crop_seconds"}.isdisjoint(recipes.modern().to_json()["options"])


@pytest.mark.parametrize("name", ["fully_connected", "alexnet", "vgg"])
def test_a_network_of_a_fixed_length_is_not_trained_on_crops(name: str) -> None:
    with pytest.raises(InputError, match=f"a network that pools over time; received {name}"):
        overrides.override(recipes.find_recipe(name), {"crop_seconds": "0.5"})


def test_hidden_layers_are_not_fewer_than_none() -> None:
    with pytest.raises(InputError, match="num_layers must not be negative; received -1"):
        overrides.override(recipes.fully_connected(), {"num_layers": "-1"})


def test_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no recipe 'resnet-50'; did you mean .*resnet50"):
        recipes.find_recipe("resnet-50")
