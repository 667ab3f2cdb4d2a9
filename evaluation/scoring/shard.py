"""The unit of work of scoring: one shard of videos becomes one file of video scores.

All patches of a video are in one shard, so its frame scores are averaged where they are computed
(section 3.2) and one vector a video leaves the worker. The patches come from a shard of features,
or straight from the media.

    scores-00007-of-00042.parquet      video_id, num_patches, labels, scores [labels]
    frames-00007-of-00042.parquet      video_id, start_seconds, scores [labels]; on request
    embeddings-00007-of-00042.parquet  video_id, start_seconds, embedding [units]; on request
    scores-00007-of-00042.json         the sidecar, written last
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.scoring import media
from features.contracts import folders, shards
from features.contracts.sharding import ShardKey
from features.contracts.shards import PATCHES, read_records
from features.contracts.videos import Video
from features.front_end.front_end import FrontEnd
from features.sound.outcome import Outcome
from features.storage import files
from pipelines.runtime.model import ExportedModel, Patches, load_model

SCORES, FRAMES, EMBEDDINGS = "scores", "frames", "embeddings"
PARQUET_SUFFIX = ".parquet"
# In the metadata of a file of scores: the fingerprint of the vocabulary of its columns.
VOCABULARY = b"vocabulary"
_RECORDS_AT_ONCE = 1024


@dataclasses.dataclass(frozen=True)
class FeaturesShard:
    """Patches in a shard of features.

    Attributes:
      features: the FEATURES folder.
      records_sha256: of the record file.
      missing: (id, outcome) of the videos that gave no patches.
      num_videos: with those.
    """

    features: str
    records_sha256: str
    missing: tuple[tuple[str, str], ...]
    num_videos: int


@dataclasses.dataclass(frozen=True)
class MediaShard:
    """Soundtracks to be decoded, in order of id."""

    videos: tuple[Video, ...]
    timeout_seconds: float

    @property
    def num_videos(self) -> int:
        """How many soundtracks."""
        return len(self.videos)


@dataclasses.dataclass(frozen=True)
class Network:
    """What all shards of a job are scored with, and what is kept.

    Attributes:
      export: the SavedModel.
      fingerprint: of its weights.
      vocabulary_fingerprint: of the labels of its outputs.
      dtype: of the scores that are written.
      frame_scores, embeddings: whether those of every patch are kept too.
    """

    export: str
    fingerprint: str
    vocabulary_fingerprint: str
    dtype: Literal["float32", "float16"]
    frame_scores: bool
    embeddings: bool


@dataclasses.dataclass(frozen=True)
class ScorePlan:
    """Everything that decides the scores of one shard."""

    key: ShardKey
    source: FeaturesShard | MediaShard
    network: Network

    @property
    def fingerprint(self) -> str:
        """A sidecar that carries it belongs to this very work."""
        # Not where the export lies, but what it holds.
        network = dataclasses.replace(self.network, export="")
        return folders.fingerprint(
            [dataclasses.asdict(part) for part in (self.key, self.source, network)]
        )


def score_shard(plan: ScorePlan, output: str) -> dict[str, Any]:
    """Score a shard unless its sidecar says that it is done; returns the sidecar.

    Raises:
      JobFailedError: the shard of features is damaged; the message says how to make it anew.
    """
    path = files.join(output, plan.key.path(SCORES))
    done = shards.find_sidecar(path)
    if done is not None and done["plan"] == plan.fingerprint:
        return done
    shards.remove_sidecar(path)
    model = load_model(plan.network.export)
    roster = _Roster()
    if isinstance(plan.source, FeaturesShard):
        roster.missing += plan.source.missing
        chunks = _stored_patches(plan.key, plan.source, model.front_end, roster)
    else:
        chunks = _decoded_patches(plan.source, model.front_end, roster)
    num_patches, sums = _score(plan, model, chunks, roster, output)
    if roster.ids:
        table = pa.table(
            {
                "video_id": roster.ids,
                "num_patches": num_patches.astype(np.int32),
                "labels": pa.array(roster.labels, pa.list_(pa.int32())),
                "scores": vectors(sums / num_patches[:, None], plan.network.dtype),
            }
        )
        write_scores(path, table, plan.network.vocabulary_fingerprint)
    else:
        files.delete(path + PARQUET_SUFFIX)
    sidecar = {
        "format_version": folders.FORMAT_VERSION,
        "plan": plan.fingerprint,
        "group": plan.key.group,
        "num_videos": len(roster.ids),
        "num_patches": int(num_patches.sum()),
        "missing": [{"id": video_id, "outcome": outcome} for video_id, outcome in roster.missing],
    }
    shards.write_sidecar(path, sidecar)
    return sidecar


def write_scores(path: str, table: pa.Table, vocabulary_fingerprint: str) -> None:
    """Write a file of video scores; `path` is without suffix."""
    table = table.replace_schema_metadata({VOCABULARY: vocabulary_fingerprint})
    with files.atomic_write(path + PARQUET_SUFFIX) as file:
        pq.write_table(table, file)


class _Roster:
    """The videos of a shard, numbered in the order in which their patches appear."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self.labels: list[tuple[int, ...]] = []
        self.missing: list[tuple[str, str]] = []

    @property
    def ids(self) -> list[str]:
        return list(self._numbers)

    def number(self, video_id: str, labels: tuple[int, ...]) -> int:
        number = self._numbers.setdefault(video_id, len(self._numbers))
        if number == len(self.labels):
            self.labels.append(labels)
        return number


