"""AudioSet's ontology.json: 632 labels, each with the labels directly below it."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from features.errors import InputError
from features.storage import files
from pipelines.adapters.hierarchy import expand_labels, find_ancestors


@dataclass(frozen=True)
class Ontology:
    """Labels and their ancestors.

    Attributes:
      names: label id -> display name.
      above: label id -> its ancestors, without the labels that the ontology restricts: abstract
        labels, which only group others, and blacklisted labels, which are hard to recognise.
    """

    names: Mapping[str, str]
    above: Mapping[str, frozenset[str]]

    def expand(self, labels: Collection[str]) -> tuple[str, ...]:
        """Return labels and their ancestors, sorted.

        Raises:
          InputError: the ontology does not have a label.
        """
        unknown = sorted(set(labels) - self.names.keys())
        if unknown:
            raise InputError(
                f"the ontology has no {', '.join(unknown)}; give the ontology.json that belongs to "
                "the labels"
            )
        return expand_labels(labels, self.above)


def read(path: str) -> Ontology:
    """Read `ontology.json`.

    Raises:
      InputError: the file is missing or malformed, a child is not defined, or there is a cycle.
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
                raise InputError(f"{path}: {parent!r} has the undefined child {child!r}")
            parents[child].append(parent)
    above = find_ancestors(parents, path)
    return Ontology(names, {label: found - restricted for label, found in above.items()})
