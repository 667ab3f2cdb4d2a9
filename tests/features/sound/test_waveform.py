"""Real media files against independent decoders, and broken files.

`original` stands for the samples that were encoded, resampled as a whole at soxr's highest quality.
"""

import os
import random
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import soxr
from scipy.signal import correlate

from features.front_end.logmel import hertz_to_mel, log_mel_spectrogram
from features.front_end.params import LogMelParams
from features.sound.outcome import AudioError, Outcome
from features.sound.waveform import RESAMPLER, read_waveform
from pipelines.corpus.encoding import FORMATS, MediaFormat, write_media
from tests.features.sound.damage import damage

ROOT = Path(__file__).parents[3]
PARAMS = LogMelParams()
RATE = PARAMS.sample_rate_hz
ALL_FORMATS = (
    *FORMATS,
    MediaFormat(".webm", "libopus", 48_000, 1),
    MediaFormat(".mka", "flac", 96_000, 2),
    MediaFormat(".mov", "pcm_s16be", 44_100, 2),
    MediaFormat(".aiff", "pcm_s24be", 48_000, 1),
    MediaFormat(".avi", "libmp3lame", 48_000, 2),
    MediaFormat(".ts", "mp2", 44_100, 1),
    MediaFormat(".wav", "pcm_s16le", 8_000, 1),
    MediaFormat(".wav", "pcm_f32le", 96_000, 2),
    MediaFormat(".wav", "pcm_alaw", 8_000, 1),
    MediaFormat(".wav", "pcm_s16le", 16_000, 2),
)
LOSSY = ("aac", "libopus", "vorbis", "libmp3lame", "mp2", "pcm_alaw")
# Read without FFmpeg: libsndfile with its libFLAC, libvorbis and mpg123.
SOUNDFILE_READS = (".wav", ".flac", ".ogg", ".mp3", ".aiff")


def name_of(media_format: MediaFormat) -> str:
    return (
        f"{media_format.codec}{media_format.suffix}-{media_format.sample_rate}"
        f"x{media_format.num_channels}"
    )


def read(path: Path | str, **part: float | None) -> np.ndarray:
    blocks = list(read_waveform(str(path), sample_rate_hz=RATE, **part))  # type: ignore[arg-type]
    return np.concatenate([np.empty(0, np.float32), *blocks])


def refusal_of(path: Path | str) -> AudioError:
    with pytest.raises(AudioError) as refusal:
        read(path)
    return refusal.value


def music(sample_rate: int, num_channels: int, seconds: float = 2.0) -> np.ndarray:
    """Harmonics under a beating level, below 3.5 kHz; the channels differ in level and phase."""
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    channels = []
    for channel in range(num_channels):
        tones = [
            np.sin(2 * np.pi * hertz * t + channel) / (1 + index)
            for index, hertz in enumerate((220.0, 447.0, 1_310.0, 3_370.0))
        ]
        level = 0.2 * (1 + 0.5 * np.sin(2 * np.pi * (2 + channel) * t)) / (1 + channel)
        channels.append(level * np.sum(tones, axis=0))
    return np.stack(channels, axis=1).astype(np.float32)  # [samples, channels]


