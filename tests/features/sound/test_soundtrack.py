"""Patches of a soundtrack, all of them or a few, and the packets that few of them need."""

import random
import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from scipy.signal import lfilter

from features.front_end.front_end import FrontEnd, PatchStorage
from features.sound import packets
from features.sound.excerpts import Choice, ExcerptRequest, read_excerpts
from features.sound.medium import choose_audio_stream, open_medium
from features.sound.outcome import AudioError, Outcome
from features.sound.packets import DecodeWholeError, Parts
from features.sound.soundtrack import PatchSample, soundtrack_patches
from features.sound.waveform import RESAMPLER, read_waveform
from pipelines.corpus import encoding
from pipelines.corpus.encoding import MediaFormat, write_media
from tests.features.sound.damage import damage

SECONDS = 15
RATE = 16_000


class Unrounded(PatchStorage):
    """Stores float32 log-mel as it is."""

    def encode(self, log_mel: np.ndarray) -> np.ndarray:
        return log_mel


FRONT_END = FrontEnd(resampler=RESAMPLER, storage=Unrounded())
# Log-mel of a drawn patch against the same of the whole soundtrack: rounding in float32; and what
# is left of the past of a decoder of Opus after 200 ms.
EXACT, CONVERGED = 1e-4, 0.003
FORMATS = (
    (MediaFormat(".mp4", "aac", 44_100, 2, video=True), EXACT),
    (MediaFormat(".m4a", "aac", 32_000, 1), EXACT),
    (MediaFormat(".flac", "flac", 48_000, 2), EXACT),
    (MediaFormat(".wav", "pcm_s16le", 22_050, 1), EXACT),
    (MediaFormat(".wav", "pcm_s16le", 16_000, 1), EXACT),
    (MediaFormat(".webm", "libopus", 48_000, 2, video=True), CONVERGED),
    (MediaFormat(".webm", "vorbis", 44_100, 2), EXACT),
    (MediaFormat(".ogg", "vorbis", 44_100, 2), EXACT),
    (MediaFormat(".ogg", "libopus", 48_000, 1), CONVERGED),
    (MediaFormat(".ogg", "flac", 44_100, 1), EXACT),
    (MediaFormat(".mp3", "libmp3lame", 44_100, 2), EXACT),
    (MediaFormat(".mp3", "libmp3lame", 16_000, 1), EXACT),
    (MediaFormat(".aac", "aac", 44_100, 1), EXACT),
    (MediaFormat(".ts", "aac", 48_000, 2), EXACT),
    (MediaFormat(".ts", "mp2", 44_100, 1), EXACT),
    (MediaFormat(".mka", "aac", 44_100, 2), EXACT),
    (MediaFormat(".mka", "flac", 44_100, 1), EXACT),
    (MediaFormat(".avi", "libmp3lame", 44_100, 2), EXACT),
    (MediaFormat(".mov", "pcm_s16be", 44_100, 2), EXACT),
    (MediaFormat(".aiff", "pcm_s24be", 48_000, 1), EXACT),
)
NAMES = [f"{kind.codec}{kind.suffix}-{kind.sample_rate}" for kind, _ in FORMATS]
MP4, OGG, MP3, FLAC = (FORMATS[index][0] for index in (0, 7, 10, 2))


