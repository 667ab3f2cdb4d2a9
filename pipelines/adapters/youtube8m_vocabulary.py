"""YouTube-8M's vocabulary: 3,862 named entities (Abu-El-Haija et al., 2016).

--source holds vocabulary.csv, which lists labels and no videos. Only the display
names are written, for your own manifest whose labels are these entities.
"""

import argparse

from features.storage import files
from pipelines.adapters.csv_rows import read_rows
from pipelines.adapters.listing import Listing

FILE_NAME = "vocabulary.csv"
LABEL_IDS = ("KnowledgeGraphId", "Index")
_COLUMNS = ("Index", "TrainVideoCount", "KnowledgeGraphId", "Name")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the adapter's flags."""
    parser.add_argument(
        "--label-ids",
        choices=LABEL_IDS,
        default=LABEL_IDS[0],
        help="the column whose values are the labels of your manifest (default: %(default)s)",
    )


def from_arguments(args: argparse.Namespace) -> Listing:
    """Read the folder of the command line."""
    return read(args.source, label_ids=args.label_ids)


def read(source: str, *, label_ids: str = LABEL_IDS[0]) -> Listing:
    """Read the labels of `vocabulary.csv`; the listing has no clips.

    Args:
      source: the publisher's folder.
      label_ids: the column of label ids. The display name of an entity without a name is its id.

    Raises:
      InputError: the file is missing or not as published.
    """
    rows = read_rows(files.join(source, FILE_NAME), _COLUMNS)
    return Listing([], {row[label_ids]: row["Name"].strip() or row[label_ids] for row in rows})
