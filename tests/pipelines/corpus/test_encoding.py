"""Media files are decoded with PyAV and compared with the samples that were encoded."""

from pathlib import Path

import av
import numpy as np
import pytest
from scipy.signal import chirp

from pipelines.corpus.encoding import FORMATS, MediaFormat, write_media

SECONDS = 2.0
MAX_CODEC_DELAY_SECONDS = 0.1
ALL_FORMATS = (*FORMATS, MediaFormat(".wav", "pcm_f32le", 16_000, 2))


def chirp_samples(media_format: MediaFormat) -> np.ndarray:
    """A sweep from 200 Hz to 6 kHz, the right channel at half the level of the left."""
    seconds = np.arange(int(SECONDS * media_format.sample_rate)) / media_format.sample_rate
    left = 0.5 * chirp(seconds, 200.0, SECONDS, 6_000.0)
    gains = np.array([1.0, 0.5])[: media_format.num_channels]
    return (left[:, np.newaxis] * gains).astype(np.float32)


def write(path: Path, media_format: MediaFormat, samples: np.ndarray) -> bytes:
    write_media(
        path,
        samples,
        sample_rate=media_format.sample_rate,
        codec=media_format.codec,
        video=media_format.video,
    )
    return path.read_bytes()


def decode(path: Path) -> tuple[np.ndarray, int]:
    """Returns float64 [num_samples, num_channels] and the sample rate."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        blocks = []
        for frame in container.decode(stream):
            block = frame.to_ndarray()
            if not frame.format.is_planar:
                block = block.reshape(-1, stream.channels).T
            full_scale = 2**15 if block.dtype == np.int16 else 1
            blocks.append(block.astype(np.float64) / full_scale)
        return np.concatenate(blocks, axis=1).T, stream.rate


@pytest.mark.parametrize("media_format", ALL_FORMATS, ids=lambda f: f"{f.codec}{f.suffix}")
class TestEveryFormat:
    def test_decoded_samples_are_the_encoded_samples(self, tmp_path, media_format):
        samples = chirp_samples(media_format)
        path = tmp_path / f"sound{media_format.suffix}"
        write(path, media_format, samples)

        decoded, sample_rate = decode(path)

        assert sample_rate == media_format.sample_rate
        assert decoded.shape[1] == media_format.num_channels
        assert len(decoded) / sample_rate == pytest.approx(SECONDS, abs=MAX_CODEC_DELAY_SECONDS)
        num_common = min(len(samples), len(decoded))
        for channel in range(media_format.num_channels):
            original, copy = samples[:num_common, channel], decoded[:num_common, channel]
            assert np.corrcoef(original, copy)[0, 1] > 0.98
            assert copy.std() == pytest.approx(original.std(), rel=0.05)

    def test_same_input_gives_same_bytes(self, tmp_path, media_format):
        samples = chirp_samples(media_format)
        first = write(tmp_path / f"first{media_format.suffix}", media_format, samples)
        second = write(tmp_path / f"second{media_format.suffix}", media_format, samples)
        assert first == second

    def test_video_moves_and_lasts_as_long_as_the_sound(self, tmp_path, media_format):
        path = tmp_path / f"film{media_format.suffix}"
        write(path, media_format, chirp_samples(media_format))
        with av.open(str(path)) as container:
            assert bool(container.streams.video) == media_format.video
            if media_format.video:
                pictures = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
                assert len(pictures) == 20  # two seconds, ten a second
                assert not np.array_equal(pictures[0], pictures[8])


@pytest.mark.parametrize("shape", [(100,), (100, 3), (0, 1)])
def test_samples_of_another_shape_are_refused(tmp_path, shape):
    with pytest.raises(ValueError, match="samples must be"):
        write_media(tmp_path / "a.wav", np.zeros(shape), sample_rate=8_000, codec="pcm_s16le")


def test_video_in_a_sound_container_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'\.wav'"):
        write_media(
            tmp_path / "a.wav",
            np.zeros((100, 1)),
            sample_rate=8_000,
            codec="pcm_s16le",
            video=True,
        )
