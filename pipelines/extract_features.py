"""DATASET -> FEATURES: log-mel patches of every soundtrack in sharded TFRecords, as one Beam job.

python -m pipelines.extract_features --dataset dataset --output features
"""

import argparse
import functools
import time
from collections.abc import Mapping, Sequence

from features.contracts import folders, sharding
from features.contracts.documents import Dataset, Features
from features.errors import OK, InputError, run_command
from features.front_end.front_end import FrontEnd, PatchStorage
from features.front_end.params import LogMelParams
from features.sound.waveform import RESAMPLER
from features.storage import files
from pipelines.extraction import stages
from pipelines.extraction.flags import add_sample_flags, choose_sampled_splits, parse_splits
from pipelines.extraction.patches import Mode, Settings
from pipelines.extraction.plans import begin, compare_decoders, compare_plans, plan_of, request_of
from pipelines.extraction.totals import FeaturesJob
from pipelines.runtime import launch, process_pool, web_access

# Split -> group -> number of shards.
_NumShards = Mapping[str, Mapping[str, int]]

_DESCRIPTION = """\
Decode every soundtrack of a data set, compute 96 x 64 log-mel patches of
960 ms (or others), and write them as sharded TFRecords in which each patch
carries the labels of its video. A soundtrack that cannot be used is rejected
with a reason.
Run the same command again after any interruption: finished shards are kept.
"""


