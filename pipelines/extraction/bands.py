"""Mean and variance of each mel band, by tensorflow-transform over a sample of training patches.

The analysis leaves a graph that normalises patches. Whoever trains on normalised patches puts this
very graph into the SavedModel, so that training and serving cannot differ.
"""

# ruff: noqa: E402 - TensorFlow is imported quietly first
from features.quiet import import_tensorflow

import_tensorflow()

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.tfxio.tensor_adapter import TensorAdapterConfig

from features.contracts import folders, record, tfrecord
from features.front_end.front_end import FrontEnd
from features.storage import files

# Input of the graph, float32 log-mel [batch, patch frames, mel bands], and its output; or both are
# embeddings [batch, units], where each unit is what a band is elsewhere.
LOG_MEL = "log_mel"
# Outputs that repeat the statistics for each patch: float32 [batch, mel bands].
MEAN, STANDARD_DEVIATION = "band_mean", "band_standard_deviation"
_SCHEMA = pa.schema([(LOG_MEL, pa.list_(pa.float32()))])
_PATCHES_PER_BATCH = 256


def _preprocess(inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Subtract the mean of each band, divide by its standard deviation."""
    patches = inputs[LOG_MEL]
    bands = tf.reshape(patches, [-1, patches.shape[-1]])
    mean = tft.mean(bands, reduce_instance_dims=False)
    deviation = tf.sqrt(tft.var(bands, reduce_instance_dims=False))
    # A band that never changes stays at zero.
    deviation = tf.where(deviation > 0, deviation, tf.ones_like(deviation))
    first = patches if patches.shape.rank == 2 else patches[:, 0]
    repeated = tf.ones_like(first)  # [batch, bands]
    return {
        LOG_MEL: (patches - mean) / deviation,
        MEAN: repeated * mean,
        STANDARD_DEVIATION: repeated * deviation,
    }


class AnalyzeBands(beam.PTransform):
    """Arrow batches of patches -> the graph in `transform_dir`; one element when it is there."""

    def __init__(self, patch_shape: Sequence[int], transform_dir: str, temp_dir: str):
        super().__init__()
        self._patch_shape = patch_shape
        self._transform_dir = transform_dir
        self._temp_dir = temp_dir

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        """Analyse, write the graph."""
        dimensions = [schema_pb2.FixedShape.Dim(size=size) for size in self._patch_shape]
        dense = schema_pb2.TensorRepresentation.DenseTensor(
            column_name=LOG_MEL, shape=schema_pb2.FixedShape(dim=dimensions)
        )
        config = TensorAdapterConfig(
            _SCHEMA, {LOG_MEL: schema_pb2.TensorRepresentation(dense_tensor=dense)}
        )
        with tft_beam.Context(temp_dir=self._temp_dir):
            transform = (batches, config) | tft_beam.AnalyzeDataset(_preprocess)
            return transform | "WriteTransform" >> tft_beam.WriteTransformFn(self._transform_dir)


def read_patches(path: str, number: int, front_end: FrontEnd) -> Iterator[pa.RecordBatch]:
    """The first patches of a training shard, which are a random sample of it, in batches."""
    with files.open_read(path) as file:
        records = itertools.islice(tfrecord.read_records(file, path), number)
        while batch := list(itertools.islice(records, _PATCHES_PER_BATCH)):
            stored = b"".join(record.decode(serialized).patch for serialized in batch)
            values = front_end.storage.decode(np.frombuffer(stored, front_end.storage.dtype))
            offsets = np.linspace(0, len(values), len(batch) + 1).astype(np.int32)
            patches = pa.ListArray.from_arrays(offsets, values)
            yield pa.RecordBatch.from_arrays([patches], schema=_SCHEMA)


def finish(
    made: Mapping[str, Any],
    written: None,
    num_patches: int,
    patch_shape: Sequence[int],
    transform_dir: str,
    output: str,
) -> None:
    """The last stage: read the statistics out of the graph and write them."""
    del written  # it is there
    transform = tft.TFTransformOutput(transform_dir)
    statistics = transform.transform_raw_features({LOG_MEL: tf.zeros([1, *patch_shape])})
    folders.write_root(
        output,
        folders.BAND_STATISTICS,
        {
            **made,
            "num_patches": num_patches,
            "mean": statistics[MEAN].numpy()[0].tolist(),
            "standard_deviation": statistics[STANDARD_DEVIATION].numpy()[0].tolist(),
        },
    )
