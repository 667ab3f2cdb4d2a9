"""The subsets of a data set that the command line asks for."""

import dataclasses
import re

from features.errors import InputError

_SIZE = re.compile(r"[0-9]+|0\.[0-9]+")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SubsetRequest:
    """The requested subsets of a data set.

    Attributes:
      training: sizes of training subsets, in videos or as fractions of the split below 1.
      balanced: sizes of the label sets of balanced evaluation sets, rising.
      examples_per_class: of a balanced set, if the evaluation split has as many.
    """

    training: tuple[str, ...] = ()
    balanced: tuple[int, ...] = ()
    examples_per_class: int = 33

    @classmethod
    def parse(cls, training: str, balanced: str, examples_per_class: int) -> "SubsetRequest":
        """Parse comma-separated flags.

        Raises:
          InputError: a flag has an invalid value.
        """
        sizes = tuple(filter(None, training.split(",")))
        for size in sizes:
            if not _SIZE.fullmatch(size) or float(size) == 0 or sizes.count(size) > 1:
                raise InputError(
                    f"--subsets: received {training!r}; give different numbers of videos (23000) "
                    "or fractions below 1 (0.01), separated by commas"
                )
        try:
            label_sets = sorted({int(size) for size in filter(None, balanced.split(","))})
        except ValueError:
            label_sets = [0]
        if any(size < 1 for size in label_sets):
            raise InputError(
                f"--balanced-sets: received {balanced!r}; give numbers of labels, separated by "
                "commas"
            )
        if examples_per_class < 1:
            raise InputError(f"--examples-per-class: received {examples_per_class}; give 1 or more")
        return cls(
            training=sizes, balanced=tuple(label_sets), examples_per_class=examples_per_class
        )
