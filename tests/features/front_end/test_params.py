"""Values derived from seconds and hertz, against the published values."""

import dataclasses
import math
from pathlib import Path

import pytest

from features.front_end.params import LogMelParams

VGGISH = LogMelParams()


def test_derived_values_are_those_of_vggish() -> None:
    assert VGGISH.window_samples == 400
    assert VGGISH.hop_samples == 160
    assert VGGISH.fft_length == 512
    assert VGGISH.num_fft_bins == 257
    assert VGGISH.patch_shape == (96, 64)
    assert VGGISH.patch_hop_frames == 96
    assert VGGISH.min_log_mel == pytest.approx(-4.605170186, abs=1e-9)


def test_frames_are_derived_from_seconds_at_any_sample_rate() -> None:
    params = LogMelParams(sample_rate_hz=8_000, patch_seconds=2.0, patch_hop_seconds=0.48)
    assert params.window_samples == 200
    assert params.hop_samples == 80
    assert params.fft_length == 256
    assert params.patch_frames == 200
    assert params.patch_hop_frames == 48


def test_patches_of_other_frames_overlap_only_on_request() -> None:
    params = VGGISH.with_patch_frames(240, 48)
    assert (params.patch_frames, params.patch_hop_frames) == (240, 48)
    assert params.num_patches(80_001) == 6  # of 498 frames
    assert VGGISH.with_patch_frames(57).patch_hop_frames == 57
    assert VGGISH.with_patch_frames(96) == VGGISH.with_patch_frames(96, 96) == VGGISH


def test_a_window_that_is_a_power_of_two_is_not_padded() -> None:
    assert LogMelParams(window_seconds=0.032).fft_length == 512


@pytest.mark.parametrize(
    ("num_samples", "num_frames", "num_patches"),
    [
        (0, 0, 0),
        (399, 0, 0),
        (400, 1, 0),
        (559, 1, 0),
        (560, 2, 0),
        (15_360, 94, 0),
        (15_599, 95, 0),
        (15_600, 96, 1),
        (16_000, 98, 1),
        (30_960, 192, 2),
        (48_000, 298, 3),
        (160_000, 998, 10),
    ],
)
def test_frame_and_patch_counts(num_samples: int, num_frames: int, num_patches: int) -> None:
    assert VGGISH.num_frames(num_samples) == num_frames
    assert VGGISH.num_patches(num_samples) == num_patches


@pytest.mark.parametrize(
    ("num_samples", "num_dropped"),
    [(15_599, 15_599), (15_600, 0), (48_000, 1_680), (160_000, 6_160)],
)
def test_dropped_samples_are_those_of_the_page(num_samples: int, num_dropped: int) -> None:
    num_patches = VGGISH.num_patches(num_samples)
    patch_hop = VGGISH.patch_hop_frames * VGGISH.hop_samples
    used = (num_patches - 1) * patch_hop + VGGISH.patch_samples if num_patches else 0
    assert num_samples - used == num_dropped
    page = (Path(__file__).parents[3] / "docs" / "front_end.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith(f"| {num_samples:,} |"))
    dropped = {0: "none", num_samples: "all"}.get(num_dropped, f"the last {num_dropped:,} samples")
    assert f"| {dropped}" in row


@pytest.mark.parametrize("patch_hop_seconds", [0.48, 0.96, 1.0])
def test_counts_are_those_of_windows_that_fit(patch_hop_seconds: float) -> None:
    params = LogMelParams(patch_hop_seconds=patch_hop_seconds)
    for num_samples in range(0, 70_000, 37):
        frame_starts = range(0, max(0, num_samples - 400 + 1), 160)
        assert params.num_frames(num_samples) == len(frame_starts)
        patch_starts = range(0, max(0, len(frame_starts) - 96 + 1), params.patch_hop_frames)
        assert params.num_patches(num_samples) == len(patch_starts)


def test_silence_is_the_logarithm_of_the_offset() -> None:
    assert LogMelParams(log_offset=0.001).min_log_mel == math.log(0.001)


def test_parameters_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        VGGISH.sample_rate_hz = 8_000  # type: ignore[misc]
