"""AudioSet's ontology.json: 632 labels, each with the labels right below it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from features.errors import InputError
from features.storage import files
from pipelines.adapters.hierarchy import ancestors


@dataclass(frozen=True)
class Ontology:
    """Labels and what is above them.

    Attributes:
      names: label id -> what a person calls it.
      above: label id -> the generic labels that hold wherever it does. Labels that the ontology
        restricts are left out: it has abstract ones to hang others from, and blacklisted ones that
        nobody could tell.
    """

    names: Mapping[str, str]
    above: Mapping[str, frozenset[str]]

    def expand(self, labels: Iterable[str]) -> tuple[str, ...]:
        """Labels and the generic ones above them, sorted.

        Raises:
          InputError: the ontology does not have a label.
        """
        labels = set(labels)
        unknown = sorted(labels - self.names.keys())
        if unknown:
            raise InputError(f"the ontology has no {', '.join(unknown)}; give the one they are of")
        return tuple(sorted(labels.union(*(self.above[label] for label in labels))))


def read(path: str) -> Ontology:
    """Read `ontology.json`.

    Raises:
      InputError: no such file, not of this form, a child that is not there, or a cycle.
    """
    try:
        entries = json.loads(files.read_bytes(path))
        names = {entry["id"]: entry["name"] for entry in entries}
        children = {entry["id"]: entry["child_ids"] for entry in entries}
        restricted = {entry["id"] for entry in entries if entry.get("restrictions")}
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; it comes with AudioSet's ontology") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: expected a list of objects with id, name and child_ids ({error!r})"
        ) from error
    parents: dict[str, list[str]] = {label: [] for label in names}
    for parent, below in children.items():
        for child in below:
            if child not in names:
                raise InputError(f"{path}: {parent!r} has the child {child!r}, which is not there")
            parents[child].append(parent)
    above = ancestors(parents, path)
    return Ontology(names, {label: found - restricted for label, found in above.items()})
