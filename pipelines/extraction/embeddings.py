"""The unit of work of embeddings: one shard of features becomes one shard of embeddings.

A record keeps its video, its time, its labels and its place in the file. A shard of embeddings is
therefore permuted like its features, and is read in the same way.
"""

import collections
import dataclasses
import functools
import itertools
import time
from collections.abc import Iterator, Mapping

import apache_beam as beam
import numpy as np

from features.contracts import sharding, shards
from features.contracts.documents import InferenceRuntime
from features.contracts.record import PatchRecord
from features.contracts.sharding import TRAIN, ShardKey
from features.contracts.shards import PATCHES
from features.errors import JobFailedError
from features.fingerprint import fingerprint
from features.front_end.front_end import FrontEnd
from features.storage import files
from pipelines.extraction.patches import ShardResult
from pipelines.runtime.model import ExportedModel, Patches, load_model
from pipelines.runtime.process_pool import MapOnWorkers

# Raise this number when a change of the code gives other bytes for the same plan.
_CODE_VERSION = 1
_RECORDS_PER_CHUNK = 1024


@dataclasses.dataclass(frozen=True)
class Embedder:
    """What all shards of a job share.

    Attributes:
      features: the FEATURES folder that is read.
      export: the SavedModel.
      runtime: what applies it.
      front_end: of the embeddings.
    """

    features: str
    export: str
    runtime: InferenceRuntime
    front_end: FrontEnd


@dataclasses.dataclass(eq=False)
class EmbedShards(beam.PTransform):
    """A `ShardResult` for each shard of a job.

    Attributes:
      embedder: what all shards share.
      num_shards: split -> group -> number of shards.
      output: the FEATURES folder that is written.
      num_workers: processes of this machine that share the shards.
    """

    embedder: Embedder
    num_shards: Mapping[str, Mapping[str, int]]
    output: str
    num_workers: int

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Spread the shards over the workers and embed each."""
        keys = [
            key for split, counts in self.num_shards.items() for key in sharding.keys(split, counts)
        ]
        embed = functools.partial(embed_shard, embedder=self.embedder, output=self.output)
        return (
            pipeline
            | "Shards" >> beam.Create(keys)
            | "Spread" >> beam.Reshuffle()
            | "EmbedShard" >> MapOnWorkers(embed, self.num_workers)
        )


def embed_shard(key: ShardKey, embedder: Embedder, output: str) -> ShardResult:
    """Embed a shard unless its sidecar says that the work is done.

    Raises:
      JobFailedError: the shard of features is damaged, or the embeddings cannot be stored.
    """
    source_path = files.join(embedder.features, key.path(PATCHES))
    source = shards.find_patch_shard(source_path)
    if source is None:
        raise JobFailedError(
            f"{source_path} is incomplete; run the command that made {embedder.features} again: it "
            "rebuilds this shard"
        )
    front_end, runtime = embedder.front_end.fingerprint, dataclasses.asdict(embedder.runtime)
    plan = fingerprint([_CODE_VERSION, front_end, runtime, source.plan, source.sha256])
    path = files.join(output, key.path(PATCHES))
    present = shards.find_patch_shard(path)
    if present is not None and present.plan == plan:
        updated = dataclasses.replace(present, videos=source.videos)
        if updated != present:  # other origins
            shards.write_sidecar(path, updated)
        return ShardResult(updated)
    start = time.process_time()  # TensorFlow works on threads of its own
    records = _embed(
        shards.read_records(source_path),
        load_model(embedder.export, embedder.runtime),
        embedder.front_end,
    )
    record_file = shards.write_records(path, records)
    sidecar = dataclasses.replace(source, plan=plan, **dataclasses.asdict(record_file))
    if key.split == TRAIN:
        sidecar = shards.pad_shard(path, sidecar)
    shards.write_sidecar(path, sidecar)
    return ShardResult(sidecar, worker_seconds=time.process_time() - start)


def _embed(
    records: Iterator[PatchRecord], model: ExportedModel, front_end: FrontEnd
) -> Iterator[PatchRecord]:
    source = model.front_end
    pending: collections.deque[PatchRecord] = collections.deque()  # read, and not embedded yet

    def chunks() -> Iterator[Patches]:
        while chunk := list(itertools.islice(records, _RECORDS_PER_CHUNK)):
            pending.extend(chunk)
            stored = np.frombuffer(b"".join(record.patch for record in chunk), source.storage.dtype)
            yield Patches(
                video=np.zeros(len(chunk), np.int64),
                start_seconds=np.array([record.start_seconds for record in chunk], np.float32),
                stored=stored.reshape(-1, *source.patch_shape),
            )

    largest = np.finfo(front_end.storage.dtype).max
    for _, outputs in model.score(chunks()):  # which reads ahead in another thread
        wrong = ~(np.abs(outputs.embedding).max(axis=1) <= largest)  # also of NaN
        if wrong.any():
            raise JobFailedError(
                f"video {pending[int(wrong.argmax())].video_id}: the network gives embeddings of "
                f"NaN or beyond {largest:g}, which "
                f"{front_end.storage.dtype} cannot hold; is it trained?"
            )
        stored = front_end.storage.encode(outputs.embedding)
        for embedding in stored:
            yield dataclasses.replace(pending.popleft(), patch=embedding.tobytes())
