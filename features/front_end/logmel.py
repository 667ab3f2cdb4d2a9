"""Waveform to log-mel patches, in NumPy and SciPy (section 3.1).

`log_mel_patches` takes a whole waveform. `stream_patches` takes blocks and computes the same
patches, in memory that does not grow with the length of the soundtrack.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import scipy.fft

from features.front_end.params import LogMelParams

# Frames transformed at a time: 192 spectra of 257 bins stay in the second-level cache.
_FRAMES_PER_BLOCK = 192
# The mel matrix is banded: dense pieces of so many bands skip most of its zeros.
_BANDS_PER_PIECE = 16


def hertz_to_mel(hertz: np.ndarray) -> np.ndarray:
    """Convert hertz to HTK's mel scale: 1127 ln(1 + f / 700)."""
    return 1127.0 * np.log1p(np.asarray(hertz, np.float64) / 700.0)


@functools.cache
def mel_weights(params: LogMelParams) -> np.ndarray:
    """The mel filters: triangles linear in mel, of peak 1, without area normalisation.

    Returns:
      float64 [fft bins, mel bands]. The row of frequency zero is zero.
    """
    bin_mels = hertz_to_mel(np.linspace(0.0, params.sample_rate_hz / 2, params.num_fft_bins))
    lowest, highest = hertz_to_mel(np.array([params.mel_min_hz, params.mel_max_hz]))
    edges = np.linspace(lowest, highest, params.num_mel_bands + 2)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    rising = (bin_mels[:, None] - lower) / (centre - lower)
    falling = (upper - bin_mels[:, None]) / (upper - centre)
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0
    weights.flags.writeable = False
    return weights


@functools.cache
def hann_window(params: LogMelParams) -> np.ndarray:
    """The periodic Hann window, float64 [window samples]."""
    phase = 2 * np.pi * np.arange(params.window_samples) / params.window_samples
    window = 0.5 - 0.5 * np.cos(phase)
    window.flags.writeable = False
    return window


@functools.cache
def _windows(params: LogMelParams, dtype: str) -> np.ndarray:
    """The window and its padding, repeated for each frame of a block: [block, fft length]."""
    padding = (0, params.fft_length - params.window_samples)
    window = np.pad(hann_window(params), padding).astype(dtype)
    return np.tile(window, (_FRAMES_PER_BLOCK, 1))


@functools.cache
def _mel_pieces(params: LogMelParams, dtype: str) -> list[tuple[slice, slice, np.ndarray]]:
    """The banded mel matrix as dense pieces: (bins, bands, weights [bins, bands])."""
    weights = mel_weights(params)
    pieces = []
    for start in range(0, params.num_mel_bands, _BANDS_PER_PIECE):
        bands = slice(start, min(start + _BANDS_PER_PIECE, params.num_mel_bands))
        rows = np.flatnonzero(weights[:, bands].any(axis=1))
        bins = slice(int(rows[0]), int(rows[-1]) + 1) if rows.size else slice(0, 0)
        pieces.append((bins, bands, np.ascontiguousarray(weights[bins, bands], dtype)))
    return pieces


def log_mel_spectrogram(waveform: np.ndarray, params: LogMelParams) -> np.ndarray:
    """Compute the log-mel spectrogram: ln(mel-weighted magnitude + offset).

    Args:
      waveform: float [samples], mono in [-1, 1) at `params.sample_rate_hz`.
      params: the front end.

    Returns:
      [frames, mel bands], float64 if the waveform is float64, else float32.

    Raises:
      TypeError: the waveform holds integers; divide them by their full scale first.
      ValueError: the waveform is not one-dimensional.
    """
    dtype = _computing_dtype(waveform)
    waveform = np.ascontiguousarray(waveform, dtype)
    num_frames = params.num_frames(len(waveform))
    log_mel = np.empty((num_frames, params.num_mel_bands), dtype)
    if num_frames == 0:
        return log_mel
    frames = np.lib.stride_tricks.sliding_window_view(waveform, params.window_samples)
    frames = frames[:: params.hop_samples]  # [frames, window], a view
    windows = _windows(params, dtype.str)
    pieces = _mel_pieces(params, dtype.str)
    padded = np.empty((min(num_frames, _FRAMES_PER_BLOCK), params.fft_length), dtype)
    padded[:, params.window_samples :] = 0.0
    for start in range(0, num_frames, _FRAMES_PER_BLOCK):
        mel = log_mel[start : start + _FRAMES_PER_BLOCK]
        windowed = padded[: len(mel)]  # [block, fft length]
        # Copied, then multiplied as one contiguous array: half the time of a product by rows.
        windowed[:, : params.window_samples] = frames[start : start + _FRAMES_PER_BLOCK]
        windowed *= windows[: len(mel)]
        # SciPy transforms float32 in float32, in half the time of float64.
        magnitude = np.abs(scipy.fft.rfft(windowed, axis=1))  # [block, bins]
        for bins, bands, weights in pieces:
            np.matmul(magnitude[:, bins], weights, out=mel[:, bands])
    log_mel += dtype.type(params.log_offset)
    return np.log(log_mel, out=log_mel)


