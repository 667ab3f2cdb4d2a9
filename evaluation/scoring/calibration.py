"""int8 networks: post-training quantisation on training patches, and its loss of mAP.

NNCF chooses a scale for each layer from the activations of the calibration patches, and rounds
weights and activations to 8 bits; sums stay in 32 bits.
"""

import itertools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from features.contracts import sharding, shards
from features.contracts.export import QUANTISED_GRAPH, SCORES
from features.contracts.record import PatchRecord
from features.contracts.shards import PATCHES
from features.front_end.front_end import FrontEnd
from features.ranking import Block, measure_classes
from features.storage import files
from pipelines.runtime import inference

# Shards that calibration patches are read from: records of a training shard are in random order.
_MAX_SHARDS = 64


def draw_records(
    features: str, split: str, num_shards: Mapping[str, int], limit: int, seed: int
) -> list[PatchRecord]:
    """Read the first records of shards that are drawn at random, equally many of each.

    Args:
      features: the FEATURES folder.
      split: of the shards.
      num_shards: group -> number of shards.
      limit: number of records; fewer if the split has no more.
      seed: of the draw.
    """
    keys = list(sharding.keys(split, num_shards))
    order = np.random.default_rng(seed).permutation(len(keys))
    drawn: list[PatchRecord] = []
    for number, place in enumerate(order):
        left = min(len(keys), _MAX_SHARDS) - number
        wanted = -(-(limit - len(drawn)) // max(left, 1))
        if wanted <= 0:
            break
        path = files.join(features, keys[place].path(PATCHES))
        drawn += itertools.islice(shards.read_records(path), wanted)
    return drawn


def patches_of(records: Sequence[PatchRecord], front_end: FrontEnd) -> np.ndarray:
    """The input of a network, float32 [records, *patch shape]."""
    stored = np.frombuffer(b"".join(record.patch for record in records), front_end.storage.dtype)
    return front_end.storage.decode(stored.reshape(-1, *front_end.patch_shape))


def quantise(export: str, patches: np.ndarray, folder: Path) -> None:
    """Write an int8 network for OpenVINO.

    Args:
      export: the SavedModel.
      patches: float32 [patches, *patch shape] to calibrate on.
      folder: to write the graph and the weights to.
    """
    openvino = inference.import_openvino()
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet
    from openvino._offline_transformations import apply_moc_transformations

    nncf.set_log_level(logging.ERROR)
    with inference.local_copy(export) as local:
        model = openvino.Core().read_model(local)
        # Folds batch normalization into the weights, so that NNCF corrects biases.
        apply_moc_transformations(model, cf=False)
        quantised = nncf.quantize(
            model,
            nncf.Dataset([patch[None] for patch in patches]),
            subset_size=len(patches),
            advanced_parameters=AdvancedQuantizationParameters(
                # Weights of 7 bits: without VNNI the sum of two products of 8 bits overflows 16.
                overflow_fix=OverflowFix.ENABLE,
                # The range over all patches and not the mean of their ranges, which cuts off rare
                # sounds: scores of a ResNet-50 differed from float32 by 0.065 rms and not 0.091.
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
            ),
        )
    openvino.save_model(quantised, folder / QUANTISED_GRAPH, compress_to_fp16=False)


def mean_average_precision(
    network: inference.Network, records: Sequence[PatchRecord], front_end: FrontEnd
) -> float:
    """The mean, over the classes with positives and negatives, of the average precision of videos.

    The scores of a video are the mean over its records (section 3.2). NaN if no class has metrics.
    """
    assert network.batch_size is not None
    videos: dict[str, int] = {}
    number = np.array([videos.setdefault(record.video_id, len(videos)) for record in records])
    labels = {record.video_id: np.array(record.labels) for record in records}
    num_classes = network.outputs[SCORES][-1]
    sums = np.zeros((len(videos), num_classes or 0))
    for start in range(0, len(records), network.batch_size):
        batch = slice(start, start + network.batch_size)
        scores = network(patches_of(records[batch], front_end))[SCORES]
        np.add.at(sums, number[batch], scores)
    means = (sums / np.bincount(number)[:, None]).astype(np.float32)
    of_network = [own[own < means.shape[1]] for own in labels.values()]
    metrics = measure_classes(Block.of_lists(means, of_network))
    return float(np.mean(metrics.ap[metrics.defined])) if metrics.defined.any() else float("nan")
