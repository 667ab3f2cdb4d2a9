"""Techniques that are newer than the paper, compared with its ResNet-50 at equal patches seen.

python -m evaluation.paper.modern --scale small --clips sounds --output experiments
"""

import functools

from evaluation.paper import table
from evaluation.paper.scales import Settings
from evaluation.paper.table import Finding, Row, Table
from features.errors import run_command


def _with(
    name: str, label: str, settings: Settings, *, recipe: str = "resnet50", by: str = "resnet50"
) -> Row:
    """A row like another one, with its learning rate: a choice for each would take too long."""
    return Row(recipe, label, name=f"{recipe}_{name}", settings=settings, tuned_with=by)


# Of the recipe `modern`.
_SCHEDULE, _AVERAGE = {"warm_up": "0.05", "cosine": "true"}, {"average_decay": "0.999"}
_LONG_MODERN = {"normalise": "true", "learning_rate_cuts": "null", **_SCHEDULE, **_AVERAGE}
# One option at a time; some may slow short runs, which see each patch once or twice, and help long
# ones.
_OPTIONS = (
    ("schedule", "warm-up, cosine", _SCHEDULE),
    ("average", "weight averaging", _AVERAGE),
    ("mixup", "mixup", {"mixup": "0.3"}),
    ("masks", "SpecAugment", {"masks": "2"}),
    ("band_shift", "band shift, gain", {"band_shift": "3", "gain_decibels": "9"}),
    ("label_balance", "label balance", {"label_balance": "1"}),
)
_ALONE = tuple(_with(name, f"+ {label}", settings) for name, label, settings in _OPTIONS)
_LONGER = "resnet50_17m"
_LONG = (
    _with("modern", "Longer, modern recipe", _LONG_MODERN, recipe=_LONGER, by="modern"),
    _with("mixup", "Longer, + mixup", {"mixup": "0.3"}, recipe=_LONGER),
    _with("masks", "Longer, + SpecAugment", {"masks": "2"}, recipe=_LONGER),
)
_MODERN = Row("modern", "ResNet-50, modern recipe")
# Not another way to train ResNet-50, but a network that costs a 26th of it in scoring.
_SMALL = Row("small", "MobileNet, modern recipe")
TABLE = Table(
    name="modern",
    title="Beyond the paper",
    band_statistics=True,
    rows=(
        *(Row("resnet50", "ResNet-50"), _MODERN, _SMALL, *_ALONE),
        *(Row(_LONGER, "ResNet-50, longer"), *_LONG),
    ),
    findings=(
        Finding("What has been found since helps", ((_MODERN.key, "resnet50"),)),
        Finding("A ResNet-50 is better than a small network", ((_MODERN.key, _SMALL.key),)),
        Finding("Each option helps in short runs", tuple((row.key, "resnet50") for row in _ALONE)),
        Finding("Options help in longer runs", tuple((row.key, _LONGER) for row in _LONG)),
    ),
)
main = functools.partial(table.main, TABLE)

if __name__ == "__main__":
    run_command(main)
