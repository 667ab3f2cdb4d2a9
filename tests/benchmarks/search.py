"""Claim: a query of a million embeddings takes milliseconds and finds nine in ten of the nearest.

Builds the index of `evaluation.search` over random vectors of 1,024 values, and compares its ten
nearest with those of all vectors. Vectors are a random layer of 32 random values, since embeddings
lie near a surface of few dimensions too: of independent values all would be equally far apart.

    python -m tests.benchmarks.search --quick
"""

import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from usearch.index import Index

from evaluation import neighbours
from tests.benchmarks.measurement import (
    is_quick,
    make_table,
    report,
    require_possible,
    tree_cpu_seconds,
)

UNITS, LATENT, NOISE = 1024, 32, 0.5
VECTORS_PER_SHARD, NUM_QUERIES, NUM_NEAREST = 20_000, 200, 10
LEAST_RECALL = 0.9


def draw(count: int, seed: int) -> np.ndarray:
    """Random embeddings, float16 [count, UNITS]; all seeds share a layer."""
    layer = np.random.default_rng(0).normal(size=(LATENT, UNITS)).astype(np.float32)
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((count, LATENT), np.float32)
    noise = NOISE * rng.standard_normal((count, UNITS), np.float32)
    return np.maximum(latent @ layer + noise, 0).astype(np.float16)


def unit(values: np.ndarray) -> np.ndarray:
    """Vectors of length 1, float32."""
    values = values.astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def build(num_shards: int) -> tuple[Index, float, float]:
    """An index, and the wall and CPU seconds of adding to it."""
    index = neighbours.create_index(UNITS, neighbours.settings())
    wall = cpu = 0.0
    for shard in range(num_shards):
        values = draw(VECTORS_PER_SHARD, 1 + shard)
        wall, cpu = wall - time.monotonic(), cpu - tree_cpu_seconds()
        neighbours.add_vectors(index, values)
        wall, cpu = wall + time.monotonic(), cpu + tree_cpu_seconds()
    return index, wall, cpu


def nearest_of_all(queries: np.ndarray, num_shards: int) -> np.ndarray:
    """Keys of the nearest by products with all vectors, [queries, NUM_NEAREST]."""
    keys = np.zeros((len(queries), 0), np.int64)
    likeness = np.zeros((len(queries), 0), np.float32)
    for shard in range(num_shards):
        products = unit(queries) @ unit(draw(VECTORS_PER_SHARD, 1 + shard)).T
        places = np.arange(VECTORS_PER_SHARD) + shard * VECTORS_PER_SHARD
        keys = np.concatenate([keys, np.broadcast_to(places, products.shape)], axis=1)
        likeness = np.concatenate([likeness, products], axis=1)
        best = np.argpartition(-likeness, NUM_NEAREST, axis=1)[:, :NUM_NEAREST]
        keys = np.take_along_axis(keys, best, axis=1)
        likeness = np.take_along_axis(likeness, best, axis=1)
    return keys


def recall(found: np.ndarray, nearest: np.ndarray) -> float:
    """The share of the nearest that was found."""
    shares = [len(set(a) & set(b)) / len(b) for a, b in zip(found, nearest, strict=True)]
    return float(np.mean(shares))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    num_shards = 1 if is_quick(__doc__, argv) else 50
    num_vectors = num_shards * VECTORS_PER_SHARD
    index, build_seconds, build_cpu = build(num_shards)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "index.usearch")
        index.save(str(path))
        file_bytes = path.stat().st_size
        del index
        mapped = neighbours.read_index(str(path), UNITS, neighbours.settings())
        queries = unit(draw(NUM_QUERIES, 1_000_000))
        start = time.process_time()
        found = [mapped.search(query, NUM_NEAREST).keys for query in queries]
        query_ms = 1e3 * (time.process_time() - start) / NUM_QUERIES
        del mapped
    require_possible("bytes of a vector", file_bytes / num_vectors, at_least=2 * UNITS)
    share = recall(np.stack(found), nearest_of_all(queries, num_shards))
    row = {
        "vectors": num_vectors,
        "build_seconds": build_seconds,
        "build_cpu_ms_a_vector": 1e3 * build_cpu / num_vectors,
        "query_cpu_ms": query_ms,
        "recall_at_10": share,
        "index_gb": file_bytes / 1e9,
        "build_peak_gb": peak / 1e9,
    }
    header = [name.replace("_", " ") for name in row]
    report(row, {"search": make_table(header, [list(row.values())])})
    assert share >= LEAST_RECALL, share
    return 0


if __name__ == "__main__":
    sys.exit(main())
