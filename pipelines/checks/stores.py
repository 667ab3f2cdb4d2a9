"""Checks of storage: writable folders, and Google's credentials."""

import os
import re
import uuid
from pathlib import Path

from pipelines.runtime.finding import Finding, ok, problem, warning

_EMULATOR = "STORAGE_EMULATOR_HOST"
_CLOUD_SCOPE = "https://www.googleapis.com/auth/cloud-platform"


def folder(flag: str, path: str) -> Finding:
    """Check that jobs can write, rename, read and delete a file in a folder.

    Args:
      flag: that names the folder, for the finding.
      path: of the folder.
    """
    from features.contracts import folders
    from features.storage import files

    name = f"{flag} {path}"
    if re.match(r"^[a-z][a-z0-9]*:/(?!/)", path):
        return problem(
            name,
            "this is a local folder with a colon in its name",
            f"write {path.replace(':/', '://', 1)}",
        )
    place = files.absolute(path)
    content = os.urandom(1 << 16)
    absent = _absent_folders(place)
    try:
        file = files.join(place, f".doctor-{uuid.uuid4().hex[:12]}")
        files.write_bytes(file, content)  # writes under another name and renames
        received = files.read_bytes(file)
        files.delete(file)
    except Exception as error:  # noqa: BLE001 - every store has errors of its own
        cure = folders.cure_of_writing(place, error)
        return problem(name, f"{type(error).__name__}: {error}", cure)
    finally:
        for created in absent:
            if created.is_dir() and not any(created.iterdir()):
                created.rmdir()
    if received != content:
        return problem(
            name,
            "the file that was read differs from what was written",
            "use another disk or bucket",
        )
    return ok(name, "written, renamed, read and deleted")


def _absent_folders(place: str) -> list[Path]:
    """The folders that the check would create and has to remove, deepest first."""
    if "://" in place:
        return []
    return [path for path in (Path(place), *Path(place).parents) if not path.exists()]


def credentials(*, emulated: bool) -> Finding:
    """Check that Google's libraries find credentials and get a token with them.

    Args:
      emulated: whether requests may go to an emulator, which needs no credentials.
    """
    name = "credentials"
    emulator = os.environ.get(_EMULATOR)
    if emulator and emulated:
        return warning(
            name,
            f"none needed: {_EMULATOR} sends gs:// to {emulator}, not to the cloud",
            f"`unset {_EMULATOR}` for a job on real buckets",
        )
    import google.auth
    import google.auth.exceptions
    import google.auth.transport.requests

    login = "`gcloud auth application-default login`"
    key = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    try:
        found, project = google.auth.default(scopes=[_CLOUD_SCOPE])
        found.refresh(google.auth.transport.requests.Request())
    except (google.auth.exceptions.GoogleAuthError, ValueError, OSError) as error:
        cure = f"{login}, or GOOGLE_APPLICATION_CREDENTIALS=KEY.json, or a service account"
        if key:
            cure = (
                f"GOOGLE_APPLICATION_CREDENTIALS is {key}: make it a valid key, or unset it and "
                f"{login}"
            )
        return problem(name, f"{type(error).__name__}: {error}", cure)
    account = getattr(found, "service_account_email", "a user's account")
    return ok(name, f"{account}, project {project}")
