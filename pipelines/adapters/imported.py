"""Matches the clips of a listing with the media on disk, and writes a manifest of those found."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from features.contracts.sharding import split_of
from features.errors import InputError
from features.storage import files
from pipelines.adapters.csv_rows import write_rows
from pipelines.adapters.disk import check_lengths, find_medium, index_media
from pipelines.adapters.listing import Listing, ManifestRow, PublishedClip
from pipelines.runtime.rejects import Reject

MANIFEST, LABEL_NAMES = "manifest.parquet", "label_names.csv"
COVERAGE, LEFT_OUT = "coverage.csv", "left_out.csv"
# The fields of `ManifestRow`.
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
_MISSING, _OTHER_SPLIT = "missing_media", "other_split"


@dataclass(frozen=True)
class Imported:
    """The rows of a manifest, and the clips that are not in it.

    Attributes:
      rows: of the manifest.
      left_out: clips without medium or of another split, and rows that the adapter rejected.
      listed: (published split, label) -> clips of the listing.
      found: (published split, label) -> clips in `rows`.
    """

    rows: list[ManifestRow] = field(default_factory=list)
    left_out: list[Reject] = field(default_factory=list)
    listed: Counter[tuple[str, str]] = field(default_factory=Counter)
    found: Counter[tuple[str, str]] = field(default_factory=Counter)

    def summarise(self) -> str:
        """Return the counts of imported clips and of the clips left out, by reason."""
        num_rows, num_left_out = len(self.rows), len(self.left_out)
        reasons = Counter(reject.reason for reject in self.left_out)
        return "\n".join(
            [
                f"{num_rows + num_left_out} clips = {num_rows} imported + {num_left_out} left out",
                *(f"  left out: {count} {reason}" for reason, count in sorted(reasons.items())),
            ]
        )

    def find_straddling(self) -> list[str]:
        """List the recordings with clips in more than one split, sorted."""
        splits: dict[str, set[str]] = {}
        for row in self.rows:
            if row.group:
                splits.setdefault(row.group, set()).add(row.split)
        return sorted(recording for recording, found in splits.items() if len(found) > 1)


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
      listing: the data set as published.
      media_folder: contains the media, at any depth.
      output: folder to write.
      split_values: the publisher's name of a split -> ours; None for that of the listing.
      missing_suffix: file name suffix with which clips without a medium are kept; None to leave
        them out.

    Raises:
      InputError: no clip can be used, or media are longer or shorter than assumed.
    """

    def missing_uri(name: str) -> str:
        return files.join(media_folder, f"{name}{missing_suffix}")

    in_place = all(clip.uri is not None for clip in listing.clips)
    media = {} if in_place else index_media(media_folder)
    found = match_media(
        listing,
        media,
        listing.split_values if split_values is None else split_values,
        None if missing_suffix is None else missing_uri,
    )
    if not found.rows:
        raise InputError(
            f"none of {len(listing.clips)} clips can be used; reason for the first: "
            f"{found.left_out[0].detail if found.left_out else 'the listing is empty'}; "
            f"{media_folder} has {len(media)} media files"
        )
    check_lengths(listing.clips, found.rows)
    write_import(found, listing.label_names, output)
    return found


def match_media(
    listing: Listing,
    media: Mapping[str, str],
    split_values: Mapping[str, str],
    missing_uri: Callable[[str], str] | None = None,
) -> Imported:
    """Find the medium of each clip.

    Args:
      listing: the data set as published.
      media: file name without suffix -> path; see `disk.index_media`.
      split_values: the publisher's name of a split -> ours; clips of other splits are left out.
      missing_uri: makes the URI of a clip without a medium from the likeliest file name; None to
        leave such clips out.
    """
    imported = Imported(left_out=list(listing.rejects))
    for clip in listing.clips:
        keys = [(clip.published_split or "", label) for label in clip.labels]
        imported.listed.update(keys)
        if clip.published_split is not None and clip.published_split not in split_values:
            detail = f"split is {clip.published_split!r}, not one of {sorted(split_values)}"
            imported.left_out.append(Reject(clip.id, clip.uri or "", _OTHER_SPLIT, detail))
            continue
        medium = find_medium(clip, media)
        if medium is None and missing_uri is not None:
            medium = missing_uri(clip.file_names[0]), "" in clip.cut_endings
        if medium is None:
            detail = f"no file {' or '.join(clip.file_names)} of any suffix"
            imported.left_out.append(Reject(clip.id, "", _MISSING, detail))
            continue
        imported.found.update(keys)
        imported.rows.append(_make_row(clip, *medium, split_values))
    return imported


def _make_row(
    clip: PublishedClip, uri: str, cut: bool, split_values: Mapping[str, str]
) -> ManifestRow:
    published = clip.published_split
    return ManifestRow(
        id=clip.id,
        uri=uri,
        labels=clip.labels,
        # Clips of a recording sound alike: a missing split is drawn by recording.
        split=split_of(clip.recording or clip.id) if published is None else split_values[published],
        start=None if cut else clip.start,
        end=None if cut else clip.end,
        group=clip.recording,
        published_split=published,
    )


def write_label_names(label_names: Mapping[str, str], folder: str) -> None:
    """Write `label_names.csv`: id, name."""
    write_rows(files.join(folder, LABEL_NAMES), ("id", "name"), label_names.items())


def write_import(imported: Imported, label_names: Mapping[str, str], folder: str) -> str:
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
        # `vars` makes no copies, unlike `dataclasses.asdict`: AudioSet has two million rows.
        pq.write_table(pa.Table.from_pylist([vars(row) for row in imported.rows], SCHEMA), file)
    return path