def _parser() -> argparse.ArgumentParser:
    parser = launch.parser(
        "pipelines.extract_features", "--dataset DATASET --output OUTPUT", _DESCRIPTION
    )
    add = parser.add_argument
    add("--dataset", required=True, help="folder made by pipelines.prepare_dataset")
    add("--output", required=True, help="folder of the features to write")
    add(
        "--splits",
        default=",".join(sharding.SPLITS),
        help="splits to extract; default: all splits of the data set",
    )
    add(
        "--subset",
        nargs="+",
        default=[],
        metavar="S=NAME",
        help="only a subset of a split, for example train=23000 evaluation=400; other splits are "
        "extracted completely",
    )
    add(
        "--patch-dtype",
        choices=("uint8", "float16"),
        default="uint8",
        help="storage of log-mel; uint8 (default) is within 0.022, float16 within 0.002",
    )
    add(
        "--patch-frames",
        metavar="N",
        type=int,
        default=LogMelParams().patch_frames,
        help="frames of 10 ms in a patch; default: 96; 20 for the baseline of section 4.4",
    )
    add(
        "--patch-hop-frames",
        metavar="N",
        type=int,
        help="frames from the start of a patch to that of the next; default: those of a patch, "
        "without overlap",
    )
    add("--seed", type=int, default=0, help="seed of the order within training shards; default: 0")
    add_sample_flags(parser)
    add("--keep-partial", action="store_true", help="keep the start of a truncated soundtrack")
    add(
        "--timeout-seconds",
        metavar="SECONDS",
        type=float,
        default=900.0,
        help="time limit of one soundtrack; its decoder is then killed; default: 900",
    )
    add(
        "--only-rejects",
        action="store_true",
        help="retry the rejects of finished shards, and decode nothing else",
    )
    add(
        "--max-reject-fraction",
        metavar="SHARE",
        type=float,
        default=1.0,
        help="stop with exit code 3 if a larger share of the videos is rejected; default: 1",
    )
    add(
        "--force",
        action="store_true",
        help="rebuild every shard, and reuse nothing of the output folder",
    )
    web_access.add_flags(parser)
    process_pool.add_flag(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args, options = launch.parse(_parser(), argv)
    num_workers = process_pool.num_workers(args.workers, options)
    source, output = files.absolute(args.dataset), files.absolute(args.output)
    dataset = folders.read_document(source, Dataset)
    num_shards = _choose_groups(args.subset, dataset, _choose_splits(args.splits, dataset))
    settings = _settings(args)
    mode = Mode(
        timeout_seconds=args.timeout_seconds,
        only_rejects=args.only_rejects,
        force=args.force,
        max_reject_fraction=args.max_reject_fraction,
    )
    folders.claim_output(output, folders.FEATURES, inputs=(source,))
    present = folders.find_document(output, Features)
    plan = plan_of(settings, dataset)
    if present is not None:
        _require_all_groups(output, present, dataset, num_shards)
    compare_plans(output, plan, force=args.force)
    compare_decoders(output, plan, force=args.force)
    job = FeaturesJob(
        source=source,
        output=output,
        shown_output=args.output,
        request=request_of(source, dataset, num_shards, settings, args.subset),
        num_shards=num_shards,
        max_reject_fraction=args.max_reject_fraction,
        started_at=time.time(),
        num_workers=num_workers,
        present_work=None if present is None else present.work,
    )
    extract = stages.ExtractShards(source, output, num_shards, settings, mode, num_workers)
    stages.write_features(extract, functools.partial(begin, output, plan), job, options)
    return OK


def _settings(args: argparse.Namespace) -> Settings:
    if args.patch_frames < 1:
        raise InputError(f"--patch-frames: received {args.patch_frames}; give 1 or more")
    hop_frames = args.patch_hop_frames
    if hop_frames is not None and not 1 <= hop_frames <= args.patch_frames:
        raise InputError(
            f"--patch-hop-frames: received {hop_frames}; give 1 to {args.patch_frames}, the frames "
            "of a patch"
        )
    return Settings(
        front_end=FrontEnd(
            resampler=RESAMPLER,
            log_mel=LogMelParams().with_patch_frames(args.patch_frames, hop_frames),
            storage=PatchStorage(dtype=args.patch_dtype),
        ),
        seed=args.seed,
        keep_partial=args.keep_partial,
        patches_per_video=args.patches_per_video,
        sampled_splits=choose_sampled_splits(args),
    )


def _choose_splits(text: str, dataset: Dataset) -> list[str]:
    """`"train,validation"` to the splits of these that the data set has."""
    wanted = parse_splits("--splits", text)
    splits = sorted(set(wanted) & set(dataset.splits))
    if not splits:
        raise InputError(
            f"--splits: received {text!r}; the data set has only "
            f"{', '.join(sorted(dataset.splits))}"
        )
    return splits


def _choose_groups(texts: Sequence[str], dataset: Dataset, splits: Sequence[str]) -> _NumShards:
    """`["train=23000"]` to numbers of shards, of all groups of the splits that no text names."""
    num_shards = {split: dict(dataset.splits[split].num_shards) for split in splits}
    for text in texts:
        split, _, name = text.partition("=")
        subsets = dataset.subsets.get(split, {})
        if split not in splits or name not in subsets:
            known = sorted(
                f"{split}={name}" for split in splits for name in dataset.subsets.get(split, {})
            )
            raise InputError(
                f"--subset: received {text!r}; the data set has {' '.join(known) or 'none'}; make "
                "subsets with the flags --subsets and --balanced-sets of pipelines.prepare_dataset"
            )
        num_shards[split] = {group: num_shards[split][group] for group in subsets[name]}
    return num_shards


def _require_all_groups(
    output: str, present: Features, dataset: Dataset, num_shards: _NumShards
) -> None:
    """Make sure that no finished split or group would be removed.

    Raises:
      InputError: one would be.
    """
    missing = sorted(set(present.splits) - set(num_shards))
    if missing:
        raise InputError(
            f"--splits: {output} also has {', '.join(missing)}, which would be lost; ask for all "
            f"splits, --splits {','.join(sorted({*num_shards, *missing}))}: finished shards are "
            "kept"
        )
    for split, counts in num_shards.items():
        if split not in present.splits:
            continue
        # Groups that the data set no longer has are rebuilt under other names.
        known = set(present.splits[split].num_shards) & set(dataset.splits[split].num_shards)
        missing = sorted(known - set(counts))
        if missing:
            raise InputError(
                f"--subset: {output} also has {', '.join(missing)} of {split}, which would be "
                "lost; ask for the larger subset, or for all: finished shards are kept"
            )


if __name__ == "__main__":
    run_command(main)
