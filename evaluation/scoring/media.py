"""Decode media files to patches and score the patches with an exported network, without FEATURES.

Files are decoded in a child process, as in extraction: a file that crashes FFmpeg affects no other.
"""

import argparse
import dataclasses

import numpy as np

from features.contracts.documents import Precision
from features.contracts.export import find_export
from features.errors import InputError
from features.front_end.front_end import FrontEnd
from features.sound.outcome import AudioError, Outcome
from features.storage import files
from pipelines.runtime.decoder import decoder_process
from pipelines.runtime.model import (
    ExportedModel,
    Outputs,
    Patches,
    add_precision_flag,
    choose_runtime,
    load_model,
)
from pipelines.runtime.network import CardNetwork, choose_network
from pipelines.runtime.network_flags import add_network_flags, require_float32
from pipelines.runtime.spool import PatchSpool


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--run`, `--network`, `--card` and `--precision`, of commands that take media files."""
    network = parser.add_mutually_exclusive_group(required=True)
    network.add_argument("--run", help="folder made by training.train, or a copy of its export")
    add_network_flags(network, parser)
    add_precision_flag(parser)


def load_any(
    run: str | None, network: str | None, card: str | None, precision: Precision
) -> ExportedModel | CardNetwork:
    """Load the network of a run, or one with a card.

    Raises:
      InputError: it cannot be loaded, or takes no sound.
    """
    if network is not None:
        require_float32(precision)
        return choose_network(files.absolute(network), card)[0]
    assert run is not None
    export = find_export(files.absolute(run))
    model = load_model(export, choose_runtime(export, precision))
    require_log_mel(model.front_end)
    return model


def require_log_mel(front_end: FrontEnd) -> None:
    """Require that a network takes log-mel patches, which media are decoded to.

    Raises:
      InputError: the network takes embeddings of another network.
    """
    if front_end.embedding is not None:
        raise InputError(
            f"--run: the network takes embeddings of the network {front_end.embedding.network}, "
            "not sound; run `python -m pipelines.extract_embeddings` and pass the result to "
            "`python -m evaluation.score_videos --features`"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Decoded:
    """Patches of one soundtrack.

    Attributes:
      outcome: OK if the whole soundtrack was decoded.
      detail: the message of the library otherwise.
      start_seconds: float32 [patches], ascending.
      stored: [patches, patch frames, mel bands] in the stored form of the front end; of a damaged
        soundtrack, the patches before the damage.
    """

    outcome: Outcome
    detail: str
    start_seconds: np.ndarray
    stored: np.ndarray


def decode(
    uri: str,
    front_end: FrontEnd,
    *,
    start_seconds: float = 0.0,
    end_seconds: float | None = None,
    timeout_seconds: float,
) -> Decoded:
    """Decode a media file, or the part from `start_seconds` to `end_seconds`.

    The patches stay on local disk, because only the end of a soundtrack shows whether it is
    complete.
    """
    outcome, detail = Outcome.OK, ""
    with PatchSpool(front_end.patch_bytes) as spool, decoder_process() as decoder:
        try:
            for _ in decoder.decode(
                uri,
                front_end,
                spool,
                start_seconds=start_seconds,
                end_seconds=end_seconds,
                timeout_seconds=timeout_seconds,
            ):
                pass
        except AudioError as error:
            outcome, detail = error.outcome, error.detail
        stored = spool.map(front_end.storage.dtype, front_end.patch_shape)
    if outcome == Outcome.OK and not len(stored):
        outcome = Outcome.TOO_SHORT
        detail = f"shorter than one patch of {front_end.patch_seconds} s"
    starts = (np.arange(len(stored)) * front_end.patch_hop_seconds).astype(np.float32)
    return Decoded(outcome, detail, starts, stored)


def listen(
    uri: str, model: ExportedModel | CardNetwork, *, timeout_seconds: float = 900.0
) -> tuple[Decoded, Outputs]:
    """Decode a media file and apply a network to all patches, in order of time.

    Raises:
      AudioError: the file has no patch, or the network gives values that are not finite.
    """
    decoded = decode(uri, model.front_end, timeout_seconds=timeout_seconds)
    if not len(decoded.stored):
        raise AudioError(decoded.outcome, decoded.detail)
    video = np.zeros(len(decoded.stored), np.int64)
    patches = Patches(video, decoded.start_seconds, decoded.stored)
    batches = [outputs for _, outputs in model.score([patches])]
    outputs = Outputs(
        scores=np.concatenate([batch.scores for batch in batches]),
        embedding=np.concatenate([batch.embedding for batch in batches]),
    )
    if not outputs.are_finite().all():
        raise AudioError(Outcome.NONFINITE_OUTPUTS, "the network gives NaN or infinity")
    return decoded, outputs
