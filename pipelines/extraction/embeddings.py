"""The unit of work: one shard of features becomes one shard of embeddings, record by record.

A record keeps its video, its time, its labels and its place in the file, and so a shard of
embeddings is permuted where its features are, and is read as they are.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from features.contracts import folders, shards
from features.contracts.record import PatchRecord
from features.contracts.sharding import ShardKey
from features.contracts.shards import (
    PATCHES,
    find_shard,
    read_records,
    write_records,
)
from features.errors import JobFailedError
from features.front_end.front_end import FrontEnd
from features.storage import files
from pipelines.runtime.model import ExportedModel, Patches, load_model

# To be raised by a change of this code that makes other bytes of the same plan.
_CODE_VERSION = 1
_RECORDS_AT_ONCE = 1024


@dataclasses.dataclass(frozen=True)
class Embedder:
    """What all shards of a job share.

    Attributes:
      features: the FEATURES folder that is read.
      export: the SavedModel.
      front_end: of the embeddings.
    """

    features: str
    export: str
    front_end: FrontEnd


def embed_shard(key: ShardKey, embedder: Embedder, output: str) -> dict[str, Any]:
    """Embed a shard unless its sidecar says that it is done; returns the sidecar.

    Raises:
      JobFailedError: the shard of features is damaged, or the network gives what cannot be stored.
    """
    source_path = files.join(embedder.features, key.path(PATCHES))
    source = find_shard(source_path)
    if source is None:
        raise JobFailedError(
            f"{source_path} is not whole; run the job that made {embedder.features} again: it "
            "makes this shard anew"
        )
    plan = folders.fingerprint(
        [_CODE_VERSION, embedder.front_end.fingerprint, source["plan"], source["sha256"]]
    )
    path = files.join(output, key.path(PATCHES))
    present = find_shard(path)
    if present is not None and present["plan"] == plan:
        return present
    records = _embedded(read_records(source_path), load_model(embedder.export), embedder.front_end)
    sidecar = {**source, "plan": plan, **write_records(path, records)}
    shards.write_sidecar(path, sidecar)
    return sidecar


def _embedded(
    records: Iterator[PatchRecord], model: ExportedModel, front_end: FrontEnd
) -> Iterator[PatchRecord]:
    taken = model.front_end
    read: list[PatchRecord] = []  # those whose embeddings are not there yet

    def chunks() -> Iterator[Patches]:
        while some := list(itertools.islice(records, _RECORDS_AT_ONCE)):
            read.extend(some)
            stored = np.frombuffer(b"".join(one.patch for one in some), taken.storage.dtype)
            yield Patches(
                video=np.zeros(len(some), np.int64),
                start_seconds=np.array([one.start_seconds for one in some], np.float32),
                stored=stored.reshape(-1, *taken.patch_shape),
            )

    largest = np.finfo(front_end.storage.dtype).max
    for batch, outputs in model.score(chunks()):
        if not np.abs(outputs.embedding).max() <= largest:  # also where it is NaN
            raise JobFailedError(
                f"the network gives embeddings beyond {largest:g}, which "
                f"{front_end.storage.dtype} cannot hold; is it trained?"
            )
        stored = front_end.storage.encode(outputs.embedding)
        for one, embedding in zip(read, stored, strict=False):
            yield dataclasses.replace(one, patch=embedding.tobytes())
        del read[: len(batch)]
