"""The nearest neighbours of a sound among the embeddings of a FEATURES folder.

    search/index.usearch      the vectors, in float16, and their graph: HNSW by usearch
    search/vectors.parquet    video and start of each vector; row i is key i of the graph
    search/search.json        what they were made of; written last

The search is approximate: a vector is compared with a few thousand others, whatever the size of the
corpus. Distances are 1 - cosine: 0 for vectors of one direction, 1 for orthogonal ones.
"""

import dataclasses
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.contracts import folders, leases, sharding, shards
from features.contracts.documents import Features
from features.contracts.folders import MadeBy
from features.contracts.shards import PATCHES
from features.errors import InputError
from features.front_end.front_end import FrontEnd
from features.storage import files
from features.terminal import StatusLine
from features.typed_json import Document

if TYPE_CHECKING:
    from usearch.index import Index

_FOLDER, _INDEX, _VECTORS = folders.SEARCH_FOLDER, "index.usearch", "vectors.parquet"
_SCHEMA = pa.schema([("video_id", pa.string()), ("start_seconds", pa.float32())])
# Vectors that a query is compared with on its way: recall at 10 against cost.
_EXPANSION_SEARCH = 256
# Neighbours of each query vector, for each wanted video, in the first search and then in the next.
_GROWTH = 4
# Pairs of a query vector and a neighbour in a search, of some 50 bytes each.
_MAX_PAIRS = 1 << 22


@dataclasses.dataclass(frozen=True, kw_only=True)
class IndexSettings:
    """How an index is built.

    Attributes:
      metric: distance of two vectors.
      dtype: of stored vectors.
      connectivity: edges of a vector, twice as many on the lowest level.
      expansion_add: vectors that a new one is compared with on its way.
      usearch: version of the library, whose files may change with it.
    """

    metric: str = "cos"
    dtype: str = "f16"
    connectivity: int = 16
    expansion_add: int = 64
    usearch: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchIndex(Document):
    """`search/search.json` in a FEATURES folder of embeddings.

    Attributes:
      made_by: the command.
      features_fingerprint: of the indexed features; the index of others is built again.
      settings: how the index is built.
      num_vectors: rows of the table, and vectors of the index.
      index_bytes, table_bytes: sizes of the files beside the document.
    """

    FILE: ClassVar[str] = "search.json"
    MAKER: ClassVar[str] = "python -m evaluation.search"

    made_by: MadeBy
    features_fingerprint: str
    settings: IndexSettings
    num_vectors: int
    index_bytes: int
    table_bytes: int


@dataclasses.dataclass(frozen=True, eq=False)
class Vectors:
    """Embeddings of a corpus, in any order.

    Attributes:
      video_ids: [vectors].
      start_seconds: float32 [vectors], start of the sound in its video.
      values: float16 [vectors, units].
    """

    video_ids: list[str]
    start_seconds: np.ndarray
    values: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Corpus:
    """An index, and where its vectors are from.

    Attributes:
      index: keys are rows of the arrays.
      videos: ids of the videos.
      video: int32 [vectors], places in `videos`.
      start_seconds: float32 [vectors].
    """

    index: "Index"
    videos: list[str]
    video: np.ndarray
    start_seconds: np.ndarray


@dataclasses.dataclass(frozen=True)
class Neighbour:
    """A video, and the pair of vectors of the video and the query that are nearest to each other.

    Attributes:
      video_id: of the video.
      start_seconds: start of the vector's sound in the video.
      query_seconds: start of the vector's sound in the query.
      distance: 1 - cosine of the two vectors.
    """

    video_id: str
    start_seconds: float
    query_seconds: float
    distance: float


def settings() -> IndexSettings:
    """How this version builds an index.

    Raises:
      InputError: usearch is not installed.
    """
    try:
        import usearch
    except ImportError as error:
        raise InputError("the index of neighbours needs usearch: pip install usearch") from error
    return IndexSettings(usearch=usearch.__version__)


