"""Containers that are opened, containers that are refused by name, and damaged packets.

FFmpeg's muxers write WavPack and TTA, and none of the other formats here. `media/tone.mpc` and
`media/tone.spx` come from mpcenc 1.30.1 (`--quality 2`) and speexenc 1.2.1 (`-w`): two seconds of a
sine of 440 Hz and amplitude 0.25. DSF, DSDIFF, Monkey's Audio and TAK are written below, the last
two with what needs no entropy coder: silence, and a last frame of fewer than 16 samples. Musepack
before version 8 has no test: its encoder is no longer distributed.
"""

import random
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

import av
import av.logging
import numpy as np
import pytest

from features.sound.medium import open_medium
from features.sound.outcome import AudioError, Outcome
from features.sound.waveform import read_waveform
from pipelines.corpus.encoding import write_media
from tests.features.sound.damage import damage

MEDIA = Path(__file__).parent / "media"
RATE = 16_000
DSD_RATE = 2_822_400


def read(path: Path) -> np.ndarray:
    return np.concatenate(list(read_waveform(str(path), sample_rate_hz=RATE)))


def refusal_of(path: Path) -> AudioError:
    with pytest.raises(AudioError) as refusal:
        read(path)
    return refusal.value


def container_name(path: Path) -> str:
    with open_medium(str(path)) as (container, _):
        return container.format.name


def sine(sample_rate: int, seconds: float) -> np.ndarray:
    time = np.arange(round(sample_rate * seconds)) / sample_rate
    return 0.25 * np.sin(2 * np.pi * 440 * time)


