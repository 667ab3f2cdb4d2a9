"""The networks at full size: their cost beside the paper's, their layers beside those published."""

import dataclasses
import functools
import json
from typing import Any

import pytest
import tf_keras

from training import describe, recipes
from training.config import ModelConfig
from training.models.build import build_model
from training.models.counting import Cost

NUM_LABELS = 3_087
DESCRIBED = (
    *("fully_connected", "alexnet", "vgg", "vgg_reduced_strides", "small"),
    *("inception_v3", "inception_v3_lean_stem", "inception_v3_whole_stem"),
    *("resnet50", "resnet50_3k", "resnet50_30k", "resnet50_bottleneck_400"),
    *("audio_set_log_mel", "audio_set_embeddings"),
)
Shape = tuple[int, ...]


class Networks:
    """What is left of each network that was built, so that it is built once.

    Attributes:
      descriptions: what `training.describe` prints, by recipe.
    """

    def __init__(self) -> None:
        self._kernels: dict[ModelConfig, list[Shape]] = {}
        self._inputs: dict[ModelConfig, list[tuple[type, Shape]]] = {}
        describe._cost.cache_clear()
        printed: list[str] = []
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("builtins.print", printed.append)
            patched.setattr(describe, "build_model", self._build)
            assert describe.main([*DESCRIBED, "--json"]) == 0
        self.descriptions: dict[str, Any] = json.loads(printed[0])

    def _build(self, config: ModelConfig, *, num_labels: int, **settings: Any) -> tf_keras.Model:
        model = build_model(config, num_labels=num_labels, **settings)
        if num_labels == NUM_LABELS:
            self._kernels[config] = kernel_shapes(model)
            self._inputs[config] = [
                (type(layer), layer.input_shape[1:]) for layer in model.layers[1:]
            ]
        return model

    def kernels(self, name: str) -> list[Shape]:
        """Shapes of the kernels, sorted."""
        return self._kernels[recipes.find_recipe(name).model]

    def inputs(self, name: str, layer_type: type) -> list[Shape]:
        """Shapes of the inputs of the layers of a type, in their order."""
        layers = self._inputs[recipes.find_recipe(name).model]
        return [shape for found, shape in layers if issubclass(found, layer_type)]


@pytest.fixture(scope="module")
def networks() -> Networks:
    return Networks()


@pytest.fixture(scope="module")
def descriptions(networks: Networks) -> dict[str, Any]:
    return networks.descriptions


def kernel_shapes(model: tf_keras.Model) -> list[Shape]:
    kernels = (layer.kernel for layer in model.layers if hasattr(layer, "kernel"))
    return sorted(tuple(kernel.shape) for kernel in kernels)


@functools.cache
def published_shapes(name: str) -> tuple[Shape, ...]:
    return tuple(
        kernel_shapes(getattr(tf_keras.applications, name)(weights=None, classes=NUM_LABELS))
    )


# What the paper changed: removed and put in place. All of them see one channel instead of three.
@pytest.mark.parametrize(
    ("name", "published", "removed", "added"),
    [
        ("resnet50", "ResNet50", [(7, 7, 3, 64)], [(7, 7, 1, 64)]),
        (
            "inception_v3",
            "InceptionV3",
            [(3, 3, 3, 32), (3, 3, 32, 32), (3, 3, 32, 64), (1, 1, 64, 80)],
            [(1, 1, 1, 80)],
        ),
        (
            "vgg",
            "VGG19",
            [(3, 3, 3, 64), (7 * 7 * 512, 4096)],
            [(3, 3, 1, 64), (3 * 2 * 512, 4096)],
        ),
        (
            "vgg_reduced_strides",
            "VGG19",
            [(3, 3, 3, 64), (7 * 7 * 512, 4096)],
            [(3, 3, 1, 64), (3 * 4 * 512, 4096)],
        ),
        ("inception_v3_whole_stem", "InceptionV3", [(3, 3, 3, 32)], [(3, 3, 1, 32)]),
        # Published with a convolution for the outputs.
        (
            "small",
            "MobileNet",
            [(3, 3, 3, 32), (1, 1, 1024, NUM_LABELS)],
            [(3, 3, 1, 32), (1024, NUM_LABELS)],
        ),
    ],
)
def test_all_other_layers_are_those_of_the_published_network(
    networks: Networks, name: str, published: str, removed: list[Shape], added: list[Shape]
) -> None:
    original = list(published_shapes(published))
    for shape in removed:
        original.remove(shape)
    assert networks.kernels(name) == sorted([*original, *added])


def test_alexnet_has_the_published_convolutions(networks: Networks) -> None:
    # Krizhevsky et al. (2012), section 3.5, on one device and one channel.
    convolutions = [(11, 11, 1, 96), (5, 5, 96, 256), (3, 3, 256, 384), (3, 3, 384, 384)]
    convolutions += [(3, 3, 384, 256)]
    dense = [(1024, 4096), (4096, 4096), (4096, NUM_LABELS)]
    assert networks.kernels("alexnet") == sorted([*convolutions, *dense])


