"""ESC-50: 2,000 clips of 5 s, 50 classes, five folds (Piczak, 2015).

--source is the unpacked repository: meta/esc50.csv and audio/. Folds 1 to 3 are
train, fold 4 validation, fold 5 evaluation. In the published protocol each fold
is the evaluation set in turn: give --split-values. Clips of an original
recording are in the same fold.
"""

import argparse
from pathlib import PurePath

from features.contracts.sharding import EVALUATION, TRAIN, VALIDATION
from features.storage import files
from pipelines.adapters.csv_rows import read_rows
from pipelines.adapters.listing import Listing, PublishedClip, display_names
from pipelines.runtime.rejects import Reject

METADATA = ("meta", "esc50.csv")
SPLIT_VALUES = {"1": TRAIN, "2": TRAIN, "3": TRAIN, "4": VALIDATION, "5": EVALUATION}
_COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the adapter's flags."""
    parser.add_argument("--esc10", action="store_true", help="only the ten classes of ESC-10")


def from_arguments(args: argparse.Namespace) -> Listing:
    """Read the folder of the command line."""
    return read(args.source, esc10=args.esc10)


def read(source: str, *, esc10: bool = False) -> Listing:
    """Read the clips of `meta/esc50.csv`.

    Args:
      source: the publisher's folder.
      esc10: whether to read only the ten classes of ESC-10.

    Raises:
      InputError: the file is missing or not as published.
    """
    rejects: list[Reject] = []
    clips = [
        PublishedClip(
            id=PurePath(row["filename"]).stem,
            labels=(row["category"],),
            file_names=(PurePath(row["filename"]).stem,),
            published_split=row["fold"],
            recording=row["src_file"],
        )
        for row in read_rows(files.join(source, *METADATA), _COLUMNS, rejects=rejects)
        if row["esc10"] == "True" or not esc10
    ]
    return Listing(clips, display_names(clips), SPLIT_VALUES, rejects)
