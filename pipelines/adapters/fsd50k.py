"""FSD50K: 51,197 Freesound clips of 200 classes (Fonseca et al., 2022).

--source holds FSD50K.ground_truth/ (dev.csv, eval.csv, vocabulary.csv) and, for
the uploaders, FSD50K.metadata/ (dev_clips_info_FSD50K.json and eval_...). Label
ids are those of AudioSet; clips already have the generic labels. The splits are
those of the publisher: train, val, eval.
"""

import argparse
import json

from features.contracts.sharding import EVALUATION, TRAIN, VALIDATION
from features.errors import InputError
from features.storage import files
from pipelines.adapters.csv_rows import read_rows
from pipelines.adapters.listing import Listing, PublishedClip, display_name
from pipelines.runtime.rejects import Reject

GROUND_TRUTH, METADATA = "FSD50K.ground_truth", "FSD50K.metadata"
SPLIT_VALUES = {"train": TRAIN, "val": VALIDATION, "eval": EVALUATION}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no flags."""
    del parser


def from_arguments(args: argparse.Namespace) -> Listing:
    """Read the folder of the command line."""
    return read(args.source)


def read(source: str) -> Listing:
    """Read the clips of `dev.csv` and `eval.csv`, with the uploader as recording.

    A row with a label that is not in `vocabulary.csv` becomes a reject.

    Raises:
      InputError: a file is missing or not as published.
    """
    vocabulary = files.join(source, GROUND_TRUTH, "vocabulary.csv")
    names = {
        row["mid"]: display_name(row["label"])
        for row in read_rows(vocabulary, ("index", "label", "mid"), header=False)
    }
    clips: list[PublishedClip] = []
    rejects: list[Reject] = []
    for part, columns in (("dev", ("fname", "mids", "split")), ("eval", ("fname", "mids"))):
        uploaders = _read_uploaders(files.join(source, METADATA, f"{part}_clips_info_FSD50K.json"))
        path = files.join(source, GROUND_TRUTH, f"{part}.csv")
        for row in read_rows(path, columns, rejects=rejects):
            labels = tuple(row["mids"].split(","))
            unknown = [label for label in labels if label not in names]
            if unknown:
                detail = f"{path}: {', '.join(unknown)} not in {vocabulary}"
                rejects.append(Reject(row["fname"], "", "unknown_label", detail))
                continue
            clips.append(
                PublishedClip(
                    id=row["fname"],
                    labels=labels,
                    file_names=(row["fname"],),
                    published_split=row.get("split", part),
                    recording=uploaders.get(row["fname"]),
                )
            )
    return Listing(clips, names, SPLIT_VALUES, rejects)


def _read_uploaders(path: str) -> dict[str, str]:
    """Read clip -> uploader; empty if the metadata has not been unpacked."""
    try:
        clips = json.loads(files.read_bytes(path)).items()
        return {clip: info["uploader"] for clip, info in clips}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: expected an object of clips that each have an uploader ({error!r}); give the "
            "publisher's own file, or remove the file"
        ) from error
