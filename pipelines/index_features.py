"""FEATURES of an older version -> training shards that are read in random runs of records.

python -m pipelines.index_features --features features
"""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence

import apache_beam as beam
from apache_beam.pvalue import AsDict

from features.contracts import folders, index, sharding, shards
from features.contracts.documents import Features, PatchCounts, PatchShard
from features.contracts.sharding import TRAIN, ShardKey
from features.contracts.shards import PATCHES
from features.errors import OK, ContractError, InputError, JobFailedError, run_command
from features.storage import files
from pipelines.extraction import indexing
from pipelines.runtime import launch
from pipelines.runtime.counters import CountElements, Counts
from pipelines.runtime.membership import JoinJob

_DESCRIPTION = """\
Pad the records of the training shards to one length within each file, and
write an index of where they lie, so that training reads random patches of all
videos. Nothing is decoded, and the records stay the same: networks, band
statistics and scores of the folder stay valid, and it can be read meanwhile.
Run the same command again after any interruption: padded shards are kept.
Folders made by this version of extract_features have all of this.
"""


def _parser() -> argparse.ArgumentParser:
    parser = launch.parser("pipelines.index_features", "--features FEATURES", _DESCRIPTION)
    parser.add_argument(
        "--features", required=True, help="folder made by pipelines.extract_features"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args, options = launch.parse(_parser(), argv)
    folder = files.absolute(args.features)
    features = folders.read_document(folder, Features)
    if TRAIN not in features.splits:
        raise InputError(f"--features {folder}: has no split {TRAIN}; extract it first")
    keys = list(sharding.keys(TRAIN, features.splits[TRAIN].num_shards))

    def build(pipeline: beam.Pipeline) -> None:
        indexes = (
            pipeline
            | "Shards" >> beam.Create(keys)
            | "Spread" >> beam.Reshuffle()
            | JoinJob()
            | "Pad" >> beam.Map(pad, folder)
            | "Counters" >> CountElements("index", measure_shard)
            | "Index" >> indexing.WriteIndexes(folder)
        )
        _ = (
            pipeline
            | "Features" >> beam.Create([features])
            | "Finish" >> beam.Map(finish, AsDict(indexes), folder)
        )

    launch.run(build, options, folder, clear=lambda: None)
    document = folders.read_document(folder, Features)
    print(f"{len(keys)} training shards, {document.splits[TRAIN].num_bytes} bytes")
    print(f"wrote {files.join(args.features, Features.FILE)}")
    return OK


def pad(key: ShardKey, folder: str) -> PatchShard:
    """Pad the records of a shard, unless they are; returns its sidecar.

    Raises:
      JobFailedError: the shard is damaged or not complete.
    """
    path = files.join(folder, key.path(PATCHES))
    try:
        sidecar = shards.read_sidecar(path, PatchShard)
    except (FileNotFoundError, ContractError) as error:
        raise JobFailedError(
            f"{error}; repair the folder with `python -m pipelines.audit_features --repair`"
        ) from error
    if sidecar.record_bytes is None:
        sidecar = shards.pad_shard(path, sidecar)
        shards.write_sidecar(path, sidecar)
    return sidecar


def measure_shard(sidecar: PatchShard) -> Counts:
    """What a shard adds to the counters of the runner."""
    sums = {"shards": 1, "patches": sidecar.num_patches, "bytes": sidecar.num_bytes}
    return Counts(element=sidecar.key.path(PATCHES), sums=sums)


def finish(features: Features, indexes: indexing.Indexes, folder: str) -> None:
    """The last stage: `features.json` with the new sizes and the fingerprint of the indexes."""
    split = features.splits[TRAIN]
    sizes = {
        group: index.num_bytes(index.read_index(index.path_of(folder, TRAIN, group))[0])
        for group in split.num_shards
    }
    split = dataclasses.replace(
        split,
        num_bytes=sum(sizes.values()),
        groups=_with_sizes(split.groups, sizes),
        index_fingerprint=indexing.fingerprint_of(indexes, TRAIN, split.num_shards),
    )
    folders.write_document(
        folder, dataclasses.replace(features, splits={**features.splits, TRAIN: split})
    )


def _with_sizes(
    groups: Mapping[str, PatchCounts], sizes: Mapping[str, int]
) -> dict[str, PatchCounts]:
    return {
        group: dataclasses.replace(counts, num_bytes=sizes[group])
        for group, counts in groups.items()
    }


if __name__ == "__main__":
    run_command(main)
