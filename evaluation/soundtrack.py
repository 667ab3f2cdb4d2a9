"""One soundtrack of an evaluation, for the page that shows its scores over time (Figure 2)."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.report.page import SoundtrackView
from evaluation.score_shard import FRAMES, PARQUET_SUFFIX, SCORES, read_vectors
from features import record, storage, tfrecord
from features.contract import FEATURES, read_root, require_equal
from features.errors import InputError
from features.front_end import FrontEnd
from features.labels import read_vocabulary
from pipelines import sharding
from pipelines.extract_shard import PATCHES, RECORDS_SUFFIX
from pipelines.resume import SIDECAR_SUFFIX

# Score files that are looked through for a soundtrack worth showing.
_FILES_SEARCHED = 8


def files(scores_folder: str, document: Mapping[str, Any], kind: str) -> list[str]:
    """The files of a SCORES folder of one kind, `SCORES` or `FRAMES`.

    Args:
      scores_folder: SCORES.
      document: its `scores.json`.
      kind: of file.
    """
    return storage.list_files(scores_folder, f"{document['split']}/*/{kind}-*{PARQUET_SUFFIX}")


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
    front_end = FrontEnd.from_json(features["front_end"])
    vocabulary = read_vocabulary(scores_folder)
    for group, num_shards in document["num_shards"].items():
        key = sharding.shard_of(video_id, document["split"], num_shards, group)
        path = storage.join(scores_folder, key.path(FRAMES)) + PARQUET_SUFFIX
        table = _read(path, filters=[("video_id", "==", video_id)])
        if len(table) == 0:
            continue
        shard = storage.join(document["features"], key.path(PATCHES))
        records = _records(shard + RECORDS_SUFFIX, video_id)
        stored = np.stack([np.frombuffer(one.patch, front_end.storage.dtype) for one in records])
        log_mel = front_end.storage.decode(stored).reshape(-1, front_end.log_mel.num_mel_bands)
        scores = read_vectors(table["scores"])
        return SoundtrackView(
            video_id=video_id,
            uri=_uri(shard + SIDECAR_SUFFIX, video_id),
            log_mel=log_mel,
            seconds_per_frame=front_end.log_mel.hop_seconds,
            label_names=vocabulary.names[: scores.shape[1]],
            labels=[label for label in records[0].labels if label < scores.shape[1]],
            frame_scores=scores,
            patch_start_seconds=table["start_seconds"].to_numpy(),
            patch_seconds=front_end.log_mel.patch_seconds,
        )
    raise InputError(f"--soundtrack: {scores_folder} has no frame scores of {video_id!r}")


def _read(path: str, **selection: Any) -> pa.Table:
    """A Parquet file, or no rows where there is none: a shard without patches has no scores."""
    try:
        with storage.open_read(path) as file:
            return pq.read_table(file, **selection)
    except FileNotFoundError:
        return pa.table({})


def _records(path: str, video_id: str) -> list[record.PatchRecord]:
    with storage.open_read(path) as file:
        records = [record.decode(data) for data in tfrecord.read_records(file, path)]
    return [one for one in records if one.video_id == video_id]


def _uri(sidecar_path: str, video_id: str) -> str:
    videos = json.loads(storage.read_bytes(sidecar_path))["videos"]
    return next(video["uri"] for video in videos if video["id"] == video_id)
