"""The sound of a page, decoded again."""

import base64
import io

import av
import numpy as np
import pytest

from evaluation.report.clip import SAMPLE_RATE_HZ, encode_clip


def decode(content: bytes) -> np.ndarray:
    """Mono samples at 48 kHz, the rate at which Opus always decodes."""
    with av.open(io.BytesIO(content)) as container:
        assert container.streams.audio[0].codec_context.name in ("opus", "libopus")
        frames = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    return np.concatenate(frames)


def test_a_tone_stays_in_tune_and_in_time():
    seconds = 3.3
    time = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tone = (0.25 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32)
    tone[: SAMPLE_RATE_HZ * 2] = 0  # silence for two seconds

    # In uneven blocks, as decoders give them.
    clip = encode_clip(np.split(tone, [100, 20_000, 60_001]), expected_seconds=seconds)

    assert clip.seconds == pytest.approx(seconds, abs=1e-4)
    decoded = decode(base64.b64decode(clip.data_uri.removeprefix("data:audio/webm;base64,")))
    assert len(decoded) / 48_000 == pytest.approx(seconds, abs=0.05)
    loud = np.flatnonzero(np.abs(decoded) > 0.1)
    assert loud[0] / 48_000 == pytest.approx(2.0, abs=0.02)
    spectrum = np.abs(np.fft.rfft(decoded[loud[0] + 4800 :][:48_000]))
    assert spectrum.argmax() == 1000


def test_a_long_soundtrack_gets_a_lower_bit_rate():
    rng = np.random.default_rng(2)
    noise = (0.1 * rng.standard_normal(10 * SAMPLE_RATE_HZ)).astype(np.float32)

    short = encode_clip([noise], expected_seconds=10)
    long = encode_clip([noise], expected_seconds=10 * 3600)

    assert 30_000 < len(short.content) * 8 / 10 < 60_000
    assert len(long.content) * 8 / 10 < 16_000
    assert short == encode_clip([noise], expected_seconds=10)  # the same bytes
