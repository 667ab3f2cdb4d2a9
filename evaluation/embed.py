"""Media files -> a table with an embedding of each 0.96 s, or of each window of a network.

python -m evaluation.embed --run run --output embeddings.parquet clips/*.ogg
python -m evaluation.embed --network yamnet --card yamnet --output embeddings.parquet clips/*.ogg
"""

import argparse
import collections
import sys
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.scoring import media
from evaluation.scoring.shard import vectors
from features import terminal
from features.errors import FAILED, OK, InputError, run_command
from features.sound.outcome import AudioError, Outcome
from features.storage import files

_DESCRIPTION = """\
Write the embeddings of media files: the last hidden layer of a trained network,
a vector per patch of 0.96 s (or per window of any network with a model card),
which is close to the vectors of similar sounds. The table has the columns
`file`, `start_seconds` and `embedding`. A file that cannot be used is listed
and left out, and the exit code is 1.
"""
# Keys of the table's metadata: fingerprint of the weights, and what applied the network. Embeddings
# of different networks are not comparable.
NETWORK, RUNTIME = b"network", b"runtime"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.embed",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("files", metavar="FILE", nargs="+", help="media file or URI")
    media.add_model_flags(parser)
    add("--output", required=True, help="the Parquet file to write")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = _parser().parse_args(argv)
    model = media.load_any(args.run, args.network, args.card, args.precision)
    if not model.num_units:
        raise InputError(
            f"--network {args.network}: its card names no embedding, under outputs.embedding"
        )
    schema = pa.schema(
        [
            ("file", pa.string()),
            ("start_seconds", pa.float32()),
            ("embedding", pa.list_(pa.float32(), model.num_units)),
        ],
        metadata={NETWORK: model.fingerprint, RUNTIME: str(model.runtime)},
    )
    num_patches = 0
    rejects: collections.Counter[str] = collections.Counter()
    with (
        files.atomic_write(files.absolute(args.output)) as output,
        pq.ParquetWriter(output, schema) as writer,
    ):
        for file in args.files:
            try:
                decoded, outputs = media.listen(files.absolute(file), model)
            except AudioError as error:  # the other files are still embedded
                print(f"error: {file}: {error}", file=sys.stderr)
                rejects[str(error.outcome)] += 1
                continue
            if decoded.outcome != Outcome.OK:
                print(f"{file}: only the part before the damage: {decoded.detail}", file=sys.stderr)
            columns = [
                pa.array([file] * len(decoded.stored)),
                pa.array(decoded.start_seconds),
                vectors(outputs.embedding, "float32"),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            num_patches += len(decoded.stored)
    num_files, num_rejects = len(args.files), sum(rejects.values())
    terminal.report(
        f"{num_files} files = {num_files - num_rejects} embedded + {num_rejects} rejected; "
        f"{num_patches} embeddings of {model.num_units} values",
        dict(sorted(rejects.items())),
        args.output,
    )
    return FAILED if rejects else OK


if __name__ == "__main__":
    run_command(main)
