"""The front end as a contract: everything that decides which bytes a soundtrack becomes.

Two sets of features may be mixed only where the fingerprints of their front ends agree. A patch is
log-mel, or what a trained network makes of log-mel.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from features.fingerprint import fingerprint
from features.front_end.params import LogMelParams
from features.typed_json import OMIT_NONE, convert, to_plain


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchStorage:
    """How the values of a patch are stored.

    uint8 holds log-mel of [minimum, maximum] in 255 equal steps of 0.0435: an error of at most
    0.022 for a quarter of the bytes of float32. float16 ignores the range; it is within 0.002 of
    log-mel, and within 0.05 % of an embedding, whose range no one knows beforehand.
    """

    dtype: Literal["uint8", "float16"] = "uint8"
    minimum: float = LogMelParams().min_log_mel
    maximum: float = 6.5  # above the loudest real music; a full-scale tone in one band reaches 4.8

    @property
    def step(self) -> float:
        """The difference in log-mel between two neighbouring uint8 codes."""
        return (self.maximum - self.minimum) / 255

    def encode(self, log_mel: np.ndarray) -> np.ndarray:
        """Log-mel of any shape to the stored dtype; values outside the range are clipped to it."""
        if self.dtype == "float16":
            return log_mel.astype(np.float16)
        codes = log_mel - np.float32(self.minimum)
        codes *= np.float32(1 / self.step)
        np.rint(codes, out=codes)
        np.clip(codes, 0, 255, out=codes)
        return codes.astype(np.uint8)

    def decode(self, stored: np.ndarray) -> np.ndarray:
        """The stored dtype back to float32 log-mel."""
        if self.dtype == "float16":
            return stored.astype(np.float32)
        return stored * np.float32(self.step) + np.float32(self.minimum)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Embedding:
    """The layer before the last of a trained network, for each patch that the network is given.

    Attributes:
      network: fingerprint of its weights.
      patches: fingerprint of the front end of the patches that it takes.
      units: values of an embedding.
    """

    network: str
    patches: str
    units: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrontEnd:
    """Waveform to stored patches.

    Attributes:
      resampler: of the decoded sound.
      log_mel: from samples to log-mel patches.
      storage: of the values of a patch.
      embedding: what is stored in place of a log-mel patch; None for the patch itself.
    """

    resampler: str
    log_mel: LogMelParams = dataclasses.field(default_factory=LogMelParams)
    storage: PatchStorage = dataclasses.field(default_factory=PatchStorage)
    # Left out if None, so that the fingerprint of a log-mel front end stays.
    embedding: Embedding | None = dataclasses.field(default=None, metadata=OMIT_NONE)

    @property
    def patch_shape(self) -> tuple[int, ...]:
        """Frames and mel bands of one stored patch, or units of one stored embedding."""
        return self.log_mel.patch_shape if self.embedding is None else (self.embedding.units,)

    @property
    def patch_bytes(self) -> int:
        """Of one stored patch."""
        return math.prod(self.patch_shape) * np.dtype(self.storage.dtype).itemsize

    @property
    def fingerprint(self) -> str:
        """16 hex digits; the same for the same bytes."""
        return fingerprint(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """For a JSON file."""
        return to_plain(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any], where: str = "front_end.json") -> "FrontEnd":
        """Back from `to_json`.

        Args:
          document: parsed JSON.
          where: path of the file, for messages.

        Raises:
          ContractError: a field is missing or of another type.
        """
        cure = "run `python -m training.train` again, which writes the export again"
        return convert(document, cls, where=where, cure=cure)
