"""Windows of a waveform, wherever its blocks are cut."""

import numpy as np
import pytest

from features.front_end.windows import WaveformWindows, stream_windows


@pytest.mark.parametrize("pad_end", [True, False])
@pytest.mark.parametrize("hop", [3, 7, 10])
@pytest.mark.parametrize("num_samples", [0, 1, 9, 10, 11, 13, 20, 57])
def test_windows_are_those_of_the_whole_waveform(num_samples: int, hop: int, pad_end: bool) -> None:
    waveform = np.arange(1.0, num_samples + 1, dtype=np.float32)
    windows = WaveformWindows(sample_rate_hz=5, window_samples=10, hop_samples=hop, pad_end=pad_end)
    # Every start of a window that brings a sample which no window before it has.
    starts = [
        start
        for start in range(0, num_samples, hop)
        if (start == 0 or start + 10 - hop < num_samples if pad_end else start + 10 <= num_samples)
    ]
    silence = np.zeros(10, np.float32)
    expected = [np.concatenate([waveform, silence])[start : start + 10] for start in starts]

    for cuts in ([], [1], [4, 5, 17], list(range(num_samples))):
        blocks = np.split(waveform, cuts)
        found = [window for part in stream_windows(blocks, windows) for window in part]
        np.testing.assert_array_equal(np.array(found), np.array(expected))


def test_seconds() -> None:
    windows = WaveformWindows(
        sample_rate_hz=16_000, window_samples=15_600, hop_samples=7_680, pad_end=True
    )
    assert (windows.window_seconds, windows.hop_seconds) == (0.975, 0.48)
