"""Fingerprints that recognise one soundtrack in two encodings, from stored log-mel patches alone.

A patch is averaged over cells of 120 ms and 6 mel bands below 4 kHz. Codecs, sample rates of 8 kHz
and more, gains, and delays of some milliseconds hardly change these averages. The means over time
and over bands are subtracted, which removes gain and filtering. The stronger half of the cells
become marks: louder (+1) or softer (-1) than expected. Silence and steady tones leave no mark, and
so match nothing.

Fingerprints are compared if they share a bucket: min-hashes (Broder 1997) of their sets of marks.
The paper does not treat duplicates; cells and threshold were chosen on ESC-10 and the demo corpus.
"""

import hashlib
import math

import numpy as np

# Patches in a fingerprint, 16 bytes each: the first half minute.
COVERED_PATCHES = 32
# Frames of 10 ms in these patches; the patches of the features may have another length.
_PATCH_FRAMES = 96
COVERED_SECONDS = COVERED_PATCHES * _PATCH_FRAMES / 100
# Soundtracks of this likeness or more are the same. All of 59,000 pairs of different soundtracks
# were below 0.46, except for two overlapping excerpts; 97 % of MP3, AAC and Vorbis copies were not.
THRESHOLD = 0.5
# Fewer marks (three patches have this many) may match by chance.
MIN_MARKS = 96

_TIME_CELLS, _BAND_CELLS = 8, 8
_NUM_CELLS = _TIME_CELLS * _BAND_CELLS
# A copy of a low sample rate or bitrate has nothing above 4 kHz.
_SHARE_OF_BANDS = 0.75
# In units of ln: smaller differences are rounding of stored values.
_FAINTEST = 0.05

_NUM_TABLES = 32
_MIN_ROWS, _MAX_ROWS = 4, 12
# Share of marks that two different soundtracks have in common.
_CHANCE_SHARE = 1 / 8


def compute_fingerprint(log_mel: np.ndarray) -> np.ndarray:
    """Compute the fingerprint of a soundtrack.

    Args:
      log_mel: float [patches, patch frames, mel bands], in order of time, from the start. They are
        joined and cut into patches of 96 frames.

    Returns:
      uint8 [min(patches of 96 frames, COVERED_PATCHES), 2, 8]: bits of the cells marked +1 and
      marked -1.
    """
    frames = log_mel.reshape(-1, log_mel.shape[2])
    num_patches = min(len(frames) // _PATCH_FRAMES, COVERED_PATCHES)
    num_bands = int(log_mel.shape[2] * _SHARE_OF_BANDS)
    shape = (
        num_patches,
        _TIME_CELLS,
        _PATCH_FRAMES // _TIME_CELLS,
        _BAND_CELLS,
        num_bands // _BAND_CELLS,
    )
    covered = frames[: num_patches * _PATCH_FRAMES, :num_bands]
    cells = covered.reshape(shape).mean(axis=(2, 4))
    cells = cells - cells.mean(axis=1, keepdims=True)
    cells -= cells.mean(axis=2, keepdims=True)
    cells = cells.reshape(-1, _NUM_CELLS)
    strength = np.abs(cells)
    strong = strength > np.maximum(np.median(strength, axis=1, keepdims=True), _FAINTEST)
    return np.packbits(np.stack([strong & (cells > 0), strong & (cells < 0)], axis=1), axis=2)


def unpack_marks(packed: np.ndarray) -> np.ndarray:
    """Unpack a fingerprint to float32 [patches, cells] of -1, 0 and 1."""
    bits = np.unpackbits(packed, axis=2).astype(np.float32)
    return bits[:, 0] - bits[:, 1]


def is_comparable(packed: np.ndarray) -> bool:
    """Whether a fingerprint has enough marks to be recognised."""
    return int(np.count_nonzero(unpack_marks(packed))) >= MIN_MARKS


def likeness(first: np.ndarray, second: np.ndarray) -> float:
    """Likeness of two soundtracks: their similarity in step, less half of that out of step.

    The second term is for soundtracks that repeat themselves: a ticking clock is similar to every
    ticking clock.

    Args:
      first: a fingerprint.
      second: another fingerprint; the patches that both have are compared.

    Returns:
      The cosine of the marks less half the cosine of marks in neighbouring patches. About 0 for
      different soundtracks and 1 for the same; 0 if either has fewer than `MIN_MARKS`.
    """
    num_patches = min(len(first), len(second))
    a, b = unpack_marks(first[:num_patches]), unpack_marks(second[:num_patches])
    if min(np.count_nonzero(a), np.count_nonzero(b)) < MIN_MARKS:
        return 0.0
    out_of_step = max(_cosine(a[:-1], b[1:]), _cosine(a[1:], b[:-1]), 0.0)
    return _cosine(a, b) - out_of_step / 2


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    norm = math.sqrt(np.count_nonzero(a) * np.count_nonzero(b))
    return float(np.sum(a * b)) / norm if norm else 0.0


def num_rows(num_videos: int) -> int:
    """Number of min-hashes in a key, so that few soundtracks of a corpus share a key by chance."""
    rows = math.ceil(math.log(max(num_videos, 2)) / -math.log(_CHANCE_SHARE))
    return min(max(rows, _MIN_ROWS), _MAX_ROWS)


def bucket_keys(packed: np.ndarray, rows: int) -> list[bytes]:
    """Compute keys such that two copies very likely share a key.

    Copies that have a share s of their marks in common share a key with probability
    1 - (1 - s^rows)^32.

    Args:
      packed: fingerprint of a soundtrack.
      rows: min-hashes in a key, from `num_rows` of the corpus.

    Returns:
      32 keys; none if there are fewer than `MIN_MARKS`.
    """
    marks = unpack_marks(packed)
    patches, cells = np.nonzero(marks)
    if len(cells) < MIN_MARKS:
        return []
    features = 2 * (_NUM_CELLS * patches + cells) + (marks[patches, cells] > 0)
    # A family of hashes: multiply, fold, multiply, all modulo 2^64.
    odd = np.random.PCG64(0).random_raw(_NUM_TABLES * rows) | np.uint64(1)
    hashes = (features[:, None].astype(np.uint64) + np.uint64(1)) * odd  # [marks, hashes]
    hashes ^= hashes >> np.uint64(31)
    hashes *= np.uint64(0x9E3779B97F4A7C15)
    hashes ^= hashes >> np.uint64(32)
    tables = hashes.min(axis=0).reshape(_NUM_TABLES, rows)
    return [
        hashlib.blake2b(table.tobytes(), digest_size=8, person=b"table %d" % index).digest()
        for index, table in enumerate(tables)
    ]
