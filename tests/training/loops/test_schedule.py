import dataclasses

import numpy as np
import pytest

from training import recipes
from training.config import Options, Recipe
from training.loops.schedule import LearningRate


def recipe_with(**options: float) -> Recipe:
    return dataclasses.replace(
        recipes.resnet50(), steps=100, learning_rate=0.5, options=Options(**options)
    )


def test_rate_rises_then_falls_along_a_cosine() -> None:
    rate = LearningRate(recipe_with(warm_up=0.2, cosine=True))
    rising = [float(rate(step)) for step in range(20)]
    np.testing.assert_allclose(rising, 0.5 * np.arange(1, 21) / 20, rtol=1e-6)
    falling = [float(rate(step)) for step in range(20, 101)]
    angles = np.pi * np.arange(81) / 80
    np.testing.assert_allclose(falling, 0.25 * (1 + np.cos(angles)), atol=1e-7)
    assert float(rate(1_000)) == pytest.approx(0.0, abs=1e-7)


def test_rate_stays_where_nothing_else_is_asked_for() -> None:
    assert [float(LearningRate(recipe_with())(step)) for step in (0, 50, 100)] == [0.5] * 3
    assert float(LearningRate(recipe_with(warm_up=0.2))(100)) == 0.5


@pytest.mark.parametrize("option", ["cosine", "warm_up"])
def test_a_run_whose_rate_follows_from_its_length_keeps_its_length(option: str) -> None:
    values = {"cosine": True, "warm_up": 0.1}
    recipe = recipe_with(**{option: values[option]})
    assert recipe.learning["steps"] == 100
    assert "steps" not in recipe_with(mixup=0.2).learning


def test_learning_rate_is_cut_after_its_step() -> None:
    recipe = dataclasses.replace(
        recipes.resnet50(), learning_rate=0.5, learning_rate_cuts=((10, 0.5), (20, 0.5))
    )
    rate = LearningRate(recipe)
    assert [float(rate(step)) for step in (0, 9, 10, 19, 20)] == [0.5, 0.5, 0.25, 0.25, 0.125]