def _stored_patches(
    key: ShardKey, source: FeaturesShard, front_end: FrontEnd, roster: _Roster
) -> Iterator[Patches]:
    shape = (-1, *front_end.patch_shape)
    records = read_records(files.join(source.features, key.path(PATCHES)))
    while some := list(itertools.islice(records, _RECORDS_AT_ONCE)):
        stored = np.frombuffer(b"".join(one.patch for one in some), front_end.storage.dtype)
        yield Patches(
            video=np.array([roster.number(one.video_id, one.labels) for one in some]),
            start_seconds=np.array([one.start_seconds for one in some], np.float32),
            stored=stored.reshape(shape),
        )


def _decoded_patches(source: MediaShard, front_end: FrontEnd, roster: _Roster) -> Iterator[Patches]:
    for video in source.videos:
        decoded = media.decode(
            video.uri,
            front_end,
            start_seconds=video.start or 0.0,
            end_seconds=video.end,
            timeout_seconds=source.timeout_seconds,
        )
        if decoded.outcome != Outcome.OK:  # as in extraction, also where a part of it is good
            roster.missing.append((video.id, str(decoded.outcome)))
            continue
        number = roster.number(video.id, video.labels)
        numbers = np.full(len(decoded.stored), number)
        yield Patches(numbers, decoded.start_seconds, decoded.stored)


def _score(
    plan: ScorePlan,
    model: ExportedModel,
    chunks: Iterable[Patches],
    roster: _Roster,
    output: str,
) -> tuple[np.ndarray, np.ndarray]:
    """The patches of each video, int64 [videos], and the sums of their scores [videos, labels]."""
    num_patches = np.zeros(plan.source.num_videos, np.int64)
    sums = np.zeros((plan.source.num_videos, model.num_labels))
    network = plan.network
    with (
        _PatchFile(network.frame_scores, plan.key, FRAMES, output) as frames,
        _PatchFile(network.embeddings, plan.key, EMBEDDINGS, output) as embeddings,
    ):
        for batch, outputs in model.score(chunks):
            for number in np.unique(batch.video):
                own = batch.video == number
                num_patches[number] += np.count_nonzero(own)
                sums[number] += outputs.scores[own].sum(axis=0, dtype=np.float64)
            frames.write(roster, batch, "scores", vectors(outputs.scores, network.dtype))
            embeddings.write(roster, batch, "embedding", vectors(outputs.embedding, network.dtype))
    num_videos = len(roster.ids)
    return num_patches[:num_videos], sums[:num_videos]


class _PatchFile:
    """What is kept of every patch, written batch by batch; nothing where nobody asked for it."""

    def __init__(self, wanted: bool, key: ShardKey, kind: str, output: str):
        self._wanted = wanted
        self._path = files.join(output, key.path(kind)) + PARQUET_SUFFIX
        self._stack = contextlib.ExitStack()
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> "_PatchFile":
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def write(self, roster: _Roster, batch: Patches, name: str, values: pa.Array) -> None:
        if not self._wanted:
            return
        ids = roster.ids
        table = pa.table(
            {
                "video_id": [ids[number] for number in batch.video],
                "start_seconds": batch.start_seconds,
                name: values,
            }
        )
        if self._writer is None:
            file = self._stack.enter_context(files.atomic_write(self._path))
            writer = pq.ParquetWriter(file, table.schema)
            self._writer = self._stack.enter_context(writer)
        self._writer.write_table(table)


def vectors(values: np.ndarray, dtype: str) -> pa.Array:
    """[rows, labels] as one Arrow column of vectors of float32 or float16."""
    flat = pa.array(values.astype(dtype).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def read_vectors(column: pa.ChunkedArray) -> np.ndarray:
    """A column of vectors as float32 [rows, labels]."""
    array = column.combine_chunks()
    flat = array.flatten().to_numpy()
    return flat.reshape(len(array), array.type.list_size).astype(np.float32, copy=False)
