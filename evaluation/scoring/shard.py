"""Score one shard of videos, the unit of work of `score_videos`.

All patches of a video are in one shard, so a worker averages the scores of the patches (section
3.2) and writes one vector per video. The patches are read from a shard of features, or decoded from
the media. `features.contracts.scores` names the files.
"""

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.scoring import media
from features.contracts import shards
from features.contracts.documents import InferenceRuntime, MissingVideo, ScoreShard
from features.contracts.scores import EMBEDDINGS, FRAMES, PARQUET_SUFFIX, SCORES
from features.contracts.sharding import ShardKey
from features.contracts.shards import PATCHES, read_records
from features.contracts.videos import Video
from features.fingerprint import fingerprint
from features.front_end.front_end import FrontEnd
from features.sound.outcome import Outcome
from features.storage import files
from pipelines.runtime.model import ExportedModel, Patches, load_model
from pipelines.runtime.network import CardNetwork, NetworkPlace, load_network

# Key of the metadata of a score file: fingerprint of the vocabulary that the columns are of.
VOCABULARY = b"vocabulary"
_RECORDS_AT_ONCE = 1024
_DECODED_AT_ONCE = 64  # a window may have a megabyte


@dataclasses.dataclass(frozen=True)
class FeaturesShard:
    """Patches in a shard of features.

    Attributes:
      features: the FEATURES folder.
      records_sha256: checksum of the records.
      missing: (id, outcome) of the videos without patches.
      num_videos: videos of the shard, `missing` included.
    """

    features: str
    records_sha256: str
    missing: tuple[tuple[str, str], ...]
    num_videos: int


@dataclasses.dataclass(frozen=True)
class MediaShard:
    """Soundtracks to decode, in order of id; `timeout_seconds` is for one soundtrack."""

    videos: tuple[Video, ...]
    timeout_seconds: float

    @property
    def num_videos(self) -> int:
        """Number of soundtracks."""
        return len(self.videos)


@dataclasses.dataclass(frozen=True)
class Network:
    """An exported network, and which of its outputs are written.

    Attributes:
      export: folder of the SavedModel.
      runtime: what applies the network.
      fingerprint: of the weights.
      vocabulary_fingerprint: of the labels of the outputs.
      dtype: of the scores on disk.
      frame_scores, embeddings: whether scores and embeddings of every patch are written.
      place: of a network with a card, in place of `export`; else None.
      matched: index of a label of the videos -> index of a label of such a network.
    """

    export: str
    runtime: InferenceRuntime
    fingerprint: str
    vocabulary_fingerprint: str
    dtype: Literal["float32", "float16"]
    frame_scores: bool
    embeddings: bool
    place: NetworkPlace | None = None
    matched: Mapping[int, int] | None = None

    def load(self) -> ExportedModel | CardNetwork:
        """Load the network; every call in a process returns the same object."""
        if self.place is not None:
            return load_network(self.place)
        return load_model(self.export, self.runtime)

    def match(self, labels: tuple[int, ...]) -> tuple[int, ...]:
        """The labels of a video among those of the network."""
        if self.matched is None:
            return labels
        return tuple(sorted({self.matched[label] for label in labels if label in self.matched}))


