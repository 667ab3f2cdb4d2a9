"""Log-mel patches against known answers, an explicit DFT and the mistakes that are easy to make."""

import functools
import math
from collections.abc import Callable, Iterator

import librosa
import numpy as np
import pytest
from scipy.signal import chirp

from features.front_end.logmel import (
    cut_patches,
    hann_window,
    hertz_to_mel,
    log_mel_patches,
    log_mel_spectrogram,
    mel_weights,
    stream_patches,
)
from features.front_end.params import LogMelParams

PARAMS = LogMelParams()
YAMNET = LogMelParams(log_offset=0.001, patch_hop_seconds=0.48)
RATE = PARAMS.sample_rate_hz


def sine(hertz: float) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(48_000) / RATE)


def noise() -> np.ndarray:
    # `np.random.seed(51773)`, as published.
    return np.random.RandomState(51_773).uniform(-1, 1, 48_000)


@functools.cache
def mel_triangles_by_definition(params: LogMelParams) -> np.ndarray:
    """One filter at a time, one bin at a time: float64 [fft bins, mel bands]."""

    def mel(hertz: float) -> float:
        return 1127.0 * math.log(1.0 + hertz / 700.0)

    low, high = mel(params.mel_min_hz), mel(params.mel_max_hz)
    width = (high - low) / (params.num_mel_bands + 1)
    weights = np.zeros((params.num_fft_bins, params.num_mel_bands))
    for band in range(params.num_mel_bands):
        centre = low + (band + 1) * width
        for index in range(1, params.num_fft_bins):
            distance = abs(mel(index * params.sample_rate_hz / params.fft_length) - centre)
            weights[index, band] = max(0.0, 1.0 - distance / width)
    return weights


