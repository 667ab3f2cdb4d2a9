"""Videos that were removed from a folder, and that no job brings back into it.

`forgotten.json` lies at the root of a folder of features or scores, and stays there. Videos that it
names are rejects of the outcome `forgotten`, whether their shards are rewritten or made again.

While videos are removed, the folder is unfinished: its root document lies aside as
`forgetting.json`, so that a removal that was killed can go on.
"""

import dataclasses
import datetime
from collections.abc import Collection, Mapping
from typing import ClassVar, TypeVar

from features.contracts import folders
from features.errors import InputError, JobFailedError
from features.storage import files
from features.typed_json import Document

# Name of the root document while videos are removed.
ASIDE = "forgetting.json"
_Root = TypeVar("_Root", bound=Document)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forgotten(Document):
    """`forgotten.json` of a folder.

    Attributes:
      videos: id -> when it was first forgotten, ISO 8601 in UTC.
    """

    FILE: ClassVar[str] = "forgotten.json"
    MAKER: ClassVar[str] = "python -m pipelines.forget"

    videos: Mapping[str, str]


def read_forgotten(folder: str) -> frozenset[str]:
    """Ids of the videos that no job may bring back into a folder; empty if there are none.

    Raises:
      ContractError: the file is not valid.
    """
    found = folders.find_document(folder, Forgotten)
    return frozenset() if found is None else frozenset(found.videos)


def require_forgotten(source: str, ids: Collection[str], output: str) -> None:
    """Make sure that a folder does not get forgotten videos back from the features it is made of.

    Args:
      source: the FEATURES folder that `output` is made of.
      ids: of the videos that are forgotten in `output`.
      output: a folder of embeddings or scores.

    Raises:
      InputError: the features may have some of these videos.
    """
    remaining = sorted(set(ids) - read_forgotten(source))
    if remaining:
        raise InputError(
            f"{output} is made of {source}, which would bring {remaining[0]!r} back, one of "
            f"{len(remaining)} such videos; forget them there too, with `{Forgotten.MAKER} --ids "
            f"FILE --features {source}`"
        )


def find_aside(folder: str, document: type[_Root]) -> _Root | None:
    """The root document of a folder whose removal is not complete; None if there is none.

    Raises:
      ContractError: the file is of another kind of folder, or not valid.
    """
    path = files.join(folder, ASIDE)
    return document.from_json(files.read_bytes(path), path) if files.exists(path) else None


def find_root(folder: str, document: type[_Root]) -> _Root:
    """The root document of a folder that is finished, or of which a removal was killed.

    Raises:
      ContractError: the folder is missing, unfinished for another reason, or not valid.
    """
    if folders.find_document(folder, document) is None:
        aside = find_aside(folder, document)
        if aside is not None:
            return aside
    return folders.read_document(folder, document)


def begin_removal(folder: str, root: Document, ids: Collection[str]) -> None:
    """Declare videos forgotten, and the folder unfinished; only within the lease of the folder.

    Raises:
      JobFailedError: another job has changed the folder since the document was read.
    """
    if find_root(folder, type(root)) != root:
        raise JobFailedError(
            f"{folder}: another job has changed it since this command started; run the same "
            "command again"
        )
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    present = folders.find_document(folder, Forgotten)
    videos = {**dict.fromkeys(ids, now), **({} if present is None else present.videos)}
    folders.write_document(folder, Forgotten(videos=dict(sorted(videos.items()))))
    files.write_bytes(files.join(folder, ASIDE), root.to_json())
    files.delete(files.join(folder, root.FILE))


def end_removal(folder: str) -> None:
    """Drop what a removal set aside: it is complete, or another job makes the folder now."""
    files.delete(files.join(folder, ASIDE))