@dataclasses.dataclass(frozen=True)
class ScorePlan:
    """Everything that decides the scores of one shard, and the origins of its videos.

    `origins` has id -> origins of the videos that have any. `forgotten` has the ids of the media
    that get no scores; a shard that they were removed from has the fingerprint that it had.
    """

    key: ShardKey
    source: FeaturesShard | MediaShard
    network: Network
    origins: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    forgotten: frozenset[str] = frozenset()

    @property
    def fingerprint(self) -> str:
        """Fingerprint for the sidecar: a shard with an equal one need not be scored again."""
        # The path of a network does not matter, only its weights.
        network = dataclasses.asdict(dataclasses.replace(self.network, export="", place=None))
        del network["place"]
        matched = network.pop("matched")
        if matched is not None:
            network["matched"] = sorted(matched.items())
        source = dataclasses.asdict(self.source)
        if isinstance(self.source, FeaturesShard):
            del source["features"]  # nor does that of the records, only their checksum
        else:
            source["videos"] = [video.content() for video in self.source.videos]
        return fingerprint([dataclasses.asdict(self.key), source, network])

    def is_done(self, sidecar: ScoreShard) -> bool:
        """Whether a sidecar is of this plan."""
        if sidecar.plan != self.fingerprint or isinstance(self.source, FeaturesShard):
            return sidecar.plan == self.fingerprint
        forgotten = {video.id for video in sidecar.missing if video.outcome == Outcome.FORGOTTEN}
        return forgotten == self.forgotten

    def origins_except(self, missing: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Id -> origins, without the videos that have no scores."""
        left_out = set(missing)
        return {name: found for name, found in self.origins.items() if name not in left_out}


@dataclasses.dataclass(frozen=True)
class ScoreResult:
    """A finished shard, and what this run spent on it.

    Attributes:
      key: split, group, index and number of shards.
      sidecar: as on disk.
      cpu_seconds: of all threads of this process, without a decoder's; None for a shard that was
        kept.
    """

    key: ShardKey
    sidecar: ScoreShard
    cpu_seconds: float | None = None


def score_shard(plan: ScorePlan, output: str) -> ScoreResult:
    """Score a shard, unless its sidecar has the fingerprint of the plan.

    Raises:
      JobFailedError: the shard of features is damaged; the message says how to rebuild it.
    """
    path = files.join(output, plan.key.path(SCORES))
    done = shards.find_sidecar(path, ScoreShard)
    if done is not None and plan.is_done(done):
        origins = plan.origins_except(video.id for video in done.missing)
        if origins != done.origins:
            done = dataclasses.replace(done, origins=origins)
            shards.write_sidecar(path, done)
        return ScoreResult(plan.key, done)
    start = time.process_time()
    shards.remove_sidecar(path)
    model = plan.network.load()
    roster = _Roster()
    if isinstance(plan.source, FeaturesShard):
        roster.missing += plan.source.missing
        chunks = _stored_patches(plan.key, plan.source, model.front_end, roster)
    else:
        chunks = _decoded_patches(plan.source, plan, model.front_end, roster)
    num_patches, sums = _score(plan, model, chunks, roster, output)
    if roster.ids:
        table = score_table(
            roster.ids,
            num_patches,
            roster.labels,
            vectors(sums / num_patches[:, None], plan.network.dtype),
            plan.network.vocabulary_fingerprint,
        )
        with files.atomic_write(path + PARQUET_SUFFIX) as file:
            pq.write_table(table, file)
    else:
        files.delete(path + PARQUET_SUFFIX)
    sidecar = ScoreShard(
        plan=plan.fingerprint,
        group=plan.key.group,
        num_videos=len(roster.ids),
        num_patches=int(num_patches.sum()),
        missing=tuple(MissingVideo(id=video, outcome=outcome) for video, outcome in roster.missing),
        origins=plan.origins_except(video for video, _ in roster.missing),
    )
    shards.write_sidecar(path, sidecar)
    return ScoreResult(plan.key, sidecar, time.process_time() - start)


def score_table(
    ids: Sequence[str],
    num_patches: np.ndarray,
    labels: Sequence[Sequence[int]],
    scores: pa.Array,
    vocabulary_fingerprint: str,
) -> pa.Table:
    """The content of a score file.

    Args:
      ids: [videos].
      num_patches: integers [videos].
      labels: [videos], indices in the vocabulary.
      scores: [videos], as `vectors` returns them.
      vocabulary_fingerprint: of the score columns.
    """
    table = pa.table(
        {
            "video_id": pa.array(ids, pa.string()),
            "num_patches": num_patches.astype(np.int32),
            "labels": pa.array(labels, pa.list_(pa.int32())),
            "scores": scores,
        }
    )
    return table.replace_schema_metadata({VOCABULARY: vocabulary_fingerprint})


class _Roster:
    """The videos of a shard, numbered in the order in which their patches are read.

    The thread that reads adds to the lists while another one scores the videos before.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self.ids: list[str] = []
        self.labels: list[tuple[int, ...]] = []
        self.missing: list[tuple[str, str]] = []

    def number(self, video_id: str, labels: tuple[int, ...]) -> int:
        number = self._numbers.setdefault(video_id, len(self.ids))
        if number == len(self.ids):
            self.ids.append(video_id)
            self.labels.append(labels)
        return number

    def reject(self, videos: np.ndarray, outcome: Outcome) -> None:
        """Move videos, bool [videos], to the missing ones, after all patches were read."""
        self.missing += [(self.ids[number], str(outcome)) for number in np.flatnonzero(videos)]
        kept = np.flatnonzero(~videos)
        self.ids = [self.ids[number] for number in kept]
        self.labels = [self.labels[number] for number in kept]


def _stored_patches(
    key: ShardKey, source: FeaturesShard, front_end: FrontEnd, roster: _Roster
) -> Iterator[Patches]:
    shape = (-1, *front_end.patch_shape)
    records = read_records(files.join(source.features, key.path(PATCHES)))
    while chunk := list(itertools.islice(records, _RECORDS_AT_ONCE)):
        stored = np.frombuffer(b"".join(record.patch for record in chunk), front_end.storage.dtype)
        yield Patches(
            video=np.array([roster.number(record.video_id, record.labels) for record in chunk]),
            start_seconds=np.array([record.start_seconds for record in chunk], np.float32),
            stored=stored.reshape(shape),
        )


def _decoded_patches(
    source: MediaShard, plan: ScorePlan, front_end: FrontEnd, roster: _Roster
) -> Iterator[Patches]:
    for video in source.videos:
        if video.id in plan.forgotten:
            roster.missing.append((video.id, str(Outcome.FORGOTTEN)))
            continue
        decoded = media.decode(
            video.uri,
            front_end,
            start_seconds=video.start or 0.0,
            end_seconds=video.end,
            timeout_seconds=source.timeout_seconds,
        )
        if decoded.outcome != Outcome.OK:  # a truncated soundtrack too, as in extraction
            roster.missing.append((video.id, str(decoded.outcome)))
            continue
        number = roster.number(video.id, plan.network.match(video.labels))
        numbers = np.full(len(decoded.stored), number)
        patches = Patches(numbers, decoded.start_seconds, decoded.stored)
        for first in range(0, len(patches), _DECODED_AT_ONCE):
            yield patches[first : first + _DECODED_AT_ONCE]


def _score(
    plan: ScorePlan,
    model: ExportedModel | CardNetwork,
    chunks: Iterable[Patches],
    roster: _Roster,
    output: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Score all patches of a shard and write the outputs that are kept for every patch.

    A video for which the network gives NaN or infinity is moved to the missing ones of the roster.

    Returns:
      Number of patches, int64 [videos]; sum of the scores, float64 [videos, labels].
    """
    num_patches = np.zeros(plan.source.num_videos, np.int64)
    sums = np.zeros((plan.source.num_videos, model.num_labels))
    is_finite = np.ones(plan.source.num_videos, bool)
    network = plan.network
    with contextlib.ExitStack() as stack:
        frames = _PatchFile(stack, files.join(output, plan.key.path(FRAMES)), "scores")
        embeddings = _PatchFile(stack, files.join(output, plan.key.path(EMBEDDINGS)), "embedding")
        for batch, outputs in model.score(chunks):
            is_finite[batch.video[~outputs.are_finite()]] = False
            for number in np.unique(batch.video):
                own = batch.video == number
                num_patches[number] += np.count_nonzero(own)
                sums[number] += outputs.scores[own].sum(axis=0, dtype=np.float64)
            if network.frame_scores:
                frames.write(roster.ids, batch, vectors(outputs.scores, network.dtype))
            if network.embeddings:
                embeddings.write(roster.ids, batch, vectors(outputs.embedding, network.dtype))
    is_finite = is_finite[: len(roster.ids)]
    num_patches, sums = num_patches[: len(roster.ids)], sums[: len(roster.ids)]
    if not is_finite.all():
        roster.reject(~is_finite, Outcome.NONFINITE_OUTPUTS)
        frames.keep(roster.ids)
        embeddings.keep(roster.ids)
    return num_patches[is_finite], sums[is_finite]


class _PatchFile:
    """A file with a row for every patch; `stack` closes it. It is created by the first batch."""

    def __init__(self, stack: contextlib.ExitStack, path: str, column: str):
        self._stack = stack
        self._path = path + PARQUET_SUFFIX
        self._column = column
        self._writer: pq.ParquetWriter | None = None

    def write(self, ids: Sequence[str], batch: Patches, values: pa.Array) -> None:
        table = pa.table(
            {
                "video_id": [ids[number] for number in batch.video],
                "start_seconds": batch.start_seconds,
                self._column: values,
            }
        )
        if self._writer is None:
            file = self._stack.enter_context(files.atomic_write(self._path))
            writer = pq.ParquetWriter(file, table.schema)
            self._writer = self._stack.enter_context(writer)
        self._writer.write_table(table)

    def keep(self, ids: Sequence[str]) -> None:
        """Remove the rows of all other videos from the closed file."""
        if self._writer is None:
            return
        with files.open_read(self._path) as file:
            table = pq.read_table(file, filters=[("video_id", "in", list(ids))])
        if len(table):
            with files.atomic_write(self._path) as file:
                pq.write_table(table, file)
        else:
            files.delete(self._path)


def vectors(values: np.ndarray, dtype: str) -> pa.Array:
    """Convert [rows, labels] to an Arrow column of vectors of float32 or float16."""
    flat = pa.array(values.astype(dtype).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def read_vectors(column: pa.ChunkedArray) -> np.ndarray:
    """Convert a column of vectors to float32 [rows, labels]."""
    array = column.combine_chunks()
    flat = array.flatten().to_numpy()
    return flat.reshape(len(array), array.type.list_size).astype(np.float32, copy=False)
