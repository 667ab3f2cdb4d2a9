"""The flags that jobs share which extract from media, and of which `plan` has some."""

import argparse

from features.contracts import sharding
from features.errors import InputError

# Of jobs that extract from media.
_MEDIA_FLAGS = (
    "splits",
    "subset",
    "seed",
    "patches_per_video",
    "sampled_splits",
    "keep_partial",
    "timeout_seconds",
    "only_rejects",
    "max_reject_fraction",
    "force",
)


def add_media_flags(parser: argparse.ArgumentParser, when: str | None = None) -> None:
    """Add what to extract of the media of a data set, and how.

    Args:
      parser: of the command.
      when: heading of the flags in the help; None to list them among the others.
    """
    flags = parser if when is None else parser.add_argument_group(when)
    add = flags.add_argument
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
    add("--seed", type=int, default=0, help="seed of the order within training shards; default: 0")
    add_sample_flags(flags)
    add("--keep-partial", action="store_true", help="keep the start of a truncated soundtrack")
    add(
        "--timeout-seconds",
        metavar="SECONDS",
        type=float,
        default=900.0,
        help="time limit of decoding one soundtrack; its decoder is then killed; default: 900",
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


def refuse_media_flags(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse the flags of `add_media_flags` in a job that decodes no media.

    Raises:
      InputError: one is given.
    """
    for name in _MEDIA_FLAGS:
        if getattr(args, name) != parser.get_default(name):
            flag = name.replace("_", "-")
            raise InputError(f"--{flag}: goes with --from-media; received it without")


def add_sample_flags(parser: argparse._ActionsContainer) -> None:
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
