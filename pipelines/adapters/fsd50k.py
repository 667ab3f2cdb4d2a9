"""FSD50K: 51,197 Freesound clips of 200 classes (Fonseca et al., 2022).

--source holds FSD50K.ground_truth/ (dev.csv, eval.csv, vocabulary.csv) and, for
the uploaders, FSD50K.metadata/ (dev_clips_info_FSD50K.json and eval_...). Label
ids are AudioSet's; generic labels are already with the specific ones. The split
is the publisher's: train, val, eval.
"""

import argparse
import json
from typing import Any

from features.contracts.sharding import EVALUATION, TRAIN, VALIDATION
from features.errors import InputError
from features.storage import files
from pipelines.adapters.csv_rows import read_rows
from pipelines.adapters.listing import Clip, Listing, label_name
from pipelines.runtime.rejects import Reject

GROUND_TRUTH, METADATA = "FSD50K.ground_truth", "FSD50K.metadata"
SPLIT_VALUES = {"train": TRAIN, "val": VALIDATION, "eval": EVALUATION}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The adapter has no flags of its own."""
    del parser


def from_arguments(args: argparse.Namespace) -> Listing:
    """`read`, by flags."""
    return read(args.source)


def read(source: str) -> Listing:
    """The clips of `dev.csv` and `eval.csv`; a recording is known by its uploader.

    A row with a label that is not in `vocabulary.csv` becomes a reject.

    Raises:
      InputError: a file is not there or not as published.
    """
    vocabulary = files.join(source, GROUND_TRUTH, "vocabulary.csv")
    names = {
        row["mid"]: label_name(row["label"])
        for row in read_rows(vocabulary, ("index", "label", "mid"), header=False)
    }
    clips: list[Clip] = []
    rejects: list[Reject] = []
    for part, columns in (("dev", ("fname", "mids", "split")), ("eval", ("fname", "mids"))):
        uploaders = _uploaders(files.join(source, METADATA, f"{part}_clips_info_FSD50K.json"))
        path = files.join(source, GROUND_TRUTH, f"{part}.csv")
        for row in read_rows(path, columns, rejects=rejects):
            labels = tuple(row["mids"].split(","))
            unknown = [label for label in labels if label not in names]
            if unknown:
                detail = f"{path}: {', '.join(unknown)} not in {vocabulary}"
                rejects.append(Reject(row["fname"], "", "unknown_label", detail))
                continue
            clips.append(
                Clip(
                    id=row["fname"],
                    labels=labels,
                    file_names=(row["fname"],),
                    published_split=row.get("split", part),
                    recording=uploaders.get(row["fname"]),
                )
            )
    return Listing(clips, names, SPLIT_VALUES, rejects)


def _uploaders(path: str) -> dict[str, str]:
    """Clip -> who uploaded it, where the metadata has been unpacked too."""
    try:
        document: dict[str, dict[str, Any]] = json.loads(files.read_bytes(path))
        return {clip: info["uploader"] for clip, info in document.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: expected an object of clips that each have an uploader ({error!r}); give the "
            "publisher's own file, or none"
        ) from error
