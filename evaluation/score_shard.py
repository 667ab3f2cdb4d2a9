"""The unit of work of scoring: one shard of features becomes one file of video scores.

A video's patches sit together in their shard, so its frame scores are averaged where they are
computed (section 3.2) and one vector a video leaves the worker.

    scores-00007-of-00042.parquet    video_id, num_patches, labels, scores [labels]
    frames-00007-of-00042.parquet    video_id, start_seconds, scores [labels]; on request
    scores-00007-of-00042.json       the sidecar, written last
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.model import load_model
from features import contract, record, storage, tfrecord
from pipelines import resume
from pipelines.extract_shard import PATCHES, RECORDS_SUFFIX
from pipelines.sharding import ShardKey

SCORES, FRAMES, PARQUET_SUFFIX = "scores", "frames", ".parquet"


@dataclasses.dataclass(frozen=True)
class ScorePlan:
    """Everything that decides the scores of one shard."""

    key: ShardKey
    features: str  # the FEATURES folder
    records_sha256: str
    export: str
    model_fingerprint: str
    frame_scores: bool

    @property
    def fingerprint(self) -> str:
        """A sidecar that carries it belongs to this very work."""
        return contract.fingerprint(self)


def score_shard(plan: ScorePlan, output: str) -> dict[str, Any]:
    """Score a shard unless its sidecar says that it is done; returns the sidecar.

    Raises:
      features.tfrecord.CorruptRecordError: the shard is damaged; extract it anew.
    """
    path = storage.join(output, plan.key.path(SCORES))
    done = resume.find_sidecar(path)
    if done is not None and done["plan"] == plan.fingerprint:
        return done
    records = list(_read_records(plan))
    model = load_model(plan.export)
    stored = np.frombuffer(
        b"".join(one.patch for one in records), model.front_end.storage.dtype
    ).reshape(-1, *model.front_end.log_mel.patch_shape)

    # Patches of a video are neighbours: a video starts where the id changes.
    ids = [one.video_id for one in records]
    starts = [i for i in range(len(ids)) if i == 0 or ids[i] != ids[i - 1]]
    num_patches = np.diff([*starts, len(ids)])
    video = np.repeat(np.arange(len(starts)), num_patches)  # [patches]
    sums = np.zeros((len(starts), model.num_labels))
    frame_scores = []
    for batch, scores in model.score_batches(stored):
        np.add.at(sums, video[batch], scores)
        if plan.frame_scores:
            frame_scores.append(scores)

    videos = {
        "video_id": [ids[start] for start in starts],
        "num_patches": num_patches.astype(np.int32),
        "labels": pa.array([records[start].labels for start in starts], pa.list_(pa.int32())),
        "scores": _vectors(sums / num_patches[:, None]),
    }
    _write(videos, storage.join(output, plan.key.path(SCORES)) + PARQUET_SUFFIX)
    if plan.frame_scores:
        frames = {
            "video_id": ids,
            "start_seconds": np.array([one.start_seconds for one in records], np.float32),
            "scores": _vectors(np.concatenate(frame_scores)),
        }
        _write(frames, storage.join(output, plan.key.path(FRAMES)) + PARQUET_SUFFIX)
    sidecar = {
        "format_version": contract.FORMAT_VERSION,
        "plan": plan.fingerprint,
        "num_videos": len(starts),
        "num_patches": len(ids),
    }
    resume.write_sidecar(path, sidecar)
    return sidecar


def read_vectors(column: pa.ChunkedArray) -> np.ndarray:
    """A `scores` column as float32 [rows, labels]."""
    array = column.combine_chunks()
    return array.values.to_numpy().reshape(len(array), array.type.list_size)


def _vectors(values: np.ndarray) -> pa.Array:
    """[rows, labels] as one Arrow column of float32 vectors."""
    flat = pa.array(values.astype(np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _read_records(plan: ScorePlan) -> Iterator[record.PatchRecord]:
    path = storage.join(plan.features, plan.key.path(PATCHES)) + RECORDS_SUFFIX
    with storage.open_read(path) as file:
        for data in tfrecord.read_records(file, path):
            yield record.decode(data)


def _write(columns: dict[str, Any], path: str) -> None:
    with storage.atomic_write(path) as file:
        pq.write_table(pa.table(columns), file)