def log_mel_by_definition(
    waveform: np.ndarray, params: LogMelParams, weights: np.ndarray | None = None
) -> np.ndarray:
    """Frame by frame with the DFT as a matrix of cosines and sines, in float64."""
    if weights is None:
        weights = mel_triangles_by_definition(params)
    size, window_length = params.fft_length, params.window_samples
    n, k = np.arange(window_length), np.arange(size // 2 + 1)
    angles = 2 * np.pi * ((n[:, None] * k) % size) / size  # [window, bins]
    real, imaginary = np.cos(angles), np.sin(angles)
    window = np.sin(np.pi * n / window_length) ** 2  # Hann by the half-angle formula
    rows = []
    for start in range(0, len(waveform) - window_length + 1, params.hop_samples):
        frame = waveform[start : start + window_length].astype(np.float64) * window
        magnitude = np.hypot(frame @ real, frame @ imaginary)
        rows.append(np.log(magnitude @ weights + params.log_offset))
    return np.array(rows)


class TestFilterbank:
    def test_published_values(self) -> None:
        weights = mel_weights(PARAMS)
        assert weights.shape == (257, 64)
        assert weights.sum() == pytest.approx(230.9135991608, abs=1e-9)
        assert np.count_nonzero(weights) == 461
        assert (weights.sum(axis=0) > 0).all()
        assert weights[5, 0] == pytest.approx(0.94769046, abs=5e-9)
        assert weights[32, 19] == pytest.approx(0.53630063, abs=5e-9)
        assert weights[32, 20] == pytest.approx(0.46369937, abs=5e-9)
        assert weights[33, 19] == pytest.approx(0.02073326, abs=5e-9)
        assert np.flatnonzero(weights[:, 0]).tolist() == [5]
        assert np.flatnonzero(weights[:, 63]).tolist() == list(range(223, 240))
        assert not weights[0].any()

    def test_mel_edges(self) -> None:
        low, high = hertz_to_mel(np.array([125.0, 7_500.0]))
        assert low == pytest.approx(185.169538805, abs=1e-9)
        assert high == pytest.approx(2773.331853681, abs=1e-9)

    @pytest.mark.parametrize(
        "params", [PARAMS, LogMelParams(sample_rate_hz=44_100, num_mel_bands=40, mel_min_hz=0.0)]
    )
    def test_equals_triangles_computed_one_by_one(self, params: LogMelParams) -> None:
        np.testing.assert_allclose(
            mel_weights(params), mel_triangles_by_definition(params), rtol=0, atol=1e-11
        )

    def test_triangles_are_linear_in_mel_and_not_in_hertz_as_those_of_librosa(self) -> None:
        linear_in_hertz = librosa.filters.mel(
            sr=RATE, n_fft=512, n_mels=64, fmin=125.0, fmax=7_500.0, htk=True, norm=None,
            dtype=np.float64,
        ).T  # fmt: skip
        theirs = log_mel_by_definition(noise(), PARAMS, linear_in_hertz)
        difference = np.abs(theirs - log_mel_spectrogram(noise(), PARAMS)).max()
        assert difference == pytest.approx(0.011, abs=0.002)

    def test_tables_are_shared_and_so_cannot_be_written(self) -> None:
        for table in (mel_weights(PARAMS), hann_window(PARAMS)):
            with pytest.raises(ValueError, match="read-only"):
                table[0] = 1.0


def test_window_is_periodic() -> None:
    window = hann_window(PARAMS)
    assert window.shape == (400,)
    assert window.sum() == pytest.approx(200.0, abs=1e-10)
    assert window[0] == 0.0
    assert window[200] == 1.0
    np.testing.assert_allclose(window[1:], window[:0:-1], atol=1e-15)


class TestKnownAnswers:
    @pytest.mark.parametrize(
        ("waveform", "log_mel_sum", "mean", "std"),
        [
            (sine(1_000.0), -65409.68777278, -3.4296186961, 2.1265773358),
            (noise(), 54201.57476131, 2.8413732772, 0.7960660535),
            (sine(440.0), -62480.34208311, -3.2760253061, 2.3332802759),
        ],
        ids=["sine 1000 Hz", "noise", "sine 440 Hz"],
    )
    def test_sum_mean_and_deviation(
        self, waveform: np.ndarray, log_mel_sum: float, mean: float, std: float
    ) -> None:
        log_mel = log_mel_spectrogram(waveform, PARAMS)
        patches = log_mel_patches(waveform, PARAMS)
        assert log_mel.dtype == patches.dtype == np.float64
        assert log_mel.shape == (298, 64)
        assert patches.shape == (3, 96, 64)
        # 19,072 values to 1e-9 each are a sum to 2e-5; the sum is published to 1e-8.
        assert log_mel.sum() == pytest.approx(log_mel_sum, abs=1e-6)
        assert patches.mean() == pytest.approx(mean, abs=1e-9)
        assert patches.std() == pytest.approx(std, abs=1e-9)

        in_float32 = log_mel_patches(waveform.astype(np.float32), PARAMS)
        assert in_float32.dtype == np.float32
        assert in_float32.mean(dtype=np.float64) == pytest.approx(mean, abs=1e-4)
        assert in_float32.std(dtype=np.float64) == pytest.approx(std, abs=1e-4)

    @pytest.mark.parametrize(
        ("waveform", "points", "float32_tolerance"),
        [
            # A full-scale tone: float32 rounding shows in the bands that are silent.
            (sine(1_000.0), (-4.48313252, 4.77504440, -4.60116305), 5e-3),
            (noise(), (1.38049419, 2.91917983, 4.01172856), 1e-4),
        ],
        ids=["sine 1000 Hz", "noise"],
    )
    def test_points(
        self, waveform: np.ndarray, points: tuple[float, ...], float32_tolerance: float
    ) -> None:
        # The points are published to eight decimals.
        for dtype, tolerance in ((np.float64, 5.1e-9), (np.float32, float32_tolerance)):
            patches = log_mel_patches(waveform.astype(dtype), PARAMS)
            received = patches[0, 0, 0], patches[1, 50, 20], patches[2, 95, 63]
            assert received == pytest.approx(points, abs=tolerance)

    @pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 1e-6)])
    def test_silence(self, dtype: type, tolerance: float) -> None:
        patches = log_mel_patches(np.zeros(48_000, dtype), PARAMS)
        np.testing.assert_allclose(patches, -4.605170186, rtol=0, atol=tolerance)

    @pytest.mark.parametrize(
        ("num_samples", "num_frames", "num_patches"),
        [
            (0, 0, 0),
            (399, 0, 0),
            (15_360, 94, 0),
            (15_599, 95, 0),
            (15_600, 96, 1),
            (16_000, 98, 1),
            (30_960, 192, 2),
            (48_000, 298, 3),
            (160_000, 998, 10),
        ],
    )
    def test_shapes(self, num_samples: int, num_frames: int, num_patches: int) -> None:
        waveform = np.zeros(num_samples, np.float32)
        assert log_mel_spectrogram(waveform, PARAMS).shape == (num_frames, 64)
        assert log_mel_patches(waveform, PARAMS).shape == (num_patches, 96, 64)


