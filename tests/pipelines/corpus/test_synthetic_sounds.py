"""Sounds of every class are synthesised and compared."""

import numpy as np
import pytest

from pipelines.corpus.synthetic_sounds import (
    SOUND_CLASSES,
    Synthesiser,
    colored_noise,
    fade,
    synthesise,
)


@pytest.mark.parametrize("sound_class", SOUND_CLASSES, ids=lambda c: c.name)
def test_no_two_instances_are_equal_and_all_have_the_same_level(sound_class):
    rng = np.random.default_rng(5)
    sounds = [
        synthesise(sound_class, num_samples=num_samples, sample_rate=16_000, rng=rng)
        for num_samples in (1_600, 32_000, 32_000)
    ]
    assert [len(sound) for sound in sounds] == [1_600, 32_000, 32_000]
    for sound in sounds[1:]:
        assert np.sqrt(np.mean(sound**2)) == pytest.approx(1.0)
    assert abs(np.corrcoef(sounds[1], sounds[2])[0, 1]) < 0.9


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_power_of_noise_falls_with_frequency(exponent):
    noise = colored_noise(
        num_samples=64_000, sample_rate=16_000, exponent=exponent, rng=np.random.default_rng(1)
    )
    power = np.abs(np.fft.rfft(noise)) ** 2
    frequencies = np.fft.rfftfreq(64_000, 1 / 16_000)
    slope, _ = np.polyfit(np.log(frequencies[400:]), np.log(power[400:]), 1)  # above 100 Hz
    assert slope == pytest.approx(-exponent, abs=0.01)
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(1.0)


def test_harmonics_that_would_alias_are_left_out():
    synth = Synthesiser(16_000, 16_000, np.random.default_rng(1))
    spectrum = np.abs(np.fft.rfft(synth.tone(3_000.0, (1.0, 0.5, 0.5))))
    assert np.flatnonzero(spectrum > 100).tolist() == [3_000, 6_000]  # 9 kHz would be 7 kHz
    assert spectrum[3_000] == pytest.approx(2 * spectrum[6_000], rel=1e-3)


def test_strikes_start_a_period_apart():
    synth = Synthesiser(1_000, 100, np.random.default_rng(1))
    track = synth.repeat(lambda s: np.ones(s.num_samples), period=(2.0, 2.0), seconds=0.5)
    assert np.flatnonzero(np.diff(track, prepend=0.0) > 0).tolist() == [0, 200, 400, 600, 800]
    assert (track > 0).sum() == 5 * 50


def test_a_sound_fades_in_and_out_of_silence():
    faded = fade(np.ones(16_000), 16_000)
    assert faded[0] == faded[-1] == 0
    assert faded[160] == pytest.approx(faded[8_000] / 2)  # half of 20 ms
