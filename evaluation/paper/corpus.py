"""The steps from clips, a manifest or synthetic sounds to the features that experiments share."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from evaluation.paper.experiment import Experiment
from evaluation.paper.scales import PAPER, Scale
from evaluation.paper.steps import START_SECONDS, Step
from features.contracts.sharding import TRAIN
from features.errors import InputError
from features.storage import files

FOLDS = (1, 2, 3, 4)
VALIDATION_FOLD, EVALUATION_FOLD = 3, 4
# The labels of clips.csv, and 13 generic ones in the manner of AudioSet's ontology.
_GENERIC_LABELS = Path(__file__).with_name("generic_labels.csv")
# The labels that are drawn have priors from 0.24 to 1e-4. Events fill two thirds of the time: from
# soundtracks of few and faint events, networks learn almost nothing in thousands of steps.
_COMPOSITION = (
    *("--seconds", "10", "60", "--events", "4", "14", "--gap", "0.2", "2"),
    *("--event-seconds", "1", "5", "--snr", "10", "25", "--formats", "wav", "m4a"),
    *("--zipf", "6.7", "30", "--labels", "1", "2", "--least", "10"),
)
# Of the corpus of few recordings.
_FEW, _RECORDINGS_PER_LABEL = "-few", "2"
# For each soundtrack, on a machine with two cores.
_SECONDS_TO_COMPOSE, _SECONDS_TO_EXTRACT = 0.12, 0.025


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
        help="compose soundtracks of the labelled clips that this folder lists in clips.csv, with "
        "fold 3 for validation and fold 4 for evaluation only; default: synthetic sounds",
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
        steps, manifest = _composed(args.clips, scale, folder)
    steps += prepared(
        manifest,
        folder,
        subsets=scale.subsets,
        balanced_sets=scale.balanced_sets,
        num_videos=scale.num_soundtracks,
    )
    features = files.join(folder, "features")
    steps += [measured_bands(features)] if band_statistics else []
    return Corpus(features, tuple(steps))


def few_recordings(clips: str, setup: Experiment) -> Corpus:
    """As many soundtracks, of few recordings of each label, with the same labels and evaluation."""
    scale, folder = setup.scale, setup.folder
    steps, manifest = _composed(clips, scale, folder, suffix=_FEW)
    steps += prepared(
        manifest,
        folder,
        subsets=scale.subsets,
        balanced_sets=scale.balanced_sets,
        vocabulary=files.join(folder, "dataset"),
        suffix=_FEW,
        num_videos=scale.num_soundtracks,
    )
    return Corpus(files.join(folder, "features" + _FEW), tuple(steps))


def _composed(
    clips: str | None, scale: Scale, folder: str, *, suffix: str = ""
) -> tuple[list[Step], str]:
    """Compose soundtracks of clips or of synthetic sounds; returns the steps and the manifest."""
    name = "corpus" + suffix
    output = ("--output", files.join(folder, name), "--soundtracks")
    manifest = files.join(folder, name, "manifest.csv")
    if clips is None:
        command = ("pipelines.demo_corpus", *output, str(scale.num_soundtracks))
        return [Step(name=name, command=command)], manifest
    few = ("--recordings-per-label", _RECORDINGS_PER_LABEL) if suffix else ()
    command = (
        *("pipelines.compose_soundtracks", "--clips"),
        *(files.join(folder, "clips", "manifest.parquet"), *output, *scale.soundtracks),
        *("--generic-labels", str(_GENERIC_LABELS), *_COMPOSITION, *few),
    )
    seconds = START_SECONDS + scale.num_soundtracks * _SECONDS_TO_COMPOSE
    return [imported(clips, folder), Step(name=name, command=command, seconds=seconds)], manifest


def imported(clips: str, folder: str, *, name: str = "clips", sources: Sequence[str] = ()) -> Step:
    """Write a manifest of clips, whose column `published_split` is the fold.

    Args:
      clips: folder with clips.csv.
      folder: of the experiment.
      name: of the folder of the manifest in it.
      sources: values of the column `source` of clips.csv; none for all.
    """
    command = (
        *("pipelines.import_dataset", "clip-list", "--source", files.absolute(clips)),
        *("--output", files.join(folder, name), *(("--sources", *sources) if sources else ())),
        *("--split-values", *split_values_of(EVALUATION_FOLD, VALIDATION_FOLD)),
    )
    return Step(name=name, command=command)


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
    vocabulary: str | None = None,
    suffix: str = "",
    num_videos: int,
) -> list[Step]:
    """Make `datasetSUFFIX` and `featuresSUFFIX` of a manifest, with flags of prepare_dataset."""
    dataset, features = (files.join(folder, name + suffix) for name in ("dataset", "features"))
    prepare = ["pipelines.prepare_dataset", "--manifest", manifest, "--output", dataset]
    if subsets:
        prepare += ["--subsets", subsets]
    if balanced_sets:
        prepare += ["--balanced-sets", balanced_sets]
    if split_values:
        prepare += ["--split-column", "published_split", "--split-values", *split_values]
    # Neither the order of the labels nor their priors come from what is evaluated.
    prepare += ["--count-split", TRAIN] if vocabulary is None else ["--vocabulary", vocabulary]
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
