import numpy as np
import pytest
import tensorflow as tf

from training import recipes
from training.config import ResNet50
from training.models.build import build_model
from training.models.counting import cost_of

PATCH_SHAPE = (96, 64)


# Section 3.3: what the paper says, and what the graph has.
@pytest.mark.parametrize(
    ("name", "paper", "weights", "multiplies"),
    [
        ("fully_connected", (11.2e6, 11.2e6), 11_231_000, 11_231_000),
        ("resnet50", (30e6, 1.9e9), 29_770_816, 1_856_403_456),
    ],
)
def test_weights_and_multiplies_are_the_papers(
    name: str, paper: tuple[float, float], weights: int, multiplies: int
) -> None:
    model = build_model(
        recipes.find_recipe(name).model,
        num_labels=3_087,
        patch_shape=PATCH_SHAPE,
        precision="float32",
    )
    cost = cost_of(model)
    assert (cost.weights, cost.multiplies) == (weights, multiplies)
    np.testing.assert_allclose((weights, multiplies), paper, rtol=0.03)


def test_bfloat16_keeps_weights_and_outputs_in_float32() -> None:
    config = ResNet50(width=0.125, batch_norm_momentum=0.9)
    model = build_model(config, num_labels=5, patch_shape=PATCH_SHAPE, precision="bfloat16")
    outputs = model(tf.zeros([2, *PATCH_SHAPE]))
    assert outputs["logits"].shape == (2, 5)
    assert outputs["embedding"].shape == (2, 256)
    assert {output.dtype for output in outputs.values()} == {tf.float32}
    assert {weight.dtype for weight in model.weights} == {tf.float32}
    assert model.layers[-4].compute_dtype == "bfloat16"
