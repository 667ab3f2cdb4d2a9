"""The runs of the paper, one function each; a run of ours is one of them with other numbers."""

import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping

from features.errors import InputError
from training.config import FullyConnected, Precision, Recipe, ResNet50

# "The 10% most frequent labels of the original 30K" (section 3.3).
_LABELS_3K = 3_087
_BATCH_SIZE = 128  # section 3.1
_STEPS = 5_000_000  # section 4.1
# The paper is silent. Moving statistics that remember about 10 batches see 30,000 values a channel
# even in the last 6 x 4 maps, and have forgotten their start after 50 steps, so a short run ends
# with statistics of its own data. With Keras's 0.99 a run of 150 steps keeps 22 % of the start.
_BATCH_NORM_MOMENTUM = 0.9

# A short run: points of its loss curve, validations, and validation patches per trained patch
# (a patch validated costs a third of a patch trained: 8 % of the time).
_SHORT_RUN_REPORTS, _SHORT_RUN_VALIDATIONS, _SHORT_RUN_VALIDATION_SHARE = 50, 2, 0.25


def fully_connected() -> Recipe:
    """The baseline, three layers of 1000 ReLUs (Table 2, row 1).

    Section 3.3.1: 11.2M weights and multiplies. The paper took 35 h on 10 GPUs for 5M steps on
    70M videos, and scored AUC 0.851, d-prime 1.471, mAP 0.058.

    python -m training.train fully_connected --features features --output run
    """
    return Recipe(
        name="fully_connected",
        model=FullyConnected(num_layers=3, units=1_000, width=1.0),
        learning_rate=3e-5,
        batch_size=_BATCH_SIZE,
        steps=_STEPS,
        num_labels=_LABELS_3K,
        seed=0,
    )


def resnet50() -> Recipe:
    """ResNet-50 at 5M steps (Table 2, row 5).

    Section 3.3.5: 30M weights, 1.9B multiplies. The paper took 119 h on 20 GPUs for 5M steps on
    70M videos, and scored AUC 0.916, d-prime 1.952, mAP 0.182. It searched for the learning rate
    and does not say what it found: ours is Adam's default.

    python -m training.train resnet50 --features features --output run
    """
    return Recipe(
        name="resnet50",
        model=ResNet50(width=1.0, batch_norm_momentum=_BATCH_NORM_MOMENTUM),
        learning_rate=1e-3,
        batch_size=_BATCH_SIZE,
        steps=_STEPS,
        num_labels=_LABELS_3K,
        seed=0,
    )


def resnet50_17m() -> Recipe:
    """ResNet-50 at 17M steps (Table 2, row 6).

    Section 4.1: a tenth of the learning rate after 13M steps. The paper took 356 h on 20 GPUs, and
    scored AUC 0.926, d-prime 2.041, mAP 0.212.

    python -m training.train resnet50_17m --features features --output run
    """
    return dataclasses.replace(
        resnet50(),
        name="resnet50_17m",
        steps=17_000_000,
        learning_rate_cuts=((13_000_000, 0.1),),
    )


RECIPES: Mapping[str, Callable[[], Recipe]] = {
    recipe.__name__: recipe for recipe in (fully_connected, resnet50, resnet50_17m)
}


def find_recipe(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
      InputError: there is none; the message has the nearest names.
    """
    if name not in RECIPES:
        nearest = difflib.get_close_matches(name, RECIPES, cutoff=0.4) or list(RECIPES)
        raise InputError(f"no recipe {name!r}; did you mean {' or '.join(nearest)}?")
    return RECIPES[name]()


def override(
    recipe: Recipe,
    *,
    steps: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    width: float | None,
    seed: int | None,
    precision: Precision | None,
    num_labels: int | None,
    training_subset: str | None,
    checkpoint_minutes: float | None,
) -> Recipe:
    """The recipe with other numbers; None keeps the recipe's.

    A run that is shorter than the intervals of its reports gets shorter intervals, and validates
    on no more patches than a quarter of those that it trains on.

    Raises:
      InputError: a number is not positive.
    """
    given = {
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
        "precision": precision,
        "num_labels": num_labels,
        "training_subset": training_subset,
        "checkpoint_minutes": checkpoint_minutes,
    }
    for field, number in {**given, "width": width}.items():
        if isinstance(number, int | float) and field != "seed" and not 0 < number < math.inf:
            raise InputError(f"{field} must be positive; received {number}")
    changes: dict = {field: value for field, value in given.items() if value is not None}
    if width is not None:
        changes["model"] = dataclasses.replace(recipe.model, width=width)
    recipe = dataclasses.replace(recipe, **changes)
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
