"""The unit of work of scoring: one shard of features becomes one file of video scores.

All patches of a video are in one shard, so its frame scores are averaged where they are computed
(section 3.2) and one vector a video leaves the worker.

    scores-00007-of-00042.parquet    video_id, num_patches, labels, scores [labels]
    frames-00007-of-00042.parquet    video_id, start_seconds, scores [labels]; on request
    scores-00007-of-00042.json       the sidecar, written last
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.model import Patches, load_model
from features import contract, record, storage, tfrecord
from features.errors import JobFailedError
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
      JobFailedError: the shard is damaged; the message says how to make it anew.
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

    numbers: dict[str, int] = {}  # of the videos, in the order in which they appear
    video = np.array([numbers.setdefault(one.video_id, len(numbers)) for one in records])
    labels_of = {one.video_id: one.labels for one in records}
    num_patches = np.bincount(video)
    sums = np.zeros((len(numbers), model.num_labels))
    start_seconds = np.array([one.start_seconds for one in records], np.float32)
    names = np.array(list(numbers), object)
    with _FramesFile(plan, output) as frames:
        for batch, outputs in model.score([Patches(video, start_seconds, stored)]):
            np.add.at(sums, batch.video, outputs.scores)
            frames.write(names[batch.video], batch.start_seconds, outputs.scores)
    table = pa.table(
        {
            "video_id": list(numbers),
            "num_patches": num_patches.astype(np.int32),
            "labels": pa.array([labels_of[one] for one in numbers], pa.list_(pa.int32())),
            "scores": _vectors(sums / num_patches[:, None]),
        }
    )
    with storage.atomic_write(path + PARQUET_SUFFIX) as file:
        pq.write_table(table, file)
    sidecar = {
        "format_version": contract.FORMAT_VERSION,
        "plan": plan.fingerprint,
        "num_videos": len(numbers),
        "num_patches": len(records),
    }
    resume.write_sidecar(path, sidecar)
    return sidecar


class _FramesFile:
    """The scores of every patch, written batch by batch; nothing where nobody asked for them."""

    def __init__(self, plan: ScorePlan, output: str):
        self._wanted = plan.frame_scores
        self._path = storage.join(output, plan.key.path(FRAMES)) + PARQUET_SUFFIX
        self._stack = contextlib.ExitStack()
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> "_FramesFile":
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def write(self, video_ids: np.ndarray, start_seconds: np.ndarray, scores: np.ndarray) -> None:
        if not self._wanted:
            return
        table = pa.table(
            {
                "video_id": video_ids,
                "start_seconds": start_seconds,
                "scores": _vectors(scores),
            }
        )
        if self._writer is None:
            file = self._stack.enter_context(storage.atomic_write(self._path))
            writer = pq.ParquetWriter(file, table.schema)
            self._writer = self._stack.enter_context(writer)
        self._writer.write_table(table)


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
    try:
        with storage.open_read(path) as file:
            for data in tfrecord.read_records(file, path):
                yield record.decode(data)
    except (FileNotFoundError, ValueError) as error:
        raise JobFailedError(
            f"{error}; delete {path} and run pipelines.extract_features again: it makes this "
            "shard anew"
        ) from error
