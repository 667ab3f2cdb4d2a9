"""TODO docstring."""

import dataclasses
import json
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.report.clip import SAMPLE_RATE_HZ, Clip, encode_clip
from evaluation.report.figure import SoundtrackView
from evaluation.report.page import render_soundtrack
from evaluation.scoring.shard import (
    FRAMES,
    PARQUET_SUFFIX,
    SCORES,
    read_vectors,
)
from features.contracts import folders, sharding
from features.contracts.folders import FEATURES, read_root, require_equal
from features.contracts.labels import read_vocabulary
from features.contracts.shards import PATCHES, SIDECAR_SUFFIX, read_records
from features.contracts.videos import VIDEO_FILES
from features.errors import InputError
from features.front_end.front_end import FrontEnd
from features.front_end.params import LogMelParams
from features.sound.outcome import AudioError, Outcome
from features.sound.waveform import read_waveform
from features.storage import files as storage

# Score files that are looked through for a soundtrack worth showing.
_FILES_SEARCHED = 8


@dataclasses.dataclass(frozen=True)
class Medium:
    """Where the sound of a video is: a media file, or the part of one from start to end (s)."""

    uri: str
    start: float | None = None
    end: float | None = None


def files(scores_folder: str, document: Mapping[str, Any], kind: str) -> list[str]:
    """The files of a SCORES folder of one kind, `SCORES` or `FRAMES`.

    Args:
      scores_folder: SCORES.
      document: its `scores.json`.
      kind: of file.
    """
    return storage.list_files(scores_folder, f"{document['split']}/*/{kind}-*{PARQUET_SUFFIX}")


def open_frame_scores(folder: str) -> tuple[str, dict[str, Any]]:
    """A SCORES folder, absolute, and its `scores.json`.

    Raises:
      InputError: it has no scores of patches.
    """
    source = storage.absolute(folder)
    document = folders.read_root(source, folders.SCORES)
    if not document["frame_scores"]:
        raise InputError(f"--scores {source}: no frame scores; score with --frame-scores first")
    return source, document


def choose_soundtrack(scores_folder: str, document: Mapping[str, Any]) -> str:
    """The video that shows most, in a few files: of those with most labels the longest."""
    best = (0, 0, "")
    for path in files(scores_folder, document, SCORES)[:_FILES_SEARCHED]:
        for row in _read(path, columns=["video_id", "num_patches", "labels"]).to_pylist():
            best = max(best, (len(row["labels"]), row["num_patches"], row["video_id"]))
    return best[2]


def read_soundtrack(
    scores_folder: str, document: Mapping[str, Any], video_id: str
) -> SoundtrackView:
    """The spectrogram and the frame scores of one video.

    Args:
      scores_folder: SCORES, with frame scores.
      document: its `scores.json`.
      video_id: one of its videos.

    Raises:
      InputError: the folder has no such video.
      ContractError: the features that were scored are not there any more.
    """
    features = read_root(document["features"], FEATURES)
    require_equal(
        "fingerprint",
        expected=document["features_fingerprint"],
        received=features["splits"].get(document["split"], {}).get("fingerprint"),
        where=document["features"],
        cure="score these features to see them",
    )
    folder, shown = _log_mel_features(document["features"], features)
    front_end = FrontEnd.from_json(shown["front_end"])
    vocabulary = read_vocabulary(scores_folder)
    for group, num_shards in document["num_shards"].items():
        key = sharding.shard_of(video_id, document["split"], num_shards, group)
        path = storage.join(scores_folder, key.path(FRAMES)) + PARQUET_SUFFIX
        table = _read(path, filters=[("video_id", "==", video_id)])
        if len(table) == 0:
            continue
        table = table.sort_by("start_seconds")  # training patches are permuted
        shard = storage.join(folder, key.path(PATCHES))
        records = [one for one in read_records(shard) if one.video_id == video_id]
        patches = np.stack([np.frombuffer(one.patch, front_end.storage.dtype) for one in records])
        scores = read_vectors(table["scores"])
        return SoundtrackView(
            title=video_id,
            uri=_uri(shard + SIDECAR_SUFFIX, video_id),
            params=front_end.log_mel,
            log_mel=timeline(
                front_end.storage.decode(patches).reshape(-1, *front_end.log_mel.patch_shape),
                np.array([one.start_seconds for one in records]),
                front_end.log_mel,
            ),
            label_names=vocabulary.names[: scores.shape[1]],
            labels=[label for label in records[0].labels if label < scores.shape[1]],
            scores=scores,
            start_seconds=table["start_seconds"].to_numpy(),
        )
    raise InputError(f"{scores_folder} has no frame scores of the video {video_id!r}")