def amplitude_at_440_hz(samples: np.ndarray) -> float:
    samples = samples[len(samples) // 4 :][: RATE // 2]  # 220 periods
    return 2 * abs(np.mean(samples * np.exp(-2j * np.pi * 440 / RATE * np.arange(len(samples)))))


def dsd_bits(seconds: float) -> np.ndarray:
    """A sine as one-bit samples, by a first-order sigma-delta modulator."""
    density = (1 + sine(DSD_RATE, seconds)) / 2
    return np.diff(np.floor(np.cumsum(density)), prepend=0).astype(np.uint8)


def dsf_bytes(bits: np.ndarray) -> bytes:
    """Sony's DSF, mono: blocks of 4,096 bytes, the least significant bit first."""
    data = np.packbits(bits, bitorder="little").tobytes()
    data += bytes(-len(data) % 4_096)
    size = 28 + 52 + 12 + len(data)
    return (
        b"DSD "
        + struct.pack("<QQQ", 28, size, 0)
        + b"fmt "
        + struct.pack("<QIIIIIIQII", 52, 1, 0, 1, 1, DSD_RATE, 1, len(bits), 4_096, 0)
        + b"data"
        + struct.pack("<Q", 12 + len(data))
        + data
    )


def dff_bytes(bits: np.ndarray) -> bytes:
    """Philips' DSDIFF, mono: chunks, the most significant bit first."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return kind + struct.pack(">Q", len(content)) + content + bytes(len(content) % 2)

    properties = b"SND " + chunk(b"FS  ", struct.pack(">I", DSD_RATE))
    properties += chunk(b"CHNL", struct.pack(">H4s", 1, b"C   "))
    properties += chunk(b"CMPR", b"DSD \x0enot compressed\0")
    return chunk(
        b"FRM8",
        b"DSD "
        + chunk(b"FVER", struct.pack(">I", 0x01050000))
        + chunk(b"PROP", properties)
        + chunk(b"DSD ", np.packbits(bits).tobytes()),
    )


def ape_bytes(num_samples: int, damaged_frames: Iterable[int] = ()) -> bytes:
    """Monkey's Audio 3.99, stereo: frames that are flagged as silence, or that lack their data."""
    frame_samples = 73_728
    num_frames = -(-num_samples // frame_samples)
    has_flags, silence = 0x80000000, 3
    frames = [
        struct.pack("<II", has_flags, 0 if index in set(damaged_frames) else silence) + bytes(8)
        for index in range(num_frames)
    ]
    table = 4 * num_frames
    start = 52 + 24 + table
    positions = [start + sum(map(len, frames[:index])) for index in range(num_frames)]
    descriptor = struct.pack("<HHIIIIIII", 3990, 0, 52, 24, table, 0, 16 * num_frames, 0, 0)
    header = struct.pack(
        "<HHIIIHHI",
        2_000,  # compression level
        0,
        frame_samples,
        num_samples - (num_frames - 1) * frame_samples,
        num_frames,
        16,
        2,
        RATE,
    )
    seek_table = struct.pack(f"<{num_frames}I", *positions)
    return b"MAC " + descriptor + bytes(16) + header + seek_table + b"".join(frames)


def tak_bytes(samples: list[int]) -> bytes:
    """TAK, mono: one last frame, whose samples are stored as they are if it has fewer than 16."""

    def pack(*fields: tuple[int, int]) -> bytes:
        """Concatenate (value, number of bits), the least significant bit first."""
        packed = position = 0
        for value, width in fields:
            packed |= (value & (1 << width) - 1) << position
            position += width
        return packed.to_bytes(-(-position // 8), "little")

    def checksum(content: bytes) -> bytes:
        crc = 0xB704CE
        for byte in content:
            crc ^= byte << 16
            for _ in range(8):
                crc = crc << 1 ^ (0x1864CFB if crc & 0x800000 else 0)
        return crc.to_bytes(3, "little")

    stream = (2, 6), (0, 4), (1, 4), (len(samples), 35), (0, 3), (RATE - 6_000, 18), (8, 5), (0, 5)
    info = pack(*stream)
    header = pack((0xA0FF, 16), (3, 3), (0, 21), (len(samples) - 1, 14), (0, 2), *stream, (0, 6))
    data = pack(*((sample, 16) for sample in samples))
    return (
        b"tBaK\x01"
        + (len(info) + 3).to_bytes(3, "little")
        + info
        + checksum(info)
        + bytes(4)  # the end of the metadata
        + header
        + checksum(header)
        + data
        + checksum(data)
    )


class TestSingleFileContainers:
    @pytest.mark.parametrize(
        ("name", "container"), [("tone.mpc", "mpc8"), ("tone.spx", "ogg")], ids=str
    )
    def test_musepack_and_speex(self, name: str, container: str) -> None:
        waveform = read(MEDIA / name)
        assert container_name(MEDIA / name) == container
        assert len(waveform) == pytest.approx(2 * RATE, abs=0.05 * RATE)
        assert amplitude_at_440_hz(waveform) == pytest.approx(0.25, rel=0.1)

    @pytest.mark.parametrize(
        ("encode", "container"), [(dsf_bytes, "dsf"), (dff_bytes, "iff")], ids=["DSF", "DSDIFF"]
    )
    def test_dsd(
        self, tmp_path: Path, encode: Callable[[np.ndarray], bytes], container: str
    ) -> None:
        path = tmp_path / "sound"
        path.write_bytes(encode(dsd_bits(1.0)))
        waveform = read(path)
        assert container_name(path) == container
        assert len(waveform) == pytest.approx(RATE, abs=0.02 * RATE)
        assert amplitude_at_440_hz(waveform) == pytest.approx(0.25, rel=0.05)

    def test_monkeys_audio(self, tmp_path: Path) -> None:
        path = tmp_path / "silence.ape"
        path.write_bytes(ape_bytes(100_000))
        assert container_name(path) == "ape"
        np.testing.assert_array_equal(read(path), np.zeros(100_000))

    def test_tak(self, tmp_path: Path) -> None:
        path = tmp_path / "short.tak"
        samples = [1_000 * (-1) ** index * index for index in range(15)]
        path.write_bytes(tak_bytes(samples))
        assert container_name(path) == "tak"
        np.testing.assert_array_equal(read(path), np.array(samples) / np.float32(2**15))

    @pytest.mark.parametrize(
        ("container", "codec", "sample_format"), [("wv", "wavpack", "s16p"), ("tta", "tta", "s16")]
    )
    def test_lossless_codecs_give_the_encoded_samples(
        self, tmp_path: Path, container: str, codec: str, sample_format: str
    ) -> None:
        samples = np.random.default_rng(5).integers(-(2**15), 2**15, 3 * RATE, np.int16)
        path = tmp_path / f"sound.{container}"
        with av.open(str(path), "w") as output:
            stream = output.add_stream(codec, rate=RATE)
            assert isinstance(stream, av.AudioStream)
            stream.codec_context.format, stream.codec_context.layout = sample_format, "mono"
            frame = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
            frame.sample_rate, frame.pts = RATE, 0
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        assert container_name(path) == container
        np.testing.assert_array_equal(read(path), samples / np.float32(2**15))

    @pytest.mark.parametrize(("suffix", "codec"), [("wv", "wavpack"), ("tta", "tta")])
    def test_a_file_that_is_cut_is_truncated(self, tmp_path: Path, suffix: str, codec: str) -> None:
        path = tmp_path / f"sound.{suffix}"
        write_media(path, sine(RATE, 8.0)[:, None], sample_rate=RATE, codec=codec)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert refusal_of(path).outcome is Outcome.TRUNCATED

    @pytest.mark.parametrize("name", ["wv", "tta", "ape", "dsf", "dff", "mpc", "spx"])
    def test_damaged_files_give_samples_or_an_audio_error(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / f"sound.{name}"
        if name in {"wv", "tta"}:
            codec = {"wv": "wavpack", "tta": "tta"}[name]
            write_media(path, sine(RATE, 1.0)[:, None], sample_rate=RATE, codec=codec)
            good = path.read_bytes()
        elif name in {"mpc", "spx"}:
            good = (MEDIA / f"tone.{name}").read_bytes()
        elif name == "ape":
            good = ape_bytes(RATE) + bytes(600)
        else:
            good = {"dsf": dsf_bytes, "dff": dff_bytes}[name](dsd_bits(0.1))
        rng = random.Random(f"damage {name}")
        outcomes = set()
        for _ in range(60):
            path.write_bytes(damage(good, rng))
            try:
                for block in read_waveform(str(path), sample_rate_hz=RATE):
                    assert np.isfinite(block).all()
                outcomes.add(Outcome.OK)
            except AudioError as error:
                outcomes.add(error.outcome)
        assert {Outcome.OK, Outcome.CORRUPT} <= outcomes
        assert Outcome.UNREADABLE not in outcomes


class TestRefusedContainers:
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("rm", b".RMF" + bytes(2_000)),
            ("gif", b"GIF89a\x10\0\x10\0\0\0\0" + bytes(2_000)),
            ("srt", b"1\n00:00:01,000 --> 00:00:02,000\nhello\n\n" * 20),
            ("adif", b"ADIF" + bytes(2_000)),
            ("hls", b"#EXTM3U\n#EXTINF:2,\nsecret.ts\n#EXT-X-ENDLIST\n"),
            ("concat", b"ffconcat version 1.0\nfile secret.ts\n"),
            ("sdp", b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 5 RTP/AVP 0\n"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_are_named(
        self, tmp_path: Path, name: str, content: bytes, capfd: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "sound.mp4"  # the file name says nothing about the content
        path.write_bytes(content)
        level = av.logging.get_level()

        for _ in range(2):  # FFmpeg does not repeat a message
            refusal = refusal_of(path)
            assert (refusal.outcome, refusal.detail) == (Outcome.UNSUPPORTED_CONTAINER, name)

        assert av.logging.get_level() == level
        assert capfd.readouterr().err == ""

    @pytest.mark.parametrize(
        ("name", "codec"), [("nut", "flac"), ("voc", "pcm_s16le"), ("sox", "pcm_s32le")]
    )
    def test_are_named_also_if_the_codec_is_known(
        self, tmp_path: Path, name: str, codec: str
    ) -> None:
        path = tmp_path / f"sound.{name}"
        write_media(path, sine(RATE, 1.0)[:, None], sample_rate=RATE, codec=codec)
        refusal = refusal_of(path)
        assert (refusal.outcome, refusal.detail) == (Outcome.UNSUPPORTED_CONTAINER, name)

    def test_a_guess_of_ffmpeg_does_not_count(self, tmp_path: Path) -> None:
        path = tmp_path / "sound.mp4"
        path.write_bytes(b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(900))  # FFmpeg's score is 7 of 100
        assert refusal_of(path).outcome is Outcome.CORRUPT


class TestBadPackets:
    def damaged(self, path: Path, seconds: float, bad_packets: Iterable[int]) -> tuple[int, int]:
        """Write AAC with some packets overwritten; returns its numbers of packets and samples."""
        write_media(path, sine(44_100, seconds)[:, None], sample_rate=44_100, codec="aac")
        whole = len(read(path))
        with av.open(str(path)) as container:
            packets = [packet for packet in container.demux(audio=0) if packet.size]
        content = bytearray(path.read_bytes())
        for index in bad_packets:
            start, size = packets[index].pos, packets[index].size
            assert start is not None
            content[start : start + size] = b"\xff" * size
        path.write_bytes(content)
        return len(packets), whole

    @pytest.mark.parametrize(("seconds", "bad_packets"), [(0.35, [7, 9]), (0.03, [1])])
    def test_a_share_of_few_packets_rejects_nothing(
        self, tmp_path: Path, seconds: float, bad_packets: list[int]
    ) -> None:
        path = tmp_path / "sound.mp4"
        num_packets, whole = self.damaged(path, seconds, bad_packets)
        assert num_packets < 20
        assert len(bad_packets) > 0.1 * num_packets

        lost = whole - len(read(path))

        assert 0 <= lost <= len(bad_packets) * 1_024 * RATE / 44_100 + 1

    def test_a_tenth_of_many_packets_is_the_limit(self, tmp_path: Path) -> None:
        path = tmp_path / "sound.mp4"
        num_packets, _ = self.damaged(path, 2.0, range(10, 18, 2))
        assert num_packets == 88
        assert len(read(path)) > 1.8 * RATE

        self.damaged(path, 2.0, range(10, 30, 2))
        refusal = refusal_of(path)

        assert refusal.outcome is Outcome.CORRUPT
        assert refusal.detail.startswith("10 of 88 packets are bad: ")

    def test_a_file_of_bad_packets_alone_is_corrupt(self, tmp_path: Path) -> None:
        path = tmp_path / "silence.ape"
        path.write_bytes(ape_bytes(100, damaged_frames=[0]))
        refusal = refusal_of(path)
        assert refusal.outcome is Outcome.CORRUPT
        assert refusal.detail.startswith("1 of 1 packets are bad: ")

    def test_few_long_packets_are_judged_by_what_is_lost(self, tmp_path: Path) -> None:
        path = tmp_path / "silence.ape"
        path.write_bytes(ape_bytes(140_000, damaged_frames=[1]))
        refusal = refusal_of(path)
        assert refusal.outcome is Outcome.TRUNCATED
        assert refusal.detail == "ends at 4.6 s of 8.8 s"
