"""The flag --split-values: which values of a column stand for which split."""

from collections.abc import Sequence

from features.errors import InputError
from pipelines.sharding import SPLITS


def parse(texts: Sequence[str]) -> dict[str, str]:
    """["train=1,2", "evaluation=4"] -> {"1": "train", "2": "train", "4": "evaluation"}.

    Raises:
      InputError: another form, another split, or a value that is given to two splits.
    """
    values: dict[str, str] = {}
    for text in texts:
        split, equals, listed = text.partition("=")
        twice = sorted(values.keys() & set(listed.split(",")))
        if twice:
            raise InputError(f"--split-values: {', '.join(twice)} is given to two splits")
        if not equals or split not in SPLITS or not listed:
            raise InputError(
                f"--split-values: received {text!r}; expected SPLIT=VALUE[,VALUE...] with SPLIT "
                f"one of {', '.join(SPLITS)}"
            )
        values |= dict.fromkeys(listed.split(","), split)
    return values
