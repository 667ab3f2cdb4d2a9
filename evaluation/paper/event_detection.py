r"""Section 4.4 of the paper: event detection on log-mel, and on embeddings of two networks.

python -m evaluation.paper.event_detection --scale small --clips sounds --network yamnet \
    --output experiments
"""

import argparse
import dataclasses
from collections.abc import Sequence

from evaluation.paper import corpus, experiment, table, tuning
from evaluation.paper.corpus import Corpus
from evaluation.paper.experiment import Experiment
from evaluation.paper.runs import Run, measure
from evaluation.paper.scales import PAPER
from evaluation.paper.steps import START_SECONDS, Step
from evaluation.paper.table import Finding, Row, Table
from evaluation.paper.tuning import Tuning
from features.errors import InputError, run_command
from features.paper import REPORTED
from features.storage import files

_LOG_MEL = Row("audio_set_log_mel", "Log-mel, 64 x 20")
_RESNET = Row("audio_set_embeddings", "Embeddings of ResNet-50")
# As in ESC-50, where only published networks can be tested in all folds.
_LINEAR = Row(
    "audio_set_embeddings",
    "Linear, embeddings of ResNet-50",
    name="linear_embeddings",
    settings={"num_layers": "0"},
)
# A published network, which was trained on Audio Set: a thousand times as much sound as ours.
_YAMNET = Row("audio_set_embeddings", "Embeddings of YAMNet", name="yamnet_embeddings")
TABLE = Table(
    name="event_detection",
    title="Event detection",
    rows=(_LOG_MEL, _RESNET, _LINEAR, _YAMNET),
    of_features=True,
    findings=(
        Finding("Embeddings are far above log-mel", ((_RESNET.key, _LOG_MEL.key),)),
        Finding(
            "Embeddings of a network that heard far more sound are better still",
            ((_YAMNET.key, _LOG_MEL.key), (_YAMNET.key, _RESNET.key)),
        ),
    ),
)
# "Our best ResNet model": the last row of Table 2, which trains the same run.
_BEST = Row("resnet50_17m", "")
_PATCH_FRAMES = "20"
_PATCHES_PER_CLIP = 10  # of 10 s
# Of the sources of --clips, the one whose clips are balanced: as many of every label.
_SOURCES = ("esc50",)
# To decode a clip and apply YAMNet to it, on one core.
_SECONDS_TO_EMBED = 0.12
_DESCRIPTION = """\
Train a fully connected network for event detection several times: on log-mel
patches of 64 x 20, on the embeddings of the best ResNet, which was trained on
many more soundtracks with labels of the whole, and on those of a published
network, if --network names one. Prints our results beside the paper's. After
an interruption run the same command again. Outputs of other experiments in the
same folder are used.
"""


