"""The steps from clips, a manifest or synthetic sounds to the features that experiments share."""

import argparse
import dataclasses
from pathlib import Path

from evaluation.paper.experiment import Experiment
from evaluation.paper.scales import PAPER, Scale
from evaluation.paper.steps import START_SECONDS, Step
from features.errors import InputError
from features.storage import files

# Paths as in ESC-10: audio/dog_bark/3-155312-A.ogg is of fold 3 and was cut from recording 155312.
# No recording is in two folds.
_CLIP_PATHS = r"(?P<label>.+)/(?P<id>(?P<split>\d)-(?P<recording>\d+)-.)\.ogg"
FOLDS = (1, 2, 3, 4)
VALIDATION_FOLD, EVALUATION_FOLD = 3, 4
# The classes of ESC-10, and those of AudioSet's ontology that contain at least two of them.
_GENERIC_LABELS = Path(__file__).with_name("generic_labels.csv")
# Easier than the defaults of compose_soundtracks (2 to 5 events in up to 40 s, 0 to 15 dB above the
# noise), from which the networks learned almost nothing in 300 steps.
_COMPOSITION = (
    *("--seconds", "8", "16", "--events", "1", "3", "--gap", "0.2", "1.5"),
    *("--event-seconds", "1", "5", "--snr", "10", "25", "--formats", "wav", "flac"),
)
# For each soundtrack, on a machine with two cores.
_SECONDS_TO_COMPOSE, _SECONDS_TO_EXTRACT = 0.06, 0.02


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Features, and the steps that make them; no steps for finished features."""

    features: str
    steps: tuple[Step, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what to train on."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--clips",
        metavar="FOLDER",
        help="compose soundtracks of the clips LABEL/FOLD-RECORDING-TAKE.ogg in this folder, such "
        "as ESC-10, with fold 3 for validation and fold 4 for evaluation only; default: synthetic "
        "sounds",
    )
    source.add_argument(
        "--manifest", metavar="PATH", help="of videos, as for pipelines.prepare_dataset"
    )
    source.add_argument("--features", metavar="FOLDER", help="finished features of videos")


def corpus_of(
    args: argparse.Namespace, setup: Experiment, *, band_statistics: bool = False
) -> Corpus:
    """The corpus that the flags ask for.

    Args:
      args: flags of `add_arguments`.
      setup: what the other flags say.
      band_statistics: whether recipes need the statistics of the mel bands.

    Raises:
      InputError: the paper's scale without videos.
    """
    scale, folder = setup.scale, setup.folder
    if args.features is not None:
        return Corpus(files.absolute(args.features), ())
    if scale.name == PAPER.name and args.manifest is None and not setup.estimate_only:
        raise InputError("--scale paper takes --features, or a --manifest of its videos")
    steps: list[Step] = []
    if args.manifest is not None:
        manifest = files.absolute(args.manifest)
    else:
        manifest = files.join(folder, "corpus", "manifest.csv")
        steps = _composed(args.clips, scale, folder)
    steps += prepared(
        manifest,
        folder,
        subsets=scale.subsets,
        balanced_sets=scale.balanced_sets,
        num_videos=scale.soundtracks,
    )
    features = files.join(folder, "features")
    steps += [measured_bands(features)] if band_statistics else []
    return Corpus(features, tuple(steps))


def _composed(clips: str | None, scale: Scale, folder: str) -> list[Step]:
    """Compose soundtracks of clips or of synthetic sounds."""
    output = ("--output", files.join(folder, "corpus"), "--soundtracks", str(scale.soundtracks))
    if clips is None:
        return [Step(name="corpus", command=("pipelines.demo_corpus", *output))]
    command = (
        *("pipelines.compose_soundtracks", "--clips"),
        *(files.join(folder, "clips", "manifest.parquet"), *output),
        *("--generic-labels", str(_GENERIC_LABELS), *_COMPOSITION),
    )
    seconds = START_SECONDS + scale.soundtracks * _SECONDS_TO_COMPOSE
    return [imported(clips, folder), Step(name="corpus", command=command, seconds=seconds)]


def imported(clips: str, folder: str) -> Step:
    """Write a manifest of clips, whose column `published_split` is the fold."""
    command = (
        *("pipelines.import_dataset", "folder-per-label", "--source", files.absolute(clips)),
        *("--output", files.join(folder, "clips"), "--pattern", _CLIP_PATHS),
        *("--split-values", *split_values_of(EVALUATION_FOLD, VALIDATION_FOLD)),
    )
    return Step(name="clips", command=command)


def split_values_of(evaluation_fold: int, validation_fold: int | None = None) -> tuple[str, ...]:
    """The values of --split-values that train on the folds that are left."""
    training = ",".join(
        str(other) for other in FOLDS if other not in (evaluation_fold, validation_fold)
    )
    validation = () if validation_fold is None else (f"validation={validation_fold}",)
    return f"train={training}", *validation, f"evaluation={evaluation_fold}"


def prepared(
    manifest: str,
    folder: str,
    *,
    subsets: str = "",
    balanced_sets: str = "",
    split_values: tuple[str, ...] = (),
    suffix: str = "",
    num_videos: int,
) -> list[Step]:
    """Make `datasetSUFFIX` and `featuresSUFFIX` of a manifest."""
    dataset, features = (files.join(folder, name + suffix) for name in ("dataset", "features"))
    prepare = ["pipelines.prepare_dataset", "--manifest", manifest, "--output", dataset]
    if subsets:
        prepare += ["--subsets", subsets]
    if balanced_sets:
        prepare += ["--balanced-sets", balanced_sets]
    if split_values:
        prepare += ["--split-column", "published_split", "--split-values", *split_values]
    return [
        Step(name="dataset" + suffix, command=tuple(prepare)),
        extracted(dataset, features, num_videos=num_videos),
    ]


def extracted(dataset: str, features: str, *flags: str, num_videos: int) -> Step:
    """Make features of a data set, with more flags of pipelines.extract_features."""
    return Step(
        name=features.rpartition("/")[2],
        command=(
            *("pipelines.extract_features", "--dataset", dataset, "--output", features),
            *flags,
        ),
        seconds=START_SECONDS + num_videos * _SECONDS_TO_EXTRACT,
    )


def measured_bands(features: str) -> Step:
    """Make the statistics of the mel bands, for recipes that normalise their input."""
    name = "band_statistics" + features.rpartition("/features")[2]
    return Step(name=name, command=("pipelines.band_statistics", "--features", features))
