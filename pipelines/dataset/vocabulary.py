"""The labels of a corpus: which are asked for, and their indices in the vocabulary."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.contracts.labels import Vocabulary
from pipelines.dataset.draws import draw_numbers, hash_labels
from pipelines.dataset.manifest import REJECTED
from pipelines.dataset.splits import INDEXED_SCHEMA
from pipelines.runtime.rejects import Reject

LABELS = "labels"  # column of the videos


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelRequest:
    """The labels that the command line asks for.

    Attributes:
      min_count: labels of fewer videos are left out.
      count_split: the split whose videos are counted, and a label that it lacks has a count of 0;
        None for all videos.
      top_k: maximum number of labels; None for all.
      names: label -> display name; None if no file of names was given. A label without a name is
        named by its id.
      known: the vocabulary of another data set or network, to be used as it is; None to build one.
    """

    min_count: int = 1
    count_split: str | None = None
    top_k: int | None = None
    names: Mapping[str, str] | None = None
    known: Vocabulary | None = None


def index_labels(batch: pa.RecordBatch, vocabulary: Vocabulary) -> Iterator[Any]:
    """Batches of `PLACED_SCHEMA` -> `INDEXED_SCHEMA`; a video without a known label is rejected."""
    labels = batch.column(LABELS)
    rows = pc.list_parent_indices(labels).to_numpy()
    found = pc.index_in(labels.flatten(), value_set=pa.array(vocabulary.ids, pa.string()))
    is_found = found.is_valid().to_numpy(zero_copy_only=False)
    size = max(1, len(vocabulary))
    keys = np.sort(rows[is_found] * size + found.drop_null().to_numpy())
    rows, indices = np.divmod(keys, size)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(labels)))])
    indexed = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(indices, pa.int32()))
    columns = [indexed if name == LABELS else batch.column(name) for name in batch.schema.names]
    numbers = draw_numbers(
        hash_labels(vocabulary.ids)[indices], batch.column("position").to_numpy()[rows]
    )
    columns.append(pa.ListArray.from_arrays(indexed.offsets, pa.array(numbers)))
    is_labelled = pa.array(np.diff(offsets) > 0)
    if is_labelled.true_count:
        yield pa.RecordBatch.from_arrays(columns, schema=INDEXED_SCHEMA).filter(is_labelled)
    for video in batch.filter(pc.invert(is_labelled)).to_pylist():
        detail = f"none of its labels is in the vocabulary: {video[LABELS]}"
        reject = Reject(video["id"], video["uri"], "rare_labels", detail)
        yield beam.pvalue.TaggedOutput(REJECTED, reject)
