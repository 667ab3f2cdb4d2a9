"""Reads labelled clips and finds their audible parts, which become the sounds of soundtracks.

A clip of a data set may contain silence: before the sound, after it, or between two barks. The
times of an event are only true without silence, so a clip is cut into its audible parts.
"""

import functools
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.random import Generator

from features.contracts.sharding import split_of
from features.errors import InputError
from features.front_end.params import LogMelParams
from features.sound.outcome import AudioError
from features.sound.waveform import read_waveform
from features.storage import files
from pipelines.adapters import folder_per_label
from pipelines.adapters.imported import match_media
from pipelines.corpus.mixing import MIX_RATE_HZ
from pipelines.corpus.synthetic_sounds import fade
from pipelines.dataset.manifest import read_manifest
from pipelines.runtime.rejects import Reject

# A shorter silence belongs to the sound, because every patch that overlaps it contains sound.
_SILENCE_SECONDS = LogMelParams().patch_seconds
# Silence is so far below the loudest moment of the clip: recordings have a background.
_SILENCE_DECIBELS = 40
_FRAME_SAMPLES, _HOP_SAMPLES = 512, 160


@dataclass(frozen=True)
class Clip:
    """A labelled recording, or the part of it from start to end (seconds).

    Attributes:
      labels: as in the manifest.
      origins: what the clip was taken from; the clip itself if that is unknown.
      parts: audible parts, (start, end) in seconds of the medium; empty until `find_audible`.
      generic_labels: that hold wherever its labels do.
    """

    id: str
    uri: str
    labels: tuple[str, ...]
    split: str
    origins: tuple[str, ...]
    start: float = 0.0
    end: float | None = None
    parts: tuple[tuple[float, float], ...] = ()
    generic_labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClipSound:
    """The sound of a medium from start to end (seconds), repeated if it is too short."""

    uri: str
    start: float
    end: float

    def samples(self, num_samples: int, rng: Generator) -> np.ndarray:
        """Return float [num_samples] with a root mean square of 1, faded in and out."""
        del rng
        samples = _read(self.uri, self.start, self.end)
        return fade(np.resize(samples, num_samples), MIX_RATE_HZ)


def read_clips(
    path: str, *, pattern: str = folder_per_label.FIRST_FOLDER
) -> tuple[list[Clip], list[Reject]]:
    """Read the clips of a manifest with our column names, or of a folder with a folder per label.

    A missing split is drawn as in pipelines.prepare_dataset: by a hash of the group, or of the id
    if there is no group.

    Args:
      path: of the manifest or the folder.
      pattern: how a path below the folder gives the label; see `folder_per_label.read`.

    Raises:
      InputError: the path does not exist, or the manifest cannot be used.
    """
    path = files.absolute(path)
    if Path(path).is_dir():
        listing = folder_per_label.read(path, pattern=pattern)
        found = match_media(listing, {}, listing.split_values)
        clips = [
            Clip(row.id, row.uri, row.labels, row.split, (row.group or row.id,))
            for row in found.rows
        ]
        return clips, found.left_out
    table, rejects = read_manifest(path)
    clips = [
        Clip(
            id=row["id"],
            uri=row["uri"],
            labels=tuple(row["labels"]),
            split=row["split"] or split_of(";".join(row["origins"]) or row["id"]),
            origins=tuple(row["origins"]) or (row["id"],),
            start=row["start"] or 0.0,
            end=row["end"],
        )
        for row in table.to_pylist()
    ]
    return clips, rejects


def check_origins(clips: Sequence[Clip]) -> None:
    """Check that clips of one origin are in one split.

    Raises:
      InputError: some are not; `prepare_dataset` would refuse the corpus.
    """
    split_of_origin: dict[str, str] = {}
    for clip in clips:
        for origin in clip.origins:
            if split_of_origin.setdefault(origin, clip.split) != clip.split:
                raise InputError(
                    f"clip {clip.id!r} in the split {clip.split} is from {origin!r}, of which "
                    f"another clip is in the split {split_of_origin[origin]}; a network would be "
                    "evaluated on what it was trained on: put a group into one split, and give "
                    "clips and backgrounds different ids"
                )


def find_audible(
    clips: Sequence[Clip], *, shortest: float, executor: Executor
) -> tuple[list[Clip], list[Reject]]:
    """Decode clips in parallel and find their audible parts.

    Args:
      clips: to decode.
      shortest: seconds; shorter parts are left out of clips that have a longer one.
      executor: runs the decoders.

    Returns:
      The clips that have audible parts, with these, and a reject for each other clip.
    """
    find = functools.partial(find_parts, shortest=shortest)
    found = list(executor.map(find, clips, chunksize=16))
    rejects = [reject for reject in found if isinstance(reject, Reject)]
    return [clip for clip in found if isinstance(clip, Clip)], rejects


def find_parts(clip: Clip, *, shortest: float) -> Clip | Reject:
    """Decode a clip and find its audible parts of `shortest` seconds or more, or all if none is."""
    # Imported here because the import takes 1.5 s, and processes that render do not need it.
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
    parts = tuple((clip.start + first, clip.start + last) for first, last in long_enough or joined)
    return replace(clip, parts=parts)


@functools.lru_cache(maxsize=1)  # a background is read once for each channel
def _read(uri: str, start: float, end: float | None) -> np.ndarray:
    blocks = read_waveform(uri, sample_rate_hz=MIX_RATE_HZ, start_seconds=start, end_seconds=end)
    return np.concatenate([np.empty(0, np.float32), *blocks])
