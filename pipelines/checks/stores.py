"""Whether the folders of a job can be written, and gs:// with whose credentials."""

import os
import re
import uuid
from pathlib import Path

from pipelines.runtime.finding import (
    Finding,
    ok,
    problem,
    warning,
)

_EMULATOR = "STORAGE_EMULATOR_HOST"
_CLOUD_SCOPE = "https://www.googleapis.com/auth/cloud-platform"


def folder(flag: str, path: str) -> Finding:
    """Write, read, rename and delete a small file in a folder, by the road that jobs take."""
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
        files.write_bytes(file, content)  # under another name first, then renamed
        received = files.read_bytes(file)
        files.delete(file)
    except Exception as error:  # noqa: BLE001 - each store has its own
        return problem(name, f"{type(error).__name__}: {error}", _cure(place, error))
    finally:
        for one in absent:
            if one.is_dir() and not any(one.iterdir()):
                one.rmdir()
    if received != content:
        return problem(name, "what is read is not what was written", "use another disk or bucket")
    return ok(name, "written, renamed, read and deleted")


def _absent_folders(place: str) -> list[Path]:
    """The folders that a probe would create, deepest first: they are not there to stay."""
    if "://" in place:
        return []
    return [one for one in (Path(place), *Path(place).parents) if not one.exists()]


def _cure(place: str, error: Exception) -> str:
    text = str(error).lower()
    if isinstance(error, ValueError) or "filesystem" in text:
        return "use a local path or gs://BUCKET/FOLDER; other stores need an extra of apache-beam"
    if place.startswith("gs://"):
        return (
            "see that the bucket exists and that your account may create, get and delete its "
            "objects (role roles/storage.objectAdmin)"
        )
    if isinstance(error, PermissionError) or "read-only" in text:
        return f"let this user write there (`id`, `ls -ld {place}`), or choose another folder"
    if "no space" in text or "quota" in text:
        return "make room, or choose a folder on a larger disk"
    if isinstance(error, NotADirectoryError | FileExistsError):
        return "a part of the path is a file; choose another folder"
    return "choose a folder that this user may write"


def credentials(*, emulated: bool) -> Finding:
    """Whether Google's libraries find credentials, and whether these give a token.

    Args:
      emulated: whether requests may go to an emulator, which needs none.
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
