"""A publisher's listing and the media on disk -> a manifest, and an account of what is missing."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from features.contracts.sharding import split_of
from features.errors import InputError
from features.storage import files
from pipelines.adapters.csv_rows import write_rows
from pipelines.adapters.disk import check_lengths, index_media, locate
from pipelines.adapters.listing import Clip, Listing
from pipelines.runtime.rejects import Reject

MANIFEST, LABEL_NAMES = "manifest.parquet", "label_names.csv"
COVERAGE, LEFT_OUT = "coverage.csv", "left_out.csv"
# The columns of a manifest, and the publisher's own split. `group` names the recording that a clip
# was cut from, or its uploader: clips of one must not be in two splits.
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("uri", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("split", pa.string()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("group", pa.string()),
        ("published_split", pa.string()),
    ]
)
# Adapters that have names of labels and no clips.
LABELS_ALONE = {"youtube8m-vocabulary"}
_MISSING, _OTHER_SPLIT = "missing_media", "other_split"


@dataclass(frozen=True)
class Imported:
    """Rows of a manifest, and what became of the rest.

    Attributes:
      rows: of `SCHEMA`.
      left_out: clips without medium or of another split, and rows that the adapter rejected.
      listed, found: (published split, label) -> clips that are listed, and of them in `rows`.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[Reject] = field(default_factory=list)
    listed: Counter[tuple[str, str]] = field(default_factory=Counter)
    found: Counter[tuple[str, str]] = field(default_factory=Counter)

    def account(self) -> str:
        """What became of the clips: inputs = outputs + the rest, by reason."""
        num_rows, num_left_out = len(self.rows), len(self.left_out)
        reasons = Counter(reject.reason for reject in self.left_out)
        return "\n".join(
            [
                f"{num_rows + num_left_out} clips = {num_rows} imported + {num_left_out} left out",
                *(f"  left out: {count} {reason}" for reason, count in sorted(reasons.items())),
            ]
        )

    def straddling(self) -> list[str]:
        """Recordings with clips in more than one split, sorted."""
        splits: dict[str, set[str]] = {}
        for row in self.rows:
            if row["group"] and row["split"]:
                splits.setdefault(row["group"], set()).add(row["split"])
        return sorted(recording for recording, within in splits.items() if len(within) > 1)


def import_listing(
    listing: Listing,
    media_folder: str,
    output: str,
    *,
    split_values: Mapping[str, str] | None = None,
    missing_suffix: str | None = None,
) -> Imported:
    """Find the media of a data set, and write its manifest and the files beside it.

    Args:
      listing: what is published.
      media_folder: holds the media, at any depth.
      output: folder to write.
      split_values: the publisher's word for a split -> ours; None for the listing's own.
      missing_suffix: clips whose medium is missing are kept with this suffix; None to leave them
        out.

    Raises:
      InputError: no clip can be used, or the media are not what they are taken for.
    """
    in_place = all(clip.uri is not None for clip in listing.clips)
    media = {} if in_place else index_media(media_folder)
    found = match(
        listing,
        media,
        listing.split_values if split_values is None else split_values,
        None
        if missing_suffix is None
        else lambda name: files.join(media_folder, name + missing_suffix),
    )
    if not found.rows:
        raise InputError(
            f"none of {len(listing.clips)} clips can be used; the first is left out because: "
            f"{found.left_out[0].detail if found.left_out else 'there is none'}; {media_folder} "
            f"has {len(media)} media files"
        )
    check_lengths(listing.clips, found.rows)
    write(found, listing.label_names, output)
    return found


def match(
    listing: Listing,
    media: Mapping[str, str],
    split_values: Mapping[str, str],
    missing_uri: Callable[[str], str] | None = None,
) -> Imported:
    """Find the medium of each clip.

    Args:
      listing: what is published.
      media: file name without suffix -> path, as of `disk.index_media`.
      split_values: the publisher's word for a split -> ours; clips of others are left out.
      missing_uri: clips whose medium is missing are kept under the URI that this makes of the
        likeliest of its file names; None to leave them out.
    """
    imported = Imported(left_out=list(listing.rejects))
    for clip in listing.clips:
        keys = [(clip.published_split or "", label) for label in clip.labels]
        imported.listed.update(keys)
        if clip.published_split is not None and clip.published_split not in split_values:
            detail = f"split is {clip.published_split!r}, not one of {sorted(split_values)}"
            imported.left_out.append(Reject(clip.id, clip.uri or "", _OTHER_SPLIT, detail))
            continue
        place = locate(clip, media)
        if place is None and missing_uri is not None:
            place = missing_uri(clip.file_names[0]), "" in clip.cut_endings
        if place is None:
            detail = f"no file {' or '.join(clip.file_names)} of any suffix"
            imported.left_out.append(Reject(clip.id, "", _MISSING, detail))
            continue
        imported.found.update(keys)
        imported.rows.append(_row(clip, *place, split_values))
    return imported


def _row(clip: Clip, uri: str, cut: bool, split_values: Mapping[str, str]) -> dict[str, Any]:
    published = clip.published_split
    return {
        "id": clip.id,
        "uri": uri,
        "labels": list(clip.labels),
        # Clips of one recording sound alike: a split that nobody gave is drawn by recording.
        "split": split_of(clip.recording or clip.id)
        if published is None
        else split_values[published],
        "start": None if cut else clip.start,
        "end": None if cut else clip.end,
        "group": clip.recording,
        "published_split": published,
    }


def write_label_names(label_names: Mapping[str, str], folder: str) -> None:
    """Write `label_names.csv`: id, name."""
    write_rows(files.join(folder, LABEL_NAMES), ("id", "name"), label_names.items())


def write(imported: Imported, label_names: Mapping[str, str], folder: str) -> str:
    """Write the manifest and the files beside it; returns the manifest's path."""
    write_label_names(label_names, folder)
    write_rows(files.join(folder, LEFT_OUT), Reject._fields, imported.left_out)
    coverage = [
        (split, label, label_names.get(label, label), count, imported.found[split, label])
        for (split, label), count in sorted(imported.listed.items())
    ]
    header = ("published_split", "label", "name", "listed", "imported")
    write_rows(files.join(folder, COVERAGE), header, coverage)
    path = files.join(folder, MANIFEST)
    with files.atomic_write(path) as file:
        pq.write_table(pa.Table.from_pylist(imported.rows, SCHEMA), file)
    return path
