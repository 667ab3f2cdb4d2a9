"""Waveform to windows of samples, the input of networks that have a front end of their own."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class WaveformWindows:
    """How a waveform is cut into windows, each of which takes the place of a log-mel patch.

    Attributes:
      sample_rate_hz: of the waveform.
      window_samples: length of a window.
      hop_samples: from the start of one window to the start of the next.
      pad_end: whether the last, incomplete window is filled with silence; else it is dropped.
    """

    sample_rate_hz: int
    window_samples: int
    hop_samples: int
    pad_end: bool

    @property
    def window_seconds(self) -> float:
        """Length of a window."""
        return self.window_samples / self.sample_rate_hz

    @property
    def hop_seconds(self) -> float:
        """From the start of one window to the start of the next."""
        return self.hop_samples / self.sample_rate_hz


def stream_windows(blocks: Iterable[np.ndarray], windows: WaveformWindows) -> Iterator[np.ndarray]:
    """Cut a waveform that arrives in blocks of any length.

    Args:
      blocks: float32 [samples] each.
      windows: how to cut it.

    Yields:
      float32 [windows, window samples], one or more windows at a time.
    """
    length, hop = windows.window_samples, windows.hop_samples
    rest, num_new = np.empty(0, np.float32), 0  # samples of the next window; those in no window
    for block in itertools.chain(blocks, [None]):
        if block is not None:
            rest, num_new = np.concatenate([rest, block]), num_new + len(block)
        elif windows.pad_end and num_new:
            rest = np.pad(rest, (0, length - len(rest)))
        count = 1 + (len(rest) - length) // hop if len(rest) >= length else 0
        if count:
            views = np.lib.stride_tricks.sliding_window_view(rest, length)
            yield np.ascontiguousarray(views[::hop][:count])
            rest = rest[count * hop :]
            num_new = len(rest) - (length - hop)
