"""Manifest -> DATASET: vocabulary, splits and shards of a labelled corpus, as one Beam job.

python -m pipelines.prepare_dataset --manifest videos.csv --output dataset
"""

import argparse
from collections.abc import Sequence

from features import terminal
from features.contracts import folders, progress
from features.contracts.documents import Dataset
from features.contracts.labels import FILE_NAME, Vocabulary, read_vocabulary
from features.contracts.sharding import SPLITS
from features.contracts.videos import VIDEO_FILES
from features.errors import OK, InputError, run_command
from features.storage import files
from pipelines.adapters import ADAPTERS, VOCABULARIES, imported
from pipelines.dataset import manifest, manifest_format, stages
from pipelines.dataset.label_names import read_label_names
from pipelines.dataset.manifest_format import ManifestFormat
from pipelines.dataset.subset_request import SubsetRequest
from pipelines.dataset.vocabulary import LabelRequest
from pipelines.runtime import launch, rejects
from pipelines.runtime.transform_graph import delete_graph

_DESCRIPTION = """\
Turn a manifest of labelled videos into a data set: label vocabulary with counts
and priors, splits, shards. No media file is opened.

The manifest is CSV, JSON lines or Parquet (a path or a glob pattern), one row a
video: an id, a media URI (relative ones are resolved against the manifest), and
labels; optionally a split, start and end in seconds, and a group, such as the
uploader. Without a split column a stable hash of the group, or else of the id,
puts 70 % of the videos into train, 20 % into validation and 10 % into
evaluation. Large manifests are read in parallel: Parquet and JSON lines in
pieces, CSV by file.
"""
# Flags of a manifest of one's own; an adapter knows the columns of its publisher.
_OF_OWN_MANIFESTS = (
    *("id_column", "uri_column", "labels_column", "label_separator", "split_column"),
    *("start_column", "end_column", "group_column"),
)


def _parser() -> argparse.ArgumentParser:
    parser = launch.parser(
        "pipelines.prepare_dataset", "--manifest MANIFEST --output OUTPUT", _DESCRIPTION
    )
    add = parser.add_argument
    add("--manifest", required=True, help="path or glob pattern: .csv, .jsonl or .parquet")
    add("--output", required=True, help="folder of the data set to write")
    _add_manifest_flags(parser)
    _add_label_flags(parser)
    add(
        "--subsets",
        metavar="N,N",
        default="",
        help="nested subsets of the training split, in videos or as fractions below 1: "
        "23000,70000,700000",
    )
    add(
        "--balanced-sets",
        metavar="L,L",
        default="",
        help="balanced subsets of the evaluation split, one for each of these numbers of most "
        "frequent labels: 400,3087,30871",
    )
    add(
        "--examples-per-class",
        metavar="N",
        type=int,
        default=33,
        help="of a balanced set; default: 33",
    )
    return parser


def _add_manifest_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--adapter",
        choices=["csv", *(name for name in ADAPTERS if name not in VOCABULARIES)],
        default="csv",
        help="--manifest is a folder as this publisher ships it, imported into OUTPUT/imported; "
        "pipelines.import_dataset has more flags; default: csv, a manifest of your own",
    )
    add("--media", metavar="FOLDER", help="of the adapter's media; default: that of --manifest")
    add("--id-column", default="id", help="default: id")
    add("--uri-column", default="uri", help="default: uri")
    add("--labels-column", default="labels", help="default: labels")
    add("--label-separator", default=";", help="between the labels of a cell; default: ;")
    add("--split-column", help="default: split, if the manifest has it")
    add(
        "--split-values",
        nargs="+",
        metavar="S=V",
        help="the values of the split column that stand for train, validation and evaluation, "
        "for example train=1,2,3 evaluation=4; rows of other values are rejected",
    )
    add("--start-column", help="seconds; default: start, if the manifest has it")
    add("--end-column", help="seconds; default: end, if the manifest has it")
    add(
        "--group-column",
        help="what a video was taken from, such as its uploader or the original recording: one "
        "group is in one split; default: group, if the manifest has it",
    )


