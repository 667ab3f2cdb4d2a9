"""Synthesises sounds of named classes from random numbers, for the demo corpus.

The sounds are caricatures. Pitch, tempo, timbre and envelope are drawn for each instance, so that
no two instances are equal. Some classes are similar on purpose (wind and sea waves, siren and
flute).

The demo corpus is reproducible to the byte: any change to the order of the random draws or of the
floating-point operations changes it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from scipy.signal import butter, lfilter, sosfilt

FADE_SECONDS = 0.02
_MAX_RELATIVE_HERTZ = 0.49  # of the sample rate: nothing is synthesised above, so that none aliases


def fade(sound: np.ndarray, sample_rate: int) -> np.ndarray:
    """Fade a sound ([num_samples]) in and out, and scale it to a root mean square of 1."""
    seconds = np.arange(len(sound)) / sample_rate
    sound = sound * np.clip(np.minimum(seconds, seconds[::-1]) / FADE_SECONDS, 0.0, 1.0)
    return sound / max(float(np.sqrt(np.mean(sound**2))), 1e-9)


def colored_noise(
    *, num_samples: int, sample_rate: int, exponent: float, rng: Generator
) -> np.ndarray:
    """Return noise whose power falls with frequency as 1 / f ** `exponent`.

    Args:
      num_samples: length of the noise.
      sample_rate: hertz.
      exponent: 0 for white noise, 1 for pink, 2 for brown.
      rng: source of all random numbers.

    Returns:
      float64 [num_samples] with a root mean square of 1.
    """
    frequencies = np.fft.rfftfreq(num_samples, 1 / sample_rate)
    phases = rng.uniform(0.0, 2 * np.pi, len(frequencies))
    # Flat below 50 Hz: otherwise most power of a steep spectrum would be at inaudible frequencies.
    spectrum = np.maximum(frequencies, 50.0) ** (-exponent / 2) * np.exp(1j * phases)
    noise = np.fft.irfft(spectrum, num_samples)
    return noise / np.sqrt(np.mean(noise**2))


@dataclass(frozen=True, eq=False)
class Synthesiser:
    """Building blocks of sounds of one length; each signal is float64 [num_samples].

    Attributes:
      num_samples: length of the sound.
      sample_rate: hertz.
      rng: source of all random numbers.
    """

    num_samples: int
    sample_rate: int
    rng: Generator

    @property
    def seconds(self) -> np.ndarray:
        """The time of each sample."""
        return np.arange(self.num_samples) / self.sample_rate

    def of_length(self, num_samples: int) -> "Synthesiser":
        """Return a synthesiser of sounds of another length, with the same random numbers."""
        return replace(self, num_samples=num_samples)

    def tone(
        self, pitch: np.ndarray | float, amplitudes: Sequence[float] | np.ndarray = (1.0,)
    ) -> np.ndarray:
        """Add up the harmonics of `pitch` (hertz, constant or [num_samples]) that do not alias."""
        pitch = np.broadcast_to(pitch, self.num_samples)
        phase = 2 * np.pi * np.cumsum(pitch) / self.sample_rate
        highest = int(_MAX_RELATIVE_HERTZ * self.sample_rate / pitch.max())
        sound = np.zeros(self.num_samples)
        for k, amplitude in enumerate(amplitudes[: max(1, highest)], 1):
            sound += amplitude * np.sin(k * phase)
        return sound

    def band(self, sound: np.ndarray, low: float, high: float) -> np.ndarray:
        """Filter out what is not between `low` and `high` hertz."""
        ceiling = _MAX_RELATIVE_HERTZ * self.sample_rate
        edges = [min(low, 0.5 * ceiling), min(high, ceiling)]
        return sosfilt(butter(2, edges, "bandpass", fs=self.sample_rate, output="sos"), sound)

    def noise_band(self, low: float, high: float) -> np.ndarray:
        """Return noise between `low` and `high` hertz."""
        return self.band(self.rng.standard_normal(self.num_samples), low, high)

    def decay(self, time_constant: float) -> np.ndarray:
        """Return an exponential envelope; `time_constant` in seconds."""
        return np.exp(-self.seconds / time_constant)

    def arch(self, seconds: float) -> np.ndarray:
        """Return half a period of a sine, from 0 to 0 in so many seconds."""
        return np.sin(np.pi * np.arange(self.num_samples) / (seconds * self.sample_rate))

    def wobble(self, low_hertz: float, high_hertz: float) -> np.ndarray:
        """Return a sine of random rate and phase, in [-1, 1]."""
        rate, phase = self.rng.uniform(low_hertz, high_hertz), self.rng.uniform(0.0, 2 * np.pi)
        return np.sin(2 * np.pi * rate * self.seconds + phase)

    def tempo(self, shortest: float, longest: float) -> tuple[float, float]:
        """Draw the range of periods (seconds) of a rhythm that is steady to 10 %, as a human's."""
        period = self.rng.uniform(shortest, longest)
        return 0.9 * period, 1.1 * period

    def note(self, low_hertz: float) -> float:
        """Draw a pitch from the two octaves above `low_hertz`."""
        return low_hertz * 2 ** (int(self.rng.integers(24)) / 12)

    def repeat(
        self,
        strike: Callable[["Synthesiser"], np.ndarray],
        *,
        period: tuple[float, float],
        seconds: float,
    ) -> np.ndarray:
        """Add up strikes, each of which starts a random period after the one before.

        Args:
          strike: synthesises one strike.
          period: shortest and longest seconds between starts.
          seconds: length of a strike; the last ones are cut at the end of the sound.
        """
        track = np.zeros(self.num_samples)
        start = 0
        while start < self.num_samples:
            length = min(int(seconds * self.sample_rate), self.num_samples - start)
            gain = self.rng.uniform(0.5, 1.0)
            track[start : start + length] += gain * strike(self.of_length(length))
            start += int(self.rng.uniform(*period) * self.sample_rate)
        return track