@pytest.fixture(autouse=True)
def without_random_decoders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the encoder of AAC leave no noise for the decoder to draw."""
    monkeypatch.setitem(encoding.ENCODER_OPTIONS, "aac_pns", "0")


def noise(kind: MediaFormat, seconds: float = SECONDS) -> np.ndarray:
    rng = np.random.default_rng(3)
    white = rng.standard_normal((round(seconds * kind.sample_rate), kind.num_channels))
    swell = 1 + np.sin(np.arange(len(white)) / kind.sample_rate * 3)[:, None]
    return (0.05 * swell * lfilter([1], [1, -0.9], white, axis=0)).astype(np.float32)


def write(folder: Path, kind: MediaFormat, seconds: float = SECONDS) -> str:
    path = folder / f"sound{kind.suffix}"
    write_media(
        path,
        noise(kind, seconds),
        sample_rate=kind.sample_rate,
        codec=kind.codec,
        video=kind.video,
    )
    return str(path)


def collect(
    uri: str, sample: PatchSample | None = None, start: float = 0.0, end: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    chunks = list(
        soundtrack_patches(uri, FRONT_END, start_seconds=start, end_seconds=end, sample=sample)
    )
    indices = np.concatenate([chunk.indices for chunk in chunks])
    return indices, np.concatenate([chunk.patches for chunk in chunks])


def excerpts(uri: str, choose: Callable[[int], list[int]], **part: float) -> list[np.ndarray]:
    """A tenth of a second from each start; fails if the whole soundtrack has to be decoded."""

    def keep_all(num_samples: int) -> Choice:
        starts = [start for start in choose(num_samples) if 0 <= start <= num_samples - RATE // 10]
        return Choice(starts, 0, is_most=False)  # all packets are kept

    return list(read_excerpts(uri, ExcerptRequest(RATE, RATE // 10, keep_all, **part)))


def waveform_of(uri: str, **part: float) -> np.ndarray:
    return np.concatenate(list(read_waveform(uri, sample_rate_hz=RATE, **part)))


@pytest.mark.parametrize(("kind", "tolerance"), FORMATS, ids=NAMES)
def test_excerpts_and_patches_equal_those_of_the_whole_soundtrack(
    tmp_path: Path, kind: MediaFormat, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packets, "_BATCH", 20)  # so that packets are dropped
    uri = write(tmp_path, kind)
    _, dense = collect(uri)
    lengths = []

    def first_and_last(num_samples: int) -> list[int]:
        lengths.append(num_samples)
        return [0, 100, 5 * RATE, num_samples - RATE // 10]

    for start, end in ((0.0, None), (3.21234, 12.77)):
        part = {"start_seconds": start} | ({} if end is None else {"end_seconds": end})
        waveform = waveform_of(uri, **part)
        found = excerpts(uri, first_and_last, **part)
        # A header may declare less than the last packet holds.
        assert 0 <= len(waveform) - lengths[-1] <= (0.03 * RATE if end is None else 0)
        for excerpt, first in zip(found, first_and_last(lengths[-1]), strict=True):
            expected = waveform[first : first + len(excerpt)]
            np.testing.assert_allclose(excerpt, expected, rtol=0, atol=tolerance)
    sample = PatchSample(5, seed=5)
    indices, sparse = collect(uri, sample)
    assert indices.tolist() == sample.draw(len(dense)).tolist()
    np.testing.assert_allclose(sparse, dense[indices], rtol=0, atol=tolerance)


def test_few_packets_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = write(tmp_path, MP3)
    decoded = []
    decode_packet = packets.decode_packet

    def counting(context: av.AudioCodecContext, packet: av.Packet) -> list[av.AudioFrame]:
        decoded.append(packet)
        return decode_packet(context, packet)

    monkeypatch.setattr(packets, "decode_packet", counting)
    collect(uri, PatchSample(3, seed=5))

    # Three patches of 38.3 packets, two margins and ten packets before each, four for the start.
    assert 3 * 38 < len(decoded) <= 3 * (39 + 3 + 10) + 4


def test_a_sample_of_more_than_all_patches_is_all_patches(tmp_path: Path) -> None:
    uri = write(tmp_path, FORMATS[4][0])

    (chunk,) = soundtrack_patches(uri, FRONT_END, sample=PatchSample(1_000, seed=1))

    assert chunk.indices.tolist() == list(range(15))
    assert chunk.drawn_from == 15
    np.testing.assert_array_equal(chunk.patches, collect(uri)[1])


def mux(path: Path, starts: list[float], *, codec: str, rate: int, picture: bool = False) -> None:
    """A second of sound at each of the starts, and silence in the timestamps between."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        if picture:  # so that the medium starts before the sound
            video = container.add_stream("mpeg4", rate=10)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            for number in range(10):
                frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")
                frame.pts = number
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        rng = np.random.default_rng(4)
        for start in starts:
            for first in range(0, rate - rate % 960, 960):
                block = rng.uniform(-0.1, 0.1, (1, 960)).astype(np.float32)
                frame = av.AudioFrame.from_ndarray(block, "flt", "mono")
                frame.sample_rate, frame.pts = rate, round(start * rate) + first
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("suffix", "starts", "picture"),
    [
        (".webm", [*range(6), *range(9, 14)], False),
        (".ogg", [*range(6), 6.06, 7.06, *range(9, 14)], False),
        (".mp4", [*range(3, 15)], True),
    ],
    ids=["gap", "small gap", "late start"],
)
def test_excerpts_are_on_the_clock_of_the_medium(
    tmp_path: Path, suffix: str, starts: list[float], picture: bool
) -> None:
    path = tmp_path / f"sound{suffix}"
    mux(path, starts, codec="libopus", rate=48_000, picture=picture)
    expect_excerpts_everywhere(path)


