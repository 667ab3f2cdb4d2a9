"""Read what the page of a soundtrack shows: spectrogram, scores over time, and sound."""

import dataclasses
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.report.clip import SAMPLE_RATE_HZ, Clip, encode_clip
from evaluation.report.figure import SoundtrackView
from evaluation.scoring import media
from evaluation.scoring.shard import read_vectors
from features.contracts import folders, sharding
from features.contracts.documents import Features, Scores
from features.contracts.labels import read_vocabulary
from features.contracts.scores import FRAMES, PARQUET_SUFFIX, SCORES
from features.contracts.shards import PATCHES, read_records
from features.contracts.videos import VIDEO_FILES
from features.errors import ContractError, InputError
from features.front_end.front_end import FrontEnd
from features.front_end.params import LogMelParams
from features.sound.outcome import AudioError, Outcome
from features.sound.waveform import RESAMPLER, read_waveform
from features.storage import files

# Number of score files that are searched for the soundtrack of a report.
_FILES_SEARCHED = 8
# To decode a medium for its spectrogram.
_TIMEOUT_SECONDS = 900.0


class NoSpectrogramError(ContractError):
    """A medium that would have to be decoded for its spectrogram cannot be."""


@dataclasses.dataclass(frozen=True)
class Medium:
    """The sound of a video: a media file, or the part of a file from start to end (seconds)."""

    uri: str
    start: float | None = None
    end: float | None = None


def open_frame_scores(folder: str) -> tuple[str, Scores]:
    """Open a SCORES folder of which soundtracks can be shown.

    Returns:
      The absolute path, and `scores.json`.

    Raises:
      InputError: the folder has no scores of patches.
    """
    source = files.absolute(folder)
    scores = folders.read_document(source, Scores)
    if not scores.frame_scores:
        raise InputError(f"--scores {source}: no frame scores; score with --frame-scores first")
    return source, scores


def choose_soundtrack(scores_folder: str, scores: Scores) -> str:
    """Choose a video with many labels, and of these a long one, from the first score files."""
    best = (0, 0, "")
    paths = files.list_files(scores_folder, f"{scores.split}/*/{SCORES}-*{PARQUET_SUFFIX}")
    for path in paths[:_FILES_SEARCHED]:
        for row in _read(path, columns=["video_id", "num_patches", "labels"]).to_pylist():
            best = max(best, (len(row["labels"]), row["num_patches"], row["video_id"]))
    return best[2]


def read_soundtrack(
    scores_folder: str, scores: Scores, video_id: str, medium: Medium | None
) -> SoundtrackView:
    """Read the spectrogram and the frame scores of a video.

    Args:
      scores_folder: SCORES, with frame scores.
      scores: `scores.json` of the folder.
      video_id: a video of the folder.
      medium: of the video, which is decoded for its spectrogram if media or embeddings of media
        were scored; None for a video that the data set does not have.

    Raises:
      InputError: the folder has no such video.
      ContractError: the scored features no longer exist.
      NoSpectrogramError: see `decode_log_mel`.
    """
    for group, num_shards in scores.num_shards.items():
        key = sharding.shard_of(video_id, scores.split, num_shards, group)
        path = files.join(scores_folder, key.path(FRAMES)) + PARQUET_SUFFIX
        table = _read(path, filters=[("video_id", "==", video_id)])
        if len(table) == 0:
            continue
        table = table.sort_by("start_seconds")  # patches of training videos are permuted
        path = files.join(scores_folder, key.path(SCORES)) + PARQUET_SUFFIX
        scored = _read(path, columns=["labels"], filters=[("video_id", "==", video_id)])
        (labels,) = scored["labels"].to_pylist()
        values = read_vectors(table["scores"])
        num_labels = values.shape[1]
        log_mel, params = _read_log_mel(scores, key, video_id, medium)
        return SoundtrackView(
            title=video_id,
            uri=medium.uri if medium else video_id,
            params=params,
            log_mel=log_mel,
            label_names=read_vocabulary(scores_folder).names[:num_labels],
            labels=[label for label in labels if label < num_labels],
            scores=values,
            start_seconds=table["start_seconds"].to_numpy(),
        )
    raise InputError(f"{scores_folder} has no frame scores of the video {video_id!r}")


def _read_log_mel(
    scores: Scores, key: sharding.ShardKey, video_id: str, medium: Medium | None
) -> tuple[np.ndarray, LogMelParams]:
    """Read the spectrogram of a video of a shard from features; else decode its medium."""
    if scores.features is None:
        assert scores.patch_seconds is not None  # only scores of a network have frame scores
        return decode_log_mel(medium, scores.patch_seconds)
    features_folder, features = _shown_features(scores, scores.features)
    front_end, params = features.front_end, features.front_end.log_mel
    if front_end.embedding is not None:
        return decode_log_mel(medium, front_end.patch_seconds)
    shard = files.join(features_folder, key.path(PATCHES))
    records = [record for record in read_records(shard) if record.video_id == video_id]
    patches = b"".join(record.patch for record in records)
    stored = np.frombuffer(patches, front_end.storage.dtype)
    starts = np.array([record.start_seconds for record in records])
    decoded = front_end.storage.decode(stored).reshape(-1, *params.patch_shape)
    return timeline(decoded, starts, params), params