@dataclass(frozen=True)
class SoundClass:
    """A kind of sound that the demo corpus can contain.

    Attributes:
      name: the specific label.
      generic_labels: labels that hold wherever the specific label does.
      frequency: how often the class occurs, relative to the others.
      render: synthesises one instance, at any level.
    """

    name: str
    generic_labels: tuple[str, ...]
    frequency: float
    render: Callable[[Synthesiser], np.ndarray]

    @property
    def labels(self) -> frozenset[str]:
        """The specific label and the generic ones."""
        return frozenset((self.name, *self.generic_labels))


def synthesise(
    sound_class: SoundClass, *, num_samples: int, sample_rate: int, rng: Generator
) -> np.ndarray:
    """Synthesise one instance of a class.

    Args:
      sound_class: one of `SOUND_CLASSES`.
      num_samples: length of the sound, a tenth of a second or more.
      sample_rate: hertz.
      rng: source of all random numbers.

    Returns:
      float64 [num_samples] with a root mean square of 1, faded in and out.
    """
    return fade(sound_class.render(Synthesiser(num_samples, sample_rate, rng)), sample_rate)


def _piano(synth: Synthesiser) -> np.ndarray:
    brightness = synth.rng.uniform(1.0, 1.8)
    stiffness = synth.rng.uniform(2e-4, 8e-4)  # of real strings: partials are sharp of harmonic

    def strike(synth: Synthesiser) -> np.ndarray:
        seconds, pitch = synth.seconds, synth.note(110.0)
        sound = np.zeros(synth.num_samples)
        for k in range(1, 11):
            frequency = k * pitch * np.sqrt(1 + stiffness * k**2)
            if frequency < _MAX_RELATIVE_HERTZ * synth.sample_rate:
                envelope = np.exp(-seconds * (1.0 + 0.8 * k))
                sound += envelope * np.sin(2 * np.pi * frequency * seconds) / k**brightness
        return sound

    return synth.repeat(strike, period=synth.tempo(0.18, 0.5), seconds=1.0)


def _guitar(synth: Synthesiser) -> np.ndarray:
    damping = synth.rng.uniform(0.985, 0.998)
    pick_hertz = synth.rng.uniform(2_000.0, 6_000.0)

    def strike(synth: Synthesiser) -> np.ndarray:
        # Karplus-Strong: a burst of noise runs round a delay line that averages neighbours.
        delay = int(synth.sample_rate / synth.note(82.4))
        burst = np.zeros(synth.num_samples)
        pluck = synth.of_length(min(delay, synth.num_samples)).noise_band(60.0, pick_hertz)
        burst[: len(pluck)] = pluck
        feedback = np.zeros(delay + 2)
        feedback[0], feedback[delay:] = 1.0, -damping / 2
        return lfilter([1.0], feedback, burst)

    return synth.repeat(strike, period=synth.tempo(0.2, 0.6), seconds=1.0)


