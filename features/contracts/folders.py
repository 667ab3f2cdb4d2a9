"""Folders that one job leaves to the next: their documents, fingerprints, and who writes them.

The document at the root of a folder is written last: a folder without it is unfinished, and running
the command again finishes the folder. The document names the command, has the fingerprints of the
inputs, and counts that add up. A reader checks the fingerprints first, and names the field and both
values if they differ.
"""

import contextlib
import dataclasses
import datetime
import importlib.metadata
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from features.errors import ContractError, InputError, StoreRefusalError
from features.storage import files
from features.typed_json import Document

DATASET = "dataset.json"
FEATURES = "features.json"
RUN = "run.json"
SCORES = "scores.json"
METRICS = "metrics.json"
COMPARISON = "comparison.json"
LOCALISATION = "localisation.json"
SWEEP = "sweep.json"
# Beside the root JSON of FEATURES.
BAND_STATISTICS = "band_statistics.json"
# In FEATURES of embeddings: the index of `evaluation.search`.
SEARCH_FOLDER = "search"

# Which command writes which file, for messages about a missing or invalid file.
MAKERS = {
    DATASET: "python -m pipelines.prepare_dataset",
    FEATURES: "python -m pipelines.extract_features",
    RUN: "python -m training.train",
    SCORES: "python -m evaluation.score_videos",
    METRICS: "python -m evaluation.evaluate",
    COMPARISON: "python -m evaluation.compare",
    LOCALISATION: "python -m evaluation.localise",
    SWEEP: "python -m training.sweep",
    BAND_STATISTICS: "python -m pipelines.band_statistics",
}
_PACKAGES = (
    "apache-beam",
    "av",
    "nncf",
    "numpy",
    "openvino",
    "soxr",
    "tensorflow",
    "tf-keras",
)

_Document = TypeVar("_Document", bound=Document)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MadeBy:
    """The command that made a folder.

    Attributes:
      command: with its arguments.
      created: when it started to write, ISO 8601 in UTC.
      versions: of the installed packages that can change the output.
    """

    command: str
    created: str
    versions: Mapping[str, str]


def made_by() -> MadeBy:
    """The command that is running, the time and the package versions."""
    return MadeBy(
        command=shlex.join(["python", "-m", _module_name(), *sys.argv[1:]]),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions=dict(_installed_versions()),
    )


def find_document(folder: str, document: type[_Document]) -> _Document | None:
    """Read a document of a folder.

    Args:
      folder: the folder.
      document: class of the document.

    Returns:
      The document; None if the folder has no such file: it is unfinished, or does not exist.

    Raises:
      ContractError: the file is not such a document, or is of another format version.
    """
    path = files.join(folder, document.FILE)
    try:
        content = files.read_bytes(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return document.from_json(content, path)


def read_document(folder: str, document: type[_Document]) -> _Document:
    """Read a document of a finished folder.

    Raises:
      ContractError: the folder is missing or unfinished; or as for `find_document`.
    """
    found = find_document(folder, document)
    if found is None:
        raise ContractError(
            f"{folder} has no {document.FILE}: the folder does not exist or is unfinished; "
            f"run `{document.MAKER}`, which resumes where it stopped"
        )
    return found


def write_document(folder: str, document: Document) -> None:
    """Write a document of a folder; the one at the root comes last and finishes the folder."""
    files.write_bytes(files.join(folder, document.FILE), document.to_json())


def claim_output(folder: str, name: str, inputs: Sequence[str]) -> None:
    """Check that a job may write its folder, before any work; writes nothing itself.

    Args:
      folder: the output of the job.
      name: of the document at the root of the output.
      inputs: folders that the job reads.

    Raises:
      InputError: the folder is an input or belongs to another job.
    """
    if any(folder.rstrip("/") == source.rstrip("/") for source in inputs):
        raise InputError(f"--output {folder} is an input of this job; name another folder")
    for other, maker in MAKERS.items():
        if other not in (name, BAND_STATISTICS) and files.exists(files.join(folder, other)):
            raise InputError(
                f"--output {folder} holds the {other} of `{maker}`; name another folder"
            )


def check_writable(folder: str) -> None:
    """Make sure that a folder can be written, by writing a file and deleting it.

    Raises:
      InputError: it cannot.
      StoreRefusalError: the store refuses this process, whatever the folder.
    """
    probe = files.join(folder, ".write-probe")
    try:
        files.write_bytes(probe, b"")
        files.delete(probe)
    except StoreRefusalError:
        raise  # its message has the cure
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder} cannot be written: {error}; {cure_of_writing(folder, error)}"
        ) from error


def cure_of_writing(folder: str, error: Exception) -> str:
    """What to do about an error of writing into a folder."""
    text = str(error).lower()
    if isinstance(error, ValueError) or "filesystem" in text:
        return (
            "use a local path, gs://BUCKET/FOLDER, s3://BUCKET/FOLDER or az://CONTAINER/FOLDER; "
            "other stores need an extra of apache-beam"
        )
    if folder.startswith("gs://"):
        return (
            "make sure that the bucket exists and that your account may create, get and delete "
            "objects in it (role roles/storage.objectAdmin)"
        )
    if "://" in folder:
        return (
            "make sure that the bucket exists, and that the credentials of the environment may "
            "list it and get, put and delete its objects; docs/stores.md lists the variables"
        )
    if isinstance(error, PermissionError) or "read-only" in text:
        return f"let this user write there (`id`, `ls -ld {folder}`), or choose another folder"
    if "no space" in text or "quota" in text:
        return "make room, or choose a folder on a larger disk"
    if isinstance(error, NotADirectoryError | FileExistsError):
        return "a part of the path is a file; choose another folder"
    return "choose a folder that this user may write"


def require_equal(field: str, *, expected: Any, received: Any, where: str, cure: str) -> None:
    """Raise an error if a field differs between two folders.

    Raises:
      ContractError: the values differ; the message names the field, both values and the cure.
    """
    if expected != received:
        raise ContractError(f"{where}: {field} is {received!r}, expected {expected!r}; {cure}")


def _module_name() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec else "unknown"


def _installed_versions() -> Iterator[tuple[str, str]]:
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)
