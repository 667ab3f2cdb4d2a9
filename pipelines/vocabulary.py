"""The label vocabulary of a corpus, by tensorflow-transform over Arrow batches of videos.

The analysis leaves its graph (label strings -> indices) in the data set, so that whoever has
strings turns them into indices with the very table that the features were labelled with.
"""

# ruff: noqa: E402 - TensorFlow is imported quietly first
from features.quiet import import_tensorflow

import_tensorflow()

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.tfxio.tensor_adapter import TensorAdapterConfig

from features import storage
from features.labels import Vocabulary

_LABELS = "labels"
_SCHEMA = pa.schema([(_LABELS, pa.large_list(pa.large_binary()))])


def _preprocess(inputs: dict[str, tf.SparseTensor]) -> dict[str, tf.SparseTensor]:
    """Labels to indices: falling count, ties by falling label; -1 for a label never seen."""
    indices = tft.compute_and_apply_vocabulary(
        inputs[_LABELS],
        vocab_filename=_LABELS,
        store_frequency=True,
        # The text format would lose labels that hold a line break.
        file_format="tfrecord_gzip",
    )
    return {"label_indices": indices}


class BuildVocabulary(beam.PTransform):
    """Arrow batches of videos -> one `Vocabulary`; the transform graph goes to `transform_dir`.

    The input's `labels` column holds lists of distinct strings.
    """

    def __init__(self, transform_dir: str, temp_dir: str):
        super().__init__()
        self._transform_dir = transform_dir
        self._temp_dir = temp_dir

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        """Analyse, write the graph, read the counts back from it."""
        sparse = schema_pb2.TensorRepresentation.VarLenSparseTensor(column_name=_LABELS)
        config = TensorAdapterConfig(
            _SCHEMA, {_LABELS: schema_pb2.TensorRepresentation(varlen_sparse_tensor=sparse)}
        )
        num_videos = (
            batches
            | "BatchSizes" >> beam.Map(lambda batch: batch.num_rows)
            | "NumVideos" >> beam.CombineGlobally(sum)
        )
        with tft_beam.Context(temp_dir=self._temp_dir):
            labels = batches | "LabelColumn" >> beam.Map(_label_column)
            transform = (labels, config) | tft_beam.AnalyzeDataset(_preprocess)
            _ = transform | "WriteTransform" >> tft_beam.WriteTransformFn(self._transform_dir)
        transform_fn, _ = transform
        return transform_fn | "ReadTerms" >> beam.Map(
            _read_vocabulary, num_videos=beam.pvalue.AsSingleton(num_videos)
        )


def _label_column(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([batch.column(_LABELS).cast(_SCHEMA[0].type)], schema=_SCHEMA)


def _read_vocabulary(transform_fn: str, num_videos: int) -> Vocabulary:
    """The vocabulary from the asset of a transform graph: one record "count label" a label."""
    (asset,) = storage.list_files(transform_fn, "assets/*")
    records = tf.data.TFRecordDataset(asset, compression_type="GZIP").as_numpy_iterator()
    counts, ids = [], []
    # Where there is no label at all, tensorflow-transform invents one.
    for record in records if num_videos else ():
        count, label = record.decode().split(" ", maxsplit=1)
        counts.append(int(count))
        ids.append(label)
    # Until a side file gives display names, a label is called by its id.
    return Vocabulary(tuple(ids), tuple(ids), np.array(counts, np.int64), num_videos)
