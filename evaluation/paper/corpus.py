"""The steps from clips, a manifest, or nothing at all to the features that experiments share."""

import argparse
import dataclasses
from pathlib import Path

from evaluation.paper.scales import PAPER, Scale
from evaluation.paper.steps import START_SECONDS, Step
from features.errors import InputError
from features.storage import files

# Clips lie as those of ESC-10: audio/dog_bark/3-155312-A.ogg is of fold 3, cut from recording
# 155312. No recording is in two folds.
_CLIP_PATHS = r"(?P<label>.+)/(?P<id>(?P<split>\d)-(?P<recording>\d+)-.)\.ogg"
FOLDS = (1, 2, 3, 4)
EVALUATION_FOLD = 4
# The classes of ESC-10 under those of AudioSet's ontology that hold two of them or more.
_GENERIC_LABELS = Path(__file__).with_name("generic_labels.csv")
# Easier than the defaults of compose_soundtracks, which are 2 to 5 events in up to 40 s, 0 to 15 dB
# over the noise: from these, out of 240 clips, the networks learned next to nothing in 300 steps.
_COMPOSITION = (
    *("--seconds", "8", "16", "--events", "1", "3", "--gap", "0.2", "1.5"),
    *("--event-seconds", "1", "5", "--snr", "10", "25", "--formats", "wav", "flac"),
)
# On a machine with two cores.
_SECONDS_TO_COMPOSE, _SECONDS_TO_EXTRACT = 0.06, 0.02  # a soundtrack


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Features, made already or by these steps."""

    features: str
    steps: tuple[Step, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that say what to train on."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--clips",
        metavar="FOLDER",
        help="clips as those of ESC-10, LABEL/FOLD-RECORDING-TAKE.ogg below it, to compose "
        "soundtracks of, with fold 4 for evaluation alone; default: synthetic sounds",
    )
    source.add_argument(
        "--manifest", metavar="PATH", help="videos, as pipelines.prepare_dataset takes them"
    )
    source.add_argument("--features", metavar="FOLDER", help="of videos, made already")


def corpus_of(
    args: argparse.Namespace, scale: Scale, folder: str, *, statistics: bool = False
) -> Corpus:
    """What the flags ask for; with the statistics of its bands, for recipes that normalise.

    Raises:
      InputError: the paper's scale cannot do without videos.
    """
    if args.features is not None:
        return Corpus(files.absolute(args.features), ())
    if scale.name == PAPER.name and args.manifest is None and not args.estimate:
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
    return Corpus(features, (*steps, *([band_statistics(features)] if statistics else [])))


def _composed(clips: str | None, scale: Scale, folder: str) -> list[Step]:
    """Soundtracks of clips, or of synthetic sounds."""
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
    """A manifest of clips, whose column `published_split` is the fold."""
    training = ",".join(str(fold) for fold in FOLDS if fold != EVALUATION_FOLD)
    command = (
        *("pipelines.import_dataset", "folder-per-label", "--source", files.absolute(clips)),
        *("--output", files.join(folder, "clips"), "--pattern", _CLIP_PATHS),
        *("--split-values", f"train={training}", f"evaluation={EVALUATION_FOLD}"),
    )
    return Step(name="clips", command=command)


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
    """From a manifest to `datasetSUFFIX` and `featuresSUFFIX`."""
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
    """From a data set to features, as more flags of pipelines.extract_features have them."""
    return Step(
        name=features.rpartition("/")[2],
        command=(
            *("pipelines.extract_features", "--dataset", dataset, "--output", features),
            *flags,
        ),
        seconds=START_SECONDS + num_videos * _SECONDS_TO_EXTRACT,
    )


def band_statistics(features: str) -> Step:
    """What recipes that normalise their input read beside the features."""
    name = "band_statistics" + features.rpartition("/features")[2]
    return Step(name=name, command=("pipelines.band_statistics", "--features", features))
