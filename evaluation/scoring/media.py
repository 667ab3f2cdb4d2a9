"""Soundtracks to the patches that an exported network takes, and through it, without features.

They are decoded in a child process, as in extraction: a file that crashes FFmpeg costs only itself.
"""

import dataclasses

import numpy as np

from features.errors import InputError
from features.front_end.front_end import FrontEnd
from features.sound.outcome import AudioError, Outcome
from pipelines.runtime.decoder import decoder_process
from pipelines.runtime.model import ExportedModel, Outputs, Patches
from pipelines.runtime.spool import PatchSpool


def require_log_mel(front_end: FrontEnd) -> None:
    """Make sure that a network takes what media are decoded to.

    Raises:
      InputError: it takes the embeddings of another network.
    """
    if front_end.embedding is not None:
        raise InputError(
            f"--run: the network takes embeddings of the network {front_end.embedding.network}, "
            "not sound; extract them with `python -m pipelines.extract_embeddings` and give them "
            "to `python -m evaluation.score_videos`"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Decoded:
    """What became of one soundtrack.

    Attributes:
      outcome: OK where all of it is there.
      detail: the words of the library where it is not.
      start_seconds: float32 [patches], where the patches start, rising.
      stored: [patches, patch frames, mel bands] of the front end's storage; the good part, where
        the soundtrack is damaged.
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
    """All patches of a media file, or of the part of it from start to end (seconds).

    They are held until the last is there (23 MB an hour of sound), because a soundtrack is known to
    be whole only then.
    """
    params = front_end.log_mel
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
        data = b"".join(map(spool.read, range(len(spool))))
    stored = np.frombuffer(data, front_end.storage.dtype).reshape(-1, *params.patch_shape)
    if outcome == Outcome.OK and not len(stored):
        outcome = Outcome.TOO_SHORT
        detail = f"shorter than one patch of {params.patch_seconds} s"
    starts = (np.arange(len(stored)) * params.patch_hop_seconds).astype(np.float32)
    return Decoded(outcome, detail, starts, stored)


def listen(
    uri: str, model: ExportedModel, *, timeout_seconds: float = 900.0
) -> tuple[Decoded, Outputs]:
    """All patches of a media file, and what a network gives for them, in order of time.

    Raises:
      AudioError: there is no patch.
    """
    decoded = decode(uri, model.front_end, timeout_seconds=timeout_seconds)
    if not len(decoded.stored):
        raise AudioError(decoded.outcome, decoded.detail)
    video = np.zeros(len(decoded.stored), np.int64)
    patches = Patches(video, decoded.start_seconds, decoded.stored)
    batches = [outputs for _, outputs in model.score([patches])]
    return decoded, Outputs(
        scores=np.concatenate([batch.scores for batch in batches]),
        embedding=np.concatenate([batch.embedding for batch in batches]),
    )
