"""Interval of the AUC of one class, from the AUC and the number of videos with and without it.

Method 5 of Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney
statistic" (Statistics in Medicine, 2006): all values of the AUC that the measured one does not
refute. Unlike a standard error it is no point where the AUC is 1, and it excludes 0.5 exactly where
the Mann-Whitney test rejects chance. It takes all videos to be independent.
"""

import numpy as np
from scipy.special import ndtri

CONFIDENCE = 0.95
# With fewer positives an interval spans half of the range, and orders of classes are chance.
MIN_POSITIVES = 10
# An interval takes positives to be independent, which those of a few recordings are not.
MIN_ORIGINS = 5
CHANCE = 0.5
_HALVINGS = 40  # of an interval of at most 1, to less than 1e-12


def auc_interval(
    auc: np.ndarray, positives: np.ndarray, negatives: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The lower and the upper end; NaN where the AUC is.

    Args:
      auc: float64 [classes], NaN where a class has no positive or no negative.
      positives: integers [classes].
      negatives: integers [classes].

    Returns:
      float64 [classes] each, in [0, 1], around the AUC.
    """
    pairs = np.maximum(positives.astype(np.float64) * negatives, 1)
    mean = (positives.astype(np.float64) + negatives) / 2 - 1
    quantile = ndtri((1 + CONFIDENCE) / 2)

    def deviation(value: np.ndarray) -> np.ndarray:
        spread = 1 + mean * (1 - value) / (2 - value) + mean * value / (1 + value)
        return quantile * np.sqrt(value * (1 - value) * spread / pairs)

    def end(outer: float) -> np.ndarray:
        refuted, kept = np.full_like(auc, outer), auc.astype(np.float64)
        for _ in range(_HALVINGS):
            middle = (refuted + kept) / 2
            is_kept = np.abs(middle - auc) <= deviation(middle)
            kept, refuted = np.where(is_kept, middle, kept), np.where(is_kept, refuted, middle)
        return kept

    return end(0.0), end(1.0)


def is_small(positives: np.ndarray, effective_origins: np.ndarray) -> np.ndarray:
    """Whether a class has fewer than `MIN_POSITIVES`, or than `MIN_ORIGINS` where known: [classes].

    Args:
      positives: [classes].
      effective_origins: float64 [classes], NaN where unknown.
    """
    return (positives < MIN_POSITIVES) | (effective_origins < MIN_ORIGINS)


def beyond_chance(
    low: np.ndarray, high: np.ndarray, positives: np.ndarray, effective_origins: np.ndarray
) -> np.ndarray:
    """Whether a class is not small and has an AUC that chance does not explain: [classes]."""
    return ~is_small(positives, effective_origins) & ((low > CHANCE) | (high < CHANCE))
