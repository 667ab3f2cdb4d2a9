"""AudioSet: 2.1 million segments of YouTube videos (Gemmeke et al., 2017).

--source holds *_segments.csv (balanced_train, unbalanced_train, eval) and
class_labels_indices.csv; for --ancestors also ontology.json. The id of a
segment is YTID_MILLISECONDS, as in the release of strong labels; its recording
is the YouTube id. Media files are named by the YouTube id, with or without a Y
before it, in any folder. A name that ends in the times, such as ID_30000_40000,
ID_30_40 or ID_30.000_40.000, is a file that holds the segment only.
"""

import argparse
import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePath

from features.contracts.sharding import EVALUATION, TRAIN
from features.errors import InputError
from features.storage import files
from pipelines.adapters import ontology
from pipelines.adapters.csv_rows import read_rows
from pipelines.adapters.listing import Listing, PublishedClip
from pipelines.runtime.rejects import Reject

LABELS, ONTOLOGY = "class_labels_indices.csv", "ontology.json"
SPLIT_VALUES = {"balanced_train": TRAIN, "unbalanced_train": TRAIN, "eval": EVALUATION}
_SEGMENTS = "_segments.csv"
# The files name the columns in a comment, their third line.
_COLUMNS = ("YTID", "start_seconds", "end_seconds", "positive_labels")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the adapter's flags."""
    parser.add_argument(
        "--cut",
        action="store_true",
        help="every media file holds only its segment of 10 seconds, whatever its name; most "
        "download scripts write such files. The manifest then has no start and end",
    )
    parser.add_argument(
        "--ancestors",
        action="store_true",
        help="also give each segment the ancestors of its labels in ontology.json, except for "
        "abstract and blacklisted labels",
    )


def from_arguments(args: argparse.Namespace) -> Listing:
    """Read the folder of the command line."""
    return read(args.source, cut=args.cut, ancestors=args.ancestors)


def read(source: str, *, cut: bool = False, ancestors: bool = False) -> Listing:
    """Read the segments of all `*_segments.csv`.

    A row with times that are not numbers, or with a label that is not in
    `class_labels_indices.csv`, becomes a reject.

    Args:
      source: the publisher's folder.
      cut: whether every media file holds only its segment.
      ancestors: whether to add the ancestors of a segment's labels.

    Raises:
      InputError: a file is missing or not as published, or the ontology has a cycle.
    """
    rows = read_rows(files.join(source, LABELS), ("mid", "display_name"))
    names = {row["mid"]: row["display_name"] for row in rows}
    tree = ontology.read(files.join(source, ONTOLOGY)) if ancestors else None
    paths = files.list_files(source, f"*{_SEGMENTS}")
    if not paths:
        raise InputError(f"{source}: no *{_SEGMENTS}; --source is the folder of AudioSet's files")
    clips: list[PublishedClip] = []
    rejects: list[Reject] = []
    for path in paths:
        for row in read_rows(path, _COLUMNS, header=False, rejects=rejects):
            clip = _parse_segment(row, path, names, cut=cut)
            if isinstance(clip, Reject):
                rejects.append(clip)
            elif tree is None:
                clips.append(clip)
            else:
                clips.append(replace(clip, labels=tree.expand(clip.labels)))
    if tree is not None:
        names |= {label: tree.names[label] for clip in clips for label in clip.labels}
    return Listing(clips, names, SPLIT_VALUES, rejects)


def _parse_segment(
    row: Mapping[str, str], path: str, names: Mapping[str, str], *, cut: bool
) -> PublishedClip | Reject:
    video = row["YTID"]
    try:
        start, end = float(row["start_seconds"]), float(row["end_seconds"])
    except ValueError as error:
        return Reject(video, "", "bad_times", f"{path}: {error}")
    labels = tuple(filter(None, row["positive_labels"].split(",")))
    unknown = any(label not in names for label in labels)
    if unknown or not labels:
        detail = f"{path}: labels are {row['positive_labels']!r}, see {LABELS}"
        return Reject(video, "", "unknown_label" if unknown else "no_labels", detail)
    return PublishedClip(
        id=f"{video}_{round(1000 * start)}",
        labels=labels,
        # Many tools refuse a file name that begins with a dash, as one YouTube id in 64 does.
        file_names=(video, f"Y{video}"),
        cut_endings=(*_endings(start, end), *([""] if cut else [])),
        published_split=PurePath(path).name.removesuffix(_SEGMENTS),
        recording=video,
        start=start,
        end=end,
    )


@functools.cache  # a million segments have a thousand different pairs of times
def _endings(start: float, end: float) -> tuple[str, ...]:
    """List what download scripts append to the id of a video."""
    start_ms, end_ms = round(1000 * start), round(1000 * end)
    return (
        f"_{start_ms}_{end_ms}",
        f"_{start_ms}",
        f"_{start:.3f}_{end:.3f}",
        f"_{start:.0f}_{end:.0f}",
        f"_{start:.0f}-{end:.0f}",
    )
