"""Writes a small corpus of synthetic soundtracks: media files, labels and the times of the sounds.

python -m pipelines.demo_corpus --output corpus --soundtracks 64 --seed 1
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from features.errors import OK, InputError, run_command
from pipelines.corpus import writer
from pipelines.corpus.synthetic_corpus import MIN_SOUNDTRACKS, plan_corpus

_DESCRIPTION = """\
Write a corpus of synthetic soundtracks of 15 to 40 seconds in many media formats, with a manifest
of labels and splits, to try the pipelines on. The same flags give the same bytes.
"""
_OUTPUT_HELP = """\
folder for manifest.csv, events.parquet and media/; created if missing; files of the same name are
overwritten
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.demo_corpus", description=_DESCRIPTION
    )
    add = parser.add_argument
    add("--output", type=Path, required=True, help=_OUTPUT_HELP)
    add("--soundtracks", type=int, default=64, help="how many, 3 or more (default: %(default)s)")
    add("--seed", type=int, default=1, help="of the corpus, 0 or more (default: %(default)s)")
    args = parser.parse_args(argv)
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
