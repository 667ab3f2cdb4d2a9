r"""A folder of media whose paths give the labels.

By default the first folder below --source is the label: SOURCE/dog/1.wav. For
other paths give --pattern, a regular expression for the whole path below
--source, with the named group label and optionally id, split and recording:
  "(?P<split>\w+)/(?P<label>[^/]+)/.*"      SOURCE/train/dog/1.wav
  "(?P<label>.+)/(?P<id>(?P<split>\d)-(?P<recording>\d+)-.)\.ogg"
                                            SOURCE/dog/3-1234-A.ogg of fold 3
"""

import argparse
import re

from features.contracts.sharding import SPLITS
from features.errors import InputError
from pipelines.adapters.disk import list_media
from pipelines.adapters.listing import Listing, PublishedClip, display_names
from pipelines.runtime.rejects import Reject

FIRST_FOLDER = r"(?P<label>[^/]+)/.*"
_GROUPS = {"label", "id", "split", "recording"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the adapter's flags."""
    parser.add_argument(
        "--pattern",
        default=FIRST_FOLDER,
        metavar="REGEX",
        help="regular expression for paths (default: the first folder is the label)",
    )


def from_arguments(args: argparse.Namespace) -> Listing:
    """Read the folder of the command line."""
    return read(args.source, pattern=args.pattern)


def read(source: str, *, pattern: str = FIRST_FOLDER) -> Listing:
    """Read the media files below a folder, each as a clip.

    The id of a clip is the path of its file, unless the pattern has a group for it. A path that the
    pattern does not match becomes a reject.

    Args:
      source: the folder.
      pattern: regular expression for a path below the folder, with a group named label.

    Raises:
      InputError: no media file has a path that matches, or the pattern cannot be used.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--pattern {pattern!r} is not a regular expression: {error}") from error
    groups = set(compiled.groupindex)
    if "label" not in groups or groups - _GROUPS:
        raise InputError(
            f"--pattern {pattern!r}: has the groups {sorted(groups)}; expected (?P<label>...) and "
            f"optionally others of {sorted(_GROUPS)}"
        )
    clips: list[PublishedClip] = []
    rejects: list[Reject] = []
    for uri in list_media(source):
        path = uri.removeprefix(source).lstrip("/")
        match = compiled.fullmatch(path)
        if match is None:
            rejects.append(Reject(path, uri, "no_label", f"its path does not match {pattern!r}"))
            continue
        groups_of_path = match.groupdict()
        clips.append(
            PublishedClip(
                id=groups_of_path.get("id") or path,
                labels=(groups_of_path["label"],),
                uri=uri,
                published_split=groups_of_path.get("split"),
                recording=groups_of_path.get("recording"),
            )
        )
    if not clips:
        raise InputError(
            f"{source}: none of its {len(rejects)} media files has a path that matches "
            f"{pattern!r}; give the folder that contains a folder per label, or another --pattern"
        )
    return Listing(clips, display_names(clips), {split: split for split in SPLITS}, rejects)
