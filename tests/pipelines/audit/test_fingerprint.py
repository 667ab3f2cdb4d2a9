"""Changes that a fingerprint ignores, differences that it shows, and sounds that have no marks."""

import numpy as np
import pytest

from features.front_end.logmel import log_mel_patches
from features.front_end.params import LogMelParams
from pipelines.audit import fingerprint

PARAMS = LogMelParams()
NUM_PATCHES = 8


def noise(seed: int, seconds: float = 8.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, int(16_000 * seconds))


def fingerprint_of(waveform: np.ndarray) -> np.ndarray:
    return fingerprint.compute_fingerprint(log_mel_patches(waveform, PARAMS))


def ticks(seed: int, *, period: int = 16_000) -> np.ndarray:
    """Ticks of a clock over noise, nearly in step with the patches."""
    waveform = 0.001 * noise(seed)
    for start in range(4_000, len(waveform) - 100, period):
        waveform[start : start + 100] += 0.5
    return waveform


@pytest.mark.parametrize(
    "change",
    [
        lambda waveform: 0.25 * waveform,
        lambda waveform: np.concatenate([np.zeros(80), waveform]),  # 5 ms
        lambda waveform: waveform + 0.01 * noise(99),
        lambda waveform: waveform[: 5 * 16_000],
        lambda waveform: np.convolve(waveform, [0.5, 0.5], "same"),
    ],
)
def test_a_changed_copy_is_the_same_and_meets_its_original(change) -> None:
    rows = fingerprint.num_rows(1000)
    for seed in range(10):
        original, copy = fingerprint_of(noise(seed)), fingerprint_of(change(noise(seed)))

        assert fingerprint.likeness(original, copy) > fingerprint.THRESHOLD
        shared = set(fingerprint.bucket_keys(original, rows))
        # The shorter copy has 5 of 8 patches: too few for a shared key.
        if len(copy) == len(original):
            assert shared & set(fingerprint.bucket_keys(copy, rows))


def test_different_soundtracks_differ_and_seldom_meet() -> None:
    packed = [fingerprint_of(noise(seed)) for seed in range(60)]
    rows = fingerprint.num_rows(10**6)
    keys = [set(fingerprint.bucket_keys(marks, rows)) for marks in packed]

    pairs = [(i, j) for i in range(60) for j in range(i)]
    likeness = [fingerprint.likeness(packed[i], packed[j]) for i, j in pairs]
    assert max(likeness) < 0.3
    assert sum(bool(keys[i] & keys[j]) for i, j in pairs) == 0


def test_two_clocks_are_different() -> None:
    a, b = fingerprint_of(ticks(1)), fingerprint_of(ticks(2))

    assert fingerprint.likeness(a, b) < fingerprint.THRESHOLD
    # The cosine in step alone is high:
    first, second = fingerprint.unpack_marks(a), fingerprint.unpack_marks(b)
    assert np.sum(first * second) / np.sqrt(np.sum(first**2) * np.sum(second**2)) > 0.4


@pytest.mark.parametrize(
    "waveform",
    [
        np.zeros(80_000),
        0.3 * np.sin(np.arange(80_000) * 2 * np.pi * 440 / 16_000),
        noise(1, seconds=1.5),
    ],
)
def test_silence_a_hum_and_a_moment_have_no_keys(waveform: np.ndarray) -> None:
    made = fingerprint_of(waveform)

    assert not fingerprint.is_comparable(made)
    assert fingerprint.bucket_keys(made, 4) == []
    assert fingerprint.likeness(made, made) == 0


def test_a_fingerprint_is_small_and_covers_the_beginning() -> None:
    made = fingerprint_of(noise(1, seconds=60))

    assert made.nbytes == 16 * fingerprint.COVERED_PATCHES
    assert np.array_equal(made, fingerprint_of(noise(1, seconds=60)[: 45 * 16_000]))
    assert fingerprint.num_rows(1) == 4
    assert fingerprint.num_rows(100_000_000) == 9