def require_embeddings(folder: str, front_end: FrontEnd) -> None:
    """Require a folder of embeddings.

    Raises:
      InputError: it holds log-mel patches.
    """
    if front_end.embedding is None:
        raise InputError(
            f"--embeddings {folder} holds log-mel patches, which are not compared; run "
            f"`python -m pipelines.extract_embeddings --features {folder} --run RUN` and give its "
            "output"
        )


def open_corpus(folder: str, features: Features) -> Corpus:
    """Open the index of a folder of embeddings; it is built if there is none of these features.

    Another search that builds it, or a job that writes the folder, is waited for.

    Args:
      folder: FEATURES.
      features: its `features.json`.

    Raises:
      InputError: usearch is not installed, or the folder has no embedding, or neither an index nor
        room for one.
      JobFailedError: a shard is missing or damaged.
    """
    place, wanted = files.join(folder, _FOLDER), settings()
    (units,) = features.front_end.patch_shape
    if not features.num_patches:
        raise InputError(f"--embeddings {folder} has no embedding: all of its videos are rejects")
    if not _is_current(place, features, wanted):
        try:
            folders.check_writable(folder)
        except InputError as error:
            raise InputError(
                f"--embeddings {folder} has no index of its embeddings, which a search by a user "
                f"who may write there leaves for all others: {error}"
            ) from error
        # Two searches would write the same files, and another job other embeddings.
        with leases.hold(folder, wait=True):
            features = folders.read_document(folder, Features)
            if not _is_current(place, features, wanted):
                index = create_index(units, wanted)
                _write(place, index, read_vectors(folder, features), features, wanted)
    path = files.join(place, _VECTORS)
    with files.open_read(path) as file:
        table = pq.read_table(file, read_dictionary=["video_id"]).unify_dictionaries()
    video = table["video_id"].combine_chunks()
    return Corpus(
        index=read_index(files.join(place, _INDEX), units, wanted),
        videos=video.dictionary.to_pylist(),
        video=video.indices.to_numpy(),
        start_seconds=table["start_seconds"].to_numpy(),
    )


def read_vectors(folder: str, features: Features) -> Iterator[Vectors]:
    """Read the embeddings of all splits, a shard at a time.

    Raises:
      JobFailedError: a shard is missing or damaged.
    """
    front_end = features.front_end
    for split, described in features.splits.items():
        for key in sharding.keys(split, described.num_shards):
            records = list(shards.read_records(files.join(folder, key.path(PATCHES))))
            stored = b"".join(record.patch for record in records)
            yield Vectors(
                video_ids=[record.video_id for record in records],
                start_seconds=np.array([record.start_seconds for record in records], np.float32),
                values=np.frombuffer(stored, front_end.storage.dtype).reshape(
                    -1, *front_end.patch_shape
                ),
            )


def create_index(units: int, settings: IndexSettings) -> "Index":
    """An index without vectors.

    Args:
      units: values of a vector.
      settings: how to build it.
    """
    from usearch.index import Index

    return Index(
        ndim=units,
        metric=settings.metric,
        dtype=settings.dtype,
        connectivity=settings.connectivity,
        expansion_add=settings.expansion_add,
        expansion_search=_EXPANSION_SEARCH,
        enable_key_lookups=False,
    )


def add_vectors(index: "Index", values: np.ndarray) -> None:
    """Add vectors, float16 [vectors, units], on all cores; keys go on from those of the index."""
    first = len(index)
    index.add(np.arange(first, first + len(values), dtype=np.uint64), values)


def read_index(path: str, units: int, settings: IndexSettings) -> "Index":
    """Open an index: a local one is mapped, so that a search reads only what it compares."""
    index = create_index(units, settings)
    if Path(path).is_file():
        index.view(path)
    else:
        index.load(files.read_bytes(path))
    return index


