"""FEATURES -> mean and variance of each mel band, and the graph that normalises by them.

python -m pipelines.band_statistics --features features
"""

import argparse
import math
from collections.abc import Sequence

import apache_beam as beam

from features.contracts import folders
from features.contracts.documents import BandStatistics, Features
from features.contracts.sharding import TRAIN
from features.errors import OK, InputError, run_command
from features.storage import files
from pipelines.extraction import bands
from pipelines.runtime import launch
from pipelines.runtime.transform_graph import delete_graph

# The sample is drawn from this number of shards at most.
_NUM_SHARDS = 256
_DESCRIPTION = """\
Compute mean and variance of each mel band over a sample of the training
patches. Write band_statistics.json and a transform graph into the folder of the
features; training can normalise its input by that graph.
"""


def _parser() -> argparse.ArgumentParser:
    parser = launch.parser("pipelines.band_statistics", "--features FEATURES", _DESCRIPTION)
    add = parser.add_argument
    add("--features", required=True, help="folder made by pipelines.extract_features")
    add(
        "--patches",
        metavar="N",
        type=int,
        default=20_000,
        help="size of the sample; default: 20000",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args, options = launch.parse(_parser(), argv)
    if args.patches < 1:
        raise InputError(f"--patches: received {args.patches}; give 1 or more")
    folder = files.absolute(args.features)
    features = folders.read_document(folder, Features)
    train = features.splits.get(TRAIN)
    if train is None or not train.num_patches:
        raise InputError(f"--features {folder}: split {TRAIN} has no patches; extract it first")
    shards = files.list_files(folder, f"{TRAIN}/*/patches-*.tfrecord")
    job = bands.BandsJob(
        made_by=folders.made_by(),
        features_fingerprint=train.fingerprint,
        front_end=features.front_end,
        shards=shards[:: math.ceil(len(shards) / _NUM_SHARDS)],
        num_patches=args.patches,
        folder=folder,
        transform_dir=files.join(folder, "transform"),
        temp_dir=launch.temporary_folder(folder, options),
    )

    def clear() -> None:
        files.delete(files.join(folder, BandStatistics.FILE))
        delete_graph(job.transform_dir)

    def build(pipeline: beam.Pipeline) -> None:
        _ = pipeline | bands.ComputeBandStatistics(job)

    launch.run(build, options, folder, clear=clear, temp_dir=job.temp_dir)
    document = folders.read_document(folder, BandStatistics)
    print(f"{document.num_patches} patches of {len(job.shards)} shards")
    print(f"wrote {files.join(args.features, BandStatistics.FILE)}")
    return OK


if __name__ == "__main__":
    run_command(main)