def _log_mel_features(folder: str, features: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The features that a folder of embeddings was made from, whose shards are the same."""
    while "run" in features:
        embedded, folder = features, features["features"]
        features = read_root(folder, FEATURES)
        require_equal(
            "fingerprint",
            expected=embedded["features_fingerprint"],
            received=features["fingerprint"],
            where=folder,
            cure="extract and score their embeddings to see them",
        )
    return folder, features


def timeline(patches: np.ndarray, start_seconds: np.ndarray, params: LogMelParams) -> np.ndarray:
    """Lay patches down where they start.

    Args:
      patches: [patches, patch frames, mel bands] log-mel.
      start_seconds: [patches].
      params: of the patches.

    Returns:
      float32 [frames, mel bands]; NaN in frames that no patch covers.
    """
    firsts = np.round(start_seconds / params.hop_seconds).astype(np.int64)
    num_frames = int(firsts.max(initial=-params.patch_frames)) + params.patch_frames
    log_mel = np.full((num_frames, params.num_mel_bands), np.nan, np.float32)
    for first, patch in zip(firsts, patches, strict=True):
        log_mel[first : first + params.patch_frames] = patch
    return log_mel


def find_media(document: Mapping[str, Any], video_ids: Collection[str]) -> dict[str, Medium]:
    """Where the sound of videos is, as far as their data set still says it.

    Args:
      document: the `scores.json` of their scores.
      video_ids: of the videos; all are looked up in one pass over the data set.
    """
    dataset = read_root(document["features"], FEATURES)["dataset"]
    found = {}
    for path in storage.list_files(dataset, VIDEO_FILES):
        table = _read(
            path, columns=["id", "uri", "start", "end"], filters=[("id", "in", list(video_ids))]
        )
        for row in table.to_pylist():
            found[row["id"]] = Medium(row["uri"], row["start"], row["end"])
    return found


def read_clip(medium: Medium | None, view: SoundtrackView) -> Clip | None:
    """The sound for the page of `view`; None, and a word why, where it cannot be had."""
    if medium is None:
        print(f"{view.title}: its data set is gone; the page has no sound", file=sys.stderr)
        return None
    try:
        return encode_clip(
            _until_damage(medium), expected_seconds=len(view.log_mel) * view.params.hop_seconds
        )
    except AudioError as error:
        print(f"{view.title}: {error}; the page has no sound", file=sys.stderr)
        return None


def _until_damage(medium: Medium) -> Iterator[np.ndarray]:
    """The sound of a medium; of a truncated one, what is before the cut."""
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


def page(
    *,
    title: str,
    uri: str,
    params: LogMelParams,
    patches: np.ndarray,
    start_seconds: np.ndarray,
    scores: np.ndarray,
    label_names: Sequence[str],
) -> str:
    """The page of any media file, whose labels nobody knows.

    Args:
      title: what the page calls it.
      uri: the media file.
      params: the front end.
      patches: [patches, patch frames, mel bands] log-mel.
      start_seconds: [patches], rising.
      scores: [patches, labels] in [0, 1].
      label_names: [labels].
    """
    view = SoundtrackView(
        title=title,
        uri=uri,
        params=params,
        log_mel=timeline(patches, start_seconds, params),
        label_names=label_names,
        labels=(),
        scores=scores,
        start_seconds=start_seconds,
    )
    return render_soundtrack(view, read_clip(Medium(uri), view))


def _read(path: str, **selection: Any) -> pa.Table:
    """A Parquet file, or no rows where there is none: a shard without patches has no scores."""
    try:
        with storage.open_read(path) as file:
            return pq.read_table(file, **selection)
    except FileNotFoundError:
        return pa.table({})


def _uri(sidecar_path: str, video_id: str) -> str:
    videos = json.loads(storage.read_bytes(sidecar_path))["videos"]
    return next(video["uri"] for video in videos if video["id"] == video_id)
