"""DATASET -> FEATURES: log-mel patches of every soundtrack in sharded TFRecords, as one Beam job.

python -m pipelines.extract_features --dataset dataset --output features
"""

import argparse
from collections.abc import Sequence

from features.errors import OK, InputError, run_command
from features.front_end.front_end import FrontEnd, PatchStorage
from features.front_end.params import LogMelParams
from features.sound.waveform import RESAMPLER
from pipelines.extraction.flags import add_media_flags, choose_sampled_splits
from pipelines.extraction.media import choose_media, write_features_of_media
from pipelines.extraction.patches import Settings
from pipelines.runtime import launch, process_pool, web_access

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
    add_media_flags(parser)
    web_access.add_flags(parser)
    process_pool.add_flag(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args, options = launch.parse(_parser(), argv)
    media = choose_media(args.dataset, args)
    write_features_of_media(media, _settings(args), args, options)
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


if __name__ == "__main__":
    run_command(main)
