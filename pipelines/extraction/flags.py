"""The flags of a few patches of each video, of `extract_features` and of `plan`."""

import argparse

from features.contracts import sharding
from features.errors import InputError


def add_sample_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--patches-per-video` and `--sampled-splits`."""
    parser.add_argument(
        "--patches-per-video",
        metavar="K",
        type=int,
        help="only K patches of each soundtrack, drawn at random; little else is decoded",
    )
    parser.add_argument(
        "--sampled-splits",
        metavar="SPLITS",
        help=f"splits that --patches-per-video is for; default: {sharding.TRAIN}, since validation "
        "and evaluation average all patches of a video",
    )


def choose_sampled_splits(args: argparse.Namespace) -> tuple[str, ...] | None:
    """The splits that patches are drawn in; None for all splits, and if no patches are drawn.

    Raises:
      InputError: a flag has an impossible value, or `--sampled-splits` stands alone.
    """
    count, splits = args.patches_per_video, args.sampled_splits
    if count is None:
        if splits is not None:
            raise InputError("--sampled-splits: give --patches-per-video too")
        return None
    if count < 1:
        raise InputError(f"--patches-per-video: received {count}; give 1 or more")
    if splits is None:
        return (sharding.TRAIN,)
    chosen = set(parse_splits("--sampled-splits", splits))
    return None if chosen == set(sharding.SPLITS) else tuple(sorted(chosen))


def parse_splits(flag: str, text: str) -> list[str]:
    """`"train,validation"` to names of splits.

    Raises:
      InputError: there is no such split.
    """
    names = text.split(",")
    for name in names:
        if name not in sharding.SPLITS:
            raise InputError(
                f"{flag}: received {name!r}; expected some of {','.join(sharding.SPLITS)}"
            )
    return names
