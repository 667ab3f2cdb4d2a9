"""The runs of the paper, one function each; `features.paper` has what the paper reports of them.

python -m training.train RECIPE --features features --output run
"""

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from typing import Any

from features.errors import InputError
from training.config import (
    AlexNet,
    FullyConnected,
    InceptionV3,
    MobileNet,
    Options,
    Recipe,
    ResNet50,
    Vgg,
)

# "The 10% most frequent labels of the original 30K" (section 3.3), and the sets of section 4.2.
_LABELS_30K, _LABELS_3K, _LABELS_400 = 30_871, 3_087, 400
_LABELS_AUDIO_SET = 527  # of the released data set; section 4.4 does not say how many
_BOTTLENECK_UNITS = 128  # section 4.2
_BATCH_SIZE = 128  # section 3.1
_STEPS = 5_000_000  # section 4.1
# The paper does not give it. At 0.9 the moving statistics average about 10 batches: 30,000 values a
# channel even in the last 6 x 4 maps.
_BATCH_NORM_MOMENTUM = 0.9


def fully_connected() -> Recipe:
    """The baseline, 3 layers of 1000 ReLUs (Table 2, row 1)."""
    return Recipe(
        name="fully_connected",
        model=FullyConnected(num_layers=3, units=1_000, width=1.0),
        learning_rate=3e-5,
        batch_size=_BATCH_SIZE,
        steps=_STEPS,
        num_labels=_LABELS_3K,
        seed=0,
    )


def alexnet() -> Recipe:
    """AlexNet (Table 2, row 2).

    Section 3.3.2. The paper searched for the learning rate and does not give the result: ours is
    the learning rate of VGGish, the authors' later release.
    """
    return dataclasses.replace(
        fully_connected(),
        name="alexnet",
        model=AlexNet(width=1.0, batch_norm_momentum=_BATCH_NORM_MOMENTUM),
        learning_rate=1e-4,
    )


def vgg() -> Recipe:
    """VGG, configuration E (Table 2, row 3).

    Section 3.3.3. The learning rate is that of VGGish, as the paper does not give its own.
    """
    return dataclasses.replace(
        alexnet(), name="vgg", model=Vgg(width=1.0, batch_norm_momentum=_BATCH_NORM_MOMENTUM)
    )


def vgg_reduced_strides() -> Recipe:
    """VGG with a first pool of stride 2 x 1.

    Section 3.3.3 tried a variant that "reduced the initial strides (as we did with AlexNet)" and
    found it slower and worse. The strides are our reading: those of AlexNet's first layer, in the
    first layer of VGG that has any.
    """
    return _with_model(vgg(), "vgg_reduced_strides", reduced_strides=True)


def inception_v3() -> Recipe:
    """Inception V3 of the text (Table 2, row 4).

    Section 3.3.4. The network of the text has 16 % more multiplies than the paper reports. The
    learning rate is that of `resnet50`.
    """
    return dataclasses.replace(
        resnet50(),
        name="inception_v3",
        model=InceptionV3(width=1.0, batch_norm_momentum=_BATCH_NORM_MOMENTUM),
    )


def inception_v3_lean_stem() -> Recipe:
    """Inception V3 with as many multiplies as the paper.

    Without the 1 x 1 convolution of the stem, which the text keeps: a guess at the network that
    the authors counted.
    """
    return _with_model(inception_v3(), "inception_v3_lean_stem", lean_stem=True)


def inception_v3_whole_stem() -> Recipe:
    """Inception V3 with the convolutions of the stem.

    Section 3.3.4 tried "including the stem and removing the first stride of 2 and MaxPool" and
    found it worse. The last maps are 10 x 6 as well.
    """
    return _with_model(inception_v3(), "inception_v3_whole_stem", whole_stem=True)


def resnet50() -> Recipe:
    """ResNet-50 at 5M steps (Table 2, row 5).

    Section 3.3.5. The paper searched for the learning rate and does not give the result: ours is
    the default of Adam.
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

    Section 4.1: a tenth of the learning rate after 13M steps.
    """
    return dataclasses.replace(
        resnet50(), name="resnet50_17m", steps=17_000_000, learning_rate_cuts=((13_000_000, 0.1),)
    )


def resnet50_30k() -> Recipe:
    """ResNet-50 for 30,871 labels (Table 3, row 1).

    Section 4.2: "30M to 80M" weights; ours has 86.7M. The paper reports no scores, as training
    "would have taken several months".
    """
    return dataclasses.replace(resnet50(), name="resnet50_30k", num_labels=_LABELS_30K)


def resnet50_3k() -> Recipe:
    """ResNet-50 for 3,087 labels (Table 3, row 2).

    The run of `resnet50`, evaluated on the 400 most frequent labels.
    """
    return dataclasses.replace(resnet50(), name="resnet50_3k")


def resnet50_400() -> Recipe:
    """ResNet-50 for 400 labels (Table 3, row 3)."""
    return dataclasses.replace(resnet50(), name="resnet50_400", num_labels=_LABELS_400)


def resnet50_bottleneck_30k() -> Recipe:
    """128-unit bottleneck, 30,871 labels (Table 3, row 4)."""
    return _with_bottleneck(resnet50_30k(), "resnet50_bottleneck_30k")


