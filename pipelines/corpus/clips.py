"""Labelled clips as sounds to mix: where each of them is to be heard, and its samples.

A clip of a data set may hold silence, before a sound, after it, or between two barks. The times of
an event are only true if there is none in it, so a clip is cut into its audible parts.
"""

import functools
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator

from features.contracts.sharding import split_of
from features.front_end.params import LogMelParams
from features.sound.outcome import AudioError
from features.sound.waveform import read_waveform
from features.storage import files
from pipelines.adapters import folder_per_label, imported
from pipelines.corpus.mixing import MIX_RATE_HZ
from pipelines.corpus.synthetic_sounds import faded
from pipelines.dataset.manifest import read_manifest
from pipelines.runtime.rejects import Reject

# A silence shorter than a patch belongs to the sound: every patch in it holds some of that.
_SILENCE_SECONDS = LogMelParams().patch_seconds
# Below the loudest moment of the clip; recordings have their own background.
_SILENCE_DECIBELS = 40
_FRAME_SAMPLES, _HOP_SAMPLES = 512, 160


@dataclass(frozen=True)
class Clip:
    """A labelled recording, or the part of it from start to end (seconds)."""

    id: str
    uri: str
    labels: tuple[str, ...]
    split: str
    start: float = 0.0
    end: float | None = None


@dataclass(frozen=True)
class ClipSound:
    """The sound of a medium from start to end (seconds); again and again, where it is too short."""

    uri: str
    start: float
    end: float

    def samples(self, num_samples: int, rng: Generator) -> np.ndarray:
        """Float [num_samples] with a root mean square of 1, faded in and out."""
        del rng
        samples = _read(self.uri, self.start, self.end)
        return faded(np.resize(samples, num_samples), MIX_RATE_HZ)


@dataclass(frozen=True)
class AudibleClip:
    """A clip and its audible parts, [(start, end)] in seconds of its medium."""

    clip: Clip
    parts: tuple[tuple[float, float], ...]


def read_clips(
    path: str, *, pattern: str = folder_per_label.FIRST_FOLDER
) -> tuple[list[Clip], list[Reject]]:
    """The clips of a manifest with our column names, or of a folder with one folder a label.

    A split that is not given is drawn as pipelines.prepare_dataset does: by the hash of the group,
    where there is one, and else of the id.

    Args:
      path: of the manifest or the folder.
      pattern: what the paths below a folder say, as of `folder_per_label.read`.

    Raises:
      InputError: no such path, or a manifest that cannot be used.
    """
    path = files.absolute(path)
    if Path(path).is_dir():
        listing = folder_per_label.read(path, pattern=pattern)
        found = imported.match(listing, {}, listing.split_values)
        rows, rejects = found.rows, found.left_out
    else:
        table, rejects = read_manifest(path)
        rows = table.to_pylist()
    clips = [
        Clip(
            id=row["id"],
            uri=row["uri"],
            labels=tuple(row["labels"]),
            split=row["split"] or split_of(row["origin"] or row["id"]),
            start=row["start"] or 0.0,
            end=row["end"],
        )
        for row in rows
    ]
    return clips, rejects


def find_audible(
    clips: Sequence[Clip], *, shortest: float, executor: Executor
) -> tuple[list[AudibleClip], list[Reject]]:
    """Decode clips and find where they are to be heard; those that never are become rejects.

    Args:
      clips: to decode.
      shortest: seconds of a part, at least.
      executor: decodes them in parallel.
    """
    audible: list[AudibleClip] = []
    rejects: list[Reject] = []
    parts = executor.map(functools.partial(audible_parts, shortest=shortest), clips, chunksize=16)
    for clip, found in zip(clips, parts, strict=True):
        if isinstance(found, Reject):
            rejects.append(found)
        else:
            audible.append(AudibleClip(clip, found))
    return audible, rejects


def audible_parts(clip: Clip, *, shortest: float) -> tuple[tuple[float, float], ...] | Reject:
    """The parts of a clip that are not silent, [(start, end)] in seconds of its medium."""
    # Only here: the import takes 1.5 s, and processes that render do without.
    from librosa.effects import split

    try:
        samples = _read(clip.uri, clip.start, clip.end)
    except AudioError as error:
        return Reject(clip.id, clip.uri, error.outcome, error.detail)
    if not samples.any():
        return Reject(clip.id, clip.uri, "silent", "all of its samples are zero")
    intervals = split(
        samples, top_db=_SILENCE_DECIBELS, frame_length=_FRAME_SAMPLES, hop_length=_HOP_SAMPLES
    )
    joined: list[tuple[float, float]] = []
    for first, last in intervals / MIX_RATE_HZ:
        if joined and first - joined[-1][1] < _SILENCE_SECONDS:
            joined[-1] = (joined[-1][0], float(last))
        else:
            joined.append((float(first), float(last)))
    long_enough = [(first, last) for first, last in joined if last - first >= shortest]
    if not long_enough:
        detail = f"nothing audible lasts {shortest:g} s; the parts are {joined}"
        return Reject(clip.id, clip.uri, "too_short", detail)
    return tuple((clip.start + first, clip.start + last) for first, last in long_enough)


@functools.lru_cache(maxsize=1)  # a background is asked for once a channel
def _read(uri: str, start: float, end: float | None) -> np.ndarray:
    blocks = read_waveform(uri, sample_rate_hz=MIX_RATE_HZ, start_seconds=start, end_seconds=end)
    return np.concatenate([np.empty(0, np.float32), *blocks])
