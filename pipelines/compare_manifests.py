"""Two manifests side by side: videos, labels, splits and hours that are in one, the other or both.

python -m pipelines.compare_manifests published/manifest.parquet here/manifest.parquet
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from features.errors import OK, run_command
from features.storage import files
from pipelines.dataset.manifest import read_manifest

_DESCRIPTION = """\
Show two manifests side by side: rows and videos, what is in both, the videos
whose labels or split differ, hours as far as start and end say, and the videos
of each split and label. Columns are id, uri, labels, split, start, end.
"""
_NO_SPLIT = "no split"


class _Video(NamedTuple):
    labels: frozenset[str]
    split: str


@dataclass
class Contents:
    """The contents of a manifest.

    Attributes:
      videos: by id.
      num_rows, num_rejects: all rows, and the unusable ones.
      seconds: of all videos that have an end.
      num_timed: number of these videos.
      labels, splits: label, split -> videos.
    """

    videos: dict[str, _Video] = field(default_factory=dict)
    num_rows: int = 0
    num_rejects: int = 0
    seconds: float = 0.0
    num_timed: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)


def read_contents(pattern: str) -> Contents:
    """Read a manifest of any kind.

    Raises:
      InputError: the manifest cannot be read, or lacks a column.
    """
    table, rejects = read_manifest(pattern)
    contents = Contents(num_rows=table.num_rows + len(rejects), num_rejects=len(rejects))
    for row in table.to_pylist():
        video = _Video(frozenset(row["labels"]), row["split"] or _NO_SPLIT)
        contents.videos[row["id"]] = video
        contents.labels.update(video.labels)
        contents.splits[video.split] += 1
        if row["end"] is not None:
            contents.seconds += row["end"] - (row["start"] or 0.0)
            contents.num_timed += 1
    return contents


def compare(first: Contents, second: Contents, *, num_labels: int) -> str:
    """Compare two manifests, in lines of 80 columns.

    Args:
      first: the left column.
      second: the right column.
      num_labels: number of labels to show, those whose counts differ most.
    """
    both = first.videos.keys() & second.videos.keys()
    pairs = [(first.videos[video], second.videos[video]) for video in both]
    other_labels = sum(a.labels != b.labels for a, b in pairs)
    other_split = sum(a.split != b.split for a, b in pairs)
    rows: list[tuple[str, object, object]] = [
        ("rows", first.num_rows, second.num_rows),
        ("  that cannot be used", first.num_rejects, second.num_rejects),
        ("videos", len(first.videos), len(second.videos)),
        ("  in both", len(both), len(both)),
        ("  in this one only", len(first.videos) - len(both), len(second.videos) - len(both)),
        ("  in both, with other labels", other_labels, other_labels),
        ("  in both, in another split", other_split, other_split),
        ("hours", f"{first.seconds / 3600:.2f}", f"{second.seconds / 3600:.2f}"),
        ("  of so many videos with an end", first.num_timed, second.num_timed),
        ("videos by split", "", ""),
    ]
    rows += [
        (f"  {split}", first.splits[split], second.splits[split])
        for split in sorted(first.splits.keys() | second.splits.keys())
    ]
    labels = first.labels.keys() | second.labels.keys()
    only_first, only_second = labels - second.labels.keys(), labels - first.labels.keys()
    rows += [
        ("labels", len(first.labels), len(second.labels)),
        ("  in this one only", len(only_first), len(only_second)),
    ]
    by_difference = sorted(
        labels, key=lambda label: (-abs(first.labels[label] - second.labels[label]), label)
    )
    rows += [
        (f"  {label}", first.labels[label], second.labels[label])
        for label in by_difference[:num_labels]
    ]
    lines = [f"{name[:48]:<48} {left!s:>15} {right!s:>15}" for name, left, right in rows]
    if len(labels) > num_labels:
        lines.append(f"  and {len(labels) - num_labels} labels whose counts differ less")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.compare_manifests",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("first", help="path or glob pattern: .csv, .jsonl or .parquet")
    parser.add_argument("second", help="another")
    parser.add_argument(
        "--labels", type=int, default=20, metavar="N", help="how many to show (default: 20)"
    )
    args = parser.parse_args(argv)
    first, second = (read_contents(files.absolute(path)) for path in (args.first, args.second))
    print(f"first   {args.first}\nsecond  {args.second}")
    print(f"{'':<48} {'first':>15} {'second':>15}")
    print(compare(first, second, num_labels=args.labels))
    return OK


if __name__ == "__main__":
    run_command(main)
