"""Table 1 of the paper: example labels by decade of their prior.

python -m evaluation.paper.table1 --dataset dataset
"""

import argparse
from collections.abc import Sequence

import numpy as np

from features.contracts import folders
from features.contracts.documents import Dataset
from features.contracts.labels import Vocabulary, read_vocabulary
from features.errors import OK, InputError, run_command
from features.storage import files


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.paper.table1",
        description="Print example labels of a data set by decade of their prior, as Markdown.",
        allow_abbrev=False,
    )
    parser.add_argument("--dataset", required=True, help="folder made by pipelines.prepare_dataset")
    parser.add_argument(
        "--examples", type=int, default=5, help="labels to print for each decade; default: 5"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = _parser().parse_args(argv)
    if args.examples < 1:
        raise InputError(f"--examples: received {args.examples}; give 1 or more")
    folder = files.absolute(args.dataset)
    folders.read_document(folder, Dataset)
    print(render(read_vocabulary(folder), args.examples))
    return OK


def render(vocabulary: Vocabulary, num_examples: int) -> str:
    """Markdown: a row for each decade, with the most frequent labels as examples.

    A prior of 1 counts as of the decade from 0.1 to 1. Labels without a counted video are last.
    """
    counts, num_seen = vocabulary.counts, int((vocabulary.counts > 0).sum())
    # In integers, because a prior is count / num_videos and log10 of 0.001 is not exactly -3.
    decades = np.zeros(num_seen, np.int64)
    while (is_lower := counts[:num_seen] * 10 ** (decades + 1) < vocabulary.num_videos).any():
        decades += is_lower
    rows = {
        f"{10.0 ** -(decade + 1):g} ... {10.0**-decade:g}": np.flatnonzero(decades == decade)
        for decade in np.unique(decades).tolist()
    }
    if num_seen < len(vocabulary):
        rows["0"] = np.arange(num_seen, len(vocabulary))
    lines = ["| Label prior | Labels | Example labels |", "|---|---|---|"]
    for prior, labels in rows.items():
        names = ", ".join(vocabulary.names[label] for label in labels[:num_examples])
        lines.append(f"| {prior} | {len(labels):,} | {names.replace('|', '&#124;')} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
