"""AudioSet: 2.1 million segments of YouTube videos (Gemmeke et al., 2017).

--source holds *_segments.csv (balanced_train, unbalanced_train, eval) and
class_labels_indices.csv; for --ancestors also ontology.json. The id of a
segment is YTID_MILLISECONDS, as in the release of strong labels; its recording
is the YouTube id. Media may be called as the YouTube id, with a Y before it or
not, in any folder. Names that end in the times, as ID_30000_40000, ID_30_40 or
ID_30.000_40.000, are of media that hold the segment alone.
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
from pipelines.adapters.listing import Clip, Listing
from pipelines.runtime.rejects import Reject

LABELS, ONTOLOGY = "class_labels_indices.csv", "ontology.json"
SPLIT_VALUES = {"balanced_train": TRAIN, "unbalanced_train": TRAIN, "eval": EVALUATION}
_SEGMENTS = "_segments.csv"
# The files name them in their third line, which is a comment.
_COLUMNS = ("YTID", "start_seconds", "end_seconds", "positive_labels")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The adapter's own flags."""
    parser.add_argument(
        "--cut",
        action="store_true",
        help="all media hold the 10 seconds of their segment alone, as most download scripts "
        "leave them, whatever they are called; the manifest then has no start and end",
    )
    parser.add_argument(
        "--ancestors",
        action="store_true",
        help="give each segment also the labels above its own in ontology.json, except for "
        "those that the ontology restricts (abstract or blacklisted)",
    )


def from_arguments(args: argparse.Namespace) -> Listing:
    """`read`, by flags."""
    return read(args.source, cut=args.cut, ancestors=args.ancestors)


def read(source: str, *, cut: bool = False, ancestors: bool = False) -> Listing:
    """The segments of all `*_segments.csv`.

    A row whose times are no numbers, or with a label that is not in `class_labels_indices.csv`,
    becomes a reject.

    Args:
      source: the publisher's folder.
      cut: whether all media hold their segment alone.
      ancestors: whether to add the generic labels above those of a segment.

    Raises:
      InputError: a file is not there or not as published, or the ontology has a cycle.
    """
    labels_path = files.join(source, LABELS)
    rows = read_rows(labels_path, ("mid", "display_name"))
    names = {row["mid"]: row["display_name"] for row in rows}
    tree = ontology.read(files.join(source, ONTOLOGY)) if ancestors else None
    paths = files.list_files(source, f"*{_SEGMENTS}")
    if not paths:
        raise InputError(f"{source}: no *{_SEGMENTS}; --source is the folder of AudioSet's files")
    clips: list[Clip] = []
    rejects: list[Reject] = []
    for path in paths:
        published_split = PurePath(path).name.removesuffix(_SEGMENTS)
        for row in read_rows(path, _COLUMNS, header=False, rejects=rejects):
            try:
                clip = _clip(row, published_split, names, cut=cut)
            except _BadRowError as error:
                detail = f"{path}: {error.detail}"
                rejects.append(Reject(row["YTID"], "", error.reason, detail))
                continue
            clips.append(clip if tree is None else replace(clip, labels=tree.expand(clip.labels)))
    if tree is not None:
        names |= {label: tree.names[label] for clip in clips for label in clip.labels}
    return Listing(clips, names, SPLIT_VALUES, rejects)


class _BadRowError(Exception):
    def __init__(self, reason: str, detail: str):
        super().__init__(reason)
        self.reason, self.detail = reason, detail


def _clip(
    row: Mapping[str, str], published_split: str, names: Mapping[str, str], *, cut: bool
) -> Clip:
    try:
        start, end = float(row["start_seconds"]), float(row["end_seconds"])
    except ValueError as error:
        raise _BadRowError("bad_times", str(error)) from error
    labels = tuple(filter(None, row["positive_labels"].split(",")))
    unknown = [label for label in labels if label not in names]
    if unknown or not labels:
        detail = f"labels are {row['positive_labels']!r}"
        raise _BadRowError("unknown_label" if unknown else "no_labels", f"{detail}, see {LABELS}")
    video = row["YTID"]
    return Clip(
        id=f"{video}_{round(1000 * start)}",
        labels=labels,
        # Many tools cannot take a file name that begins with a dash, as one YouTube id in 64 does.
        file_names=(video, f"Y{video}"),
        cut_endings=(*_endings(start, end), *([""] if cut else [])),
        published_split=published_split,
        recording=video,
        start=start,
        end=end,
    )


@functools.cache  # a million segments share a thousand of them
def _endings(start: float, end: float) -> tuple[str, ...]:
    """What download scripts put behind the id of a video."""
    start_ms, end_ms = round(1000 * start), round(1000 * end)
    return (
        f"_{start_ms}_{end_ms}",
        f"_{start_ms}",
        f"_{start:.3f}_{end:.3f}",
        f"_{start:.0f}_{end:.0f}",
        f"_{start:.0f}-{end:.0f}",
    )
