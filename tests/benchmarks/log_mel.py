"""Claim: log-mel in float32 costs a third of librosa's and a quarter of the published VGGish's.

All three transform the same five minutes of 16 kHz audio on one core. Errors are differences of
float32 from float64, on this audio and on adversarial input.

    python -m tests.benchmarks.log_mel --quick
"""

import functools
import sys
from collections.abc import Callable, Sequence

import librosa
import numpy as np
import scipy.fft
from scipy.signal import chirp

from features.front_end.logmel import log_mel_spectrogram, mel_weights
from features.front_end.params import LogMelParams
from tests.benchmarks.measurement import (
    Lane,
    is_quick,
    make_table,
    median_of,
    report,
    require_possible,
)
from tests.benchmarks.soundtracks import mixture

PARAMS = LogMelParams()
SECONDS = 300.0
MAX_ERROR, MAX_ERROR_ADVERSARIAL = 1e-4, 5e-3
# The triangles of librosa are linear in hertz, ours and those of VGGish in mel.
MAX_TRIANGLE_DIFFERENCE = 0.1


def ours(waveform: np.ndarray) -> np.ndarray:
    """Log-mel of the front end: [frames, bands]."""
    return log_mel_spectrogram(waveform, PARAMS)


def of_librosa(waveform: np.ndarray) -> np.ndarray:
    """Log-mel of librosa with the parameters nearest to ours: [frames, bands]."""
    # librosa centres the window in the FFT; zeros at both ends align its frames with ours.
    margin = (PARAMS.fft_length - PARAMS.window_samples) // 2
    mel = librosa.feature.melspectrogram(
        y=np.pad(waveform, margin),
        sr=PARAMS.sample_rate_hz,
        n_fft=PARAMS.fft_length,
        win_length=PARAMS.window_samples,
        hop_length=PARAMS.hop_samples,
        window="hann",
        center=False,
        power=1.0,
        n_mels=PARAMS.num_mel_bands,
        fmin=PARAMS.mel_min_hz,
        fmax=PARAMS.mel_max_hz,
        htk=True,
        norm=None,
    )
    return np.log(mel + PARAMS.log_offset).T


def of_vggish(waveform: np.ndarray) -> np.ndarray:
    """Log-mel of the published NumPy code, in float64: frames, FFT, dense product, logarithm."""
    num_frames = 1 + (len(waveform) - PARAMS.window_samples) // PARAMS.hop_samples
    (step,) = waveform.strides
    frames = np.lib.stride_tricks.as_strided(
        waveform,
        (num_frames, PARAMS.window_samples),
        (PARAMS.hop_samples * step, step),
    )
    phase = 2 * np.pi / PARAMS.window_samples * np.arange(PARAMS.window_samples)
    windowed = frames * (0.5 - 0.5 * np.cos(phase))
    magnitude = np.abs(np.fft.rfft(windowed, PARAMS.fft_length))
    return np.log(np.dot(magnitude, mel_weights(PARAMS)) + PARAMS.log_offset)


ALGORITHMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "ours": ours,
    "librosa": of_librosa,
    "VGGish": of_vggish,
}


@functools.lru_cache(maxsize=1)
def audio() -> np.ndarray:
    """float32 [samples] of mixtures."""
    rate = PARAMS.sample_rate_hz
    return mixture(seconds=SECONDS, sample_rate=rate, seed=1).mean(axis=1)


_kept: dict[str, np.ndarray] = {}


def transform(name: str) -> tuple[int, int]:
    """Run an algorithm; the first call is a warm-up and makes the samples."""
    if name not in _kept:
        _kept[name] = audio().astype(np.float64 if name == "VGGish" else np.float32)
    return ALGORITHMS[name](_kept[name]).shape


def transform_alone(num_frames: int) -> None:
    """The FFTs of ours, without frames, windows and mel bands."""
    frames = np.ones((192, PARAMS.fft_length), np.float32)
    for _ in range(num_frames // len(frames)):
        scipy.fft.rfft(frames, axis=1)


def differences() -> dict[str, float]:
    """Maximum differences between the algorithms and between precisions."""
    waveform = audio()
    in_float32, in_float64 = ours(waveform), ours(waveform.astype(np.float64))
    time = np.arange(3 * PARAMS.sample_rate_hz) / PARAMS.sample_rate_hz
    adversarial = (
        chirp(time, 20.0, time[-1], 8_000.0),
        8 * np.sin(2 * np.pi * 1_000.0 * time),
        (np.arange(len(time)) % 1_000 == 0).astype(float),
    )
    return {
        "max_error": float(np.abs(in_float32 - in_float64).max()),
        "max_error_adversarial": max(
            float(np.abs(ours(sound.astype(np.float32)) - ours(sound)).max())
            for sound in adversarial
        ),
        "vggish_difference": float(
            np.abs(of_vggish(waveform.astype(np.float64)) - in_float64).max()
        ),
        "librosa_difference": float(np.abs(of_librosa(waveform) - in_float64).max()),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    num_rounds = 7 if is_quick(__doc__, argv) else 25
    with Lane() as lane:
        _, difference = lane(differences)
        assert difference["max_error"] <= MAX_ERROR, difference
        assert difference["max_error_adversarial"] <= MAX_ERROR_ADVERSARIAL, difference
        assert difference["vggish_difference"] <= 1e-9, difference
        assert difference["librosa_difference"] <= MAX_TRIANGLE_DIFFERENCE, difference
        shapes = {lane(transform, name)[1] for name in ALGORITHMS}
        assert len(shapes) == 1, shapes
        ((num_frames, _),) = shapes
        rounds = [
            {name: lane(transform, name)[0] for name in ALGORITHMS}
            | {"FFT": lane(transform_alone, num_frames)[0]}
            for _ in range(num_rounds)
        ]
    seconds = median_of(rounds)
    require_possible("log-mel over its FFT", seconds["ours"] / seconds.pop("FFT"), at_least=1)
    rows = [
        [name, cpu / num_frames * 1e6, cpu / SECONDS * 3_600, cpu / seconds["ours"]]
        for name, cpu in seconds.items()
    ]
    header = ["log-mel", "us a frame", "CPU s per audio hour", "over ours"]
    report(
        {
            "librosa_over_ours": seconds["librosa"] / seconds["ours"],
            "vggish_over_ours": seconds["VGGish"] / seconds["ours"],
            "ours_us_per_frame": seconds["ours"] / num_frames * 1e6,
            **difference,
        },
        {
            "cost": make_table(header, rows),
            "differences": make_table(["largest difference", "log-mel"], difference.items()),
        },
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
