"""One soundtrack of an evaluation, for the page that shows its scores over time (Figure 2)."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.report.page import SoundtrackView
from evaluation.score_shard import FRAMES, PARQUET_SUFFIX, SCORES, read_vectors
from features import record, storage, tfrecord
from features.contract import FEATURES, read_root
from features.errors import InputError
from features.front_end import FrontEnd
from features.labels import read_vocabulary
from pipelines.extract_shard import PATCHES, RECORDS_SUFFIX
from pipelines.resume import SIDECAR_SUFFIX


def choose_soundtrack(scores_folder: str, document: dict[str, Any]) -> str:
    """The video that shows most: of those with most labels the longest."""
    best = (0, 0, "")
    for path in _files(scores_folder, document, SCORES):
        table = _read(path, ["video_id", "num_patches", "labels"])
        for row in table.to_pylist():
            best = max(best, (len(row["labels"]), row["num_patches"], row["video_id"]))
    return best[2]


def read_soundtrack(scores_folder: str, document: dict[str, Any], video_id: str) -> SoundtrackView:
    """The spectrogram and the frame scores of one video.

    Args:
      scores_folder: SCORES, with frame scores.
      document: its `scores.json`.
      video_id: one of its videos.

    Raises:
      InputError: the folder has no such video.
    """
    vocabulary = read_vocabulary(scores_folder)
    front_end = FrontEnd.from_json(read_root(document["features"], FEATURES)["front_end"])
    for path in _files(scores_folder, document, FRAMES):
        table = _read(path, None)
        table = table.filter(pa.compute.equal(table["video_id"], video_id))
        if len(table) == 0:
            continue
        shard = path.removeprefix(scores_folder).lstrip("/").replace(f"/{FRAMES}-", f"/{PATCHES}-")
        shard = storage.join(document["features"], shard.removesuffix(PARQUET_SUFFIX))
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


def _files(scores_folder: str, document: dict[str, Any], kind: str) -> list[str]:
    pattern = storage.join(scores_folder, document["split"], "*", f"{kind}-*{PARQUET_SUFFIX}")
    return storage.list_files(pattern)


def _read(path: str, columns: list[str] | None) -> pa.Table:
    with storage.open_read(path) as file:
        return pq.read_table(file, columns=columns)


def _records(path: str, video_id: str) -> list[record.PatchRecord]:
    with storage.open_read(path) as file:
        records = [record.decode(data) for data in tfrecord.read_records(file, path)]
    return [one for one in records if one.video_id == video_id]


def _uri(sidecar_path: str, video_id: str) -> str:
    videos = json.loads(storage.read_bytes(sidecar_path))["videos"]
    return next(video["uri"] for video in videos if video["id"] == video_id)