def find_neighbours(
    corpus: Corpus, values: np.ndarray, start_seconds: np.ndarray, count: int
) -> list[Neighbour]:
    """Find the videos that are nearest to any vector of a query, the nearest first.

    Memory is bounded: a video is left out if other videos have the nearest `_MAX_PAIRS` pairs, an
    equal number for each query vector.

    Args:
      corpus: to search.
      values: [vectors, units] of the query.
      start_seconds: [vectors], in the query.
      count: number of videos; fewer if the corpus has fewer.
    """
    lengths = np.linalg.norm(values.astype(np.float32), axis=1, keepdims=True)
    # The index converts queries to float16, which cannot hold every embedding.
    unit = values / np.where(lengths > 0, lengths, 1)
    count = min(count, len(corpus.videos))
    most = min(len(corpus.index), max(count, _MAX_PAIRS // len(values)))
    wanted = count
    while True:
        wanted = min(_GROWTH * wanted, most)
        keys, distances, num_found = _search(corpus.index, unit, wanted)
        query, place = np.nonzero(np.arange(keys.shape[1]) < num_found[:, np.newaxis])
        row, distance = keys[query, place].astype(np.int64), distances[query, place]
        order = np.argsort(distance, kind="stable")
        _, firsts = np.unique(corpus.video[row[order]], return_index=True)
        best = order[np.sort(firsts)[:count]]
        # Videos beyond the last neighbour of each query vector are farther than that neighbour.
        seen = np.where(num_found == wanted, distances[:, -1], np.inf).min()
        if wanted == most or (len(best) == count and distance[best[-1]] <= seen):
            break
    return [
        Neighbour(
            video_id=corpus.videos[corpus.video[row[pair]]],
            start_seconds=float(corpus.start_seconds[row[pair]]),
            query_seconds=float(start_seconds[query[pair]]),
            distance=max(0.0, float(distance[pair])),
        )
        for pair in best
    ]


def _search(
    index: "Index", values: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keys and distances [vectors, count], ascending; the first of each row, so many as found."""
    from usearch.index import BatchMatches

    found = index.search(values, count)
    if isinstance(found, BatchMatches):
        return found.keys, found.distances, found.counts
    # A single vector has its results alone.
    return found.keys[np.newaxis], found.distances[np.newaxis], np.array([len(found.keys)])


def _is_current(place: str, features: Features, wanted: IndexSettings) -> bool:
    """Whether there is an index of these features."""
    document = folders.find_document(place, SearchIndex)
    if document is None:
        return False
    try:
        sizes = [files.size_of(files.join(place, name)) for name in (_INDEX, _VECTORS)]
    except FileNotFoundError:
        return False
    return (
        document.features_fingerprint == features.fingerprint
        and document.settings == wanted
        and sizes == [document.index_bytes, document.table_bytes]
    )


def _write(
    place: str,
    index: "Index",
    vectors: Iterable[Vectors],
    features: Features,
    settings: IndexSettings,
) -> None:
    """Add vectors to an index, and write it, its table and its document."""
    files.delete(files.join(place, SearchIndex.FILE))
    paths = [files.join(place, name) for name in (_INDEX, _VECTORS)]
    status = StatusLine()
    with files.atomic_write(paths[1]) as file, pq.ParquetWriter(file, _SCHEMA) as writer:
        for chunk in vectors:
            if not len(chunk.values):
                continue
            columns = [pa.array(chunk.video_ids), pa.array(chunk.start_seconds)]
            writer.write_table(pa.Table.from_arrays(columns, schema=_SCHEMA))
            add_vectors(index, chunk.values)
            if status.due:
                status.show(f"indexed {len(index):,} of {features.num_patches:,} vectors")
    status.close()
    with tempfile.TemporaryDirectory() as folder, files.atomic_write(paths[0]) as output:
        local = Path(folder, _INDEX)
        index.save(str(local))
        with local.open("rb") as file:
            shutil.copyfileobj(file, output, 1 << 24)
    document = SearchIndex(
        made_by=folders.made_by(),
        features_fingerprint=features.fingerprint,
        settings=settings,
        num_vectors=len(index),
        index_bytes=files.size_of(paths[0]),
        table_bytes=files.size_of(paths[1]),
    )
    folders.write_document(place, document)
