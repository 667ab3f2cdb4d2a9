"""Makes sounds of named classes from nothing but random numbers, for the demo corpus.

The sounds are caricatures. Pitch, tempo, timbre and envelope are drawn anew for each one, so that
no two are equal, and some classes are close on purpose (wind and sea waves, siren and flute).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy.signal import butter, lfilter, sosfilt

FADE_SECONDS = 0.02

# A synthesiser takes (num_samples, sample_rate, rng) and returns float64 [num_samples], any level.
Synthesiser = Callable[[int, int, Generator], np.ndarray]


@dataclass(frozen=True)
class SoundClass:
    """A sound that the demo corpus can contain.

    Attributes:
        name: the specific label.
        generic_labels: the labels that hold wherever the specific one does.
        frequency: how often the class occurs, relative to the others.
        synthesiser: makes one instance.
    """

    name: str
    generic_labels: tuple[str, ...]
    frequency: float
    synthesiser: Synthesiser

    @property
    def labels(self) -> frozenset[str]:
        """The specific label and its generic ones."""
        return frozenset((self.name, *self.generic_labels))


def synthesise(
    sound_class: SoundClass, *, num_samples: int, sample_rate: int, rng: Generator
) -> np.ndarray:
    """Makes one instance of a class.

    Args:
        sound_class: one of `SOUND_CLASSES`.
        num_samples: length of the sound, a tenth of a second or more.
        sample_rate: hertz.
        rng: the source of all randomness.

    Returns:
        float64 [num_samples] with a root mean square of 1, faded in and out.
    """
    return faded(sound_class.synthesiser(num_samples, sample_rate, rng), sample_rate)


def faded(sound: np.ndarray, sample_rate: int) -> np.ndarray:
    """Fades a sound ([num_samples]) in and out, and gives it a root mean square of 1."""
    seconds = _seconds(len(sound), sample_rate)
    sound = sound * np.clip(np.minimum(seconds, seconds[::-1]) / FADE_SECONDS, 0.0, 1.0)
    return sound / max(float(np.sqrt(np.mean(sound**2))), 1e-9)


def colored_noise(
    *, num_samples: int, sample_rate: int, exponent: float, rng: Generator
) -> np.ndarray:
    """Makes noise whose power falls with frequency as 1 / f ** `exponent`.

    Args:
        num_samples: length of the noise.
        sample_rate: hertz.
        exponent: 0 for white noise, 1 for pink, 2 for brown.
        rng: the source of all randomness.

    Returns:
        float64 [num_samples] with a root mean square of 1.
    """
    frequencies = np.fft.rfftfreq(num_samples, 1 / sample_rate)
    phases = rng.uniform(0.0, 2 * np.pi, len(frequencies))
    # Level below 50 Hz, or the power of a steep spectrum would lie where nobody hears it.
    spectrum = np.maximum(frequencies, 50.0) ** (-exponent / 2) * np.exp(1j * phases)
    noise = np.fft.irfft(spectrum, num_samples)
    return noise / np.sqrt(np.mean(noise**2))


# Building blocks.


def _seconds(num_samples: int, sample_rate: int) -> np.ndarray:
    return np.arange(num_samples) / sample_rate


def _decay(num_samples: int, sample_rate: int, time_constant: float) -> np.ndarray:
    return np.exp(-_seconds(num_samples, sample_rate) / time_constant)


def _band(sound: np.ndarray, low: float, high: float, sample_rate: int) -> np.ndarray:
    """Keeps what lies between `low` and `high` hertz, within the reach of the sample rate."""
    ceiling = 0.49 * sample_rate
    edges = [min(low, 0.5 * ceiling), min(high, ceiling)]
    return sosfilt(butter(2, edges, "bandpass", fs=sample_rate, output="sos"), sound)


def _noise_band(
    num_samples: int, low: float, high: float, sample_rate: int, rng: Generator
) -> np.ndarray:
    return _band(rng.standard_normal(num_samples), low, high, sample_rate)


def _tone(pitch: np.ndarray, amplitudes: np.ndarray, sample_rate: int) -> np.ndarray:
    """Adds the harmonics of `pitch` (hertz [num_samples]), leaving out what would alias."""
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
    num_harmonics = max(1, min(len(amplitudes), int(0.49 * sample_rate / pitch.max())))
    return sum(
        (amplitudes[k] * np.sin((k + 1) * phase) for k in range(num_harmonics)),
        start=np.zeros(len(pitch)),
    )


def _wobble(
    num_samples: int, sample_rate: int, low_hertz: float, high_hertz: float, rng: Generator
) -> np.ndarray:
    """Returns a sine of random rate and phase, [num_samples] in [-1, 1]."""
    rate, phase = rng.uniform(low_hertz, high_hertz), rng.uniform(0.0, 2 * np.pi)
    return np.sin(2 * np.pi * rate * _seconds(num_samples, sample_rate) + phase)


def _repeat(
    num_samples: int,
    sample_rate: int,
    rng: Generator,
    *,
    period: tuple[float, float],
    length: float,
    strike: Callable[[int], np.ndarray],
) -> np.ndarray:
    """Adds up strikes of `length` seconds that start one random `period` after another.

    Args:
        num_samples: length of the result.
        sample_rate: hertz.
        rng: draws the periods.
        period: shortest and longest seconds between starts.
        length: seconds that a strike sounds, unless the end comes first.
        strike: takes a number of samples and returns that many.

    Returns:
        float64 [num_samples].
    """
    track = np.zeros(num_samples)
    start = 0
    while start < num_samples:
        strike_samples = min(int(length * sample_rate), num_samples - start)
        track[start : start + strike_samples] += rng.uniform(0.5, 1.0) * strike(strike_samples)
        start += int(rng.uniform(*period) * sample_rate)
    return track


def _tempo(slow: float, fast: float, rng: Generator) -> tuple[float, float]:
    """Draws the range of periods of a rhythm that is steady up to a human tenth."""
    period = rng.uniform(slow, fast)
    return 0.9 * period, 1.1 * period


def _note(low_hertz: float, rng: Generator) -> float:
    """Draws a pitch from the two octaves above `low_hertz`."""
    return low_hertz * 2 ** (int(rng.integers(24)) / 12)


# The sounds.


def _piano(num_samples: int, sample_rate: int, rng: Generator) -> np.ndarray:
    brightness = rng.uniform(1.0, 1.8)
    stiffness = rng.uniform(2e-4, 8e-4)  # of real strings: partials are sharp of harmonic

    def strike(length: int) -> np.ndarray:
        seconds, pitch = _seconds(length, sample_rate), _note(110.0, rng)
        sound = np.zeros(length)
        for k in range(1, 11):
            frequency = k * pitch * np.sqrt(1 + stiffness * k**2)
            if frequency < 0.49 * sample_rate:
                envelope = np.exp(-seconds * (1.0 + 0.8 * k))
                sound += envelope * np.sin(2 * np.pi * frequency * seconds) / k**brightness
        return sound

    return _repeat(
        num_samples, sample_rate, rng, period=_tempo(0.18, 0.5, rng), length=1.0, strike=strike
    )


def _guitar(num_samples: int, sample_rate: int, rng: Generator) -> np.ndarray:
    damping = rng.uniform(0.985, 0.998)
    pick_hertz = rng.uniform(2_000.0, 6_000.0)

    def strike(length: int) -> np.ndarray:
        # Karplus-Strong: a burst of noise runs round a delay line that averages neighbours.
        delay = int(sample_rate / _note(82.4, rng))
        burst = np.zeros(length)
        burst_samples = min(delay, length)
        burst[:burst_samples] = _noise_band(burst_samples, 60.0, pick_hertz, sample_rate, rng)
        feedback = np.zeros(delay + 2)
        feedback[0], feedback[delay:] = 1.0, -damping / 2
        return lfilter([1.0], feedback, burst)

    return _repeat(
        num_samples, sample_rate, rng, period=_tempo(0.2, 0.6, rng), length=1.0, strike=strike
    )


def _drum_kit(num_samples: int, sample_rate: int, rng: Generator) -> np.ndarray:
    kick_hertz, snare_hertz = rng.uniform(45.0, 80.0), rng.uniform(160.0, 260.0)
    cymbal_hertz = rng.uniform(4_000.0, 7_000.0)

    def strike(length: int) -> np.ndarray:
        drum = rng.choice(["kick", "snare", "cymbal"], p=[0.3, 0.25, 0.45])
        if drum == "kick":
            drop = kick_hertz * (1 + 2 * _decay(length, sample_rate, 0.02))
            return 2 * _tone(drop, np.ones(1), sample_rate) * _decay(length, sample_rate, 0.12)
        if drum == "snare":
            rattle = _noise_band(length, 800.0, 7_000.0, sample_rate, rng)
            skin = _tone(np.full(length, snare_hertz), np.ones(2), sample_rate)
            return (rattle + skin) * _decay(length, sample_rate, 0.07)
        hiss = _noise_band(length, cymbal_hertz, 12_000.0, sample_rate, rng)
        return hiss * _decay(length, sample_rate, rng.choice([0.03, 0.15]))

    return _repeat(
        num_samples, sample_rate, rng, period=_tempo(0.11, 0.25, rng), length=0.5, strike=strike
    )


def _flute(num_samples: int, sample_rate: int, rng: Generator) -> np.ndarray:
    amplitudes = np.array([1.0, rng.uniform(0.2, 0.6), rng.uniform(0.05, 0.3), 0.05])
    breath = rng.uniform(0.02, 0.1)
    note_seconds = rng.uniform(0.25, 0.7)

    def strike(length: int) -> np.ndarray:
        vibrato = 1 + 0.008 * _wobble(length, sample_rate, 4.0, 7.0, rng)
        pitch = _note(392.0, rng) * vibrato
        sound = _tone(pitch, amplitudes, sample_rate)
        sound += breath * _noise_band(length, 1_000.0, 6_000.0, sample_rate, rng)
        attack_and_release = np.sin(np.pi * np.arange(length) / (note_seconds * sample_rate))
        return sound * attack_and_release.clip(0.0) ** 0.5

    return _repeat(
        num_samples,
        sample_rate,
        rng,
        period=(note_seconds, note_seconds),
        length=note_seconds,
        strike=strike,
    )


def _engine(num_samples: int, sample_rate: int, rng: Generator) -> np.ndarray:
    firing_hertz = rng.uniform(25.0, 90.0)
    throttle = 1 + rng.uniform(0.05, 0.4) * _wobble(num_samples, sample_rate, 0.1, 0.6, rng)
    amplitudes = np.arange(1, 26) ** -rng.uniform(0.5, 1.0) * rng.uniform(0.3, 1.0, 25)
    sound = _tone(firing_hertz * throttle, amplitudes, sample_rate)
    return sound + rng.uniform(0.1, 0.5) * _noise_band(num_samples, 80, 1_500, sample_rate, rng)


def _helicopter(num_samples: int, sample_rate: int, rng: Generator) -> np.ndarray:
    rotor = _wobble(num_samples, sample_rate, 9.0, 18.0, rng)
    chop = np.exp(rng.uniform(1.5, 3.0) * (rotor - 1))
    blades = _noise_band(num_samples, 60.0, rng.uniform(500.0, 1_500.0), sample_rate, rng)
    turbine_pitch = np.full(num_samples, rng.uniform(1_500.0, 3_500.0))
    turbine = 0.05 * _tone(turbine_pitch, np.ones(2), sample_rate)
    return blades * chop + turbine * blades.std()


def _siren(num_samples: int, sample_rate: int, rng: Generator) -> np.ndarray:
    sweep = _wobble(num_samples, sample_rate, 0.3, 3.0, rng)
    if rng.random() < 0.4:
        sweep = np.sign(sweep)  # the two-tone kind
    pitch = rng.uniform(600.0, 1_100.0) * 2 ** (rng.uniform(0.2, 0.6) * sweep)
    return _tone(pitch, np.arange(1, 8) ** -rng.uniform(1.0, 2.0), sample_rate)


def _alarm_clock(num_samples: int, sample_rate: int, rng: Generator) -> np.ndarray:
    beep = _tone(
        np.full(num_samples, rng.uniform(1_800.0, 3_200.0)), np.array([1.0, 0.0, 0.4]), sample_rate
    )
    seconds = _seconds(num_samples, sample_rate)
    beep_period, group_size = rng.uniform(0.1, 0.2), rng.integers(2, 5)
    sounding = seconds / beep_period % 1 < 0.5
    in_group = seconds / beep_period % (group_size + 3) < group_size
    return beep * (sounding & in_group)


def _bell(num_samples: int, sample_rate: int, rng: Generator) -> np.ndarray:
    # Hum, prime, tierce, quint, nominal and above: what makes a bell of a tone.
    ratios = np.array([0.5, 1.0, 1.2, 1.5, 2.0, 2.6, 3.1, 4.1]) * rng.uniform(0.99, 1.01, 8)
    frequencies = rng.uniform(300.0, 1_200.0) * ratios
    amplitudes, time_constant = rng.uniform(0.3, 1.0, 8), rng.uniform(0.4, 1.5)

    def strike(length: int) -> np.ndarray:
        seconds = _seconds(length, sample_rate)[np.newaxis]
        decays = np.exp(-seconds * ratios[:, np.newaxis] / time_constant)
        partials = decays * np.sin(2 * np.pi * frequencies[:, np.newaxis] * seconds)
        return amplitudes @ partials

    return _repeat(
        num_samples, sample_rate, rng, period=_tempo(0.6, 1.6, rng), length=2.0, strike=strike
    )


def _telephone(num_samples: int, sample_rate: int, rng: Generator) -> np.ndarray:
    low, high = rng.uniform(400.0, 900.0), rng.uniform(1_000.0, 1_600.0)
    warble = _wobble(num_samples, sample_rate, 15.0, 25.0, rng) > 0
    sound = _tone(np.where(warble, low, high), np.array([1.0, 0.3, 0.3]), sample_rate)
    seconds, ring_period = _seconds(num_samples, sample_rate), rng.uniform(1.0, 2.0)
    return sound * (seconds / ring_period % 1 < 0.6)


def _rain(num_samples: int, sample_rate: int, rng: Generator) -> np.ndarray:
    hiss = _noise_band(num_samples, rng.uniform(800.0, 2_000.0), 9_000.0, sample_rate, rng)
    drops_per_second = rng.uniform(50.0, 300.0)
    impulses = rng.random(num_samples) * (rng.random(num_samples) < drops_per_second / sample_rate)
    drops = _band(impulses, 1_500.0, 7_000.0, sample_rate)
    return hiss / hiss.std() + rng.uniform(0.2, 0.8) * drops / (drops.std() + 1e-9)


def _wind(num_samples: int, sample_rate: int, rng: Generator) -> np.ndarray:
    gust = _wobble(num_samples, sample_rate, 0.1, 0.7, rng)
    low = _noise_band(num_samples, 80.0, 300.0, sample_rate, rng)
    whistle_hertz = rng.uniform(350.0, 800.0)
    whistle = _noise_band(num_samples, whistle_hertz, 1.3 * whistle_hertz, sample_rate, rng)
    return low * (1 + 0.4 * gust) + rng.uniform(0.5, 2.0) * whistle * (0.6 + 0.4 * gust) ** 2


def _sea_waves(num_samples: int, sample_rate: int, rng: Generator) -> np.ndarray:
    swell = (0.5 + 0.5 * _wobble(num_samples, sample_rate, 0.15, 0.5, rng)) ** 2
    roar = _noise_band(num_samples, 100.0, 900.0, sample_rate, rng)
    foam = _noise_band(num_samples, 900.0, rng.uniform(4_000.0, 7_000.0), sample_rate, rng)
    return roar * (0.3 + 0.7 * swell) + rng.uniform(0.6, 1.2) * foam * swell**2


def _dog_bark(num_samples: int, sample_rate: int, rng: Generator) -> np.ndarray:
    voice_hertz = rng.uniform(180.0, 600.0)
    bark_seconds = rng.uniform(0.1, 0.25)

    def strike(length: int) -> np.ndarray:
        arch = np.sin(np.pi * np.arange(length) / (bark_seconds * sample_rate))
        voice = _tone(voice_hertz * (0.8 + 0.5 * arch), np.arange(1, 16) ** -0.5, sample_rate)
        rough = 1 + 0.5 * rng.standard_normal(length)
        formants = _band(voice * rough, 2 * voice_hertz, 6 * voice_hertz, sample_rate)
        return formants * arch

    return _repeat(
        num_samples, sample_rate, rng, period=(0.25, 0.9), length=bark_seconds, strike=strike
    )


def _bird_song(num_samples: int, sample_rate: int, rng: Generator) -> np.ndarray:
    center_hertz, chirp_seconds = rng.uniform(2_200.0, 4_500.0), rng.uniform(0.06, 0.2)

    def strike(length: int) -> np.ndarray:
        progress = np.arange(length) / (chirp_seconds * sample_rate)
        slide = rng.uniform(-0.6, 0.6) * (progress - 0.5)
        trill = 0.05 * _wobble(length, sample_rate, 20.0, 50.0, rng)
        pitch = center_hertz * rng.uniform(0.8, 1.25) * 2 ** (slide + trill)
        return _tone(pitch, np.array([1.0, 0.1]), sample_rate) * np.sin(np.pi * progress)

    return _repeat(
        num_samples, sample_rate, rng, period=(0.08, 0.4), length=chirp_seconds, strike=strike
    )


def _cricket(num_samples: int, sample_rate: int, rng: Generator) -> np.ndarray:
    carrier = _tone(np.full(num_samples, rng.uniform(3_500.0, 5_500.0)), np.ones(1), sample_rate)
    pulses = _wobble(num_samples, sample_rate, 25.0, 45.0, rng).clip(0.0)
    chirps = _wobble(num_samples, sample_rate, 1.0, 3.5, rng) > rng.uniform(-0.5, 0.3)
    return carrier * pulses * chirps


# Frequencies are uneven, as in any real collection, but mild: a demo of 64 soundtracks still has
# several of the rarest.
SOUND_CLASSES = (
    SoundClass("Piano", ("Music",), 12.0, _piano),
    SoundClass("Guitar", ("Music",), 10.0, _guitar),
    SoundClass("Engine", ("Vehicle",), 9.0, _engine),
    SoundClass("Bird song", ("Animal", "Nature"), 8.0, _bird_song),
    SoundClass("Dog bark", ("Animal",), 8.0, _dog_bark),
    SoundClass("Rain", ("Nature",), 8.0, _rain),
    SoundClass("Drum kit", ("Music",), 7.0, _drum_kit),
    SoundClass("Siren", ("Signal",), 7.0, _siren),
    SoundClass("Wind", ("Nature",), 7.0, _wind),
    SoundClass("Flute", ("Music",), 6.0, _flute),
    SoundClass("Bell", ("Signal",), 6.0, _bell),
    SoundClass("Helicopter", ("Vehicle",), 6.0, _helicopter),
    SoundClass("Sea waves", ("Nature",), 6.0, _sea_waves),
    SoundClass("Cricket", ("Animal",), 6.0, _cricket),
    SoundClass("Telephone", ("Signal",), 6.0, _telephone),
    SoundClass("Alarm clock", ("Signal",), 6.0, _alarm_clock),
)