def cut_patches(log_mel: np.ndarray, params: LogMelParams) -> np.ndarray:
    """Cut a spectrogram [frames, bands] into patches [patches, patch frames, bands]; a view."""
    if len(log_mel) < params.patch_frames:
        return np.empty((0, *params.patch_shape), log_mel.dtype)
    windows = np.lib.stride_tricks.sliding_window_view(log_mel, params.patch_frames, axis=0)
    return windows[:: params.patch_hop_frames].transpose(0, 2, 1)


def log_mel_patches(waveform: np.ndarray, params: LogMelParams) -> np.ndarray:
    """Compute the patches of a whole waveform: its spectrogram, cut into patches.

    Args:
      waveform: float [samples], mono in [-1, 1) at `params.sample_rate_hz`.
      params: the front end.

    Returns:
      [patches, patch frames, mel bands], float64 if the waveform is float64, else float32.

    Raises:
      TypeError, ValueError: see `log_mel_spectrogram`.

    >>> log_mel_patches(np.zeros(48_000, np.float32), LogMelParams()).shape
    (3, 96, 64)
    """
    return np.ascontiguousarray(cut_patches(log_mel_spectrogram(waveform, params), params))


def stream_patches(blocks: Iterable[np.ndarray], params: LogMelParams) -> Iterator[np.ndarray]:
    """Compute the patches of a waveform that arrives in blocks of any length.

    The frames are transformed in the same groups as by `log_mel_patches`. So the patches are equal
    bit for bit, wherever the blocks are cut.

    Args:
      blocks: float32 [samples] each.
      params: the front end.

    Yields:
      float32 [patches, patch frames, mel bands], one or more patches at a time.
    """
    pending, num_samples = [np.empty(0, np.float32)], 0
    frames = np.empty((0, params.num_mel_bands), np.float32)
    for block in itertools.chain(blocks, [None]):
        if block is None:  # the end: the remaining frames are a last, smaller group
            ready = params.num_frames(num_samples)
        else:
            pending.append(block)
            num_samples += len(block)
            ready = params.num_frames(num_samples) // _FRAMES_PER_BLOCK * _FRAMES_PER_BLOCK
        if ready == 0:
            continue
        next_frame = ready * params.hop_samples
        last_sample = next_frame - params.hop_samples + params.window_samples
        samples = np.concatenate(pending)
        frames = np.concatenate([frames, log_mel_spectrogram(samples[:last_sample], params)])
        pending, num_samples = [samples[next_frame:]], num_samples - next_frame
        patches = cut_patches(frames, params)
        if len(patches):
            frames = frames[len(patches) * params.patch_hop_frames :]
            yield np.ascontiguousarray(patches)


def _computing_dtype(waveform: np.ndarray) -> np.dtype:
    if waveform.ndim != 1:
        raise ValueError(
            f"a waveform must be mono, [samples]; received shape {waveform.shape}: "
            "average its channels first"
        )
    if not np.issubdtype(waveform.dtype, np.floating):
        raise TypeError(
            f"a waveform must be float in [-1, 1); received {waveform.dtype}: "
            "divide by its full scale first (int16 by 32768)"
        )
    return np.dtype(np.float64 if waveform.dtype == np.float64 else np.float32)
