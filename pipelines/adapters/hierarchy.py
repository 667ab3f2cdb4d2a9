"""Labels above labels: what holds wherever a more specific label does."""

from collections.abc import Collection, Mapping
from graphlib import CycleError, TopologicalSorter

from features.errors import InputError


def ancestors(parents: Mapping[str, Collection[str]], source: str) -> dict[str, frozenset[str]]:
    """All labels above each label.

    Args:
      parents: label -> the labels right above it. A label may have several.
      source: of the hierarchy, for the message.

    Raises:
      InputError: a label is above itself.
    """
    above: dict[str, frozenset[str]] = {}
    try:
        for label in TopologicalSorter(parents).static_order():
            direct = parents.get(label, ())
            above[label] = frozenset(direct).union(*(above[parent] for parent in direct))
    except CycleError as error:
        cycle = " is above ".join(map(repr, error.args[1]))
        raise InputError(f"{source}: {cycle}; remove one of these relations") from error
    return above
