"""Soundtracks to the patches that an exported network takes, without features on disk.

They are decoded in a child process, as in extraction: a file that crashes FFmpeg costs only itself.
"""

import dataclasses

import numpy as np

from features.front_end import FrontEnd
from features.outcome import AudioError, Outcome
from pipelines.isolation import decoder_process
from pipelines.spool import PatchSpool


@dataclasses.dataclass(frozen=True)
class Decoded:
    """What became of one soundtrack.

    Attributes:
      outcome: OK where all of it is there.
      detail: the words of the library where it is not.
      stored: [patches, patch frames, mel bands] of the front end's storage; the good part, where
        the soundtrack is damaged.
    """

    outcome: Outcome
    detail: str
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
    return Decoded(outcome, detail, stored)