def test_a_gap_longer_than_a_block_is_silence(tmp_path: Path) -> None:
    path = tmp_path / "sound.webm"
    mux(path, [0, 120], codec="libopus", rate=48_000)

    waveform = waveform_of(str(path))

    assert len(waveform) == pytest.approx(121 * RATE, abs=RATE // 10)
    assert not waveform[2 * RATE : 119 * RATE].any()
    for start in (0, 120):  # uniform noise of 0.1 has an rms of 0.058
        assert waveform[round((start + 0.2) * RATE) :][: RATE // 2].std() > 0.02


def test_a_clock_that_is_reset(tmp_path: Path) -> None:
    path = Path(write(tmp_path, MediaFormat(".ts", "aac", 48_000, 1), seconds=4))
    path.write_bytes(2 * path.read_bytes())
    expect_excerpts_everywhere(path)


def expect_excerpts_everywhere(path: Path) -> None:
    waveform = waveform_of(str(path))
    places = [*range(0, len(waveform) - RATE // 10, RATE // 2)]

    lengths = []

    def choose(num_samples: int) -> list[int]:
        lengths.append(num_samples)
        return places

    found = excerpts(str(path), choose)
    assert lengths[-1] == len(waveform)
    for first, excerpt in zip(places, found, strict=True):
        expected = waveform[first : first + len(excerpt)]
        np.testing.assert_allclose(excerpt, expected, rtol=0, atol=CONVERGED)


def test_a_container_that_gives_a_longer_sound_is_read_again(tmp_path: Path) -> None:
    path = Path(uri := write(tmp_path, FORMATS[5][0]))
    content = path.read_bytes()
    at = content.index(b"\x44\x89\x88") + 3  # the duration in milliseconds, a float of 8 bytes
    # The picture may be longer than the sound, so this is no damage.
    path.write_bytes(content[:at] + struct.pack(">d", 2_000.0 * SECONDS) + content[at + 8 :])
    sample = PatchSample(2, seed=5)

    def wait_for_the_end(rate: int, whole: int) -> Parts:
        return Parts([], (rate + whole, 2 * rate + whole))

    with open_medium(uri) as (container, _):
        stream = choose_audio_stream(container)
        with pytest.raises(packets.UnexpectedLengthError):
            packets.read_packets(container, stream, wait_for_the_end, expects=True)
    indices, patches = collect(uri, sample)
    everything = collect(uri)[1]
    assert indices.tolist() == sample.draw(len(everything)).tolist()
    assert np.abs(patches - everything[indices]).max() < CONVERGED


class TestDecodedWhole:
    """What cannot be predicted gives the draw of the whole soundtrack all the same."""

    def expect_draw_of_the_whole(self, path: Path) -> None:
        with pytest.raises((DecodeWholeError, AudioError)):
            excerpts(str(path), lambda num_samples: [num_samples // 2])
        # A sample that has patch 5, which begins at 4.8 s.
        samples = (PatchSample(3, seed) for seed in range(100))
        sample = next(sample for sample in samples if 5 in sample.draw(10))
        _, dense = collect(str(path))
        (chunk,) = soundtrack_patches(str(path), FRONT_END, sample=sample)
        assert chunk.drawn_from == len(dense)
        assert chunk.indices.tolist() == sample.draw(len(dense)).tolist()
        np.testing.assert_array_equal(chunk.patches, dense[chunk.indices])

    def test_a_codec_without_a_rule(self, tmp_path: Path) -> None:
        kind = MediaFormat(".wv", "wavpack", 16_000, 1)
        self.expect_draw_of_the_whole(Path(write(tmp_path, kind, seconds=10)))

    def test_a_sample_rate_that_changes(self, tmp_path: Path) -> None:
        contents = []
        for rate in (44_100, 48_000):
            uri = write(tmp_path, MediaFormat(".aac", "aac", rate, 1), seconds=5)
            contents.append(Path(uri).read_bytes())
        (tmp_path / "sound.aac").write_bytes(b"".join(contents))
        self.expect_draw_of_the_whole(tmp_path / "sound.aac")

    @pytest.mark.parametrize("suffix", [".mka", ".m4a"])
    def test_a_bad_packet_that_is_needed(self, tmp_path: Path, suffix: str) -> None:
        path = Path(write(tmp_path, MediaFormat(suffix, "aac", 48_000, 1), seconds=10))
        content = path.read_bytes()
        with av.open(str(path)) as container:
            needed = [bytes(packet) for packet in container.demux(audio=0)][230:260]
        for packet in needed:
            content = content.replace(packet, b"\xff" * len(packet))
        path.write_bytes(content)
        self.expect_draw_of_the_whole(path)


@pytest.mark.parametrize("kind", [FLAC, MP4, FORMATS[17][0]], ids=lambda kind: kind.suffix)
def test_the_part_before_a_cut_is_drawn_from_too(tmp_path: Path, kind: MediaFormat) -> None:
    path = tmp_path / f"cut{kind.suffix}"
    options = {"movflags": "faststart"} if kind is MP4 else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(kind.codec, rate=kind.sample_rate, layout="stereo")
        stream.codec_context.options = {"strict": "experimental"}
        frame = av.AudioFrame.from_ndarray(noise(kind).reshape(1, -1), "flt", "stereo")
        frame.sample_rate, frame.pts = kind.sample_rate, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    results = []
    for sample in (None, PatchSample(5, seed=5)):
        chunks = []
        with pytest.raises(AudioError) as error:
            chunks += soundtrack_patches(str(path), FRONT_END, sample=sample)
        results.append((error.value.outcome, error.value.detail))
    assert results[0][0] is Outcome.TRUNCATED
    assert results[0] == results[1]


@pytest.mark.parametrize("kind", [MP4, OGG, MP3, FORMATS[5][0]], ids=lambda kind: kind.suffix)
def test_damaged_files_have_the_outcome_of_the_whole_or_are_not_seen(
    tmp_path: Path, kind: MediaFormat
) -> None:
    good = Path(write(tmp_path, kind, seconds=5)).read_bytes()
    path = tmp_path / f"damaged{kind.suffix}"
    rng = random.Random(f"sparse {kind.suffix}")
    outcomes = []
    for _ in range(25):
        path.write_bytes(damage(good, rng))
        found = []
        for sample in (None, PatchSample(1, seed=rng.randrange(100))):
            try:
                found.append(Outcome.OK)
                for chunk in soundtrack_patches(str(path), FRONT_END, sample=sample):
                    assert np.isfinite(chunk.patches).all()
            except AudioError as error:
                found[-1] = error.outcome
        dense, sparse = found
        assert sparse in (dense, Outcome.OK)
        outcomes.append(sparse)
    assert Outcome.OK in outcomes
    assert kind is MP3 or {Outcome.CORRUPT, Outcome.TRUNCATED} & set(outcomes)


def test_draws_are_uniform_and_stable() -> None:
    draws = [PatchSample(9, seed).draw(288) for seed in range(4_000)]

    assert draws[0].tolist() == PatchSample(9, 0).draw(288).tolist()
    assert all(len(set(draw.tolist())) == 9 for draw in draws)
    counts = np.bincount(np.concatenate(draws), minlength=288)
    # 125 each; the chi-square of 287 degrees of freedom exceeds 370 once in a thousand times.
    assert ((counts - 125) ** 2 / 125).sum() < 370
