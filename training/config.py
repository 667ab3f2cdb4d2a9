"""What a training run is: a network, an optimizer, an amount of data; frozen, and kept as JSON."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

from features.contracts import folders
from features.errors import InputError

# Where a layer's output is computed and kept. Weights and losses are float32 in both.
Precision = Literal["float32", "bfloat16"]
# What a network's last maps are made one vector by, see `training.models.layers.pooled`.
Pooling = Literal["average", "generalised_mean", "attention"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Network:
    width: float  # multiplies the units or filters of every layer; 1.0 is the paper's network
    # Of a layer in front of the outputs, to make many labels cheap (section 4.2: 128); not widened.
    bottleneck_units: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Convolutional(_Network):
    batch_norm_momentum: float  # share of the old moving statistics that a step keeps


@dataclasses.dataclass(frozen=True, kw_only=True)
class FullyConnected(_Network):
    """Section 3.3.1: `num_layers` layers of `units` ReLUs."""

    network: Literal["fully_connected"] = dataclasses.field(default="fully_connected", init=False)
    num_layers: int
    units: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlexNet(_Convolutional):
    """Section 3.3.2."""

    network: Literal["alexnet"] = dataclasses.field(default="alexnet", init=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vgg(_Convolutional):
    """Section 3.3.3, configuration E."""

    network: Literal["vgg"] = dataclasses.field(default="vgg", init=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class InceptionV3(_Convolutional):
    """Section 3.3.4."""

    network: Literal["inception_v3"] = dataclasses.field(default="inception_v3", init=False)
    lean_stem: bool = False  # without the stem's 1 x 1 convolution, which the paper's text keeps
    pooling: Pooling = "average"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResNet50(_Convolutional):
    """Section 3.3.5."""

    network: Literal["resnet50"] = dataclasses.field(default="resnet50", init=False)
    pooling: Pooling = "average"


ModelConfig = FullyConnected | AlexNet | Vgg | InceptionV3 | ResNet50
_NETWORKS: Mapping[str, type[ModelConfig]] = {
    network.network: network for network in get_args(ModelConfig)
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What the paper does without; all of it is off unless a recipe says otherwise.

    Raises:
      InputError: a number is out of its range.
    """

    # Of the patches, see `training.input.augmentation`.
    mixup: float = 0.0  # a of Beta(a, a), which the share of a patch in its mixture is drawn from
    time_shift_seconds: float = 0.0  # at most, either way
    band_shift: int = 0  # likewise, in mel bands
    gain_decibels: float = 0.0  # likewise, of loudness
    masks: int = 0  # stretches of time that are blanked in a patch, and of mel bands
    time_mask_seconds: float = 0.1  # a stretch at most
    mask_bands: int = 8  # likewise
    # Of the input: 0 takes patches as they are, 1 takes every label equally often.
    label_balance: float = 0.0
    # Of the learning rate, see `training.loops.schedule`.
    warm_up: float = 0.0  # the share of the steps in which it rises from 0
    cosine: bool = False  # whether it falls to 0 along a cosine
    # Of the weights.
    weight_decay: float = 0.0  # decoupled: in a step kernels shrink by the learning rate times this
    average_decay: float = 0.0  # share of the old average that a step keeps; 0 averages nothing

    def __post_init__(self) -> None:
        limits = {
            "label_balance": (" and at most 1", lambda value: value <= 1),
            "warm_up": (" and below 1", lambda value: value < 1),
            "average_decay": (" and below 1", lambda value: value < 1),
        }
        for name, value in dataclasses.asdict(self).items():
            limit, is_below = limits.get(name, ("", math.isfinite))
            if not (value >= 0 and is_below(value)):
                raise InputError(f"{name} must be at least 0{limit}; received {value}")

    @property
    def augments(self) -> bool:
        """Whether patches are changed before the network sees them."""
        shifts = self.time_shift_seconds or self.band_shift or self.gain_decibels
        return bool(self.mixup or shifts or self.masks)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what a run learns, and how often it says so."""

    name: str
    model: ModelConfig
    learning_rate: float  # of Adam
    learning_rate_cuts: tuple[tuple[int, float], ...] = ()  # (after this step, times this factor)
    batch_size: int
    steps: int
    num_labels: int | None  # the most frequent labels; None for all. Fewer where there are fewer
    training_subset: str | None = None  # a nested subset of the training videos; None for all
    normalise: bool = False  # the input: mean 0, deviation 1 of each mel band; not in the paper
    seed: int
    precision: Precision = "float32"
    options: Options = Options()
    # Random sampling "from all patches" (section 3.1) is approximated: patches of this many shards
    # are mixed, and drawn from a buffer of this many patches (100 MB). Training shards are already
    # permuted, and each holds patches of many videos.
    interleaved_shards: int = 64
    shuffle_patches: int = 16_384
    # The paper watches "a validation subset" (section 3.1) and is silent on its size.
    validation_patches: int = 16_384
    validation_steps: int = 10_000  # from one validation to the next
    report_steps: int = 100  # from one point of the loss curve to the next
    checkpoint_minutes: float = 10.0

    @property
    def fingerprint(self) -> str:
        """16 hex digits that stand for all fields."""
        return folders.fingerprint(self)

    def to_json(self) -> dict[str, Any]:
        """For a JSON file."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Recipe":
        """Back from `to_json`, also where it went through a file."""
        model = dict(document["model"])
        network = _NETWORKS[model.pop("network")]
        cuts = tuple((step, factor) for step, factor in document["learning_rate_cuts"])
        nested = {
            "model": network(**model),
            "learning_rate_cuts": cuts,
            "options": Options(**document.get("options", {})),  # runs of before had none
        }
        return cls(**{**document, **nested})

    @property
    def learning(self) -> dict[str, Any]:
        """The fields that must not change where a run goes on: all but its length and reports.

        Where the learning rate follows from the length, that neither.
        """
        free = {
            "validation_patches",
            "validation_steps",
            "report_steps",
            "checkpoint_minutes",
        }
        if not (self.options.cosine or self.options.warm_up):
            free.add("steps")
        return {field: value for field, value in self.to_json().items() if field not in free}