def resnet50_bottleneck_3k() -> Recipe:
    """128-unit bottleneck, 3,087 labels (Table 3, row 5)."""
    return _with_bottleneck(resnet50_3k(), "resnet50_bottleneck_3k")


def resnet50_bottleneck_400() -> Recipe:
    """128-unit bottleneck, 400 labels (Table 3, row 6)."""
    return _with_bottleneck(resnet50_400(), "resnet50_bottleneck_400")


def resnet50_70m_videos() -> Recipe:
    """ResNet-50, 16M steps on all 70M (Table 4, row 1).

    Section 4.3 does not mention a cut of the learning rate.
    """
    return _on_videos("resnet50_70m_videos", None)


def resnet50_7m_videos() -> Recipe:
    """16M steps on 7M training videos (Table 4, row 2)."""
    return _on_videos("resnet50_7m_videos", 7_000_000)


def resnet50_700k_videos() -> Recipe:
    """16M steps on 700K training videos (Table 4, row 3)."""
    return _on_videos("resnet50_700k_videos", 700_000)


def resnet50_70k_videos() -> Recipe:
    """16M steps on 70K training videos (Table 4, row 4)."""
    return _on_videos("resnet50_70k_videos", 70_000)


def resnet50_23k_videos() -> Recipe:
    """16M steps on 23K training videos (Table 4, row 5)."""
    return _on_videos("resnet50_23k_videos", 23_000)


def audio_set_log_mel() -> Recipe:
    """Events, from 64 x 20 log-mel patches (section 4.4).

    Of the network the paper says "fully connected" and nothing else: network, learning rate and
    steps are those of Table 2. We read the 20 as frames of 10 ms, in patches without overlap.

    python -m pipelines.extract_features --patch-frames 20 --dataset dataset --output features
    python -m training.train audio_set_log_mel --features features --output run
    """
    return dataclasses.replace(
        fully_connected(), name="audio_set_log_mel", num_labels=_LABELS_AUDIO_SET
    )


def audio_set_embeddings() -> Recipe:
    """Events, from embeddings of ResNet-50 (section 4.4).

    In the paper the embeddings are those of the "best" ResNet, trained on YouTube-100M. The run
    differs from `audio_set_log_mel` in its input only.

    python -m pipelines.extract_embeddings --features features --run resnet --output embeddings
    python -m training.train audio_set_embeddings --features embeddings --output run
    """
    return dataclasses.replace(audio_set_log_mel(), name="audio_set_embeddings")


def modern() -> Recipe:
    """ResNet-50 with what has been found since the paper.

    Normalised input, a learning rate that rises to three times that of `resnet50` and decays to 0,
    and averaged weights. Augmentation such as mixup is left out: it slows learning in runs that
    see each patch only once or twice (docs/results.md).

    python -m pipelines.band_statistics --features features
    python -m training.train modern --features features --output run
    """
    return dataclasses.replace(
        resnet50(),
        name="modern",
        normalise=True,
        learning_rate=3e-3,
        options=Options(warm_up=0.05, cosine=True, average_decay=0.999),
    )


def small() -> Recipe:
    """MobileNet of the size of YAMNet, trained as `modern`.

    Scoring is the dearest job, and this network has a 26th of the multiplies of ResNet-50.
    """
    return dataclasses.replace(
        modern(),
        name="small",
        model=MobileNet(width=1.0, batch_norm_momentum=_BATCH_NORM_MOMENTUM),
    )


def _with_bottleneck(recipe: Recipe, name: str) -> Recipe:
    return _with_model(recipe, name, bottleneck_units=_BOTTLENECK_UNITS)


def _with_model(recipe: Recipe, name: str, **fields: Any) -> Recipe:
    """The recipe with other fields of the network."""
    return dataclasses.replace(recipe, name=name, model=dataclasses.replace(recipe.model, **fields))


def _on_videos(name: str, num_videos: int | None) -> Recipe:
    subset = None if num_videos is None else str(num_videos)
    return dataclasses.replace(resnet50(), name=name, steps=16_000_000, training_subset=subset)


RECIPES: Mapping[str, Callable[[], Recipe]] = {
    recipe.__name__: recipe
    for recipe in (
        *(fully_connected, alexnet, vgg, vgg_reduced_strides),
        *(inception_v3, inception_v3_lean_stem, inception_v3_whole_stem),
        *(resnet50, resnet50_17m),
        *(resnet50_30k, resnet50_3k, resnet50_400),
        *(resnet50_bottleneck_30k, resnet50_bottleneck_3k, resnet50_bottleneck_400),
        *(resnet50_70m_videos, resnet50_7m_videos, resnet50_700k_videos),
        *(resnet50_70k_videos, resnet50_23k_videos),
        *(audio_set_log_mel, audio_set_embeddings, modern, small),
    )
}


def find_recipe(name: str) -> Recipe:
    """The recipe of this name.

    Raises:
      InputError: there is no such recipe; the message has the nearest names.
    """
    if name not in RECIPES:
        nearest = difflib.get_close_matches(name, RECIPES, cutoff=0.4) or list(RECIPES)
        raise InputError(f"no recipe {name!r}; did you mean {' or '.join(nearest)}?")
    return RECIPES[name]()
