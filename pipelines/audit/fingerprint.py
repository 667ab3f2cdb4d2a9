"""Recognises one soundtrack in two encodings, from its stored log-mel patches alone.

A patch is averaged over cells of 120 ms and 6 mel bands below 4 kHz, which codecs, sample rates of
8 kHz and more, gains, and delays of some milliseconds leave as they are. The mean over time and
over bands is taken away, and with it gain and filtering. Of what is left, the stronger half of the
cells become marks: louder (+1) or softer (-1) than expected. Silence and steady tones leave no
mark, and so resemble nothing.

Prints are compared where they share a bucket: min-hashes (Broder 1997) of their sets of marks.
The paper is silent on duplicates; cells and threshold were chosen on ESC-10 and the demo corpus.
"""

import hashlib
import math

import numpy as np

# Patches that a print covers: the first half minute. It keeps prints small, 16 bytes a patch.
COVERED_PATCHES = 32
# Frames of 10 ms in such a patch, whatever the patches of the features.
_PATCH_FRAMES = 96
COVERED_SECONDS = COVERED_PATCHES * _PATCH_FRAMES / 100
# From here on two soundtracks are one. Of 59,000 pairs of different soundtracks all stayed below
# 0.46, but for two excerpts that overlap; of copies as MP3, AAC and Vorbis, 97 % or more lie above.
SAME = 0.5
# With fewer marks in common parts (three patches have this many) chance is not ruled out.
MIN_MARKS = 96

_TIME_CELLS, _BAND_CELLS = 8, 8
_NUM_CELLS = _TIME_CELLS * _BAND_CELLS
# Above 4 kHz a copy of a low rate or bitrate has nothing.
_SHARE_OF_BANDS = 0.75
# In units of ln: below it lies the rounding of stored values, and nothing that is heard.
_FAINTEST = 0.05

_NUM_TABLES = 32
_MIN_ROWS, _MAX_ROWS = 4, 12
# Two different soundtracks share this part of their marks.
_CHANCE_SHARE = 1 / 8


def make_print(log_mel: np.ndarray) -> np.ndarray:
    """The print of a soundtrack.

    Args:
      log_mel: float [patches, patch frames, mel bands], in order of time, from the start on. They
        are joined and cut anew where they are not of 96 frames.

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


def marks_of(prints: np.ndarray) -> np.ndarray:
    """A print as float32 [patches, cells] of -1, 0 and 1."""
    bits = np.unpackbits(prints, axis=2).astype(np.float32)
    return bits[:, 0] - bits[:, 1]


def comparable(prints: np.ndarray) -> bool:
    """Whether a print has enough marks to be recognised."""
    return int(np.count_nonzero(marks_of(prints))) >= MIN_MARKS


def likeness(first: np.ndarray, second: np.ndarray) -> float:
    """How much two soundtracks resemble each other in step, less half of that out of step.

    A clock that ticks resembles every clock; what repeats itself is worth half as evidence.

    Args:
      first: a print.
      second: another; the patches that both have are compared.

    Returns:
      The cosine of their marks less half that of neighbouring patches, about 0 for different
      soundtracks and 1 for one; 0 where either has fewer than `MIN_MARKS`.
    """
    num_patches = min(len(first), len(second))
    one, other = marks_of(first[:num_patches]), marks_of(second[:num_patches])
    if min(np.count_nonzero(one), np.count_nonzero(other)) < MIN_MARKS:
        return 0.0
    out_of_step = max(_cosine(one[:-1], other[1:]), _cosine(one[1:], other[:-1]), 0.0)
    return _cosine(one, other) - out_of_step / 2


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    norm = math.sqrt(np.count_nonzero(one) * np.count_nonzero(other))
    return float(np.sum(one * other)) / norm if norm else 0.0


def num_rows(num_videos: int) -> int:
    """Min-hashes in one key: so many that a soundtrack meets few others of a corpus by chance."""
    rows = math.ceil(math.log(max(num_videos, 2)) / -math.log(_CHANCE_SHARE))
    return min(max(rows, _MIN_ROWS), _MAX_ROWS)


def bucket_keys(prints: np.ndarray, rows: int) -> list[bytes]:
    """Keys of which two copies share at least one, very likely; none where marks are too few.

    Copies that share a part s of all their marks meet with probability 1 - (1 - s^rows)^32.

    Args:
      prints: of a soundtrack.
      rows: min-hashes in a key, from `num_rows` of the corpus.
    """
    marks = marks_of(prints)
    patches, cells = np.nonzero(marks)
    if len(cells) < MIN_MARKS:
        return []
    features = 2 * (_NUM_CELLS * patches + cells) + (marks[patches, cells] > 0)
    # A family of hashes: multiply, fold, multiply; wrapping around is meant.
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
