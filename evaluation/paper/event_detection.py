"""Section 4.4 of the paper: event detection on log-mel, and on embeddings of the best ResNet.

python -m evaluation.paper.event_detection --scale small --clips esc10/audio --output experiments
"""

import argparse
import dataclasses
from collections.abc import Sequence

from evaluation.paper import corpus, experiment, table, tuning
from evaluation.paper.corpus import EVALUATION_FOLD, VALIDATION_FOLD, Corpus
from evaluation.paper.experiment import Experiment
from evaluation.paper.runs import measure
from evaluation.paper.scales import PAPER
from evaluation.paper.steps import Step
from evaluation.paper.table import Finding, Row, Table
from evaluation.paper.tuning import Network, Tuning
from features.errors import InputError, run_command
from features.paper import REPORTED
from features.storage import files

_LOG_MEL, _EMBEDDINGS = "audio_set_log_mel", "audio_set_embeddings"
TABLE = Table(
    name="event_detection",
    title="Event detection",
    rows=(
        Row(_LOG_MEL, "Log-mel, 64 x 20"),
        Row(_EMBEDDINGS, "Embeddings of ResNet-50"),
    ),
    findings=(Finding("Embeddings are far above log-mel", ((_EMBEDDINGS, _LOG_MEL),)),),
)
# "Our best ResNet model": the last row of Table 2, which trains the same run.
_BEST = "resnet50_17m"
_PATCH_FRAMES = "20"
_PATCHES_PER_CLIP = 10  # of 10 s
_DESCRIPTION = """\
Train a fully connected network for event detection twice: on log-mel patches of
64 x 20, and on the embeddings of the best ResNet, which was trained on many
more soundtracks with labels of the whole. Prints our results beside the
paper's. After an interruption run the same command again. Outputs of other
experiments in the same folder are used.
"""


def _parser() -> argparse.ArgumentParser:
    parser = experiment.parser("evaluation.paper.event_detection", _DESCRIPTION)
    corpus.add_arguments(parser)
    tuning.add_arguments(parser)
    parser.add_argument(
        "--event-manifest",
        metavar="PATH",
        help="excerpts labelled with their events, such as Audio Set; default: the clips of "
        "--clips, or the synthetic soundtracks",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = _parser().parse_args(argv)
    setup = Experiment.of(args)
    soundtracks = corpus.corpus_of(args, setup)
    dataset, events = _events(args, setup)
    tuned = Tuning.of(args, setup.scale)
    best = Network(run=setup.run_of(_BEST, soundtracks.features), tuning=tuned)
    measure([best.run], setup.folder)
    short, embeddings = (f"{events.features}-{name}" for name in ("short", "embeddings"))
    num_clips = setup.scale.clips
    embed = (
        *("pipelines.extract_embeddings", "--features", events.features),
        *("--run", best.run.output, "--output", embeddings),
    )

    def data() -> list[Step]:
        recipe_steps = REPORTED[_BEST].steps
        return [
            # Table 2 trains the same network, with all seeds, and evaluates it.
            *(*soundtracks.steps, *best.sweep(recipe_steps), best.seeds[0].training(recipe_steps)),
            *events.steps,
            corpus.extracted(dataset, short, "--patch-frames", _PATCH_FRAMES, num_videos=num_clips),
            Step(
                name=embeddings.rpartition("/")[2],
                command=embed,
                seconds=best.run.seconds_to_infer(num_clips * _PATCHES_PER_CLIP),
            ),
        ]

    networks = {
        recipe: Network(run=setup.run_of(recipe, features), tuning=tuned)
        for recipe, features in ((_LOG_MEL, short), (_EMBEDDINGS, embeddings))
    }
    # All clips are scored, since the evaluation set of Audio Set is already balanced.
    scale = dataclasses.replace(
        setup.scale, evaluated=None, evaluation_patches=num_clips * _PATCHES_PER_CLIP
    )
    return table.run_table(TABLE, networks, dataclasses.replace(setup, scale=scale), data)


def _events(args: argparse.Namespace, setup: Experiment) -> tuple[str, Corpus]:
    """The excerpts whose events are to be detected: their data set, and their features.

    Raises:
      InputError: the flags do not say which excerpts.
    """
    folder = setup.folder
    split_values: tuple[str, ...] = ()
    if args.event_manifest is not None:
        manifest, suffix = files.absolute(args.event_manifest), "-events"
    elif args.clips is not None:
        # The soundtracks are composed of the same folds, so that no network has been trained on
        # the clips for validation or evaluation.
        manifest = files.join(folder, "clips", "manifest.parquet")
        split_values = corpus.split_values_of(EVALUATION_FOLD, VALIDATION_FOLD)
        suffix = "-events"
    elif (
        args.manifest is None
        and args.features is None
        and (setup.scale.name != PAPER.name or setup.estimate_only)
    ):
        return files.join(folder, "dataset"), Corpus(files.join(folder, "features"), ())
    else:
        raise InputError("name the excerpts whose events are to be detected with --event-manifest")
    steps = corpus.prepared(
        manifest, folder, split_values=split_values, suffix=suffix, num_videos=setup.scale.clips
    )
    dataset, features = (files.join(folder, name + suffix) for name in ("dataset", "features"))
    return dataset, Corpus(features, tuple(steps))


if __name__ == "__main__":
    run_command(main)