def _add_label_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--label-names",
        metavar="FILE",
        help="display names of the labels: CSV or Parquet with the columns id (or mid) and name "
        "(or display_name)",
    )
    add(
        "--min-count",
        metavar="N",
        type=int,
        default=1,
        help="leave out labels of fewer videos; default: 1",
    )
    add(
        "--count-split",
        choices=SPLITS,
        help="count labels, and so order them, in the videos of this split alone, so that no label "
        "set and no prior depends on what is evaluated; a label that it lacks comes last, with a "
        "count of 0; default: all videos",
    )
    add("--top-k", metavar="K", type=int, help="keep only the K most frequent labels")
    add(
        "--vocabulary",
        metavar="FOLDER",
        help="whose labels these videos have: another data set, or RUN/export/assets of a network "
        "that is to score them; default: the labels of the manifest",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = _parser()
    args, options = launch.parse(parser, argv)
    _check_flags(parser, args)
    subsets = SubsetRequest.parse(args.subsets, args.balanced_sets, args.examples_per_class)
    output = files.absolute(args.output)
    source, layout, label_names = _open_manifest(args, output)
    labels = _label_request(args, label_names)
    needs_split = bool(args.split_values) and args.adapter == "csv"
    paths = manifest.find_manifests(source, layout, need_split=needs_split)
    folders.claim_output(output, folders.DATASET, inputs=())
    present = folders.find_document(output, Dataset)
    job = stages.DatasetJob(
        output=output,
        temp_dir=launch.temporary_folder(output, options),
        made_by=folders.made_by(),
        manifest=source,
        paths=tuple(paths),
        layout=layout,
        labels=labels,
        subsets=subsets,
        present_shards={
            split: entry.num_shards for split, entry in (present.splits if present else {}).items()
        },
    )
    launch.run(
        lambda pipeline: stages.build(pipeline, job),
        options,
        output,
        clear=lambda: _clear(output),
        tidy=lambda: progress.end(output),
        temp_dir=job.temp_dir,
    )
    document = folders.read_document(output, Dataset)
    splits = ", ".join(f"{split.num_videos} {name}" for name, split in document.splits.items())
    terminal.report(
        f"{document.num_rows} rows = {document.num_videos} videos ({splits}) "
        f"+ {document.num_rejects} rejects\n{document.vocabulary.num_labels} labels",
        document.rejects,
        args.output,
    )
    return OK


def _check_flags(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse flags that contradict each other or are out of range.

    Raises:
      InputError: names the flag.
    """
    for flag, value in (("--min-count", args.min_count), ("--top-k", args.top_k)):
        if value is not None and value < 1:
            raise InputError(f"{flag}: received {value}; give 1 or more")
    if args.adapter == "csv":
        if args.media is not None:
            raise InputError("--media is for an adapter; a manifest of your own has the URIs")
        return
    for name in _OF_OWN_MANIFESTS:
        if getattr(args, name) != parser.get_default(name):
            raise InputError(
                f"--{name.replace('_', '-')} is for a manifest of your own; --adapter "
                f"{args.adapter} knows the columns of its publisher: leave the flag out"
            )
    if args.dry_run:
        raise InputError(
            f"--dry-run: --adapter {args.adapter} imports first; run pipelines.import_dataset, "
            "and give its manifest"
        )


def _open_manifest(args: argparse.Namespace, output: str) -> tuple[str, ManifestFormat, str | None]:
    """The manifest, its columns, and the file of label names; imports what a publisher ships."""
    split_values = manifest_format.parse(args.split_values) if args.split_values else None
    source = files.absolute(args.manifest)
    if args.adapter == "csv":
        layout = ManifestFormat(
            id=args.id_column,
            uri=args.uri_column,
            labels=args.labels_column,
            split=args.split_column,
            start=args.start_column,
            end=args.end_column,
            group=args.group_column,
            label_separator=args.label_separator,
            **({} if split_values is None else {"split_values": split_values}),
        )
        return source, layout, args.label_names
    folder = files.join(output, "imported")
    found = imported.import_listing(
        ADAPTERS[args.adapter].read(source),
        files.absolute(args.media or args.manifest),
        folder,
        split_values=split_values,
    )
    print(found.summarise())
    names = args.label_names or files.join(folder, imported.LABEL_NAMES)
    # The imported manifest has our columns and our names of splits.
    return files.join(folder, imported.MANIFEST), ManifestFormat(), names


def _label_request(args: argparse.Namespace, label_names: str | None) -> LabelRequest:
    """The labels of the flags.

    Raises:
      InputError: --vocabulary has no vocabulary, or a flag would change it.
    """
    known = None if args.vocabulary is None else _known_vocabulary(args, label_names)
    names = None if label_names is None else read_label_names(label_names)
    return LabelRequest(
        min_count=args.min_count,
        count_split=args.count_split,
        top_k=args.top_k,
        names=names,
        known=known,
    )


def _known_vocabulary(args: argparse.Namespace, label_names: str | None) -> Vocabulary:
    if args.min_count != 1 or args.top_k or args.count_split or label_names is not None:
        raise InputError(
            "--vocabulary takes labels, their order and their names as they are; leave out "
            "--min-count, --top-k, --count-split and --label-names"
        )
    folder = files.absolute(args.vocabulary)
    try:
        return read_vocabulary(folder)
    except FileNotFoundError as error:
        raise InputError(
            f"--vocabulary {folder}: has no {FILE_NAME}; give a folder made by "
            "pipelines.prepare_dataset, or RUN/export/assets of a network"
        ) from error


def _clear(output: str) -> None:
    """Remove what the job is going to write, and say which job it is."""
    progress.begin(output, folders.DATASET, total=0)  # it has no shards
    # The root JSON goes first: from here on the folder is unfinished. Nothing is removed that the
    # job did not write: media may be in the same folder.
    files.delete(files.join(output, folders.DATASET))
    files.delete_files(files.list_files(output, VIDEO_FILES))
    rejects.remove_rejects(output)
    delete_graph(files.join(output, stages.TRANSFORM))


if __name__ == "__main__":
    run_command(main)
