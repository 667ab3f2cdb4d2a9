r"""A folder of media in which the path says the label.

By default the first folder below --source is the label: SOURCE/dog/1.wav. The
flag --pattern says it otherwise: a regular expression for the whole path below
--source, with the named groups label and, if wanted, id, split and recording:
  "(?P<split>\w+)/(?P<label>[^/]+)/.*"      SOURCE/train/dog/1.wav
  "(?P<label>.+)/(?P<id>(?P<split>\d)-(?P<recording>\d+)-.)\.ogg"
                                            SOURCE/dog/3-1234-A.ogg of fold 3
"""

import argparse
import re

from features.contracts.sharding import SPLITS
from features.errors import InputError
from pipelines.adapters.disk import list_media
from pipelines.adapters.listing import Clip, Listing, label_name
from pipelines.runtime.rejects import Reject

FIRST_FOLDER = r"(?P<label>[^/]+)/.*"
_GROUPS = {"label", "id", "split", "recording"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The adapter's own flags."""
    parser.add_argument(
        "--pattern",
        default=FIRST_FOLDER,
        metavar="REGEX",
        help="what a path says (default: the first folder is the label)",
    )


def from_arguments(args: argparse.Namespace) -> Listing:
    """`read`, by flags."""
    return read(args.source, pattern=args.pattern)


def read(source: str, *, pattern: str = FIRST_FOLDER) -> Listing:
    """The media files below a folder, each a clip; the id is its path unless the pattern says it.

    A path that the pattern does not match becomes a reject.

    Args:
      source: the folder.
      pattern: regular expression for the path below it, with a group named label.

    Raises:
      InputError: no media, none that the pattern matches, or a pattern that cannot be used.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--pattern {pattern!r} is no regular expression: {error}") from error
    groups = set(compiled.groupindex)
    if "label" not in groups or groups - _GROUPS:
        raise InputError(
            f"--pattern {pattern!r}: has the groups {sorted(groups)}; expected (?P<label>...) and "
            f"none but {sorted(_GROUPS)}"
        )
    clips: list[Clip] = []
    rejects: list[Reject] = []
    for uri in list_media(source):
        path = uri.removeprefix(source).lstrip("/")
        match = compiled.fullmatch(path)
        if match is None:
            rejects.append(Reject(path, uri, "no_label", f"its path does not match {pattern!r}"))
            continue
        said = match.groupdict()
        clips.append(
            Clip(
                id=said.get("id") or path,
                labels=(said["label"],),
                uri=uri,
                published_split=said.get("split"),
                recording=said.get("recording"),
            )
        )
    if not clips:
        raise InputError(
            f"{source}: none of its {len(rejects)} media files has a path that matches "
            f"{pattern!r}; give the folder that holds the labels' folders, or another --pattern"
        )
    names = {label: label_name(label) for label in sorted({clip.labels[0] for clip in clips})}
    return Listing(clips, names, {split: split for split in SPLITS}, rejects)
