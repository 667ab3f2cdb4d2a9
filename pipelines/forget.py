"""Removes videos from FEATURES, embeddings and SCORES, for good.

python -m pipelines.forget --ids ids.txt --features features embeddings --scores scores
"""

import argparse
import re
from collections.abc import Collection, Sequence

from features.contracts import folders
from features.contracts.documents import Features, Scores
from features.contracts.forgotten import find_root, require_forgotten
from features.errors import OK, InputError, run_command
from features.storage import files
from pipelines.forgetting.features import find_in_features, forget_in_features
from pipelines.forgetting.scores import find_in_scores, forget_in_scores
from pipelines.runtime import launch, process_pool

_DESCRIPTION = """\
Remove videos from folders of features, embeddings and scores: the shards that
hold them are rewritten without their records and rows, and nothing is decoded
or scored. The ids stay in forgotten.json of each folder: no later job brings
the videos back, and they count as rejects of the outcome "forgotten".
Run the same command again after any interruption.
"""


def _parser() -> argparse.ArgumentParser:
    parser = launch.parser("pipelines.forget", "--ids FILE", _DESCRIPTION)
    add = parser.add_argument
    add("--ids", required=True, metavar="FILE", help="text file of ids of videos, one a line")
    add("--features", nargs="+", default=[], metavar="FOLDER", help="FEATURES, embeddings too")
    add("--scores", nargs="+", default=[], metavar="FOLDER", help="SCORES")
    process_pool.add_flag(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args, options = launch.parse(_parser(), argv)
    num_workers = process_pool.num_workers(args.workers, options)
    features = {
        folder: find_root(folder, Features) for folder in map(files.absolute, args.features)
    }
    scores = {folder: find_root(folder, Scores) for folder in map(files.absolute, args.scores)}
    if not features and not scores:
        raise InputError("give folders with --features or --scores")
    if args.no_wait and len(features) + len(scores) > 1:
        raise InputError("--no-wait: each folder is a job of its own; give one folder")
    ids = _read_ids(args.ids)
    documents: dict[str, Features | Scores] = {**features, **scores}
    for folder, document in documents.items():
        _check_source(folder, document, ids, features)
    found = [
        *(find_in_features(folder, root, ids) for folder, root in features.items()),
        *(find_in_scores(folder, table, ids) for folder, table in scores.items()),
    ]
    before = [place.num_bytes() for place in found]
    print(*found, sep="\n")
    for folder, root in features.items():
        forget_in_features(folder, root, ids, num_workers, options)
    for folder, table in scores.items():
        forget_in_scores(folder, table, ids, num_workers, options)
    for place, num_bytes in zip(found, before, strict=True):
        print(
            f"{place.folder}: {len(place.keys)} shards rewritten, of {num_bytes} bytes before and "
            f"{place.num_bytes()} now"
        )
    return OK


def _read_ids(path: str) -> frozenset[str]:
    """Read ids, one a line, without the blanks around them, as ids of a manifest are read.

    Raises:
      InputError: the file is missing, is no text, or has no id.
    """
    try:
        text = files.read_bytes(files.absolute(path)).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--ids {path}: {error}; give a text file, one id a line") from error
    ids = frozenset(line.strip() for line in re.split("[\r\n]", text)) - {""}
    if not ids:
        raise InputError(f"--ids {path}: has no ids; give one a line")
    return ids


def _check_source(
    folder: str, document: Features | Scores, ids: frozenset[str], named: Collection[str]
) -> None:
    """Make sure that the features that a folder was made of lose the videos too, if they exist.

    Raises:
      InputError: they would keep some; or the folder was made of tables, which have the scores.
    """
    if isinstance(document, Scores) and document.scores_file is not None:
        raise InputError(
            f"--scores {folder}: was made of {document.scores_file}; remove the videos there, and "
            f"run `{folders.MAKERS[folders.METRICS]}` again"
        )
    source = document.features
    if source is None or source in named or not files.exists(files.join(source, Features.FILE)):
        return
    require_forgotten(source, ids, folder)


if __name__ == "__main__":
    run_command(main)
