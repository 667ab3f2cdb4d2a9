"""FEATURES -> mean and variance of each mel band, and the graph that normalises by them.

python -m pipelines.band_statistics --features features
"""

import argparse
import math
import uuid
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.pvalue import AsSingleton

from features.contracts import folders
from features.contracts.sharding import TRAIN
from features.errors import OK, InputError, run_command
from features.front_end.front_end import FrontEnd
from features.storage import files
from pipelines.extraction import bands
from pipelines.runtime import launch

# A sample is drawn from so many shards at most.
_NUM_SHARDS = 256
_DESCRIPTION = """\
Compute mean and variance of each mel band over a sample of the training
patches. Leaves band_statistics.json and a transform graph in the folder of the
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
    features = folders.read_root(folder, folders.FEATURES)
    train = features["splits"].get(TRAIN, {"num_patches": 0})
    if not train["num_patches"]:
        raise InputError(f"--features {folder}: split {TRAIN} has no patches; extract it first")
    front_end = FrontEnd.from_json(features["front_end"])
    shape = front_end.patch_shape
    shards = files.list_files(folder, f"{TRAIN}/*/patches-*.tfrecord")
    shards = shards[:: math.ceil(len(shards) / _NUM_SHARDS)]
    made = {
        "made_by": folders.made_by(),
        "features_fingerprint": train["fingerprint"],
        "front_end_fingerprint": features["front_end_fingerprint"],
    }
    transform_dir = files.join(folder, "transform")
    temp_dir = files.join(folder, f"transform_temp-{uuid.uuid4().hex[:12]}")

    def clear() -> None:
        files.delete(files.join(folder, folders.BAND_STATISTICS))
        for part in ("transform_fn", "transformed_metadata"):
            files.delete_folder(files.join(transform_dir, part))

    def build(pipeline: beam.Pipeline) -> None:
        batches = (
            pipeline
            | "Shards" >> beam.Create(shards)
            | "Spread" >> beam.Reshuffle()
            | "Read"
            >> beam.FlatMap(bands.read_patches, math.ceil(args.patches / len(shards)), front_end)
        )
        num_patches = (
            batches
            | "BatchSizes" >> beam.Map(lambda batch: batch.num_rows)
            | "NumPatches" >> beam.CombineGlobally(sum)
        )
        written = batches | "Bands" >> bands.AnalyzeBands(shape, transform_dir, temp_dir)
        _ = (
            pipeline
            | "Made" >> beam.Create([made])
            | "Finish"
            >> beam.Map(
                bands.finish,
                written=AsSingleton(written),
                num_patches=AsSingleton(num_patches),
                patch_shape=shape,
                transform_dir=transform_dir,
                output=folder,
            )
        )

    launch.run(build, options, folder, clear=clear, temp_dir=temp_dir)
    document = folders.read_root(folder, folders.BAND_STATISTICS)
    print(f"{document['num_patches']} patches of {len(shards)} shards")
    print(f"wrote {files.join(args.features, folders.BAND_STATISTICS)}")
    return OK


if __name__ == "__main__":
    run_command(main)
