"""Patches of a soundtrack, all of them or a few reached by seeking."""

from pathlib import Path

import numpy as np
import pytest
from scipy.signal import lfilter

from features.front_end.front_end import FrontEnd, PatchStorage
from features.sound.outcome import AudioError, Outcome
from features.sound.soundtrack import PatchSample, soundtrack_patches
from features.sound.waveform import RESAMPLER
from pipelines.corpus.encoding import MediaFormat, write_media

FRONT_END = FrontEnd(resampler=RESAMPLER, storage=PatchStorage(dtype="float16"))
SECONDS = 60
# Log-mel of a sparse patch against the dense one, stored in float16: where timestamps are exact,
# and where Matroska rounds them to 1 ms.
EXACT, ROUNDED = 0.005, 1.5
FORMATS = (
    (MediaFormat(".mp4", "aac", 44_100, 2, video=True), EXACT),
    (MediaFormat(".m4a", "aac", 32_000, 1), EXACT),
    (MediaFormat(".flac", "flac", 48_000, 2), EXACT),
    (MediaFormat(".wav", "pcm_s16le", 22_050, 1), EXACT),
    (MediaFormat(".wav", "pcm_s16le", 16_000, 1), EXACT),
    (MediaFormat(".webm", "libopus", 48_000, 2), ROUNDED),
    # Decoded as a whole.
    (MediaFormat(".webm", "libopus", 48_000, 2, video=True), 0.0),
    (MediaFormat(".mp3", "libmp3lame", 44_100, 2), 0.0),
    (MediaFormat(".ogg", "vorbis", 44_100, 2), 0.0),
)


def write(path: Path, kind: MediaFormat) -> str:
    rng = np.random.default_rng(3)
    noise = rng.standard_normal((SECONDS * kind.sample_rate, kind.num_channels))
    swell = 1 + np.sin(np.arange(len(noise)) / kind.sample_rate * 3)[:, None]
    samples = 0.05 * swell * lfilter([1], [1, -0.9], noise, axis=0)
    write_media(
        path,
        samples.astype(np.float32),
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
    indices = np.concatenate([found for found, _ in chunks])
    return indices, np.concatenate([patches for _, patches in chunks]).astype(np.float32)


@pytest.mark.parametrize(("kind", "tolerance"), FORMATS, ids=lambda value: str(value)[:60])
def test_sampled_patches_equal_those_of_the_whole_soundtrack(
    tmp_path: Path, kind: MediaFormat, tolerance: float
) -> None:
    uri = write(tmp_path / f"sound{kind.suffix}", kind)

    all_indices, dense = collect(uri)
    indices, sparse = collect(uri, PatchSample(9, seed=5))

    assert all_indices.tolist() == list(range(len(dense)))
    assert len(indices) == 9
    assert indices.tolist() == PatchSample(9, seed=5).draw(len(dense)).tolist()
    error = np.abs(sparse - dense[indices])
    assert error.max() <= tolerance
    assert np.sqrt((error**2).mean()) <= tolerance / 10


def test_the_first_and_the_last_patch(tmp_path: Path) -> None:
    """AAC begins with a packet before the start; no seek goes beyond the end."""
    uri = write(tmp_path / "sound.m4a", FORMATS[1][0])
    _, dense = collect(uri)
    seeds = [seed for seed in range(200) if {0, 61} & set(PatchSample(3, seed).draw(62).tolist())]

    for seed in seeds[:10]:
        indices, sparse = collect(uri, PatchSample(3, seed))
        assert np.abs(sparse - dense[indices]).max() <= EXACT


def test_sampled_patches_of_a_part(tmp_path: Path) -> None:
    uri = write(tmp_path / "sound.flac", FORMATS[2][0])

    _, dense = collect(uri, start=7.3, end=41.0)
    indices, sparse = collect(uri, PatchSample(4, seed=1), start=7.3, end=41.0)

    assert len(dense) == 35
    assert np.abs(sparse - dense[indices]).max() <= EXACT


def test_a_sample_of_more_than_all_patches_is_all_patches(tmp_path: Path) -> None:
    uri = write(tmp_path / "sound.wav", FORMATS[4][0])

    indices, patches = collect(uri, PatchSample(1_000, seed=1))

    assert indices.tolist() == list(range(62))
    np.testing.assert_array_equal(patches, collect(uri)[1])


def test_a_truncated_file_is_detected_at_a_missing_patch(tmp_path: Path) -> None:
    path = tmp_path / "sound.flac"
    write(path, FORMATS[2][0])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    with pytest.raises(AudioError) as error:
        collect(str(path), PatchSample(9, seed=5))

    # A seek into the missing half ends beyond the file, or in the packet that was cut.
    assert error.value.outcome in {Outcome.TRUNCATED, Outcome.CORRUPT}


def test_draws_are_uniform_and_stable() -> None:
    draws = [PatchSample(9, seed).draw(288) for seed in range(4_000)]

    assert draws[0].tolist() == PatchSample(9, 0).draw(288).tolist()
    assert all(len(set(draw.tolist())) == 9 for draw in draws)
    counts = np.bincount(np.concatenate(draws), minlength=288)
    # 125 each; the chi-square of 287 degrees of freedom exceeds 370 once in a thousand times.
    assert ((counts - 125) ** 2 / 125).sum() < 370
