"""Adapters that read published data sets into one form, `listing.Listing`."""

import argparse
from typing import Protocol

from pipelines.adapters import (
    audioset,
    clip_list,
    esc50,
    folder_per_label,
    fsd50k,
    youtube8m_vocabulary,
)
from pipelines.adapters.listing import Listing


class Adapter(Protocol):
    """What a module of this package defines; its docstring is the help of the command line."""

    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the flags that only this adapter has."""

    def from_arguments(self, args: argparse.Namespace) -> Listing:
        """Read the folder `args.source` with the adapter's flags."""

    def read(self, source: str) -> Listing:
        """Read a folder with the default flags."""


ADAPTERS: dict[str, Adapter] = {
    "audioset": audioset,
    "esc50": esc50,
    "fsd50k": fsd50k,
    "youtube8m-vocabulary": youtube8m_vocabulary,
    "folder-per-label": folder_per_label,
    "clip-list": clip_list,
}
# Adapters that list labels and no clips.
VOCABULARIES = {"youtube8m-vocabulary"}
# Adapters whose listings say where the media are.
WITH_MEDIA_PATHS = {"folder-per-label", "clip-list"}