def _drum_kit(synth: Synthesiser) -> np.ndarray:
    kick_hertz, snare_hertz = synth.rng.uniform(45.0, 80.0), synth.rng.uniform(160.0, 260.0)
    cymbal_hertz = synth.rng.uniform(4_000.0, 7_000.0)

    def strike(synth: Synthesiser) -> np.ndarray:
        drum = synth.rng.choice(["kick", "snare", "cymbal"], p=[0.3, 0.25, 0.45])
        if drum == "kick":
            drop = kick_hertz * (1 + 2 * synth.decay(0.02))
            return 2 * synth.tone(drop) * synth.decay(0.12)
        if drum == "snare":
            rattle = synth.noise_band(800.0, 7_000.0)
            skin = synth.tone(snare_hertz, (1.0, 1.0))
            return (rattle + skin) * synth.decay(0.07)
        hiss = synth.noise_band(cymbal_hertz, 12_000.0)
        return hiss * synth.decay(synth.rng.choice([0.03, 0.15]))

    return synth.repeat(strike, period=synth.tempo(0.11, 0.25), seconds=0.5)


def _flute(synth: Synthesiser) -> np.ndarray:
    amplitudes = (1.0, synth.rng.uniform(0.2, 0.6), synth.rng.uniform(0.05, 0.3), 0.05)
    breath = synth.rng.uniform(0.02, 0.1)
    note_seconds = synth.rng.uniform(0.25, 0.7)

    def strike(synth: Synthesiser) -> np.ndarray:
        vibrato = 1 + 0.008 * synth.wobble(4.0, 7.0)
        sound = synth.tone(synth.note(392.0) * vibrato, amplitudes)
        sound += breath * synth.noise_band(1_000.0, 6_000.0)
        return sound * synth.arch(note_seconds).clip(0.0) ** 0.5

    return synth.repeat(strike, period=(note_seconds, note_seconds), seconds=note_seconds)


def _engine(synth: Synthesiser) -> np.ndarray:
    firing_hertz = synth.rng.uniform(25.0, 90.0)
    throttle = 1 + synth.rng.uniform(0.05, 0.4) * synth.wobble(0.1, 0.6)
    amplitudes = np.arange(1, 26) ** -synth.rng.uniform(0.5, 1.0) * synth.rng.uniform(0.3, 1.0, 25)
    sound = synth.tone(firing_hertz * throttle, amplitudes)
    return sound + synth.rng.uniform(0.1, 0.5) * synth.noise_band(80.0, 1_500.0)


def _helicopter(synth: Synthesiser) -> np.ndarray:
    rotor = synth.wobble(9.0, 18.0)
    chop = np.exp(synth.rng.uniform(1.5, 3.0) * (rotor - 1))
    blades = synth.noise_band(60.0, synth.rng.uniform(500.0, 1_500.0))
    turbine = 0.05 * synth.tone(synth.rng.uniform(1_500.0, 3_500.0), (1.0, 1.0))
    return blades * chop + turbine * blades.std()


def _siren(synth: Synthesiser) -> np.ndarray:
    sweep = synth.wobble(0.3, 3.0)
    if synth.rng.random() < 0.4:
        sweep = np.sign(sweep)  # the two-tone kind
    pitch = synth.rng.uniform(600.0, 1_100.0) * 2 ** (synth.rng.uniform(0.2, 0.6) * sweep)
    return synth.tone(pitch, np.arange(1, 8) ** -synth.rng.uniform(1.0, 2.0))


def _alarm_clock(synth: Synthesiser) -> np.ndarray:
    beep = synth.tone(synth.rng.uniform(1_800.0, 3_200.0), (1.0, 0.0, 0.4))
    beep_period, group_size = synth.rng.uniform(0.1, 0.2), synth.rng.integers(2, 5)
    beeps = synth.seconds / beep_period
    return beep * ((beeps % 1 < 0.5) & (beeps % (group_size + 3) < group_size))


def _bell(synth: Synthesiser) -> np.ndarray:
    # Hum, prime, tierce, quint, nominal and above: the partials that make a tone a bell.
    ratios = np.array([0.5, 1.0, 1.2, 1.5, 2.0, 2.6, 3.1, 4.1]) * synth.rng.uniform(0.99, 1.01, 8)
    frequencies = synth.rng.uniform(300.0, 1_200.0) * ratios
    amplitudes, time_constant = synth.rng.uniform(0.3, 1.0, 8), synth.rng.uniform(0.4, 1.5)

    def strike(synth: Synthesiser) -> np.ndarray:
        seconds = synth.seconds[np.newaxis]
        decays = np.exp(-seconds * ratios[:, np.newaxis] / time_constant)
        return amplitudes @ (decays * np.sin(2 * np.pi * frequencies[:, np.newaxis] * seconds))

    return synth.repeat(strike, period=synth.tempo(0.6, 1.6), seconds=2.0)


