"""Mean and variance of each mel band, by tensorflow-transform over a sample of training patches.

The analysis writes a graph that normalises patches. A network that trains on normalised patches has
this very graph in its SavedModel, so that training and serving cannot differ.
"""

# ruff: noqa: E402 - TensorFlow is imported quietly first
from features.quiet import import_tensorflow

import_tensorflow()

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from apache_beam.pvalue import AsSingleton
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.tfxio.tensor_adapter import TensorAdapterConfig

from features.contracts import folders, record, tfrecord
from features.contracts.documents import BandStatistics
from features.contracts.folders import MadeBy
from features.front_end.front_end import FrontEnd
from features.storage import files
from pipelines.runtime.counters import CountElements, Counts
from pipelines.runtime.membership import JoinJob
from pipelines.runtime.transform_graph import write_graph

# Input of the graph, float32 log-mel [batch, patch frames, mel bands], and its output; or both are
# embeddings [batch, units], whose units take the place of bands.
LOG_MEL = "log_mel"
# Outputs that repeat the statistics for each patch: float32 [batch, mel bands].
MEAN, STANDARD_DEVIATION = "band_mean", "band_standard_deviation"
_SCHEMA = pa.schema([(LOG_MEL, pa.list_(pa.float32()))])
_PATCHES_PER_BATCH = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class BandsJob:
    """What a job knows before it reads a patch.

    Attributes:
      made_by: the command.
      features_fingerprint: of the training split.
      front_end: of the patches.
      shards: paths of the record files that the sample is drawn from.
      num_patches: size of the sample, rounded up to as many patches of each shard.
      folder: the FEATURES folder.
      transform_dir: folder of the graph.
      temp_dir: folder for temporary files.
    """

    made_by: MadeBy
    features_fingerprint: str
    front_end: FrontEnd
    shards: Sequence[str]
    num_patches: int
    folder: str
    transform_dir: str
    temp_dir: str


@dataclasses.dataclass(eq=False)
class ComputeBandStatistics(beam.PTransform):
    """Write the graph and `band_statistics.json`."""

    job: BandsJob

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Read the first patches of each shard, analyse them, and write the statistics."""
        num_per_shard = math.ceil(self.job.num_patches / len(self.job.shards))
        batches = (
            pipeline
            | "Shards" >> beam.Create(self.job.shards)
            | "Spread" >> beam.Reshuffle()
            | JoinJob()
            | "Read" >> beam.FlatMap(read_patches, num_per_shard, self.job.front_end)
            | "Counters" >> CountElements("bands", measure_batch)
        )
        num_patches = (
            batches
            | "BatchSizes" >> beam.Map(lambda batch: batch.num_rows)
            | "NumPatches" >> beam.CombineGlobally(sum)
        )
        written = _analyse(batches, self.job)
        return (
            pipeline
            | "Job" >> beam.Create([self.job])
            | "Finish" >> beam.Map(_finish, AsSingleton(num_patches), AsSingleton(written))
        )


def _analyse(batches: beam.PCollection, job: BandsJob) -> beam.PCollection:
    """Write the graph; gives one element, its folder, when it is written."""
    dimensions = [schema_pb2.FixedShape.Dim(size=size) for size in job.front_end.patch_shape]
    dense = schema_pb2.TensorRepresentation.DenseTensor(
        column_name=LOG_MEL, shape=schema_pb2.FixedShape(dim=dimensions)
    )
    config = TensorAdapterConfig(
        _SCHEMA, {LOG_MEL: schema_pb2.TensorRepresentation(dense_tensor=dense)}
    )
    with tft_beam.Context(temp_dir=job.temp_dir):
        transform = (batches, config) | tft_beam.AnalyzeDataset(_normalise)
        return write_graph(transform, job.transform_dir, job.temp_dir)


def _normalise(inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
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


def read_patches(path: str, number: int, front_end: FrontEnd) -> Iterator[pa.RecordBatch]:
    """Read the first patches of a training shard, which are a random sample of it, in batches."""
    with files.open_read(path) as file:
        records = itertools.islice(tfrecord.read_records(file, path), number)
        while batch := list(itertools.islice(records, _PATCHES_PER_BATCH)):
            stored = b"".join(record.decode(serialized).patch for serialized in batch)
            values = front_end.storage.decode(np.frombuffer(stored, front_end.storage.dtype))
            offsets = np.linspace(0, len(values), len(batch) + 1).astype(np.int32)
            patches = pa.ListArray.from_arrays(offsets, values)
            yield pa.RecordBatch.from_arrays([patches], schema=_SCHEMA)


def measure_batch(batch: pa.RecordBatch) -> Counts:
    """What a batch of patches adds to the counters of the runner."""
    return Counts(sums={"batches": 1, "patches": batch.num_rows})


def _finish(job: BandsJob, num_patches: int, graph: str) -> None:
    """The last stage: read the statistics from the graph and write them."""
    transform = tft.TFTransformOutput(graph)
    patch = tf.zeros([1, *job.front_end.patch_shape])
    statistics = transform.transform_raw_features({LOG_MEL: patch})
    document = BandStatistics(
        made_by=job.made_by,
        features_fingerprint=job.features_fingerprint,
        front_end_fingerprint=job.front_end.fingerprint,
        num_patches=num_patches,
        mean=tuple(statistics[MEAN].numpy()[0].tolist()),
        standard_deviation=tuple(statistics[STANDARD_DEVIATION].numpy()[0].tolist()),
    )
    folders.write_document(job.folder, document)
