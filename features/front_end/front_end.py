"""The settings that determine the stored bytes of a soundtrack, and their fingerprint.

Features may be mixed only if the fingerprints of their front ends are equal. A stored patch is
log-mel, or the embedding that a trained network computes from it.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from features.fingerprint import fingerprint
from features.front_end.params import LogMelParams
from features.front_end.windows import WaveformWindows
from features.typed_json import OMIT_NONE, convert, to_plain


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchStorage:
    """The storage format of the values of a patch.

    uint8 divides [minimum, maximum] into 255 equal steps of 0.0435: an error of at most 0.022 at a
    quarter of the size of float32. float16 ignores the range: an error of at most 0.002 for
    log-mel, and 0.05 % for embeddings, whose range is not known in advance. float32 is for windows
    of samples on their way to a network.
    """

    dtype: Literal["uint8", "float16", "float32"] = "uint8"
    minimum: float = LogMelParams().min_log_mel
    maximum: float = 6.5  # above the loudest real music; a full-scale tone in one band reaches 4.8

    @property
    def step(self) -> float:
        """The difference in log-mel between two neighbouring uint8 codes."""
        return (self.maximum - self.minimum) / 255

    def encode(self, log_mel: np.ndarray) -> np.ndarray:
        """Convert log-mel of any shape to the stored dtype; uint8 clips values to its range."""
        if self.dtype != "uint8":
            return log_mel.astype(self.dtype, copy=False)
        codes = log_mel - np.float32(self.minimum)
        codes *= np.float32(1 / self.step)
        np.rint(codes, out=codes)
        np.clip(codes, 0, 255, out=codes)
        return codes.astype(np.uint8)

    def decode(self, stored: np.ndarray) -> np.ndarray:
        """Convert the stored dtype back to float32 log-mel."""
        if self.dtype != "uint8":
            return stored.astype(np.float32, copy=False)
        return stored * np.float32(self.step) + np.float32(self.minimum)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Embedding:
    """The output of a trained network's last but one layer, stored in place of log-mel.

    Attributes:
      network: fingerprint of the weights.
      patches: fingerprint of the front end of the network's input.
      units: number of values.
    """

    network: str
    patches: str
    units: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrontEnd:
    """From decoded sound to stored patches.

    Attributes:
      resampler: name, version and quality of the resampler.
      log_mel: from samples to log-mel patches.
      storage: the format of stored values.
      embedding: what is stored in place of log-mel; None for log-mel.
      windows: how the waveform is cut for a network that takes samples; None for log-mel patches.
        `log_mel` then says nothing.
    """

    resampler: str
    log_mel: LogMelParams = dataclasses.field(default_factory=LogMelParams)
    storage: PatchStorage = dataclasses.field(default_factory=PatchStorage)
    # Omitted if None, so that fingerprints of log-mel front ends from before embeddings stay valid.
    embedding: Embedding | None = dataclasses.field(default=None, metadata=OMIT_NONE)
    windows: WaveformWindows | None = dataclasses.field(default=None, metadata=OMIT_NONE)

    @property
    def patch_shape(self) -> tuple[int, ...]:
        """Frames and mel bands of a patch, units of an embedding, or samples of a window."""
        if self.embedding is not None:
            return (self.embedding.units,)
        return (self.windows.window_samples,) if self.windows else self.log_mel.patch_shape

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate that soundtracks are resampled to."""
        return (self.windows or self.log_mel).sample_rate_hz

    @property
    def patch_seconds(self) -> float:
        """Length of the sound of a patch."""
        return self.windows.window_seconds if self.windows else self.log_mel.patch_seconds

    @property
    def patch_hop_seconds(self) -> float:
        """From the start of one patch to the start of the next."""
        return self.windows.hop_seconds if self.windows else self.log_mel.patch_hop_seconds

    @property
    def patch_bytes(self) -> int:
        """The size of one stored patch in bytes."""
        return math.prod(self.patch_shape) * np.dtype(self.storage.dtype).itemsize

    @property
    def fingerprint(self) -> str:
        """16 hex digits; equal fingerprints mean equal bytes of the same soundtrack."""
        return fingerprint(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Convert to the content of a JSON file."""
        return to_plain(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any], where: str = "front_end.json") -> "FrontEnd":
        """Convert back from `to_json`.

        Args:
          document: parsed JSON.
          where: path of the file, for messages.

        Raises:
          ContractError: a field is missing or of another type.
        """
        cure = "run `python -m training.train` again, which writes the export again"
        return convert(document, cls, where=where, cure=cure)