class TestAgainstTheDefinition:
    @pytest.mark.parametrize(
        "params",
        [PARAMS, YAMNET, LogMelParams(sample_rate_hz=22_050, num_mel_bands=50, mel_max_hz=1e4)],
        ids=["vggish", "yamnet", "22 kHz, 50 bands"],
    )
    @pytest.mark.parametrize("seed", range(3))
    def test_random_audio(self, params: LogMelParams, seed: int) -> None:
        rng = np.random.default_rng(seed)
        # Loud and soft sound: a level that falls by 80 dB.
        waveform = rng.uniform(-1, 1, 40_000) * np.logspace(0, -4, 40_000)
        expected = log_mel_by_definition(waveform, params)
        np.testing.assert_allclose(log_mel_spectrogram(waveform, params), expected, atol=1e-9)
        in_float32 = log_mel_spectrogram(waveform.astype(np.float32), params)
        np.testing.assert_allclose(in_float32, expected, rtol=0, atol=1e-4)

    @pytest.mark.parametrize(
        "waveform",
        [
            chirp(np.arange(48_000) / RATE, 20.0, 3.0, 8_000.0),
            8 * sine(1_000.0),
            np.where(np.arange(48_000) % 1_000 == 0, 1.0, 0.0),
        ],
        ids=["full-scale chirp", "sine of amplitude 8", "clicks"],
    )
    def test_adversarial_audio_in_float32(self, waveform: np.ndarray) -> None:
        expected = log_mel_by_definition(waveform, PARAMS)
        received = log_mel_spectrogram(waveform.astype(np.float32), PARAMS)
        np.testing.assert_allclose(received, expected, rtol=0, atol=5e-3)

    @pytest.mark.parametrize("params", [PARAMS, YAMNET], ids=["no overlap", "half overlap"])
    def test_patches_are_cut_from_one_spectrogram(self, params: LogMelParams) -> None:
        log_mel = log_mel_spectrogram(noise(), params)
        expected = [
            log_mel[start : start + 96]
            for start in range(0, len(log_mel) - 95, params.patch_hop_frames)
        ]
        np.testing.assert_array_equal(log_mel_patches(noise(), params), expected)
        np.testing.assert_array_equal(cut_patches(log_mel, params), expected)

    def test_float16_is_computed_in_float32(self) -> None:
        waveform = noise().astype(np.float16)
        received = log_mel_spectrogram(waveform, PARAMS)
        assert received.dtype == np.float32
        np.testing.assert_array_equal(
            received, log_mel_spectrogram(waveform.astype(np.float32), PARAMS)
        )

    def test_a_strided_view_is_as_good_as_a_copy(self) -> None:
        stereo = np.random.default_rng(0).uniform(-1, 1, (20_000, 2))
        np.testing.assert_array_equal(
            log_mel_spectrogram(stereo[:, 1], PARAMS),
            log_mel_spectrogram(stereo[:, 1].copy(), PARAMS),
        )


@pytest.mark.parametrize("function", [log_mel_spectrogram, log_mel_patches])
class TestRefusals:
    Function = Callable[[np.ndarray, LogMelParams], np.ndarray]

    @pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint8, bool, np.complex64])
    def test_samples_that_are_not_float(self, function: Function, dtype: type) -> None:
        with pytest.raises(TypeError, match=rf"received {np.dtype(dtype)}: divide"):
            function(np.zeros(16_000, dtype), PARAMS)

    @pytest.mark.parametrize("shape", [(), (16_000, 2), (1, 16_000)])
    def test_a_waveform_that_is_not_mono(self, function: Function, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="mono") as refusal:
            function(np.zeros(shape, np.float32), PARAMS)
        assert str(shape) in str(refusal.value)


class TestStream:
    def streamed(self, blocks: list[np.ndarray], params: LogMelParams) -> np.ndarray:
        return np.concatenate(
            [np.empty((0, *params.patch_shape), np.float32), *stream_patches(blocks, params)]
        )

    @pytest.mark.parametrize("params", [PARAMS, YAMNET], ids=["no overlap", "half overlap"])
    @pytest.mark.parametrize(
        "num_samples",
        [0, 1, 399, 400, 15_599, 15_600, 30_720, 30_959, 30_960, 31_119, 31_120, 100_003, 250_000],
    )
    def test_is_bit_equal_to_the_whole_wherever_it_is_cut(
        self, num_samples: int, params: LogMelParams
    ) -> None:
        rng = np.random.default_rng(num_samples)
        waveform = rng.uniform(-1, 1, num_samples).astype(np.float32)
        whole = log_mel_patches(waveform, params)
        assert len(whole) == params.num_patches(num_samples)
        for num_cuts in (0, 1, 2, 5, 40):
            cuts = np.sort(rng.integers(0, num_samples + 1, num_cuts))
            blocks = np.split(waveform, cuts)  # equal cuts make empty blocks
            np.testing.assert_array_equal(self.streamed(blocks, params), whole)

    def test_is_bit_equal_for_odd_blocks(self) -> None:
        waveform = noise().astype(np.float32)
        empty = np.empty(0, np.float32)
        single_samples = [waveform[index : index + 1] for index in range(500)]
        blocks = [empty, *single_samples, empty, waveform[500:40_000], empty, waveform[40_000:]]
        np.testing.assert_array_equal(
            self.streamed([*blocks, empty], PARAMS), log_mel_patches(waveform, PARAMS)
        )

    def test_is_bit_equal_where_samples_come_one_by_one(self) -> None:
        waveform = noise()[:16_100].astype(np.float32)
        np.testing.assert_array_equal(
            self.streamed(list(waveform[:, None]), PARAMS), log_mel_patches(waveform, PARAMS)
        )

    def test_of_nothing_is_nothing(self) -> None:
        assert list(stream_patches([], PARAMS)) == []

    def test_yields_patches_before_the_stream_ends(self) -> None:
        num_read = 0

        def blocks() -> Iterator[np.ndarray]:
            nonlocal num_read
            for block in np.split(np.zeros(1_600_000, np.float32), 100):
                num_read += 1
                yield block

        next(stream_patches(blocks(), PARAMS))
        assert num_read == 2  # 1 block is 16,000 samples; 192 frames need 30,960
