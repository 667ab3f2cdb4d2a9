"""The recipe of a training run: a network, an optimizer, an amount of data.

A field of a recipe is declared once, here: its name, its type and, in the annotation, its meaning.
`training.overrides` sets fields from text and `training.describe` lists them.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from features.errors import InputError
from features.fingerprint import fingerprint
from features.typed_json import OMIT_DEFAULT, to_plain

Precision = Literal["float32", "bfloat16"]
Pooling = Literal["average", "generalised_mean", "attention"]  # see `training.models.layers.pooled`


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Network:
    width: Annotated[float, "multiplies the units or filters of every layer; 1 in the paper"]
    bottleneck_units: Annotated[
        int | None, "units of a layer before the outputs (section 4.2: 128), not widened"
    ] = None

    def __post_init__(self) -> None:
        _require_positive(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Convolutional(_Network):
    batch_norm_momentum: Annotated[float, "share of the old moving statistics that a step keeps"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FullyConnected(_Network):
    """Section 3.3.1: layers of ReLUs."""

    network: Literal["fully_connected"] = dataclasses.field(default="fully_connected", init=False)
    num_layers: Annotated[int, "hidden layers; 0 for a linear classifier"]
    units: Annotated[int, "ReLUs of each hidden layer"]

    def __post_init__(self) -> None:
        _require_positive(self, but="num_layers")
        if self.num_layers < 0:
            raise InputError(f"num_layers must not be negative; received {self.num_layers}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlexNet(_Convolutional):
    """Section 3.3.2."""

    network: Literal["alexnet"] = dataclasses.field(default="alexnet", init=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vgg(_Convolutional):
    """Section 3.3.3, configuration E."""

    network: Literal["vgg"] = dataclasses.field(default="vgg", init=False)
    reduced_strides: Annotated[bool, "stride of 2 x 1 instead of 2 x 2 in the first pool"] = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class InceptionV3(_Convolutional):
    """Section 3.3.4."""

    network: Literal["inception_v3"] = dataclasses.field(default="inception_v3", init=False)
    lean_stem: Annotated[bool, "leave out the 1 x 1 convolution that the text keeps"] = False
    whole_stem: Annotated[bool, "keep the first three convolutions, with a stride of 1"] = False
    pooling: Annotated[Pooling, "how the last maps become one vector"] = "average"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lean_stem and self.whole_stem:
            raise InputError("lean_stem and whole_stem are both true; set one of them to false")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResNet50(_Convolutional):
    """Section 3.3.5."""

    network: Literal["resnet50"] = dataclasses.field(default="resnet50", init=False)
    pooling: Annotated[Pooling, "how the last maps become one vector"] = "average"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MobileNet(_Convolutional):
    """MobileNet (Howard et al. 2017), not in the paper."""

    network: Literal["mobilenet"] = dataclasses.field(default="mobilenet", init=False)
    pooling: Annotated[Pooling, "how the last maps become one vector"] = "average"


ModelConfig = FullyConnected | AlexNet | Vgg | InceptionV3 | ResNet50 | MobileNet
_NETWORKS: Mapping[str, type[ModelConfig]] = {
    network.network: network for network in get_args(ModelConfig)
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Techniques that the paper does not use; all are off by default.

    Raises:
      InputError: a number is out of its range.
    """

    softmax: Annotated[
        bool, "one softmax over the labels in place of a sigmoid for each: one label a video"
    ] = dataclasses.field(default=False, metadata=OMIT_DEFAULT)
    # Augmentation of patches, see `training.input.augmentation`.
    crop_seconds: Annotated[
        float, "train on a random stretch of this length of each patch; 0: the whole patch"
    ] = dataclasses.field(default=0.0, metadata=OMIT_DEFAULT)
    mixup: Annotated[float, "a of Beta(a, a), the distribution of shares in a mixture; 0: off"] = (
        0.0
    )
    time_shift_seconds: Annotated[float, "largest shift in time, in either direction"] = 0.0
    band_shift: Annotated[int, "largest shift in mel bands, in either direction"] = 0
    gain_decibels: Annotated[float, "largest change of loudness, in either direction"] = 0.0
    masks: Annotated[int, "number of time masks of a patch, and of band masks"] = 0
    time_mask_seconds: Annotated[float, "largest duration of a time mask"] = 0.1
    mask_bands: Annotated[int, "largest number of bands of a band mask"] = 8
    label_balance: Annotated[
        float, "0 samples patches as they are, 1 samples all labels equally often"
    ] = 0.0
    # The learning rate, see `training.loops.schedule`.
    warm_up: Annotated[float, "share of the steps in which the learning rate rises from 0"] = 0.0
    cosine: Annotated[bool, "decay the learning rate to 0 along a cosine"] = False
    # The weights.
    weight_decay: Annotated[
        float, "decoupled: a step shrinks kernels by the learning rate times this"
    ] = 0.0
    average_decay: Annotated[float, "share of the averaged weights that a step keeps; 0: off"] = 0.0

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
        return bool(self.crop_seconds or self.mixup or shifts or self.masks)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what a run learns, and how often it reports.

    Raises:
      InputError: a number is not positive.
    """

    name: str
    model: ModelConfig
    learning_rate: Annotated[float, "learning rate of Adam"]
    learning_rate_cuts: Annotated[
        tuple[tuple[int, float], ...], "multiply the learning rate by FACTOR after STEP steps"
    ] = ()
    batch_size: Annotated[int, "patches of a mini-batch"]
    steps: Annotated[int, "mini-batches to train on, those of earlier commands included"]
    num_labels: Annotated[int | None, "learn the N most frequent labels; null: all"]
    training_subset: Annotated[str | None, "nested subset of the training videos; null: all"] = None
    normalise: Annotated[bool, "normalise mel bands by the output of pipelines.band_statistics"] = (
        False
    )
    seed: Annotated[int, "seed of the initial weights and of the order of the input"]
    precision: Annotated[Precision, "dtype of activations; weights and loss are float32"] = (
        "float32"
    )
    options: Options = Options()
    # Random sampling "from all patches" (section 3.1): see `training.input.runs` and
    # docs/sampling.md. The buffer takes 100 MB.
    interleaved_shards: Annotated[int, "shards that are read at the same time"] = 64
    shuffle_patches: Annotated[int, "size of the buffer that patches are shuffled in"] = 16_384
    # The paper watches "a validation subset" (section 3.1) and does not give its size.
    validation_patches: Annotated[int, "size of the validation subset; fewer in a short run"] = (
        16_384
    )
    validation_steps: Annotated[int, "steps between validations; fewer in a short run"] = 10_000
    report_steps: Annotated[int, "steps between points of the curves; fewer in a short run"] = 100
    checkpoint_minutes: Annotated[float, "time between checkpoints"] = 10.0

    def __post_init__(self) -> None:
        _require_positive(self, but="seed")
        if self.options.crop_seconds and not hasattr(self.model, "pooling"):
            raise InputError(
                f"crop_seconds needs a network that pools over time; received {self.model.network}"
            )
        for step, factor in self.learning_rate_cuts:
            if not (step > 0 and 0 < factor < math.inf):
                cut = f"{step}:{factor}"
                raise InputError(
                    f"learning_rate_cuts: STEP and FACTOR must be positive; received {cut}"
                )

    @property
    def fingerprint(self) -> str:
        """16 hex digits that stand for all fields."""
        return fingerprint(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The fields, as a JSON object; without options that earlier versions did not have."""
        return to_plain(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Recipe":
        """The inverse of `to_json`, also after the object went through a file."""
        model = dict(document["model"])
        network = _NETWORKS[model.pop("network")]
        cuts = tuple((step, factor) for step, factor in document["learning_rate_cuts"])
        nested = {
            "model": network(**model),
            "learning_rate_cuts": cuts,
            "options": Options(**document.get("options", {})),  # absent from the oldest runs
        }
        return cls(**{**document, **nested})

    @property
    def learning(self) -> dict[str, Any]:
        """The fields that a resumed run must not change: all but its length and its reports.

        The length is one of them if the learning rate follows from it.
        """
        free = {"validation_patches", "validation_steps", "report_steps", "checkpoint_minutes"}
        if not (self.options.cosine or self.options.warm_up):
            free.add("steps")
        return {field: value for field, value in self.to_json().items() if field not in free}


def _require_positive(record: _Network | Recipe, *, but: str = "") -> None:
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if type(value) in (int, float) and field.name != but and not 0 < value < math.inf:
            raise InputError(f"{field.name} must be positive; received {value}")
