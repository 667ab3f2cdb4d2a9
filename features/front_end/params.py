"""The parameters of the front end, in seconds and hertz (section 3.1).

The paper gives 960 ms patches, 25 ms windows every 10 ms and 64 mel bands. It does not give the
sample rate, the mel range and the offset: those are the values of VGGish, which the authors
released later. No other module contains these numbers.
"""

import dataclasses
import math


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogMelParams:
    """Parameters of log-mel patches. Features of different parameters cannot be mixed."""

    sample_rate_hz: int = 16_000
    window_seconds: float = 0.025
    hop_seconds: float = 0.010
    num_mel_bands: int = 64
    mel_min_hz: float = 125.0
    mel_max_hz: float = 7_500.0
    log_offset: float = 0.01
    patch_seconds: float = 0.96
    patch_hop_seconds: float = 0.96

    @property
    def window_samples(self) -> int:
        """Samples in one analysis window."""
        return round(self.window_seconds * self.sample_rate_hz)

    @property
    def hop_samples(self) -> int:
        """Samples from one frame to the next."""
        return round(self.hop_seconds * self.sample_rate_hz)

    @property
    def fft_length(self) -> int:
        """The next power of two from the window: it is padded with zeros at its end."""
        return 2 ** math.ceil(math.log2(self.window_samples))

    @property
    def num_fft_bins(self) -> int:
        """Bins of the one-sided spectrum."""
        return self.fft_length // 2 + 1

    @property
    def patch_frames(self) -> int:
        """Frames in one patch."""
        return round(self.patch_seconds / self.hop_seconds)

    @property
    def patch_samples(self) -> int:
        """Samples that the windows of one patch cover."""
        return (self.patch_frames - 1) * self.hop_samples + self.window_samples

    @property
    def patch_hop_frames(self) -> int:
        """Frames from the start of one patch to the start of the next."""
        return round(self.patch_hop_seconds / self.hop_seconds)

    def with_patch_frames(self, num_frames: int, hop_frames: int | None = None) -> "LogMelParams":
        """A copy with patches of `num_frames` frames.

        Args:
          num_frames: of a patch.
          hop_frames: from the start of a patch to that of the next; None for no overlap.
        """
        # Rounded to the microsecond: 57 x 0.01 is 0.5700000000000001.
        seconds = round(num_frames * self.hop_seconds, 6)
        hop_seconds = round((hop_frames or num_frames) * self.hop_seconds, 6)
        return dataclasses.replace(self, patch_seconds=seconds, patch_hop_seconds=hop_seconds)

    @property
    def patch_shape(self) -> tuple[int, int]:
        """Frames and mel bands of one patch."""
        return self.patch_frames, self.num_mel_bands

    @property
    def min_log_mel(self) -> float:
        """The log-mel value of digital silence, the minimum."""
        return math.log(self.log_offset)

    def num_frames(self, num_samples: int) -> int:
        """The frames of a waveform: no padding, and the incomplete last frame is dropped."""
        if num_samples < self.window_samples:
            return 0
        return 1 + (num_samples - self.window_samples) // self.hop_samples

    def num_patches(self, num_samples: int) -> int:
        """The patches of a waveform: the incomplete last patch is dropped."""
        num_frames = self.num_frames(num_samples)
        if num_frames < self.patch_frames:
            return 0
        return 1 + (num_frames - self.patch_frames) // self.patch_hop_frames