def _parser() -> argparse.ArgumentParser:
    parser = experiment.parser("evaluation.paper.event_detection", _DESCRIPTION)
    corpus.add_arguments(parser)
    tuning.add_arguments(parser)
    parser.add_argument(
        "--event-manifest",
        metavar="PATH",
        help="excerpts labelled with their events, such as Audio Set; default: the clips of ESC-50 "
        "in --clips, or the synthetic soundtracks",
    )
    parser.add_argument("--network", metavar="FOLDER", help="of YAMNet as published, for its row")
    parser.add_argument("--card", default="yamnet", help="model card of --network; default: yamnet")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = _parser().parse_args(argv)
    setup = Experiment.of(args)
    soundtracks = corpus.corpus_of(args, setup)
    dataset, events = _events(args, setup)
    tuned = Tuning.of(args, setup.scale)
    best = table.network_of(_BEST, setup, tuned, soundtracks.features)
    measure(best.measured, setup.folder)
    name = f"{events.features}-{{}}".format
    # Each detector has the embeddings of a ResNet of another seed, so that intervals hold both.
    embeddings = tuple(
        name(f"embeddings-seed{index}" if index else "embeddings")
        for index in range(best.num_seeds)
    )
    inputs = {
        _LOG_MEL.key: (name("short"),),
        _RESNET.key: embeddings,
        _LINEAR.key: embeddings,
        **({} if args.network is None else {_YAMNET.key: (name("yamnet"),)}),
    }
    num_clips = setup.scale.clips

    def data() -> list[Step]:
        recipe_steps = REPORTED[_BEST.recipe].steps
        short = ("--patch-frames", _PATCH_FRAMES)
        steps = [
            # Table 2 trains the same networks and evaluates them.
            *(*soundtracks.steps, *best.sweep(recipe_steps)),
            *(run.training(recipe_steps) for run in best.seeds),
            *events.steps,
            corpus.extracted(dataset, name("short"), *short, num_videos=num_clips),
            *(
                _embedded(run, events.features, output, num_clips)
                for run, output in zip(best.seeds, embeddings, strict=True)
            ),
        ]
        if args.network is not None:
            steps.append(_embedded_by_network(args, dataset, name("yamnet"), num_clips))
        return steps

    networks = {
        row.key: dataclasses.replace(
            table.network_of(row, setup, tuned, inputs[row.key][0]),
            features=inputs[row.key] if inputs[row.key] == embeddings else (),
        )
        for row in TABLE.rows
        if row.key in inputs
    }
    # All clips are scored, since the evaluation set of Audio Set is already balanced.
    scale = dataclasses.replace(
        setup.scale, evaluated=None, evaluation_patches=num_clips * _PATCHES_PER_CLIP
    )
    return table.run_table(TABLE, networks, dataclasses.replace(setup, scale=scale), data)


def _embedded(run: Run, features: str, output: str, num_clips: int) -> Step:
    """Make embeddings of features by a network of ours."""
    command = (
        *("pipelines.extract_embeddings", "--features", features),
        *("--run", run.output, "--output", output),
    )
    seconds = run.seconds_to_infer(num_clips * _PATCHES_PER_CLIP)
    return Step(name=output.rpartition("/")[2], command=command, seconds=seconds)


def _embedded_by_network(
    args: argparse.Namespace, dataset: str, output: str, num_clips: int
) -> Step:
    """Make embeddings of media by a published network."""
    command = (
        *("pipelines.extract_embeddings", "--from-media", dataset, "--output", output),
        *("--network", files.absolute(args.network), "--card", args.card),
    )
    seconds = START_SECONDS + num_clips * _SECONDS_TO_EMBED
    return Step(name=output.rpartition("/")[2], command=command, seconds=seconds)


def _events(args: argparse.Namespace, setup: Experiment) -> tuple[str, Corpus]:
    """The excerpts whose events are to be detected: their data set, and their features.

    Raises:
      InputError: the flags do not say which excerpts.
    """
    folder = setup.folder
    steps: list[Step] = []
    if args.event_manifest is not None:
        manifest, suffix = files.absolute(args.event_manifest), "-events"
    elif args.clips is not None:
        # The soundtracks are composed of the same folds, so that no network has been trained on
        # the clips for validation or evaluation.
        steps = [corpus.imported(args.clips, folder, name="events", sources=_SOURCES)]
        manifest, suffix = files.join(folder, "events", "manifest.parquet"), "-events"
    elif (
        args.manifest is None
        and args.features is None
        and (setup.scale.name != PAPER.name or setup.estimate_only)
    ):
        return files.join(folder, "dataset"), Corpus(files.join(folder, "features"), ())
    else:
        raise InputError("name the excerpts whose events are to be detected with --event-manifest")
    steps += corpus.prepared(manifest, folder, suffix=suffix, num_videos=setup.scale.clips)
    dataset, features = (files.join(folder, name + suffix) for name in ("dataset", "features"))
    return dataset, Corpus(features, tuple(steps))


if __name__ == "__main__":
    run_command(main)
