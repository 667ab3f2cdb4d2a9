"""Hierarchies of labels: a generic label holds wherever a label below it does."""

from collections.abc import Collection, Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

from features.errors import InputError


def find_ancestors(
    parents: Mapping[str, Collection[str]], source: str
) -> dict[str, frozenset[str]]:
    """Find all labels above each label.

    Args:
      parents: label -> the labels directly above it.
      source: the name of the file of the hierarchy, for the message.

    Raises:
      InputError: a label is its own ancestor.
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


def expand_labels(labels: Iterable[str], above: Mapping[str, frozenset[str]]) -> tuple[str, ...]:
    """Return labels and their ancestors, sorted; `above` is the result of `find_ancestors`."""
    labels = set(labels)
    return tuple(sorted(labels.union(*(above[label] for label in labels))))
