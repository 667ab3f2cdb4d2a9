"""Techniques that are newer than the paper, compared with its ResNet-50 at equal patches seen.

python -m evaluation.paper.modern --scale small --clips sounds --output experiments
"""

import functools
from collections.abc import Mapping

from evaluation.paper import table
from evaluation.paper.scales import Settings
from evaluation.paper.table import Finding, Row, Table
from features.errors import run_command

# Of the recipe `modern`.
_SCHEDULE, _AVERAGE = {"warm_up": "0.05", "cosine": "true"}, {"average_decay": "0.999"}
_LONG_MODERN = {"normalise": "true", "learning_rate_cuts": "null", **_SCHEDULE, **_AVERAGE}
# One option at a time, of which the best by validation is evaluated. Some may slow short runs, in
# which few patches come twice, and help long ones, in which only augmentation is tried: they are
# dear.
_AUGMENTATION: Mapping[str, Settings] = {
    "mixup": {"mixup": "0.3"},
    "band_shift": {"band_shift": "3", "gain_decibels": "9"},
}
_OPTIONS: Mapping[str, Settings] = {
    **{"schedule": _SCHEDULE, "average": _AVERAGE, **_AUGMENTATION},
    **{"masks": {"masks": "2"}, "label_balance": {"label_balance": "1"}},
}
_LONGER = "resnet50_17m"
# With the learning rates of others: a choice for each would take too long.
_OPTION = Row(
    "resnet50",
    "ResNet-50, best option",
    name="resnet50_option",
    options=_OPTIONS,
    tuned_with="resnet50",
)
_LONG = (
    Row(
        _LONGER,
        "Longer, modern recipe",
        name=f"{_LONGER}_modern",
        settings=_LONG_MODERN,
        tuned_with="modern",
    ),
    Row(
        _LONGER,
        "Longer, best option",
        name=f"{_LONGER}_option",
        options=_AUGMENTATION,
        tuned_with="resnet50",
    ),
)
_MODERN = Row("modern", "ResNet-50, modern recipe")
# Not another way to train ResNet-50, but a network that costs a 26th of it in scoring.
_SMALL = Row("small", "MobileNet, modern recipe")
TABLE = Table(
    name="modern",
    title="Beyond the paper",
    band_statistics=True,
    rows=(
        *(Row("resnet50", "ResNet-50"), _MODERN, _SMALL, _OPTION),
        *(Row(_LONGER, "ResNet-50, longer"), *_LONG),
    ),
    findings=(
        Finding("What has been found since helps", ((_MODERN.key, "resnet50"),)),
        Finding("A ResNet-50 is better than a small network", ((_MODERN.key, _SMALL.key),)),
        Finding(
            "A small network is within 0.02 mAP of ResNet-50",
            ((_SMALL.key, "resnet50"), (_SMALL.key, _MODERN.key)),
            margin=0.02,
        ),
        Finding("The best option helps in short runs", ((_OPTION.key, "resnet50"),)),
        Finding("It helps in longer runs", tuple((row.key, _LONGER) for row in _LONG)),
    ),
)
main = functools.partial(table.main, TABLE)

if __name__ == "__main__":
    run_command(main)
