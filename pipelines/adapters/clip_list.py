"""A list of labelled clips of several sources, in folds.

--source holds clips.csv: clip_id, path (below --source), label, fold, group and
source, such as esc50. The group is what a clip was cut from, a recording or a
speaker. Each fold is a published split.
"""

import argparse
from collections.abc import Collection

from features.contracts.sharding import SPLITS
from features.errors import InputError
from features.storage import files
from pipelines.adapters.csv_rows import read_rows
from pipelines.adapters.listing import Listing, PublishedClip, display_names
from pipelines.runtime.rejects import Reject

FILE_NAME = "clips.csv"
_COLUMNS = ("clip_id", "path", "label", "fold", "group", "source")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the adapter's flags."""
    add = parser.add_argument
    add("--sources", nargs="+", metavar="NAME", help="leave out clips of other sources")
    add("--labels", nargs="+", metavar="LABEL", help="leave out clips of other labels")


def from_arguments(args: argparse.Namespace) -> Listing:
    """Read the folder of the command line."""
    return read(args.source, sources=args.sources, labels=args.labels)


def read(
    source: str, *, sources: Collection[str] | None = None, labels: Collection[str] | None = None
) -> Listing:
    """Read `clips.csv`.

    Args:
      source: the folder.
      sources: values of the column `source`; clips of others become rejects; None for all.
      labels: the same, of the column `label`.

    Raises:
      InputError: the file is missing or malformed, or it has no clip of a source or label.
    """
    clips: list[PublishedClip] = []
    rejects: list[Reject] = []
    path = files.join(source, FILE_NAME)
    wanted = {"source": sources, "label": labels}
    found: dict[str, set[str]] = {column: set() for column in wanted}
    for row in read_rows(path, _COLUMNS):
        uri = files.join(source, row["path"])
        for column, values in wanted.items():
            found[column].add(row[column])
            if values is not None and row[column] not in values:
                detail = f"{column} is {row[column]!r}, not one of {sorted(values)}"
                rejects.append(Reject(row["clip_id"], uri, f"other_{column}", detail))
                break
        else:
            clips.append(
                PublishedClip(
                    id=row["clip_id"],
                    labels=(row["label"],),
                    uri=uri,
                    published_split=row["fold"],
                    recording=row["group"] or None,
                )
            )
    for column, values in wanted.items():
        unknown = sorted(set(values or ()) - found[column])
        if unknown:
            raise InputError(f"{path}: no clip has the {column} {', '.join(map(repr, unknown))}")
    return Listing(clips, display_names(clips), {split: split for split in SPLITS}, rejects)
