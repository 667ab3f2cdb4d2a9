"""Folders that TensorFlow opens by itself: on local disks and under gs://, and no others."""

from features.errors import InputError
from features.storage import files


def require_opens(flag: str, folder: str, *, is_written: bool = False) -> None:
    """Require that TensorFlow can open a folder.

    Training reads all shards many times: a copy on a local disk is also what is fastest.

    Args:
      flag: that names the folder, for the message.
      folder: of features to read or of a run to write.
      is_written: whether the folder is written and not read.

    Raises:
      InputError: TensorFlow cannot; the message has the command that copies the folder.
    """
    if files.opens_in_tensorflow(folder):
        return
    scheme, _, place = folder.rstrip("/").partition("://")
    name = place.rpartition("/")[2]
    problem = f"{flag} {folder}: TensorFlow opens local folders and gs://, and not {scheme}://"
    command = _copy_command(scheme, place, name, is_written=is_written)
    if is_written:
        raise InputError(
            f"{problem}; give {flag} {name}, and copy the folder afterwards: `{command}`"
        )
    raise InputError(f"{problem}; copy it to a local disk, `{command}`, and give {flag} {name}")


def _copy_command(scheme: str, place: str, name: str, *, is_written: bool) -> str:
    """The command of the store's publisher that copies from it, or to it."""
    if scheme == "s3":
        ends = [f"s3://{place}", name]
        return "aws s3 sync " + " ".join(reversed(ends) if is_written else ends)
    if scheme in ("az", "abfs", "abfss"):
        container, _, path = place.partition("/")
        container = container.partition("@")[0]
        if is_written:
            upload = f"az storage blob upload-batch --source {name} --destination {container}"
            return f"{upload} --destination-path {path}" if path else upload
        download = f"az storage blob download-batch --source {container}"
        if not path:
            return f"mkdir {name} && {download} --destination {name}"
        # It makes the folders of the names.
        download += f" --pattern '{path}/*' --destination ."
        return download if path == name else f"{download} && mv {path} {name}"
    return f"wget --recursive --no-parent {scheme}://{place}/"
