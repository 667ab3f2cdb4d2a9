"""Imports a published data set: writes its manifest, display names, and a list of missing media.

python -m pipelines.import_dataset esc50 --source ESC-50-master --output esc50
"""

import argparse
from collections import Counter
from collections.abc import Sequence

from features.errors import OK, run_command
from features.storage import files
from pipelines.adapters import ADAPTERS, VOCABULARIES, WITH_MEDIA_PATHS
from pipelines.adapters.imported import (
    LABEL_NAMES,
    Imported,
    import_listing,
    write_label_names,
)
from pipelines.adapters.listing import Listing
from pipelines.dataset import manifest_format

_DESCRIPTION = """\
Convert the files of a published data set into a manifest for prepare_dataset.
Nothing is downloaded. A few media are opened to check their lengths. Clips
without media are left out, and counted by split and label.

Written into the output folder:
  manifest.parquet  id, uri, labels, split, start, end, group (the recording
                    that a clip was cut from, or its uploader), published_split
  label_names.csv   id, name: the display name of each label
  coverage.csv      by published split and label: clips listed, clips imported
  left_out.csv      id, uri, reason, detail of clips that were left out
"""
_SHOWN_LABELS, _SHOWN_RECORDINGS = 10, 3


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.import_dataset",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="adapter", required=True, metavar="ADAPTER")
    for name, adapter in ADAPTERS.items():
        description = adapter.__doc__ or ""
        command = commands.add_parser(
            name,
            help=description.splitlines()[0].rstrip("."),
            description=description,
            usage=f"{parser.prog} {name} [FLAGS]",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        _add_arguments(command, name)
        adapter.add_arguments(command)
    return parser


def _add_arguments(command: argparse.ArgumentParser, adapter: str) -> None:
    """Add the flags that adapters have in common."""
    command.set_defaults(media=None, keep_missing=None, split_values=None)
    add = command.add_argument
    add("--source", required=True, metavar="FOLDER", help="the publisher's files")
    add("--output", required=True, metavar="FOLDER", help="folder to write")
    if adapter in VOCABULARIES:
        return
    if adapter not in WITH_MEDIA_PATHS:
        add("--media", metavar="FOLDER", help="of the media, at any depth (default: the source)")
        add(
            "--keep-missing",
            metavar="SUFFIX",
            help="keep clips without media, as MEDIA/NAME with this suffix",
        )
    add(
        "--split-values",
        nargs="+",
        metavar="S=V",
        help="which of the publisher's splits or folds are train, validation and evaluation, for "
        "example train=1,2,3 evaluation=4; others are left out",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = _parser().parse_args(argv)
    args.source, output = files.absolute(args.source), files.absolute(args.output)
    listing = ADAPTERS[args.adapter].from_arguments(args)
    if args.adapter in VOCABULARIES:
        write_label_names(listing.label_names, output)
        print(f"{len(listing.label_names)} labels, and no list of videos")
        print(f"wrote {files.join(args.output, LABEL_NAMES)}")
        return OK
    imported = import_listing(
        listing,
        files.absolute(args.media or args.source),
        output,
        split_values=manifest_format.parse(args.split_values) if args.split_values else None,
        missing_suffix=args.keep_missing,
    )
    print(_format_report(listing, imported))
    print(f"wrote {args.output}")
    return OK


def _format_report(listing: Listing, imported: Imported) -> str:
    """List counts by reason and published split, and the labels that lack most of their clips."""
    lines = [imported.summarise()]
    listed = Counter(clip.published_split or "none" for clip in listing.clips)
    found = Counter(row.published_split or "none" for row in imported.rows)
    lines.append(_table_row("published split", "listed", "imported"))
    lines += [_table_row(f"  {split}", listed[split], found[split]) for split in sorted(listed)]
    listed = _sum_by_label(imported.listed)
    found = _sum_by_label(imported.found)
    incomplete = [label for label in listed if found[label] < listed[label]]
    incomplete.sort(key=lambda label: (found[label] / listed[label], label))
    lines.append(f"{len(listed)} labels, {len(incomplete)} with clips left out")
    lines += [
        _table_row(f"  {listing.label_names[label]}", listed[label], found[label])
        for label in incomplete[:_SHOWN_LABELS]
    ]
    straddling = imported.find_straddling()
    if straddling:
        examples = ", ".join(straddling[:_SHOWN_RECORDINGS])
        lines.append(f"warning: {len(straddling)} recordings are in two splits: {examples}, ...")
    return "\n".join(lines)


def _sum_by_label(counts: Counter[tuple[str, str]]) -> Counter[str]:
    total = Counter[str]()
    for (_, label), count in counts.items():
        total[label] += count
    return total


def _table_row(name: str, listed: int | str, found: int | str) -> str:
    return f"{name[:40]:<40} {listed:>9} {found:>9}"


if __name__ == "__main__":
    run_command(main)
