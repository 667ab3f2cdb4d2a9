"""A media file -> the videos of a corpus that sound like it, and when ("more like this").

python -m evaluation.search --embeddings embeddings clip.ogg
python -m evaluation.search --embeddings embeddings clip.ogg --html page.html
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence

from evaluation import neighbours
from evaluation.neighbours import Neighbour
from evaluation.report.neighbours import read_excerpts
from evaluation.report.page import render_neighbours
from evaluation.report.soundtrack import Medium, find_media_in, read_sound
from evaluation.scoring import media
from features import terminal
from features.contracts import folders
from features.contracts.documents import Features
from features.errors import FAILED, OK, InputError, run_command
from features.sound.outcome import AudioError, Outcome
from features.storage import files
from features.typed_json import to_plain
from pipelines.runtime.model import ExportedModel
from pipelines.runtime.network import CardNetwork
from pipelines.runtime.network_flags import add_network_flags

_DESCRIPTION = """\
Find the videos of a folder of embeddings that sound like a media file. The file
is embedded by the network of the folder. The first search builds an index in
FOLDER/search, and so does the first one after the embeddings have changed.
Needs usearch: pip install usearch
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.search",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("file", metavar="FILE", help="media file or URI")
    add(
        "--embeddings",
        metavar="FOLDER",
        required=True,
        help="folder made by pipelines.extract_embeddings",
    )
    network = parser.add_mutually_exclusive_group()
    network.add_argument("--run", help="the run of the embeddings, if it was moved")
    add_network_flags(network, parser, "if it was moved: ")
    add("--top", metavar="N", type=int, default=10, help="number of videos; default: 10")
    add("--html", metavar="PAGE", help="also write a page to listen to the sounds found")
    add("--json", action="store_true", help="print one line of JSON")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = _parser().parse_args(argv)
    if args.top < 1:
        raise InputError(f"--top: received {args.top}; give 1 or more")
    neighbours.settings()
    source, uri = files.absolute(args.embeddings), files.absolute(args.file)
    features = folders.read_document(source, Features)
    neighbours.require_embeddings(source, features.front_end)
    model = _load_network(args, source, features)
    try:
        decoded, outputs = media.listen(uri, model)
    except AudioError as error:
        print(f"error: {args.file}: {error}", file=sys.stderr)
        return FAILED
    if decoded.outcome != Outcome.OK:
        print(f"{args.file}: only the part before the damage: {decoded.detail}", file=sys.stderr)
    corpus = neighbours.open_corpus(source, features)
    found = neighbours.find_neighbours(corpus, outputs.embedding, decoded.start_seconds, args.top)
    if args.json:
        print(json.dumps({"file": args.file, "neighbours": [to_plain(each) for each in found]}))
    else:
        print("\n".join(describe(found)))
    if args.html is not None:
        seconds = float(decoded.start_seconds[-1]) + model.front_end.patch_seconds
        page = render_neighbours(
            query=args.file,
            clip=read_sound(Medium(uri), title=args.file, expected_seconds=seconds),
            excerpts=read_excerpts(
                found,
                find_media_in(features.dataset, [each.video_id for each in found]),
                model.front_end.patch_seconds,
            ),
            patch_seconds=model.front_end.patch_seconds,
        )
        files.write_bytes(files.absolute(args.html), page.encode())
        print(f"wrote {args.html}", file=sys.stderr if args.json else sys.stdout)
    return OK


def describe(found: Sequence[Neighbour]) -> Iterator[str]:
    """Yield lines for a terminal, the nearest video first."""
    yield f"{'distance':>8}  {'at':>8}  {'query at':>8}  video"
    for each in found:
        at, query_at = terminal.clock(each.start_seconds), terminal.clock(each.query_seconds)
        yield f"{each.distance:>8.3f}  {at:>8}  {query_at:>8}  {each.video_id}"


def _load_network(
    args: argparse.Namespace, source: str, features: Features
) -> ExportedModel | CardNetwork:
    """Load the network that made the embeddings.

    Raises:
      InputError: it is not there, or is another network.
    """
    run, network, card = args.run, args.network, args.card
    if run is None and network is None:
        run, network, card = features.run, features.network, card or features.card
    model = media.load_any(run, network, card, "float32")
    flag = f"--run {run}" if network is None else f"--network {network}"
    embedding = features.front_end.embedding
    assert embedding is not None
    expected = (embedding.network, embedding.patches)
    received = (model.fingerprint, model.front_end.fingerprint)
    if received != expected:
        raise InputError(
            f"{flag}: the fingerprints of weights and front end are {received}, and {source} is of "
            f"a network with {expected}: vectors of two networks cannot be compared; give the "
            "network that made the embeddings"
        )
    return model


if __name__ == "__main__":
    run_command(main)
