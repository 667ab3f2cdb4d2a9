"""The export of a run: a SavedModel with its front end, vocabulary and recipe as assets."""

import json

from features.contracts.labels import Vocabulary, read_vocabulary
from features.errors import InputError
from features.front_end.front_end import FrontEnd
from features.storage import files

# Folder of a run that holds the SavedModel, and assets of the SavedModel beside labels.parquet.
FOLDER, ASSETS = "export", "assets"
FRONT_END, RECIPE = "front_end.json", "recipe.json"
# Signatures, each with an input of the same name, and their outputs.
PATCHES, WAVEFORM = "patches", "waveform"
SCORES, LOGITS, EMBEDDING, START_SECONDS = "scores", "logits", "embedding", "start_seconds"
# Folder of the export with the int8 network for OpenVINO, and the graph in it.
QUANTISED, QUANTISED_GRAPH = "int8", "network.xml"
_GRAPH = "saved_model.pb"
_VARIABLES = "variables/variables.data-*"


def find_export(folder: str) -> str:
    """Find the SavedModel of a run; the folder may also be a SavedModel itself.

    Raises:
      InputError: the folder is neither.
    """
    for export in (files.join(folder, FOLDER), folder):
        if files.exists(files.join(export, _GRAPH)):
            return export
    raise InputError(
        f"--run {folder} has no {FOLDER}/{_GRAPH}; give a folder made by training.train, or a "
        "copy of its export"
    )


def read_front_end(export: str) -> FrontEnd:
    """Read the front end whose patches an exported network takes."""
    path = files.join(export, ASSETS, FRONT_END)
    return FrontEnd.from_json(json.loads(files.read_bytes(path)), path)


def read_exported_vocabulary(export: str) -> Vocabulary:
    """Read the labels of an exported network's outputs."""
    return read_vocabulary(files.join(export, ASSETS))


def read_exported_recipe(export: str) -> dict:
    """Read the recipe that an exported network was trained with."""
    return json.loads(files.read_bytes(files.join(export, ASSETS, RECIPE)))


def fingerprint_weights(export: str) -> str:
    """Fingerprint of the weights; copies and repeated exports of a network have the same."""
    return files.digest(files.list_files(export, _VARIABLES))
