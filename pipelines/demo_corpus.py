"""Writes a small corpus of synthetic soundtracks: media files, labels and the times of the sounds.

python -m pipelines.demo_corpus --output corpus --soundtracks 64 --seed 1
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from features.errors import OK, InputError, run_command
from pipelines.corpus import writer
from pipelines.corpus.synthetic_corpus import MIN_SOUNDTRACKS, plan_corpus


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.demo_corpus",
        description="Write a corpus of synthetic soundtracks in many media formats, with a "
        "manifest of labels and splits, to try the pipelines on. The same seed and number of "
        "soundtracks give the same bytes.",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="folder for manifest.csv, events.parquet and media/; created if missing; files of "
        "the same name are overwritten",
    )
    parser.add_argument(
        "--soundtracks",
        type=int,
        default=64,
        help=f"number of soundtracks of 15 to 40 seconds, {MIN_SOUNDTRACKS} or more "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=1,
        help="0 or more; another seed gives another corpus (default: %(default)s)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = _parser().parse_args(argv)
    for flag, value, minimum in (
        ("--soundtracks", args.soundtracks, MIN_SOUNDTRACKS),
        ("--seed", args.seed, 0),
    ):
        if value < minimum:
            raise InputError(f"{flag}: received {value}; give {minimum} or more")
    soundtracks = plan_corpus(seed=args.seed, count=args.soundtracks)
    with writer.process_pool(None) as executor:
        writer.write_corpus(soundtracks, args.output, executor)
    print(writer.describe(soundtracks, args.output))
    return OK


if __name__ == "__main__":
    run_command(main)
