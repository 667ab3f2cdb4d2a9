"""YouTube-8M's vocabulary: 3,862 named entities (Abu-El-Haija et al., 2016).

--source holds vocabulary.csv. It lists labels and no videos: only the display
names are written, for a manifest of your own whose labels are these entities.
"""

import argparse

from features.storage import files
from pipelines.adapters.csv_rows import read_rows
from pipelines.adapters.listing import Listing

FILE_NAME = "vocabulary.csv"
LABEL_IDS = ("KnowledgeGraphId", "Index")
_COLUMNS = ("Index", "TrainVideoCount", "KnowledgeGraphId", "Name")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The adapter's own flags."""
    parser.add_argument(
        "--label-ids",
        choices=LABEL_IDS,
        default=LABEL_IDS[0],
        help="the column that your manifest has its labels from (default: %(default)s)",
    )


def from_arguments(args: argparse.Namespace) -> Listing:
    """`read`, by flags."""
    return read(args.source, label_ids=args.label_ids)


def read(source: str, *, label_ids: str = LABEL_IDS[0]) -> Listing:
    """The labels of `vocabulary.csv`, and no clips.

    Args:
      source: the publisher's folder.
      label_ids: the column that is a label's id. Entities without a name are called by it.

    Raises:
      InputError: the file is not there or not as published.
    """
    rows = read_rows(files.join(source, FILE_NAME), _COLUMNS)
    return Listing([], {row[label_ids]: row["Name"].strip() or row[label_ids] for row in rows})