def _shown_features(scores: Scores, folder: str) -> tuple[str, Features]:
    """Find the features that were scored, or whose embeddings were scored.

    They are log-mel patches, or embeddings of media. The shards of embeddings have the same videos
    as the shards of their features.
    """
    features = folders.read_document(folder, Features)
    split = features.splits.get(scores.split)
    folders.require_equal(
        "fingerprint",
        expected=scores.features_fingerprint,
        received=split and split.fingerprint,
        where=folder,
        cure="score these features to see them",
    )
    while features.features is not None:
        expected, folder = features.features_fingerprint, features.features
        features = folders.read_document(folder, Features)
        folders.require_equal(
            "fingerprint",
            expected=expected,
            received=features.fingerprint,
            where=folder,
            cure="extract and score their embeddings to see them",
        )
    return folder, features


def decode_log_mel(medium: Medium | None, patch_seconds: float) -> tuple[np.ndarray, LogMelParams]:
    """Decode a medium to the spectrogram to show for a network that takes something else.

    Args:
      medium: None for a video that the data set does not have.
      patch_seconds: length of the sound of a score.

    Returns:
      `timeline`, and the parameters for the view.

    Raises:
      NoSpectrogramError: the medium is missing, damaged, or too short.
    """
    if medium is None:
        raise NoSpectrogramError("the data set no longer has it, so there is no spectrogram")
    front_end = FrontEnd(resampler=RESAMPLER)
    decoded = media.decode(
        medium.uri,
        front_end,
        start_seconds=medium.start or 0.0,
        end_seconds=medium.end,
        timeout_seconds=_TIMEOUT_SECONDS,
    )
    if not len(decoded.stored):
        raise NoSpectrogramError(
            f"{medium.uri} has no spectrogram: {decoded.outcome}: {decoded.detail}"
        )
    params = front_end.log_mel
    log_mel = timeline(front_end.storage.decode(decoded.stored), decoded.start_seconds, params)
    return log_mel, dataclasses.replace(params, patch_seconds=patch_seconds)


def timeline(patches: np.ndarray, start_seconds: np.ndarray, params: LogMelParams) -> np.ndarray:
    """Place patches on the time axis of the soundtrack.

    Args:
      patches: [patches, patch frames, mel bands] log-mel.
      start_seconds: [patches].
      params: of the patches.

    Returns:
      float32 [frames, mel bands]; NaN in frames without a patch.
    """
    firsts = np.round(start_seconds / params.hop_seconds).astype(np.int64)
    num_frames = int(firsts.max(initial=-params.patch_frames)) + params.patch_frames
    log_mel = np.full((num_frames, params.num_mel_bands), np.nan, np.float32)
    for first, patch in zip(firsts, patches, strict=True):
        log_mel[first : first + params.patch_frames] = patch
    return log_mel


def find_media(scores: Scores, video_ids: Collection[str]) -> Mapping[str, Medium]:
    """Look up the media of videos in the data set, in one pass.

    Args:
      scores: of the videos.
      video_ids: of the videos.

    Returns:
      Id -> medium; without the videos that the data set no longer has.
    """
    assert scores.dataset is not None  # only scores of a network have frame scores
    return find_media_in(scores.dataset, video_ids)


def find_media_in(dataset: str, video_ids: Collection[str]) -> Mapping[str, Medium]:
    """`find_media` for a DATASET folder."""
    found = {}
    for path in files.list_files(dataset, VIDEO_FILES):
        table = _read(
            path, columns=["id", "uri", "start", "end"], filters=[("id", "in", list(video_ids))]
        )
        for row in table.to_pylist():
            found[row["id"]] = Medium(row["uri"], row["start"], row["end"])
    return found


def read_clip(medium: Medium | None, view: SoundtrackView) -> Clip | None:
    """Encode the sound for the page of `view`; None, and a message on stderr, if there is none."""
    seconds = len(view.log_mel) * view.params.hop_seconds
    return read_sound(medium, title=view.title, expected_seconds=seconds)


def read_sound(medium: Medium | None, *, title: str, expected_seconds: float) -> Clip | None:
    """Encode the sound of a medium; None, and a message on stderr, if there is none.

    Args:
      medium: None for a video that the data set does not have.
      title: of the video, for messages.
      expected_seconds: approximate length.
    """
    if medium is None:
        print(f"{title}: the data set no longer has it; no sound on the page", file=sys.stderr)
        return None
    try:
        return encode_clip(_until_damage(medium), expected_seconds=expected_seconds)
    except AudioError as error:
        print(f"{title}: {error}; no sound on the page", file=sys.stderr)
        return None


def _until_damage(medium: Medium) -> Iterator[np.ndarray]:
    """The sound of a medium; if the medium is truncated, the part before the cut."""
    try:
        yield from read_waveform(
            medium.uri,
            sample_rate_hz=SAMPLE_RATE_HZ,
            start_seconds=medium.start or 0.0,
            end_seconds=medium.end,
        )
    except AudioError as error:
        if error.outcome != Outcome.TRUNCATED:
            raise


def _read(path: str, **options: Any) -> pa.Table:
    """Read a Parquet file; without rows if it does not exist, as for a shard without patches."""
    try:
        with files.open_read(path) as file:
            return pq.read_table(file, **options)
    except FileNotFoundError:
        return pa.table({})
