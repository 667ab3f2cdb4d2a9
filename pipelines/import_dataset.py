"""A published data set -> manifest, display names of its labels, and what is missing on disk.

python -m pipelines.import_dataset esc50 --source ESC-50-master --output esc50
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import Any

from features.errors import OK, run_command
from features.storage import files
from pipelines.adapters import ADAPTERS, imported
from pipelines.adapters.imported import Imported
from pipelines.adapters.listing import Listing
from pipelines.dataset import manifest_format

# Those whose clips are where the publisher's folder has them.
_WITHOUT_PLACES = {*imported.LABELS_ALONE, "folder-per-label"}
_DESCRIPTION = """\
Turn the files that a data set is published as into a manifest for
prepare_dataset. Nothing is downloaded; no medium is opened, but a few to see
whether they are as long as they should be. Clips whose media are not there are
left out, and counted by split and label.

Written into the output folder:
  manifest.parquet  id, uri, labels, split, start, end, group (the recording
                    that a clip was cut from, or its uploader), published_split
  label_names.csv   id, name: what a person calls each label
  coverage.csv      by published split and label: clips listed, clips imported
  left_out.csv      id, uri, reason, detail of the others
"""
_SHOWN_LABELS, _NAMED_RECORDINGS = 10, 3


def _parser() -> argparse.ArgumentParser:
    style: dict[str, Any] = {
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "allow_abbrev": False,
    }
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.import_dataset", description=_DESCRIPTION, **style
    )
    adapters = parser.add_subparsers(dest="adapter", required=True, metavar="ADAPTER")
    for name, module in ADAPTERS.items():
        description = module.__doc__ or ""
        summary = description.splitlines()[0].rstrip(".")
        usage = f"{parser.prog} {name} [FLAGS]"
        one = adapters.add_parser(name, help=summary, description=description, usage=usage, **style)
        one.set_defaults(media=None, keep_missing=None, split_values=None)
        add = one.add_argument
        add("--source", required=True, metavar="FOLDER", help="what the publisher ships")
        add("--output", required=True, metavar="FOLDER", help="folder to write")
        if name not in _WITHOUT_PLACES:
            add(
                "--media", metavar="FOLDER", help="of the media, at any depth (default: the source)"
            )
            add(
                "--keep-missing",
                metavar="SUFFIX",
                help="keep clips whose media are missing, as MEDIA/NAME with this suffix",
            )
        if name not in imported.LABELS_ALONE:
            add(
                "--split-values",
                nargs="+",
                metavar="S=V",
                help="which of the publisher's splits or folds are train, validation and "
                "evaluation, for example train=1,2,3 evaluation=4; others are left out",
            )
        module.add_arguments(one)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = _parser().parse_args(argv)
    args.source, output = files.absolute(args.source), files.absolute(args.output)
    listing: Listing = ADAPTERS[args.adapter].from_arguments(args)
    if args.adapter in imported.LABELS_ALONE:
        imported.write_label_names(listing.label_names, output)
        print(f"{len(listing.label_names)} labels, and no list of videos")
        print(f"wrote {files.join(args.output, imported.LABEL_NAMES)}")
        return OK
    found = imported.import_listing(
        listing,
        files.absolute(args.media or args.source),
        output,
        split_values=manifest_format.parse(args.split_values) if args.split_values else None,
        missing_suffix=args.keep_missing,
    )
    print(_report(listing, found))
    print(f"wrote {args.output}")
    return OK


def _report(listing: Listing, found: Imported) -> str:
    """Counts by reason, by published split, and the labels that miss most of their clips."""
    lines = [found.account()]
    listed = Counter(clip.published_split or "none" for clip in listing.clips)
    there = Counter(row["published_split"] or "none" for row in found.rows)
    lines.append(_table_row("published split", "listed", "imported"))
    lines += [_table_row(f"  {split}", listed[split], there[split]) for split in sorted(listed)]
    listed = _by_label(found.listed)
    there = _by_label(found.found)
    incomplete = [label for label in listed if there[label] < listed[label]]
    incomplete.sort(key=lambda label: (there[label] / listed[label], label))
    lines.append(f"{len(listed)} labels, {len(incomplete)} with clips left out")
    lines += [
        _table_row(f"  {listing.label_names[label]}", listed[label], there[label])
        for label in incomplete[:_SHOWN_LABELS]
    ]
    straddling = found.straddling()
    if straddling:
        named = ", ".join(straddling[:_NAMED_RECORDINGS])
        lines.append(f"warning: {len(straddling)} recordings are in two splits: {named}, ...")
    return "\n".join(lines)


def _by_label(counts: Counter[tuple[str, str]]) -> Counter[str]:
    total = Counter[str]()
    for (_, label), count in counts.items():
        total[label] += count
    return total


def _table_row(name: str, listed: int | str, there: int | str) -> str:
    return f"{name[:40]:<40} {listed:>9} {there:>9}"


if __name__ == "__main__":
    run_command(main)
