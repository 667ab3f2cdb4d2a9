"""DATASET -> FEATURES: log-mel patches of every soundtrack in sharded TFRecords, as one Beam job.

python -m pipelines.extract_features --dataset dataset --output features
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import apache_beam as beam

from features.contracts import folders, sharding
from features.contracts.videos import VIDEO_FILES
from features.errors import OK, InputError, run_command
from features.front_end.front_end import FrontEnd, PatchStorage
from features.front_end.params import LogMelParams
from features.sound.waveform import RESAMPLER
from features.storage import files
from pipelines.extraction import stages
from pipelines.extraction.patches import Mode, Settings
from pipelines.runtime import launch, process_pool

# A change of these leaves nothing to be used again.
_DECODED_ANEW = ("front_end_fingerprint", "keep_partial", "patches_per_video")

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
        help="which splits to extract; default: all that the data set has",
    )
    add(
        "--subset",
        nargs="+",
        default=[],
        metavar="S=NAME",
        help="only a subset of a split, for example train=23000 evaluation=400; of other splits "
        "all is extracted",
    )
    add(
        "--patch-dtype",
        choices=("uint8", "float16"),
        default="uint8",
        help="how log-mel is stored; uint8 (default) is within 0.022, float16 within 0.002",
    )
    add(
        "--patch-frames",
        metavar="N",
        type=int,
        default=LogMelParams().patch_frames,
        help="frames of 10 ms in a patch; default: 96; 20 for the baseline of section 4.4",
    )
    add("--seed", type=int, default=0, help="of the order within training shards; default: 0")
    add(
        "--patches-per-video",
        metavar="K",
        type=int,
        help="only K patches of each soundtrack, drawn at random and reached by seeking",
    )
    add(
        "--keep-partial",
        action="store_true",
        help="keep the good part of a truncated soundtrack, as ok_partial",
    )
    add(
        "--timeout-seconds",
        metavar="SECONDS",
        type=float,
        default=900.0,
        help="for one soundtrack, whose decoder is then killed; default: 900",
    )
    add(
        "--only-rejects",
        action="store_true",
        help="try the rejects of finished shards again, and decode nothing else",
    )
    add(
        "--max-reject-fraction",
        metavar="SHARE",
        type=float,
        default=1.0,
        help="stop with exit code 3 where more of the videos are rejected; default: 1",
    )
    add("--force", action="store_true", help="take nothing from what the output folder holds")
    process_pool.add_flag(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args, options = launch.parse(_parser(), argv)
    num_workers = process_pool.num_workers(args.workers, options)
    source, output = files.absolute(args.dataset), files.absolute(args.output)
    data = folders.read_root(source, folders.DATASET)
    if "subsets" not in data:
        raise folders.ContractError(
            f"{source} is of an earlier version, which cut no subsets; run "
            "`python -m pipelines.prepare_dataset` again: it opens no media"
        )
    splits = _splits(args.splits, data["splits"])
    num_shards = _groups(args.subset, data, splits)
    if args.patch_frames < 1:
        raise InputError(f"--patch-frames: received {args.patch_frames}; give 1 or more")
    front_end = FrontEnd(
        resampler=RESAMPLER,
        log_mel=LogMelParams().with_patch_frames(args.patch_frames),
        storage=PatchStorage(dtype=args.patch_dtype),
    )
    if args.patches_per_video is not None and args.patches_per_video < 1:
        raise InputError(f"--patches-per-video: received {args.patches_per_video}; give 1 or more")
    settings = Settings(
        front_end=front_end,
        seed=args.seed,
        keep_partial=args.keep_partial,
        patches_per_video=args.patches_per_video,
    )
    mode = Mode(
        timeout_seconds=args.timeout_seconds,
        only_rejects=args.only_rejects,
        force=args.force,
        max_reject_fraction=args.max_reject_fraction,
    )
    folders.claim_output(output, folders.FEATURES, inputs=(source,))
    plan = _compare_with_present(output, settings, data, num_shards, force=args.force)
    made = {
        "made_by": folders.made_by(),
        "started_at": time.time(),
        "num_workers": num_workers,
        "work": (folders.find_root(output, folders.FEATURES) or {}).get("work"),
        "dataset": source,
        "dataset_fingerprint": data["fingerprint"],
        "vocabulary": data["vocabulary"],
        "front_end": front_end.to_json(),
        "front_end_fingerprint": front_end.fingerprint,
        "seed": args.seed,
        "keep_partial": args.keep_partial,
        "patches_per_video": args.patches_per_video,
        "max_reject_fraction": args.max_reject_fraction,
        "num_shards": num_shards,
        "only_subset": args.subset,
        "subsets": {
            split: {
                name: groups
                for name, groups in data["subsets"].get(split, {}).items()
                if set(groups) <= set(counts)
            }
            for split, counts in num_shards.items()
        },
        "num_videos_planned": sum(
            data["splits"][split]["num_videos_by_group"][group]
            for split, counts in num_shards.items()
            for group in counts
        ),
    }

    def sidecars_of(pipeline: beam.Pipeline) -> beam.PCollection:
        return (
            pipeline
            | "Files" >> beam.Create(files.list_files(source, VIDEO_FILES))
            | "Extract" >> stages.ExtractShards(output, num_shards, settings, mode, num_workers)
        )

    stages.write_features(
        sidecars_of, plan, made, options, source=source, output=output, shown_output=args.output
    )
    return OK


def _compare_with_present(
    output: str,
    settings: Settings,
    data: Mapping[str, Any],
    num_shards: Mapping[str, Mapping[str, int]],
    *,
    force: bool,
) -> dict[str, Any]:
    """Say what differs from the work that the output folder holds; returns what says it of this.

    Raises:
      InputError: finished work would be lost, and nobody asked for that.
    """
    path = files.join(output, stages.PLAN)
    now = {
        "front_end_fingerprint": settings.front_end.fingerprint,
        "keep_partial": settings.keep_partial,
        "patches_per_video": settings.patches_per_video,
        "seed": settings.seed,
        "dataset_fingerprint": data["fingerprint"],
    }
    try:
        present = json.loads(files.read_bytes(path))
    except FileNotFoundError:
        present = now
    changed = [field for field in now if now[field] != present.get(field)]
    finished = folders.find_root(output, folders.FEATURES) or {"splits": {}}
    left_out = sorted(set(finished["splits"]) - set(num_shards))
    if left_out:
        raise InputError(
            f"--splits: {output} also has {', '.join(left_out)}, which would be lost; ask for all "
            f"of them, --splits {','.join(sorted({*num_shards, *left_out}))}: what is there is kept"
        )
    for split, counts in num_shards.items():
        # Groups that the data set has no more are made anew under other names.
        present_groups = set(finished["splits"].get(split, {}).get("num_shards", {}))
        lost = sorted((present_groups & set(data["splits"][split]["num_shards"])) - set(counts))
        if lost:
            raise InputError(
                f"--subset: {output} also has {', '.join(lost)} of {split}, which would be lost; "
                "ask for the larger subset, or for all: what is there is kept"
            )
    for field in changed:
        change = f"{output}: {field} was {present.get(field)!r} and is {now[field]!r} now"
        if field in _DECODED_ANEW and not force:
            raise InputError(
                f"{change}; --force decodes every soundtrack anew, another --output keeps both"
            )
        print(f"{change}: shards that differ are made anew", file=sys.stderr)
    return now


def _groups(
    texts: Sequence[str], data: Mapping[str, Any], splits: frozenset[str]
) -> dict[str, dict[str, int]]:
    """["train=23000"] -> shards by split and group, of all groups of the other splits."""
    num_shards = {split: dict(data["splits"][split]["num_shards"]) for split in sorted(splits)}
    for text in texts:
        split, _, name = text.partition("=")
        subsets = data["subsets"].get(split, {})
        if split not in splits or name not in subsets:
            known = [f"{one}={name}" for one in splits for name in data["subsets"].get(one, {})]
            raise InputError(
                f"--subset: received {text!r}; the data set has "
                f"{' '.join(sorted(known)) or 'none'}; make them with the flags --subsets and "
                "--balanced-sets of pipelines.prepare_dataset"
            )
        num_shards[split] = {group: num_shards[split][group] for group in subsets[name]}
    return num_shards


def _splits(text: str, available: dict) -> frozenset[str]:
    wanted = text.split(",")
    for split in wanted:
        if split not in sharding.SPLITS:
            raise InputError(
                f"--splits: received {split!r}; expected some of {','.join(sharding.SPLITS)}"
            )
    splits = frozenset(wanted) & frozenset(available)
    if not splits:
        raise InputError(
            f"--splits: received {text!r}; the data set has only {', '.join(sorted(available))}"
        )
    return splits


if __name__ == "__main__":
    run_command(main)
