"""The label vocabulary of a corpus, by tensorflow-transform over Arrow batches of videos.

The analysis writes its graph (label strings -> indices) into the data set, so that strings can be
converted with the very table that the features were labelled with.
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping

# ruff: noqa: E402 - TensorFlow is imported quietly first
from features.quiet import import_tensorflow

import_tensorflow()

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.tfxio.tensor_adapter import TensorAdapterConfig

from features.contracts.labels import Vocabulary
from features.contracts.sharding import SPLITS
from features.storage import files
from pipelines.dataset.vocabulary import LABELS, LabelRequest
from pipelines.runtime.transform_graph import write_graph

_SCHEMA = pa.schema([(LABELS, pa.large_list(pa.large_binary()))])


def _preprocess(
    inputs: dict[str, tf.SparseTensor], *, least: int, top_k: int | None
) -> dict[str, tf.SparseTensor]:
    """Labels to indices: falling count, ties by falling label; -1 for an unknown label."""
    indices = tft.compute_and_apply_vocabulary(
        inputs[LABELS],
        frequency_threshold=least if least > 1 else None,
        top_k=top_k,
        vocab_filename=LABELS,
        store_frequency=True,
        # The text format would lose labels that hold a line break.
        file_format="tfrecord_gzip",
    )
    return {"label_indices": indices}


@dataclasses.dataclass(eq=False)
class BuildVocabulary(beam.PTransform):
    """Arrow batches of videos -> one `Vocabulary`; the transform graph goes to `transform_dir`.

    The input is of `splits.PLACED_SCHEMA`, whose column `labels` has lists of distinct strings.

    Where one split is counted, each label of all splits is counted once more, and this one is
    subtracted later: so labels that the split lacks are last in the order and in the graph.

    Attributes:
      transform_dir: folder for the graph.
      temp_dir: folder for the analysis.
      request: which labels, and their names.
    """

    transform_dir: str
    temp_dir: str
    request: LabelRequest

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        """Analyse, write the graph, read the counts back from it."""
        sparse = schema_pb2.TensorRepresentation.VarLenSparseTensor(column_name=LABELS)
        config = TensorAdapterConfig(
            _SCHEMA, {LABELS: schema_pb2.TensorRepresentation(varlen_sparse_tensor=sparse)}
        )
        request, once = self.request, int(self.request.count_split is not None)
        least = request.min_count + once if request.min_count > 1 else 1
        counted = batches
        if request.count_split is not None:
            counted = batches | "OfSplit" >> beam.Map(_of_split, request.count_split)
        num_videos = (
            counted
            | "BatchSizes" >> beam.Map(lambda batch: batch.num_rows)
            | "NumVideos" >> beam.CombineGlobally(sum)
        )
        with tft_beam.Context(temp_dir=self.temp_dir):
            labels = counted | "LabelColumn" >> beam.Map(_label_column)
            if once:
                labels = (labels, batches | "EachOnce" >> _LabelsOnce()) | beam.Flatten()
            preprocess = functools.partial(_preprocess, least=least, top_k=request.top_k)
            transform = (labels, config) | tft_beam.AnalyzeDataset(preprocess)
            _ = write_graph(transform, self.transform_dir, self.temp_dir)
        transform_fn, _ = transform
        return transform_fn | "ReadTerms" >> beam.Map(
            _read_vocabulary,
            num_videos=beam.pvalue.AsSingleton(num_videos),
            least=least,
            once=once,
            names=request.names or {},
        )


class _LabelsOnce(beam.PTransform):
    """Arrow batches of videos -> batches of labels in which each label occurs once in all."""

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        return (
            batches
            | beam.FlatMap(lambda batch: pc.unique(batch.column(LABELS).flatten()).to_pylist())
            | beam.Distinct()
            | beam.BatchElements()
            | beam.Map(lambda found: pa.record_batch([pa.array([found], _SCHEMA[0].type)], _SCHEMA))
        )


def _of_split(batch: pa.RecordBatch, split: str) -> pa.RecordBatch:
    return batch.filter(pc.equal(batch.column("split"), list(SPLITS).index(split)))


def _label_column(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([batch.column(LABELS).cast(_SCHEMA[0].type)], schema=_SCHEMA)


def _read_vocabulary(
    transform_fn: str, num_videos: int, least: int, once: int, names: Mapping[str, str]
) -> Vocabulary:
    """The vocabulary from the asset of a transform graph: one record "count label" a label."""
    (asset,) = files.list_files(transform_fn, "assets/*")
    records = tf.data.TFRecordDataset(asset, compression_type="GZIP").batch(10_000)
    counts, ids = [], []
    # If no label is left, tensorflow-transform invents one that occurs once.
    for record in itertools.chain(*records.as_numpy_iterator()) if num_videos else ():
        count, label = record.decode().split(" ", maxsplit=1)
        if int(count) >= least:
            counts.append(int(count) - once)
            ids.append(label)
    return Vocabulary(
        tuple(ids),
        tuple(names.get(label, label) for label in ids),
        np.array(counts, np.int64),
        num_videos,
    )
