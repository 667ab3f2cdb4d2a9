"""A random number for each label of each video: which videos a balanced evaluation set is made of.

A class takes the videos whose number for the class is lowest. The number is a hash of the label's
id and of the video, so that the draws of two classes are independent: a video that is drawn for one
of its classes is not drawn for the others too. With one number for each video it would be, and a
set of 3,087 classes would have 70,000 videos instead of the paper's 100,000. Neither other labels
nor other videos change the number, so that the sets of a corpus that grows change little.
"""

import functools

import numpy as np

from features.contracts.sharding import unit_hashes

# The mixing steps of SplitMix64 (Steele, Lea and Flood 2014): a shift, then a factor.
_STEPS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))


@functools.lru_cache(maxsize=1)  # of the vocabulary, for every batch of videos
def hash_labels(label_ids: tuple[str, ...]) -> np.ndarray:
    """Hash the ids of labels to uint64 [labels]."""
    return unit_hashes("draw", label_ids).view(np.uint64)


def draw_numbers(label_hashes: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Draw a number for each label of some videos.

    Args:
      label_hashes: uint64 [label bearings], of `hash_labels`.
      positions: float64 [label bearings], of the video: a hash of its id in [0, 1).

    Returns:
      uint32 [label bearings].
    """
    mixed: np.ndarray = label_hashes ^ positions.view(np.uint64)
    for shift, factor in _STEPS:
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return (mixed >> np.uint64(32)).astype(np.uint32)