# Section 3.3.4 and 3.3.5: the sizes of the average pools; 3.3.2: the first layer's activations.
@pytest.mark.parametrize(
    ("name", "layer_type", "index", "shape"),
    [
        ("resnet50", tf_keras.layers.GlobalAveragePooling2D, -1, (6, 4, 2048)),
        ("inception_v3", tf_keras.layers.GlobalAveragePooling2D, -1, (10, 6, 2048)),
        ("inception_v3_whole_stem", tf_keras.layers.GlobalAveragePooling2D, -1, (10, 6, 2048)),
        ("small", tf_keras.layers.GlobalAveragePooling2D, -1, (3, 2, 1024)),
        ("alexnet", tf_keras.layers.MaxPooling2D, 0, (43, 54, 96)),
        ("vgg", tf_keras.layers.Flatten, -1, (3, 2, 512)),
        ("vgg_reduced_strides", tf_keras.layers.MaxPooling2D, 1, (48, 64, 128)),
    ],
)
def test_feature_maps_have_the_papers_size(
    networks: Networks, name: str, layer_type: type, index: int, shape: Shape
) -> None:
    assert networks.inputs(name, layer_type)[index] == shape


# Counted by hand from the tables of the publications, and what section 3.3 says.
@pytest.mark.parametrize(
    ("name", "weights", "multiplies", "paper", "tolerances"),
    [
        ("fully_connected", 11_231_000, 11_231_000, (11.2e6, 11.2e6), (0.005, 0.005)),
        ("alexnet", 37_338_464, 767_639_744, (37.3e6, 767e6), (0.002, 0.001)),
        ("vgg", 62_022_208, 2_423_713_792, (62e6, 2.4e9), (0.01, 0.02)),
        # The text and the number of multiplies disagree; the lean stem has that number.
        ("inception_v3", 28_039_760, 5_437_980_672, (28e6, 4.7e9), (0.02, 0.16)),
        ("inception_v3_lean_stem", 27_903_168, 4_641_897_216, (28e6, 4.7e9), (0.02, 0.013)),
        ("resnet50", 29_770_816, 1_856_403_456, (30e6, 1.9e9), (0.02, 0.03)),
        # Howard et al. 2017, table 1, on one channel of 96 x 64.
        ("small", 6_345_600, 71_792_640, None, None),
        # Tried in the paper, which does not count them.
        ("vgg_reduced_strides", 74_605_120, 4_587_974_656, None, None),
        ("inception_v3_whole_stem", 28_072_736, 5_099_985_024, None, None),
    ],
)
def test_weights_and_multiplies_are_the_papers(
    descriptions: dict[str, Any],
    name: str,
    weights: int,
    multiplies: int,
    paper: tuple[float, float] | None,
    tolerances: tuple[float, float] | None,
) -> None:
    described = descriptions[name]
    assert (described["weights"], described["multiplies"]) == (weights, multiplies)
    if paper is None or tolerances is None:
        assert described["paper"] is None
        return
    assert tuple(described["paper"].values()) == paper
    assert weights == pytest.approx(paper[0], rel=tolerances[0])
    assert multiplies == pytest.approx(paper[1], rel=tolerances[1])


def test_the_small_network_has_the_size_of_yamnet(descriptions: dict[str, Any]) -> None:
    """For its 521 labels, as published with it: 3.7M weights and 69.2M multiplies."""
    head = 1_024 * (3_087 - 521)
    assert descriptions["small"]["weights"] - head == pytest.approx(3.7e6, rel=0.01)
    assert descriptions["small"]["multiplies"] - head == pytest.approx(69.2e6, rel=0.001)


def test_labels_and_bottleneck_change_the_head_alone(descriptions: dict[str, Any]) -> None:
    trunk = descriptions["resnet50"]["weights"] - 2_048 * NUM_LABELS
    for name, labels in (("resnet50_30k", 30_871), ("resnet50_3k", NUM_LABELS)):
        plain = descriptions[name]
        assert plain["weights"] == trunk + 2_048 * labels
        assert (plain["labels"], plain["embedding_units"]) == (labels, 2_048)
    bottleneck = descriptions["resnet50_bottleneck_400"]
    assert bottleneck["weights"] == trunk + 2_048 * 128 + 128 * 400
    assert (bottleneck["labels"], bottleneck["embedding_units"]) == (400, 128)
    # Section 4.2: without a bottleneck "from 30M to 80M".
    assert descriptions["resnet50_30k"]["weights"] == pytest.approx(80e6, rel=0.09)


@pytest.mark.parametrize(("suffix", "labels"), [("30k", 30_871), ("3k", 3_087), ("400", 400)])
def test_recipes_of_heads_differ_in_labels_and_bottleneck(suffix: str, labels: int) -> None:
    plain = recipes.find_recipe(f"resnet50_{suffix}")
    bottleneck = recipes.find_recipe(f"resnet50_bottleneck_{suffix}")
    assert plain.num_labels == bottleneck.num_labels == labels
    assert plain.model == recipes.resnet50().model
    assert bottleneck.model == dataclasses.replace(plain.model, bottleneck_units=128)


def test_networks_for_events_take_short_patches_or_embeddings(descriptions: dict[str, Any]) -> None:
    hidden = 2 * 1_000 * 1_000 + 1_000 * 527
    assert descriptions["audio_set_log_mel"]["weights"] == 20 * 64 * 1_000 + hidden
    assert descriptions["audio_set_embeddings"]["weights"] == 2_048 * 1_000 + hidden


def test_every_recipe_is_described(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(describe, "_cost", lambda *_: (Cost(1, 1), 1))  # counted above
    assert describe.main(["--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == list(recipes.RECIPES)
