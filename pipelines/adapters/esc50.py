"""ESC-50: 2,000 clips of 5 s, 50 classes, five folds (Piczak, 2015).

--source is the unpacked repository: meta/esc50.csv and audio/. The split is by
fold: 1 to 3 train, 4 validation, 5 evaluation; the published protocol makes
each fold the evaluation set in turn: give --split-values. Clips of one original
recording are in one fold.
"""

import argparse
from pathlib import PurePath

from features.contracts.sharding import EVALUATION, TRAIN, VALIDATION
from features.storage import files
from pipelines.adapters.csv_rows import read_rows
from pipelines.adapters.listing import Clip, Listing, label_name
from pipelines.runtime.rejects import Reject

METADATA = ("meta", "esc50.csv")
SPLIT_VALUES = {"1": TRAIN, "2": TRAIN, "3": TRAIN, "4": VALIDATION, "5": EVALUATION}
_COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The adapter's own flags."""
    parser.add_argument("--esc10", action="store_true", help="the ten classes of ESC-10 alone")


def from_arguments(args: argparse.Namespace) -> Listing:
    """`read`, by flags."""
    return read(args.source, esc10=args.esc10)


def read(source: str, *, esc10: bool = False) -> Listing:
    """The clips of `meta/esc50.csv`.

    Args:
      source: the publisher's folder.
      esc10: the subset of ten classes alone.

    Raises:
      InputError: the file is not there or not as published.
    """
    rejects: list[Reject] = []
    clips = [
        Clip(
            id=PurePath(row["filename"]).stem,
            labels=(row["category"],),
            file_names=(PurePath(row["filename"]).stem,),
            published_split=row["fold"],
            recording=row["src_file"],
        )
        for row in read_rows(files.join(source, *METADATA), _COLUMNS, rejects=rejects)
        if row["esc10"] == "True" or not esc10
    ]
    names = {label: label_name(label) for label in sorted({clip.labels[0] for clip in clips})}
    return Listing(clips, names, SPLIT_VALUES, rejects)