def resampled(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Mean of [samples, channels], resampled whole."""
    return soxr.resample(samples.mean(axis=1, dtype=np.float64), sample_rate, RATE, quality="VHQ")


def write(path: Path, media_format: MediaFormat, samples: np.ndarray) -> Path:
    write_media(
        path,
        samples,
        sample_rate=media_format.sample_rate,
        codec=media_format.codec,
        video=media_format.video,
    )
    return path


def decode_whole(path: Path) -> tuple[np.ndarray, int]:
    """float64 [samples, channels] and sample rate, by soundfile or else plain PyAV."""
    if path.suffix in SOUNDFILE_READS:
        return soundfile.read(path, always_2d=True)
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        frames = [frame.to_ndarray() for frame in container.decode(stream)]
        samples = np.concatenate(frames, axis=1)
        if samples.dtype != np.float32:
            samples = samples / -float(np.iinfo(samples.dtype).min)
        return samples.reshape(-1, stream.channels) if len(samples) == 1 else samples.T, stream.rate


def wav_bytes(
    data: bytes,
    *,
    sample_rate: int = RATE,
    num_channels: int = 1,
    bits: int = 16,
    format_tag: int = 1,
    more_chunks: bytes = b"",
) -> bytes:
    block = num_channels * bits // 8
    fields = (format_tag, num_channels, sample_rate, sample_rate * block % 2**32, block, bits)
    chunks = [(b"fmt ", struct.pack("<HHIIHH", *fields)), (b"data", data)]
    body = b"WAVE" + more_chunks
    for name, content in chunks:
        body += name + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("media_format", ALL_FORMATS, ids=name_of)
class TestEveryFormat:
    def test_equals_an_independent_decoder(self, tmp_path: Path, media_format: MediaFormat) -> None:
        samples = music(media_format.sample_rate, media_format.num_channels)
        path = write(tmp_path / f"sound{media_format.suffix}", media_format, samples)

        waveform = read(path)
        expected = resampled(*decode_whole(path))

        assert waveform.dtype == np.float32
        assert abs(len(waveform) - len(expected)) <= 1
        length = min(len(waveform), len(expected))
        # soxr HQ against VHQ, and two decoders of the same lossy stream.
        np.testing.assert_allclose(waveform[:length], expected[:length], rtol=0, atol=1e-3)

    def test_equals_what_was_encoded(self, tmp_path: Path, media_format: MediaFormat) -> None:
        samples = music(media_format.sample_rate, media_format.num_channels)
        path = write(tmp_path / f"sound{media_format.suffix}", media_format, samples)
        original = resampled(samples, media_format.sample_rate)

        waveform = read(path)

        lag = int(correlate(waveform, original, method="fft").argmax()) - len(original) + 1
        assert 0 <= lag < 0.06 * RATE  # a codec may delay, and never cuts the start
        assert 0 <= len(waveform) - len(original) < 0.13 * RATE
        waveform = waveform[lag:][: len(original)].astype(np.float64)
        original = original[: len(waveform)]
        middle = slice(2_000, -2_000)  # codecs ring at the ends
        error = (waveform - original)[middle].std() / original[middle].std()
        assert error < (0.2 if media_format.codec in LOSSY else 2e-3)
        expected = log_mel_spectrogram(original[middle], PARAMS)
        difference = np.abs(log_mel_spectrogram(waveform[middle], PARAMS) - expected)
        difference = difference[expected > 0.0]  # where there is sound, not where codecs differ
        assert len(difference) > 1_000
        assert difference.mean() < (0.1 if media_format.codec in LOSSY else 1e-3)


class TestChannels:
    @pytest.mark.parametrize(
        ("subtype", "tolerance"), [("PCM_U8", 2**-7), ("PCM_16", 2**-15), ("FLOAT", 1e-7)]
    )
    def test_are_averaged_before_resampling(
        self, tmp_path: Path, subtype: str, tolerance: float
    ) -> None:
        left = music(RATE, 1)[:, 0]
        silence = np.zeros_like(left)
        for name, right, expected in (
            ("opposite", -left, silence),
            ("left only", silence, left / 2),
            ("equal", left, left),
        ):
            path = tmp_path / f"{name}.wav"
            soundfile.write(path, np.stack([left, right], axis=1), RATE, subtype)
            np.testing.assert_allclose(read(path), expected, rtol=0, atol=tolerance, err_msg=name)

    @pytest.mark.parametrize("num_channels", [3, 6, 8, 16])
    def test_more_than_two_are_averaged_too(self, tmp_path: Path, num_channels: int) -> None:
        samples = np.random.default_rng(2).uniform(-1, 1, (5_000, num_channels))
        path = tmp_path / "many.wav"
        soundfile.write(path, samples, RATE, "FLOAT")
        np.testing.assert_allclose(read(path), samples.mean(axis=1), rtol=0, atol=1e-6)

    def test_planar_channels_of_a_lossless_codec(self, tmp_path: Path) -> None:
        samples = np.random.default_rng(2).uniform(-1, 1, (5_000, 8))
        path = tmp_path / "eight.flac"
        soundfile.write(path, samples, RATE, "PCM_24")
        np.testing.assert_allclose(read(path), samples.mean(axis=1), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("subtype", "tolerance"),
    [("PCM_U8", 2**-7), ("PCM_16", 2**-15), ("PCM_24", 2**-23), ("PCM_32", 1e-7), ("FLOAT", 1e-7),
     ("DOUBLE", 1e-7), ("ULAW", 0.03), ("ALAW", 0.03)],
)  # fmt: skip
def test_every_sample_format_has_the_same_full_scale(
    tmp_path: Path, subtype: str, tolerance: float
) -> None:
    samples = np.linspace(-1.0, 0.99, 10_000)
    path = tmp_path / "ramp.wav"
    soundfile.write(path, samples, RATE, subtype)
    np.testing.assert_allclose(read(path), samples, rtol=0, atol=tolerance)


class TestPart:
    samples = np.random.default_rng(3).integers(-(2**15), 2**15, 10 * RATE, np.int16)

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "ten_seconds.wav"
        soundfile.write(path, self.samples, RATE, "PCM_16")
        return path

    @pytest.mark.parametrize(
        ("start", "end"),
        [
            (0.0, None),
            (0.5, 1.25),
            (2.0, None),
            (0.0, 0.0001),
            (8.19, 8.2),  # over the end of a decoder's block
            (8.192, 8.5),
            (1.23456, 9.87654),
            (9.5, 30.0),
            (10.0, 20.0),
            (3.0, 3.0),
            (3.0, 2.0),
        ],
    )
    def test_is_exact_to_the_sample(self, path: Path, start: float, end: float | None) -> None:
        last = None if end is None else round(end * RATE)
        expected = self.samples[round(start * RATE) : last] / np.float32(2**15)
        received = read(path, start_seconds=start, end_seconds=end)
        np.testing.assert_array_equal(received, expected)

    @pytest.mark.parametrize("media_format", FORMATS, ids=name_of)
    def test_of_other_rates_is_cut_before_resampling(
        self, tmp_path: Path, media_format: MediaFormat
    ) -> None:
        samples = music(media_format.sample_rate, media_format.num_channels, seconds=4.0)
        path = write(tmp_path / f"sound{media_format.suffix}", media_format, samples)
        decoded, rate = decode_whole(path)
        expected = resampled(decoded[round(1.5 * rate) : round(3.25 * rate)], rate)

        received = read(path, start_seconds=1.5, end_seconds=3.25)

        assert len(received) == pytest.approx(1.75 * RATE, abs=1)
        length = min(len(received), len(expected))
        middle = slice(200, length - 200)  # the filter starts in the middle of a sound
        np.testing.assert_allclose(received[middle], expected[middle], rtol=0, atol=1e-3)

    def test_after_the_end_is_not_decoded(self, path: Path) -> None:
        with path.open("r+b") as file:  # ten seconds of NaN follow ten of noise
            float_samples = (self.samples / 2**15).astype("<f4")
            nan = np.full_like(float_samples, np.nan)
            data = float_samples.tobytes() + nan.tobytes()
            file.write(wav_bytes(data, format_tag=3, bits=32))
        assert len(read(path, end_seconds=8.0)) == 8 * RATE
        assert refusal_of(path).outcome is Outcome.NONFINITE_SAMPLES


def adts(tmp_path: Path, sample_rate: int, num_channels: int) -> bytes:
    samples = music(sample_rate, num_channels, seconds=1.0)
    path = tmp_path / "part.aac"
    write_media(path, samples, sample_rate=sample_rate, codec="aac")
    return path.read_bytes()


class TestParametersThatChangeInMidStream:
    @pytest.mark.parametrize(
        "parts",
        [[(44_100, 1), (48_000, 1)], [(16_000, 1), (44_100, 2), (16_000, 2)], [(32_000, 2)] * 2],
        ids=str,
    )
    def test_every_part_is_decoded(self, tmp_path: Path, parts: list[tuple[int, int]]) -> None:
        contents = [adts(tmp_path, *part) for part in parts]
        single_lengths = []
        for content in contents:
            (tmp_path / "single.aac").write_bytes(content)
            single_lengths.append(len(read(tmp_path / "single.aac")))
        (tmp_path / "all.aac").write_bytes(b"".join(contents))

        waveform = read(tmp_path / "all.aac")

        assert len(waveform) == pytest.approx(sum(single_lengths), abs=10)
        for part in np.array_split(waveform, len(parts)):
            assert part.std() == pytest.approx(waveform.std(), rel=0.5)


class TestOutcomes:
    """A real file for every outcome of decoding."""

    sound = music(RATE, 1)

    def good_mp4(self, tmp_path: Path) -> bytes:
        path = tmp_path / "good.mp4"
        write_media(path, music(44_100, 2), sample_rate=44_100, codec="aac", video=True)
        return path.read_bytes()

    def missing(self, path: Path) -> None:
        pass

    def folder(self, path: Path) -> None:
        path.mkdir()

    def empty(self, path: Path) -> None:
        path.write_bytes(b"")

    def text(self, path: Path) -> None:
        path.write_text("This is not a film.\n" * 500)

    def game_video(self, path: Path) -> None:
        path.write_bytes(b"BIKi" + bytes(4) + struct.pack("<IIIIIII", 9, 9, 9, 64, 48, 25, 1))

    def one_byte(self, path: Path) -> None:
        path.write_bytes(b"R")

    def random_bytes(self, path: Path) -> None:
        path.write_bytes(np.random.default_rng(4).bytes(20_000))

    def cut_in_half(self, path: Path) -> None:
        content = self.good_mp4(path.parent)
        path.write_bytes(content[: len(content) // 2])

    def zeros_in_place_of_packets(self, path: Path) -> None:
        content = bytearray(self.good_mp4(path.parent))
        content[200 : content.index(b"moov") - 4] = bytes(content.index(b"moov") - 204)
        path.write_bytes(content)

    def video_only(self, path: Path) -> None:
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for _ in range(5):
                picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))

    def unknown_codec_in_wav(self, path: Path) -> None:
        path.write_bytes(wav_bytes(bytes(8_000), format_tag=0xABCD))

    def unknown_codec_in_mp4(self, path: Path) -> None:
        path.write_bytes(
            self.good_mp4(path.parent).replace(b"mp4a", b"zzzz").replace(b"esds", b"free")
        )

    def rate_of_one_hertz(self, path: Path) -> None:
        path.write_bytes(wav_bytes(bytes(8_000), sample_rate=1))

    def rate_of_two_gigahertz(self, path: Path) -> None:
        path.write_bytes(wav_bytes(bytes(8_000), sample_rate=2**31 - 1))

    def no_channels(self, path: Path) -> None:
        path.write_bytes(wav_bytes(bytes(8_000), num_channels=0))

    def float_samples(self, path: Path, values: list[float], dtype: str = "<f4") -> None:
        samples = np.zeros(2 * RATE, dtype)
        samples[5_000 : 5_000 + len(values)] = values
        bits = 8 * samples.itemsize
        path.write_bytes(wav_bytes(samples.tobytes(), format_tag=3, bits=bits, num_channels=2))

    def not_a_number(self, path: Path) -> None:
        self.float_samples(path, [np.nan])

    def infinity(self, path: Path) -> None:
        self.float_samples(path, [np.inf])

    def opposite_infinities(self, path: Path) -> None:
        self.float_samples(path, [np.inf, -np.inf])

    def beyond_any_full_scale(self, path: Path) -> None:
        self.float_samples(path, [1e30])

    def beyond_float32(self, path: Path) -> None:
        self.float_samples(path, [1e300], "<f8")

    def half_of_a_wav(self, path: Path) -> None:
        path.write_bytes(wav_bytes(bytes(8 * RATE))[: 4 * RATE])

    def wav_that_declares_half(self, path: Path) -> None:
        content = bytearray(wav_bytes(bytes(8 * RATE)))
        length = content.index(b"data") + 4
        content[length : length + 4] = struct.pack("<I", 2 * RATE)
        path.write_bytes(content)

    CASES = (
        (missing, Outcome.NOT_FOUND),
        (folder, Outcome.UNREADABLE),
        (empty, Outcome.EMPTY_FILE),
        (text, Outcome.CORRUPT),
        (game_video, Outcome.UNSUPPORTED_CONTAINER),
        (one_byte, Outcome.CORRUPT),
        (random_bytes, Outcome.CORRUPT),
        (cut_in_half, Outcome.CORRUPT),
        (half_of_a_wav, Outcome.TRUNCATED),
        (wav_that_declares_half, Outcome.TRUNCATED),
        (zeros_in_place_of_packets, Outcome.CORRUPT),
        (rate_of_one_hertz, Outcome.CORRUPT),
        (rate_of_two_gigahertz, Outcome.CORRUPT),
        (no_channels, Outcome.CORRUPT),
        (video_only, Outcome.NO_AUDIO_STREAM),
        (unknown_codec_in_wav, Outcome.UNSUPPORTED_CODEC),
        (unknown_codec_in_mp4, Outcome.UNSUPPORTED_CODEC),
        (not_a_number, Outcome.NONFINITE_SAMPLES),
        (infinity, Outcome.NONFINITE_SAMPLES),
        (opposite_infinities, Outcome.NONFINITE_SAMPLES),
        (beyond_any_full_scale, Outcome.NONFINITE_SAMPLES),
        (beyond_float32, Outcome.NONFINITE_SAMPLES),
    )

    @pytest.mark.parametrize(("make", "outcome"), CASES, ids=[make.__name__ for make, _ in CASES])
    def test_of_a_file_that_cannot_be_used(
        self, tmp_path: Path, make: Callable[["TestOutcomes", Path], None], outcome: Outcome
    ) -> None:
        path = tmp_path / "sound.mp4"  # the name says nothing about the content
        make(self, path)
        refusal = refusal_of(path)
        assert refusal.outcome is outcome
        assert refusal.detail
        assert str(refusal) == f"{outcome.value}: {refusal.detail}"

    def test_of_a_file_of_another_user(self, tmp_path: Path, other_user: None) -> None:
        path = Path(os.environ["FILE_OF_ANOTHER_USER"])
        assert refusal_of(path).outcome is Outcome.PERMISSION_DENIED

    @pytest.fixture
    def other_user(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        path = tmp_path / "private.wav"
        path.write_bytes(wav_bytes(bytes(8_000)))
        path.chmod(0)
        monkeypatch.setenv("FILE_OF_ANOTHER_USER", str(path))
        if os.geteuid() != 0:
            yield
            return
        os.seteuid(65_534)  # the superuser may read anything; nobody may not
        yield
        os.seteuid(0)

    @pytest.mark.parametrize("uri", ["a\0b.wav", "gopher://host/sound.wav"], ids=["NUL", "scheme"])
    def test_of_a_name_that_no_filesystem_takes(self, uri: str) -> None:
        assert refusal_of(uri).outcome is Outcome.UNREADABLE

    def test_every_outcome_has_its_file(self) -> None:
        reached = {outcome for _, outcome in self.CASES} | {Outcome.PERMISSION_DENIED}
        of_extraction = {Outcome.OK_PARTIAL, Outcome.TOO_SHORT, Outcome.FORGOTTEN}
        of_networks = {Outcome.NONFINITE_OUTPUTS}
        of_isolation = {Outcome.TIMEOUT, Outcome.DECODER_CRASHED}
        assert reached == set(Outcome) - {Outcome.OK} - of_extraction - of_networks - of_isolation

    def test_a_chunk_that_claims_exabytes_is_skipped(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        samples = np.random.default_rng(7).integers(-9_000, 9_000, (100, 1))
        content = caf_bytes(samples, RATE, channel_labels=[42])
        path = tmp_path / "sound.caf"
        # Skipping the chunk is a seek beyond the limit of every filesystem.
        path.write_bytes(content + b"free" + struct.pack(">q", 0x45 << 56) + bytes(50))
        np.testing.assert_array_equal(read(path), samples[:, 0] / np.float32(2**15))
        assert capfd.readouterr().err == ""

    def test_loud_but_finite_samples_pass(self, tmp_path: Path) -> None:
        self.float_samples(tmp_path / "loud.wav", [100.0, 50.0])
        assert read(tmp_path / "loud.wav").max() == 75.0

    def test_a_wav_without_samples_is_an_empty_soundtrack(self, tmp_path: Path) -> None:
        (tmp_path / "none.wav").write_bytes(wav_bytes(b""))
        assert len(read(tmp_path / "none.wav")) == 0

    def test_titles_in_another_encoding_are_ignored(self, tmp_path: Path) -> None:
        title = b"INFOINAM" + struct.pack("<I", 6) + "café ".encode("latin-1") + b"\0"
        chunk = b"LIST" + struct.pack("<I", len(title)) + title
        path = tmp_path / "latin.wav"
        path.write_bytes(wav_bytes(np.full(1_000, 2**14, "<i2").tobytes(), more_chunks=chunk))
        np.testing.assert_array_equal(read(path), np.full(1_000, 0.5))

    def test_one_bad_packet_costs_its_own_samples(self, tmp_path: Path) -> None:
        content = bytearray(self.good_mp4(tmp_path))
        path = tmp_path / "damaged.mp4"
        path.write_bytes(content)
        with av.open(str(path)) as container:
            packets = list(container.demux(container.streams.audio[0]))
        position, size = packets[40].pos, packets[40].size
        assert position is not None
        whole = read(path)

        content[position : position + size] = b"\xff" * size
        path.write_bytes(content)
        damaged = read(path)

        assert 0 <= len(whole) - len(damaged) < 0.1 * RATE
        np.testing.assert_array_equal(damaged[: RATE // 2], whole[: RATE // 2])


class TestPlaylists:
    """A manifest is not trusted input: no file may make the decoder open another file."""

    @pytest.fixture
    def target(self, tmp_path: Path) -> Path:
        path = tmp_path / "secret.ts"
        return write(path, MediaFormat(".ts", "mp2", 44_100, 1), music(44_100, 1))

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("film.mp4", "ffconcat version 1.0\nfile secret.ts\n"),
            (
                "film.m3u8",
                "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nsecret.ts\n#EXT-X-ENDLIST\n",
            ),
        ],
        ids=["concat", "HLS"],
    )
    def test_are_never_followed(
        self, target: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
    ) -> None:
        monkeypatch.chdir(target.parent)
        Path(name).write_text(text)
        # FFmpeg itself reads the other file, although it is given only an open file.
        with Path(name).open("rb") as file, av.open(file) as container:
            assert sum(frame.samples for frame in container.decode(audio=0)) > 80_000

        assert refusal_of(name).outcome is Outcome.UNSUPPORTED_CONTAINER


def caf_bytes(samples: np.ndarray, sample_rate: int, channel_labels: list[int]) -> bytes:
    """A Core Audio file of int16 that names each of its channels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return kind + struct.pack(">q", len(content)) + content

    size = len(channel_labels)
    layout = struct.pack(">III", 0, 0, size)
    layout += b"".join(struct.pack(">IIfff", label, 0, 0, 0, 0) for label in channel_labels)
    return (
        b"caff\0\1\0\0"
        + chunk(b"desc", struct.pack(">d4sIIIII", sample_rate, b"lpcm", 2, 2 * size, 1, size, 16))
        + chunk(b"chan", layout)
        + chunk(b"data", bytes(4) + samples.astype("<i2").tobytes())
    )


def read_in_new_process(path: Path) -> np.ndarray:
    """Read a file ten times in a new process, so that a crash in C code fails the test."""
    script = f"""
import numpy as np
from features.sound.waveform import read_waveform
for _ in range(10):
    blocks = list(read_waveform({str(path)!r}, sample_rate_hz={RATE}))
np.save({str(path) + ".npy"!r}, np.concatenate(blocks))
"""
    finished = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return np.load(f"{path}.npy")


class TestLayoutsThatCrashTheLibrary:
    def test_planar_audio_of_eight_channels(self, tmp_path: Path) -> None:
        path = tmp_path / "surround.m4a"
        samples = np.repeat(music(48_000, 1), 8, axis=1)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=48_000)
            assert isinstance(stream, av.AudioStream)
            stream.codec_context.layout = "7.1"
            frame = av.AudioFrame(format="flt", layout="7.1", samples=len(samples))
            frame.planes[0].update(samples.tobytes())
            frame.sample_rate, frame.pts = 48_000, 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))

        waveform = read_in_new_process(path)

        assert len(waveform) == pytest.approx(2 * RATE, abs=0.1 * RATE)
        # All channels are equal, but the encoder keeps less of the bass channel.
        assert 0.97 * 7 / 8 < waveform.std() / samples.std() < 1.02

    def test_channels_in_a_custom_order(self, tmp_path: Path) -> None:
        path = tmp_path / "swapped.caf"
        samples = np.random.default_rng(5).integers(-9_000, 9_000, (200_000, 2))
        path.write_bytes(caf_bytes(samples, RATE, channel_labels=[2, 1]))  # right, left

        waveform = read_in_new_process(path)

        np.testing.assert_allclose(waveform, samples.mean(axis=1) / 2**15, rtol=0, atol=1e-6)


