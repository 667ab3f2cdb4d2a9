"""Section 4.4 of the paper: events from log-mel, and from embeddings of the best ResNet.

python -m evaluation.paper.event_detection --scale small --clips esc10/audio --output experiments
"""

import argparse
import dataclasses
from collections.abc import Sequence

from evaluation.paper import corpus, experiment, table
from evaluation.paper.corpus import EVALUATION_FOLD, FOLDS, Corpus
from evaluation.paper.experiment import Run
from evaluation.paper.scales import PAPER, Scale
from evaluation.paper.steps import Step
from evaluation.paper.table import Figures, Finding, Row, Table
from features.errors import InputError, run_command
from features.storage import files

_LOG_MEL, _EMBEDDINGS = "audio_set_log_mel", "audio_set_embeddings"
_STEPS = 5_000_000
TABLE = Table(
    name="event_detection",
    title="Event detection",
    rows=(
        Row(_LOG_MEL, "Log-mel, 64 x 20", _STEPS, Figures(0.904, 1.846, 0.137)),
        Row(_EMBEDDINGS, "Embeddings of ResNet-50", _STEPS, Figures(0.959, 2.452, 0.314)),
    ),
    findings=(Finding("Embeddings are far above log-mel", ((_EMBEDDINGS, _LOG_MEL),)),),
)
# "Our best ResNet model": the last row of Table 2, whose run is shared.
_BEST, _BEST_STEPS, _BEST_NETWORK = "resnet50_17m", 17_000_000, "resnet50"
_PATCH_FRAMES = "20"
_PATCHES_PER_CLIP = 10  # of 10 s
_DESCRIPTION = """\
Train a fully connected network for events twice: on log-mel patches of 64 x 20,
and on the embeddings of the best ResNet, which has learned from many more
soundtracks with labels of the whole. Prints our figures beside the paper's. Run
the same command again after any interruption; what other tables have made in
the same folder is used.
"""


def _parser() -> argparse.ArgumentParser:
    parser = experiment.parser("evaluation.paper.event_detection", _DESCRIPTION)
    corpus.add_arguments(parser)
    parser.add_argument(
        "--event-manifest",
        metavar="PATH",
        help="excerpts with their events, such as Audio Set's; default: the clips of --clips, or "
        "the synthetic soundtracks",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = _parser().parse_args(argv)
    scale, folder = experiment.scale_of(args), files.absolute(args.output)
    soundtracks = corpus.corpus_of(args, scale, folder)
    dataset, events = _events(args, scale, folder)
    best = Run(
        name=_BEST,
        recipe=_BEST,
        network=_BEST_NETWORK,
        settings=scale.settings_of(_BEST),
        features=soundtracks.features,
        folder=folder,
    )
    experiment.measure([best], folder)
    # Its scores and its report are Table 2's.
    training, *_ = best.steps(recipe_steps=_BEST_STEPS, subset=None, evaluation_patches=0)
    short, embeddings = (f"{events.features}-{name}" for name in ("short", "embeddings"))
    embed = (
        *("pipelines.extract_embeddings", "--features", events.features, "--run", best.output),
        *("--output", embeddings),
    )
    data = (
        *(*soundtracks.steps, training, *events.steps),
        corpus.extracted(dataset, short, "--patch-frames", _PATCH_FRAMES, num_videos=scale.clips),
        Step(
            name=embeddings.rpartition("/")[2],
            command=embed,
            seconds=best.seconds_to_infer(scale.clips * _PATCHES_PER_CLIP),
        ),
    )
    runs = {
        recipe: Run(
            name=recipe,
            recipe=recipe,
            network=recipe,
            settings=scale.settings_of(recipe),
            features=features,
            folder=folder,
        )
        for recipe, features in ((_LOG_MEL, short), (_EMBEDDINGS, embeddings))
    }
    # All clips are scored: Audio Set's own set for evaluation is balanced as it is.
    scale = dataclasses.replace(
        scale, evaluated=None, evaluation_patches=scale.clips * _PATCHES_PER_CLIP
    )
    return table.run(TABLE, TABLE.rows, runs, scale, data, args)


def _events(args: argparse.Namespace, scale: Scale, folder: str) -> tuple[str, Corpus]:
    """The excerpts whose events are to be detected: their data set, and their features.

    Raises:
      InputError: nobody said which.
    """
    split_values: tuple[str, ...] = ()
    if args.event_manifest is not None:
        manifest, suffix = files.absolute(args.event_manifest), "-events"
    elif args.clips is not None:
        # The soundtracks are composed of the same folds: no network has heard the evaluation's.
        # The experiment on ESC-10 shares these features.
        manifest = files.join(folder, "clips", "manifest.parquet")
        training = ",".join(str(fold) for fold in FOLDS if fold != EVALUATION_FOLD)
        split_values = (f"train={training}", f"evaluation={EVALUATION_FOLD}")
        suffix = f"-fold{EVALUATION_FOLD}"
    elif (
        args.manifest is None
        and args.features is None
        and (scale.name != PAPER.name or args.estimate)
    ):
        return files.join(folder, "dataset"), Corpus(files.join(folder, "features"), ())
    else:
        raise InputError("give the excerpts whose events are to be detected, as --event-manifest")
    steps = corpus.prepared(
        manifest, folder, split_values=split_values, suffix=suffix, num_videos=scale.clips
    )
    dataset, features = (files.join(folder, name + suffix) for name in ("dataset", "features"))
    return dataset, Corpus(features, tuple(steps))


if __name__ == "__main__":
    run_command(main)
