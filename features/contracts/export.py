"""TODO docstring."""

import json

from features.contracts.labels import Vocabulary, read_vocabulary
from features.errors import InputError
from features.front_end.front_end import FrontEnd
from features.storage import files

_GRAPH = "saved_model.pb"
_VARIABLES = "variables/variables.data-*"


def find_export(folder: str) -> str:
    """The SavedModel of a run, or the folder itself where it is one.

    Raises:
      InputError: it is neither.
    """
    for export in (files.join(folder, "export"), folder):
        if files.exists(files.join(export, _GRAPH)):
            return export
    raise InputError(
        f"--run {folder}: has no export/{_GRAPH}; give a folder made by training.train, or a copy "
        "of its export"
    )


def read_front_end(export: str) -> FrontEnd:
    """The front end whose patches an exported network takes."""
    path = files.join(export, "assets", "front_end.json")
    return FrontEnd.from_json(json.loads(files.read_bytes(path)), path)


def export_vocabulary(export: str) -> Vocabulary:
    """The labels of an exported network's outputs."""
    return read_vocabulary(files.join(export, "assets"))


def export_recipe(export: str) -> dict:
    """What an exported network was trained with."""
    return json.loads(files.read_bytes(files.join(export, "assets", "recipe.json")))


def export_fingerprint(export: str) -> str:
    """Of the weights: the same for the same network, however often it is exported or copied."""
    return files.digest(files.list_files(export, _VARIABLES))