def _telephone(synth: Synthesiser) -> np.ndarray:
    low, high = synth.rng.uniform(400.0, 900.0), synth.rng.uniform(1_000.0, 1_600.0)
    pitch = np.where(synth.wobble(15.0, 25.0) > 0, low, high)
    sound = synth.tone(pitch, (1.0, 0.3, 0.3))
    return sound * (synth.seconds / synth.rng.uniform(1.0, 2.0) % 1 < 0.6)


def _rain(synth: Synthesiser) -> np.ndarray:
    rng, num_samples = synth.rng, synth.num_samples
    hiss = synth.noise_band(rng.uniform(800.0, 2_000.0), 9_000.0)
    drop_probability = rng.uniform(50.0, 300.0) / synth.sample_rate
    impulses = rng.random(num_samples) * (rng.random(num_samples) < drop_probability)
    drops = synth.band(impulses, 1_500.0, 7_000.0)
    return hiss / hiss.std() + rng.uniform(0.2, 0.8) * drops / (drops.std() + 1e-9)


def _wind(synth: Synthesiser) -> np.ndarray:
    gust = synth.wobble(0.1, 0.7)
    low = synth.noise_band(80.0, 300.0)
    whistle_hertz = synth.rng.uniform(350.0, 800.0)
    whistle = synth.noise_band(whistle_hertz, 1.3 * whistle_hertz)
    return low * (1 + 0.4 * gust) + synth.rng.uniform(0.5, 2.0) * whistle * (0.6 + 0.4 * gust) ** 2


def _sea_waves(synth: Synthesiser) -> np.ndarray:
    swell = (0.5 + 0.5 * synth.wobble(0.15, 0.5)) ** 2
    roar = synth.noise_band(100.0, 900.0)
    foam = synth.noise_band(900.0, synth.rng.uniform(4_000.0, 7_000.0))
    return roar * (0.3 + 0.7 * swell) + synth.rng.uniform(0.6, 1.2) * foam * swell**2


def _dog_bark(synth: Synthesiser) -> np.ndarray:
    voice_hertz = synth.rng.uniform(180.0, 600.0)
    bark_seconds = synth.rng.uniform(0.1, 0.25)

    def strike(synth: Synthesiser) -> np.ndarray:
        arch = synth.arch(bark_seconds)
        voice = synth.tone(voice_hertz * (0.8 + 0.5 * arch), np.arange(1, 16) ** -0.5)
        rough = 1 + 0.5 * synth.rng.standard_normal(synth.num_samples)
        return synth.band(voice * rough, 2 * voice_hertz, 6 * voice_hertz) * arch

    return synth.repeat(strike, period=(0.25, 0.9), seconds=bark_seconds)


def _bird_song(synth: Synthesiser) -> np.ndarray:
    center_hertz, chirp_seconds = synth.rng.uniform(2_200.0, 4_500.0), synth.rng.uniform(0.06, 0.2)

    def strike(synth: Synthesiser) -> np.ndarray:
        progress = np.arange(synth.num_samples) / (chirp_seconds * synth.sample_rate)
        slide = synth.rng.uniform(-0.6, 0.6) * (progress - 0.5)
        trill = 0.05 * synth.wobble(20.0, 50.0)
        pitch = center_hertz * synth.rng.uniform(0.8, 1.25) * 2 ** (slide + trill)
        return synth.tone(pitch, (1.0, 0.1)) * np.sin(np.pi * progress)

    return synth.repeat(strike, period=(0.08, 0.4), seconds=chirp_seconds)


def _cricket(synth: Synthesiser) -> np.ndarray:
    carrier = synth.tone(synth.rng.uniform(3_500.0, 5_500.0))
    pulses = synth.wobble(25.0, 45.0).clip(0.0)
    chirps = synth.wobble(1.0, 3.5) > synth.rng.uniform(-0.5, 0.3)
    return carrier * pulses * chirps


# Frequencies are uneven, as in any real collection, but only mildly: a demo of 64 soundtracks still
# has several examples of the rarest class. Classes are drawn by index: another order changes it.
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
