"""Normalised input: mean 0 and standard deviation 1 in each mel band.

Normalisation is the first layer of the network, so every checkpoint and the SavedModel have it.
"""

import numpy as np
import tensorflow as tf
from tf_keras import layers
from tf_keras.initializers import Constant

from features.contracts import folders
from features.contracts.documents import BandStatistics
from features.errors import InputError


def read_band_statistics(folder: str, *, features_fingerprint: str) -> BandStatistics:
    """Read the statistics in a FEATURES folder.

    Raises:
      InputError: there are none, or they are of earlier features of this folder.
    """
    command = f"run `python -m pipelines.band_statistics --features {folder}`"
    statistics = folders.find_document(folder, BandStatistics)
    if statistics is None:
        raise InputError(
            f"{folder} has no {folders.BAND_STATISTICS}, which normalised input needs; {command}"
        )
    folders.require_equal(
        f"features_fingerprint of {folders.BAND_STATISTICS}",
        expected=features_fingerprint,
        received=statistics.features_fingerprint,
        where=folder,
        cure=command,
    )
    return statistics


def normalised(patches: tf.Tensor, statistics: BandStatistics) -> tf.Tensor:
    """Subtract the mean of each band, divide by its standard deviation.

    The layer is a batch normalization that does not learn, so that the statistics are weights and
    a resumed run keeps those it started with. It equals the graph that pipelines.band_statistics
    writes, up to float32 rounding; loading that graph would need tensorflow-transform.

    Args:
      patches: log-mel [batch, frames, bands], or embeddings [batch, units].
      statistics: of the bands, or of the units.

    Returns:
      float32, of the same shape.
    """
    return layers.BatchNormalization(
        center=False,
        scale=False,
        epsilon=0.0,
        moving_mean_initializer=Constant(np.array(statistics.mean)),
        moving_variance_initializer=Constant(np.square(statistics.standard_deviation)),
        trainable=False,
        dtype="float32",
        name="normalisation",
    )(patches)