@pytest.mark.parametrize("media_format", FORMATS, ids=name_of)
def test_damaged_files_give_samples_or_an_audio_error(
    tmp_path: Path, media_format: MediaFormat, capfd: pytest.CaptureFixture[str]
) -> None:
    samples = music(media_format.sample_rate, media_format.num_channels, seconds=1.0)
    good = write(tmp_path / f"good{media_format.suffix}", media_format, samples).read_bytes()
    rng = random.Random(f"damage {media_format.suffix}")
    path = tmp_path / f"damaged{media_format.suffix}"
    outcomes = []
    for _ in range(30):
        path.write_bytes(damage(good, rng))
        try:
            waveform = read(path)
        except AudioError as error:
            outcomes.append(error.outcome)
            continue
        outcomes.append(Outcome.OK)
        assert np.isfinite(waveform).all()
    assert len(outcomes) == 30
    assert Outcome.UNREADABLE not in outcomes  # no error comes from the filesystem
    assert capfd.readouterr().err == ""

    assert {Outcome.OK, Outcome.TRUNCATED} & set(outcomes)
    assert Outcome.CORRUPT in outcomes


class TestResampler:
    def test_is_named_with_its_version(self) -> None:
        assert re.fullmatch(r"soxr \d+\.\d+\.\d+ HQ", RESAMPLER)

    @pytest.mark.parametrize("sample_rate", [8_000, 11_025, 44_100, 48_000, 96_000])
    def test_is_as_good_as_the_best_to_log_mel(self, tmp_path: Path, sample_rate: int) -> None:
        noise = np.random.default_rng(6).uniform(-1, 1, (5 * sample_rate, 1)).astype(np.float32)
        path = tmp_path / "noise.wav"
        soundfile.write(path, noise, sample_rate, "FLOAT")
        expected = log_mel_spectrogram(resampled(noise, sample_rate), PARAMS)
        # HQ starts to fall a little before VHQ, at 0.9 of half the lower rate.
        heard = hertz_to_mel(np.array(0.85 * min(sample_rate, RATE) / 2))
        centres = np.linspace(*hertz_to_mel(np.array([125.0, 7_500.0])), 66)[1:-1]
        heard_bands = centres < heard

        received = log_mel_spectrogram(read(path), PARAMS)

        difference = (received[: len(expected)] - expected)[:, heard_bands]
        assert np.sqrt((difference**2).mean()) < 3e-4
        assert np.abs(difference).max() < 0.01


def test_a_reader_that_stops_early_closes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(60 * RATE, np.int16), RATE, "PCM_16")
    blocks = read_waveform(str(path), sample_rate_hz=RATE)
    next(blocks)
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("no /proc on this system")

    def is_open() -> bool:
        return str(path) in {os.path.realpath(link) for link in descriptors.iterdir()}

    assert is_open()
    blocks.close()  # type: ignore[attr-defined]
    assert not is_open()
