"""The front end as a contract: everything that decides which bytes a soundtrack becomes.

Two sets of features may be mixed only where the fingerprints of their front ends agree.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from features import contract
from features.params import LogMelParams


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchStorage:
    """How log-mel values are stored.

    uint8 holds [minimum, maximum] in 255 equal steps of 0.0435: an error of at most 0.022 for a
    quarter of the bytes of float32. float16 is within 0.002 and ignores the range.
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
class FrontEnd:
    """Waveform to stored patches: the resampler, the log-mel parameters, the storage."""

    resampler: str
    log_mel: LogMelParams = dataclasses.field(default_factory=LogMelParams)
    storage: PatchStorage = dataclasses.field(default_factory=PatchStorage)

    @property
    def patch_bytes(self) -> int:
        """Of one stored patch."""
        return math.prod(self.log_mel.patch_shape) * np.dtype(self.storage.dtype).itemsize

    @property
    def fingerprint(self) -> str:
        """16 hex digits; the same for the same bytes."""
        return contract.fingerprint(self)

    def to_json(self) -> dict[str, Any]:
        """For a root JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "FrontEnd":
        """Back from `to_json`."""
        return cls(
            resampler=document["resampler"],
            log_mel=LogMelParams(**document["log_mel"]),
            storage=PatchStorage(**document["storage"]),
        )
