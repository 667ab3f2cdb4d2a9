"""Techniques that are newer than the paper, compared with its ResNet-50 at equal patches seen.

python -m evaluation.paper.modern --scale small --clips sounds --output experiments
"""

import functools

from evaluation.paper import table
from evaluation.paper.scales import Settings
from evaluation.paper.table import Finding, Row, Table
from features.errors import run_command


def _with(name: str, label: str, settings: Settings) -> Row:
    # A choice of the rate for each would take more time than the runs.
    return Row("resnet50", label, name=f"resnet50_{name}", settings=settings, tuned_with="resnet50")


_RATE = "3e-3"  # of the recipe `modern`
# One technique at a time.
_ALONE = (
    _with("normalised", "+ normalised input", {"normalise": "true"}),
    _with("learning_rate", "+ learning rate 3e-3", {"learning_rate": _RATE}),
    _with(
        "schedule",
        "+ learning rate 3e-3, warm-up, cosine",
        {"learning_rate": _RATE, "warm_up": "0.05", "cosine": "true"},
    ),
    _with("mixup", "+ mixup", {"mixup": "0.3"}),
    _with("masks", "+ SpecAugment", {"masks": "2"}),
    _with("time_shift", "+ time shift", {"time_shift_seconds": "0.48"}),
    _with("band_shift", "+ band shift, gain", {"band_shift": "3", "gain_decibels": "9"}),
    _with("label_balance", "+ label balance", {"label_balance": "1"}),
    _with("average", "+ weight averaging", {"average_decay": "0.999"}),
    _with("weight_decay", "+ weight decay", {"weight_decay": "0.3"}),
    _with("generalised_mean", "+ generalised mean", {"pooling": "generalised_mean"}),
    _with("attention", "+ attention", {"pooling": "attention"}),
)
_MODERN = Row("modern", "ResNet-50, modern recipe")
# Not another way to train ResNet-50, but a network that costs a 26th of it in scoring.
_SMALL = Row("small", "MobileNet, modern recipe")
TABLE = Table(
    name="modern",
    title="Beyond the paper",
    band_statistics=True,
    rows=(
        Row("resnet50", "ResNet-50"),
        _MODERN,
        _SMALL,
        *_ALONE,
    ),
    findings=(
        Finding("What has been found since helps", ((_MODERN.key, "resnet50"),)),
        Finding("A ResNet-50 is better than a small network", ((_MODERN.key, _SMALL.key),)),
        Finding("Each option helps by itself", tuple((row.key, "resnet50") for row in _ALONE)),
    ),
)
main = functools.partial(table.main, TABLE)

if __name__ == "__main__":
    run_command(main)
